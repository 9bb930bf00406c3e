"""A real Redis from Debian's packages, without root, on a port of loopback and with nothing on disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.simulators.debian import fetched, libraries
from tests.simulators.listening import free_port, wait_until_listening

# The server is in the package of its tools, under the name of one of them.
_PROGRAM: Final = Path("usr/bin/redis-check-rdb")
_PACKAGES: Final = ("redis-tools", "libjemalloc2", "liblzf1")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One that is running."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def end(self) -> None:
        """Stop it, as a crash would."""
        self.process.kill()
        self.process.wait(timeout=30)


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    """Redis with ``folder``, a new one, as its place. Raises NotToBeHad."""
    program, libraries = _program()
    folder.mkdir()
    port = free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "save": "", "appendonly": "no", "dir": str(folder)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        ["redis-server", *words],
        executable=program,  # it is a server by the name it is called by
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = RedisServer(process, port)
    try:
        wait_until_listening(process, port)
        yield server
    finally:
        server.end()


def _program() -> tuple[Path, str]:
    """The program, and where its libraries are when they are not the system's."""
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found), os.environ.get("LD_LIBRARY_PATH", "")
    tree = fetched(*_PACKAGES)
    return tree / _PROGRAM, libraries(tree)
