"""A signer process of its own: ``python -m tests.simulators.signer_process HOME SOCKET [UID]``, ended by a signal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from keys.errors import CustodyError
from keys.signerd.service import SignerService, serve_signer

_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def signer_process(home: Path, socket: Path, *, uid: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """The process, once it can be connected to; killed at the end if it still runs.

    Args:
        home: Its keyring's folder.
        socket: Where it listens.
        uid: The only user it answers, instead of its own.
    """
    arguments = [str(home), str(socket), *([] if uid is None else [str(uid)])]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulators.signer_process", *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if first != "listening\n":
                assert process.stderr is not None
                raise AssertionError(f"the signer said {first!r} {process.stderr.read()}")
            yield process
        finally:
            process.kill()


def _main(home: str, socket: str, uid: str | None = None) -> None:
    def started(service: SignerService) -> None:
        print("listening", flush=True)  # noqa: T201  # what the test waits for

    serve_signer(
        Path(home),
        Path(socket),
        clock=lambda: datetime.now(UTC),
        uids=None if uid is None else frozenset({int(uid)}),
        started=started,
    )


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except CustodyError as error:
        sys.exit(f"{error.code}: {error}")
