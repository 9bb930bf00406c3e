"""`publish simulate`: a fleet that is none, and a server that cannot tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import BIN, Home

Wait = Callable[[Callable[[], Any]], Any]


def test_a_simulated_fleet_carries_a_rollout_through_and_its_failing_devices_pause_the_next(
    home: Home, tmp_path: Path, wait_until: Wait
) -> None:
    home.log_in()
    home.publish("group", "create", "field")
    environ = {**home.environ, "WAVEGATE_URL": home.url, "TMPDIR": str(tmp_path)}
    fleet = subprocess.Popen(
        [
            *(BIN / "publish", "simulate", "--devices", "8", "--group", "field", "--behave", "failing=25"),
            *("--product", "app", "--interval", "1s", "--duration", "5m", "--seed", "7", "--delete", "-o", "json"),
        ],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(home.publish("device", "list")["items"]) == 8)
        first = offer(home, tmp_path, "1.0.0", "field,approvals=0,soak=1s,max_failure_rate=100,success=50")
        wait_until(lambda: home.publish("rollout", "show", first)["state"] == "completed")
        wait_until(lambda: counters(home, first) == (6, 2))
        second = offer(home, tmp_path, "1.1.0", "field,approvals=0,soak=1h,max_failures=1")
        paused = wait_until(lambda: (now := home.publish("rollout", "show", second))["state"] == "paused" and now)
        names = [device["name"] for device in home.publish("device", "list", "--sort", "name")["items"]]
        fleet.send_signal(signal.SIGINT)
        out, told = fleet.communicate(timeout=60)
    finally:
        if fleet.poll() is None:
            os.killpg(fleet.pid, signal.SIGKILL)
            fleet.communicate()

    assert "failed" in paused["why"]
    assert names == [f"sim-7-{number:05}" for number in range(8)]
    summary = json.loads(out)
    assert fleet.returncode == 0, told
    assert (summary["enrolled"], summary["profiles"]) == (8, {"ok": 6, "failing": 2})
    assert summary["installs"]["failed"] >= 3, "two of the first release, and what paused the second"
    assert summary["installs"]["succeeded"] >= 6
    # Who is stopped between install and health by the brake, with nothing before, has a code of its own.
    assert set(summary["failures"]) <= {"install_failed", "health_failed", "nothing_to_return_to"}
    assert sum(summary["failures"].values()) == summary["installs"]["failed"]
    assert summary["errors"] == {}
    assert summary["check_in_ms"]["p99"] >= summary["check_in_ms"]["p50"] > 0
    assert "enrolled 8 of 8" in told.splitlines()
    # It leaves nothing behind: no device, no token, no home.
    assert summary["deleted"] == 8
    assert home.publish("device", "list")["items"] == []
    assert home.publish("enroll-token", "list")["items"] == []
    assert list(tmp_path.glob("wavegate-simulate-*")) == []


def offer(home: Home, folder: Path, version: str, wave: str) -> str:
    """Publish a release and offer it; the rollout's id."""
    (folder / "app.bin").write_text(version)
    home.publish("push", folder / "app.bin", "--product", "app", "--version", version, "--platform", "any")
    made = home.publish("rollout", "create", "--product", "app", "--version", version, "--wave", wave)
    return str(made["id"])


def counters(home: Home, rollout: str) -> tuple[int, int]:
    """How many devices succeeded, and how many failed."""
    wave = home.publish("rollout", "show", rollout)["waves"][0]["counters"]
    return wave["succeeded"], wave["failed"]
