"""Faults at chosen system calls of real processes, by strace."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.faults.one_shot import Order
from tests.simulators.debian import NotToBeHad, fetched, libraries

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("strace", "libunwind8", "liblzma5")  # Debian's strace, and what it needs beyond libc
STOP_WITHIN_SECONDS: Final = 30

# What changes a disk. Names differ between processors; strace takes those it knows (`?`).
CHANGING: Final = (
    *("openat", "write", "pwrite64", "fsync", "fdatasync", "syncfs", "ftruncate", "chmod", "fchmod", "fchmodat"),
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat"),
)
SPACE_TAKING: Final = frozenset(
    {"openat", "write", "pwrite64", "link", "linkat", "mkdir", "mkdirat", "fsync", "syncfs"}
)

_CALL: Final = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)$")


class Impossible(Exception):
    """Nobody can be traced here; the message says why."""


@dataclass(frozen=True, slots=True)
class Point:
    """The ``nth`` call (from 1) of a system call in a run; ``what`` is how strace shows it."""

    call: str
    nth: int
    what: str
    is_change: bool = True

    def __str__(self) -> str:
        return f"{self.call} no. {self.nth}: {self.what[:120]}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, or minus the signal, and what it said."""

    code: int
    told: str

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Injector:
    """Runs orders in processes of their own, under a fault or none. To be used as a context."""

    def __init__(self) -> None:
        self._strace: Final = find_strace()
        ours, theirs = socket.socketpair()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.one_shot", "--serve", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket = ours
        self._answers = ours.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.close()
        self._socket.close()
        self._server.wait(STOP_WITHIN_SECONDS)

    def run(self, order: Order) -> Ended:
        """Run without a fault, but for the order's own."""
        pid = self._begin(order)
        os.kill(pid, signal.SIGCONT)
        return self._end()

    def points(self, order: Order, log: Path) -> list[Point]:
        """Run without a fault and tell every call that changed a file or opened one of the home, in order."""
        ended = self._traced(order, ["-o", str(log)])
        assert ended.code == 0, ended.told
        seen: Counter[str] = Counter()
        found = []
        for line in log.read_text(errors="replace").splitlines():
            match = _CALL.match(line)
            if match is None:
                continue
            call, arguments = match.groups()
            seen[call] += 1
            if call != "openat" or "O_CREAT" in arguments:
                found.append(Point(call, seen[call], arguments))
            elif order.home in arguments:
                found.append(Point(call, seen[call], arguments, is_change=False))
        return found

    def kill_at(self, order: Order, point: Point) -> Ended:
        """Kill the process as it enters the call: it is not made."""
        return self._injected(order, f"{point.call}:signal=KILL:when={point.nth}")

    def fail_at(self, order: Order, point: Point, error: str, *, from_then_on: bool = False) -> Ended:
        """Have the call fail with ``error`` (``EIO``, ``ENOSPC``), once or ever after."""
        return self._injected(order, f"{point.call}:error={error}:when={point.nth}{'+' if from_then_on else ''}")

    def _injected(self, order: Order, fault: str) -> Ended:
        return self._traced(order, ["-o", "/dev/null", "-e", f"inject={fault}"])

    def _traced(self, order: Order, options: list[str]) -> Ended:
        pid = self._begin(order)
        calls = ",".join(f"?{call}" for call in CHANGING)
        tracer = subprocess.Popen(
            [*self._strace, "-s", "64", "-e", f"trace={calls}", *options, "-p", str(pid)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert tracer.stderr is not None
        with tracer.stderr:
            said = tracer.stderr.readline()
            os.kill(pid, signal.SIGCONT)
            ended = self._end()
            tracer.wait(STOP_WITHIN_SECONDS)
        if "attached" not in said:
            raise Impossible(f"strace could not attach: {said.strip()}")
        return ended

    def _begin(self, order: Order) -> int:
        self._socket.sendall(json.dumps(asdict(order)).encode() + b"\n")
        pid = int(json.loads(self._answers.readline())["pid"])
        give_up = time.monotonic() + STOP_WITHIN_SECONDS
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            if time.monotonic() > give_up:
                raise AssertionError("the process did not stop to be traced")
            time.sleep(0.0005)
        return pid

    def _end(self) -> Ended:
        answer = json.loads(self._answers.readline())
        return Ended(answer["ended"], answer["told"])


def find_strace() -> list[str]:
    """The command for strace: the machine's, or Debian's out of a package file, which needs no root.

    Raises:
        Impossible: There is none to be had, or nobody may be traced here.
    """
    found = shutil.which("strace")
    command = [found] if found is not None else [str(_from_debian() / "usr" / "bin" / "strace")]
    ran = subprocess.run(
        [*command, "-q", "-o", "/dev/null", "-e", "trace=fsync", "true"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=STOP_WITHIN_SECONDS,
    )
    if ran.returncode != 0:
        raise Impossible(f"strace cannot trace here: {ran.stderr.strip()}")
    return command


def environment() -> dict[str, str]:
    """The environment for strace, with the libraries that came with it."""
    if shutil.which("strace") is not None:
        return dict(os.environ)
    return {**os.environ, "LD_LIBRARY_PATH": libraries(_from_debian())}


def _from_debian() -> Path:
    try:
        return fetched(*PACKAGES)
    except NotToBeHad as error:
        raise Impossible(str(error)) from error
