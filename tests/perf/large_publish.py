"""Publishing 1 GiB through the local server against ``cp && sync && openssl dgst -sha256`` of the same file.

Both sides read, hash and durably write every byte once; ours also sends it through a socket. Client and server are
counted together.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from statistics import median
from typing import Final

from cli.demo.product import Product, foreign_variables, installed
from tests.perf.measure import Result, cost_of, cpu_of_session, forget_peaks_of_session, paired, peaks_of_session
from tests.simulators.plain_install import without_extras

LENGTH: Final = 1024**3
PAIRS: Final = 3  # of a gigabyte each; more would tell no more
GOAL: Final = 2.0
MEMORY_GOAL_MIB: Final = 150.0
_CHUNK: Final = 1024**2


def measure(folder: Path) -> list[Result]:
    if shutil.which("openssl") is None:
        raise RuntimeError(
            "the yardstick needs the command openssl; install it (Debian, Ubuntu: apt-get install openssl)"
        )
    file = folder / "one-gibibyte.bin"
    _fill(file)
    os.environ.update(without_extras(folder / "plain"))  # what the server has installed for its own keys, and no more
    with Product(folder) as product:
        product.start()
        assert product.server is not None
        server = product.server.pid
        client_peaks: list[int] = []
        variables = product.environment(person=None)

        def publish() -> float:
            version = f"1.{len(client_peaks)}.0"
            _change(file, version)
            before = cpu_of_session(server)
            client = cost_of(
                [installed("publish"), "push", str(file), "--product", "large", "--version", version, "-o", "json"],
                env=variables,
                cwd=folder,
            )
            client_peaks.append(client.peak_bytes)
            return client.cpu_seconds + cpu_of_session(server) - before

        def copy_and_hash() -> float:
            copy = folder / "copy.bin"
            cost = cost_of(
                ["/bin/sh", "-c", 'cp "$1" "$2" && sync && openssl dgst -sha256 "$2"', "sh", str(file), str(copy)],
                env=foreign_variables(),
            )
            copy.unlink()
            return cost.cpu_seconds

        forget_peaks_of_session(server)  # logging in hashes a password with 64 MiB of memory, which is not our matter
        ratio, ours, theirs = paired(publish, copy_and_hash, PAIRS)
        peaks = peaks_of_session(server)
    mib = [peak / 1024**2 for peak in peaks]
    return [
        Result(
            "publish 1 GiB (client + server) / cp, sync, openssl dgst",
            ratio,
            GOAL,
            "x",
            f"{median(ours):.2f} s against {median(theirs):.2f} s of CPU, {PAIRS} pairs",
        ),
        Result(
            "peak memory of the server's largest process",
            mib[0],
            MEMORY_GOAL_MIB,
            "MiB",
            f"all processes: {' + '.join(f'{one:.0f}' for one in mib)} MiB, shared pages counted in each",
        ),
        Result("peak memory of publish push", max(client_peaks) / 1024**2, MEMORY_GOAL_MIB, "MiB", "1 GiB sent"),
    ]


def _fill(file: Path) -> None:
    with file.open("wb") as out:
        for _ in range(LENGTH // _CHUNK):
            out.write(os.urandom(_CHUNK))


def _change(file: Path, mark: str) -> None:
    """Other bytes for every publish, or the repository would rightly say that it has them."""
    with file.open("r+b") as out:
        out.write(mark.encode().ljust(16))
        out.flush()
        os.fsync(out.fileno())
