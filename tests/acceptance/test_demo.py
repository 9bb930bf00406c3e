"""``publish demo`` from beginning to end, as ``make demo`` runs it where there is no terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli.demo.product import foreign_variables, installed
from tests.perf.measure import session_members

LONGEST_SECONDS = 180  # on two cores, with nothing else running


def start(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [installed("publish"), "demo"],
        env=foreign_variables() | {"TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes_below(folder: Path) -> list[str]:
    """Command lines of all processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if os.readlink(entry / "cwd").startswith(str(folder)):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


@pytest.mark.serial
def test_demo_shows_everything_it_promises_and_leaves_nothing_behind(tmp_path: Path) -> None:
    began = time.monotonic()
    demo = start(tmp_path)
    said, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, said
    assert time.monotonic() - began < LONGEST_SECONDS
    assert "WRONG" not in said
    for line in (
        "1.1.0 failed in wave 1 and paused by itself",
        "the devices of wave 1 are back on 1.0.0",
        "1.2.0 completed in three waves",
        "all 24 devices run 1.2.0",
        "it fetched and verified every artifact and SBOM, byte for byte what was pushed",
    ):
        assert f"ok    {line}" in said
    assert list(tmp_path.iterdir()) == []
    assert processes_below(tmp_path) == []


@pytest.mark.serial
def test_demo_that_is_killed_midway_ends_its_processes(tmp_path: Path) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            if "wavegate-agent run" in line:
                break
        assert len(processes_below(tmp_path)) >= 25
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)
    finally:
        for pid in session_members(demo.pid):
            os.kill(pid, signal.SIGKILL)
    assert demo.returncode == 128 + signal.SIGTERM
    assert processes_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
