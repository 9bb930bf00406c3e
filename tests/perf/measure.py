"""CPU time and memory of whole commands, from the kernel's own books."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: seconds of CPU (user and system, its children too), and its peak memory in bytes."""

    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """A measured value beside its goal, if any; ``unit`` says of what, ``detail`` what a reader needs to judge it."""

    name: str
    value: float
    goal: float | None
    unit: str
    detail: str

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.value <= self.goal


def cost_of(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command to its end, its output thrown away.

    Raises:
        RuntimeError: It ended with another exit code than 0.
    """
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KIB)


def paired(a: Callable[[], float], b: Callable[[], float], pairs: int) -> tuple[float, list[float], list[float]]:
    """Run a and b in turn and return the median of the ratios a/b, and all values of both.

    A pair runs in the same seconds, so what else the machine does weighs on both.
    """
    first, second = [], []
    for _ in range(pairs):
        first.append(a())
        second.append(b())
    return median(x / y for x, y in zip(first, second, strict=True)), first, second


def session_members(leader: int) -> list[int]:
    """Process ids of everything in the session that ``leader`` leads: a server and its workers."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == leader:
                    members.append(int(entry.name))
            except ProcessLookupError:
                continue
    return members


def cpu_of_session(leader: int) -> float:
    """Seconds of CPU that a session's living processes have used so far, with the children they waited for."""
    return sum(cpu_of(pid) for pid in session_members(leader))


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a living process has used so far, with the children it waited for."""
    # The command's name may hold spaces, so fields are counted from behind its closing bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[index]) for index in (11, 12, 13, 14)) / _TICKS  # utime, stime, cutime, cstime


def exact_cpu_of_session(leader: int) -> float:
    """The same to the nanosecond, of living processes of one thread each, without children that ended: nginx."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in session_members(leader)) / 1e9


def forget_peaks_of_session(leader: int) -> None:
    """Let peaks begin anew at what is resident now, so that they tell of what comes next and not of the start."""
    for pid in session_members(leader):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peaks_of_session(leader: int) -> list[int]:
    """Peak resident memory in bytes of each process of a session, the largest first."""
    peaks = []
    for pid in session_members(leader):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) * _KIB)
    return sorted(peaks, reverse=True)
