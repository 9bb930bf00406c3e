"""What the agent costs a device: a start of its one file, and the memory of one that only polls.

The file is built as ``make agent`` does and run by a Python with nothing beside it, before a real device port and a
signed repository on loopback.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from agent.pyz import build, installed, locked
from tests.perf.measure import Result, cost_of, cpu_of, paired
from tests.simulators.gate import open_gate

PAIRS: Final = 11
POLLS: Final = 40
INTERVAL_SECONDS: Final = 0.25
START_SECONDS: Final = 4  # then it has checked in and polled
MIB: Final = 1024 * 1024


def measure(folder: Path) -> list[Result]:
    file, home, installed_file = folder / "wavegate-agent.pyz", folder / "home", folder / "app"
    build(file, installed(locked()), "0")
    variables = {"WAVEGATE_AGENT_CACHE": str(folder / "cache")}
    agent = [sys.executable, "-I", "-S", str(file)]
    with open_gate(folder) as gate:
        gate.offer(b"the release" * 100_000)
        enrolment = ["enroll", "--url", gate.mirror.url, "--token", gate.token(), "--platform", "linux-x86_64"]
        cost_of(
            [*agent, *enrolment, "--install-command", f"cp {{file}} {installed_file}", "--home", str(home)],
            env=variables,
        )
        cost_of([*agent, "run", "--once", "--home", str(home)], env=variables)
        ratio, ours, theirs = paired(
            lambda: cost_of([*agent, "status", "--home", str(home)], env=variables).cpu_seconds,
            lambda: cost_of([sys.executable, "-I", "-S", "-c", "pass"]).cpu_seconds,
            PAIRS,
        )
        resident, peak, cpu = _idle(
            [*agent, "run", "--interval", str(INTERVAL_SECONDS), "--home", str(home)], variables
        )
    start = (
        f"{median(ours) * 1000:.0f} ms CPU against {median(theirs) * 1000:.0f} ms; {file.stat().st_size / MIB:.1f} MiB"
    )
    memory = f"resident after {POLLS} polls, {peak / MIB:.0f} MiB at most; a poll takes {cpu * 1000:.1f} ms CPU"
    return [
        Result("wavegate-agent.pyz: start (status) / python -c pass", ratio, None, "x", start),
        Result("wavegate-agent.pyz: memory of one that polls", resident / MIB, None, "MiB", memory),
    ]


def _idle(command: list[str], variables: dict[str, str]) -> tuple[int, int, float]:
    """Bytes resident in an agent that has nothing to do, now and at most so far, and seconds of CPU for a poll."""
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(START_SECONDS)
        before = cpu_of(process.pid)
        time.sleep(POLLS * INTERVAL_SECONDS)
        cpu = (cpu_of(process.pid) - before) / POLLS
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024, cpu
    finally:
        process.terminate()
        process.wait()
