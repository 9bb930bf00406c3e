"""A release on its way to real devices: waves, approval, a failing release that pauses by itself and is taken back."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import BIN, Home

Wait = Callable[[Callable[[], Any]], Any]

# Installs by copying; a release whose bytes say so fails its health check.
HEALTH = "sh -c '! grep -q broken {place}'"


class Device:
    """A real agent with a home of its own, polled when the test says so."""

    def __init__(self, home: Home, folder: Path, token: str, name: str) -> None:
        self.name = name
        self.folder = folder / name
        self.place = folder / f"{name}.installed"
        self._environ = home.environ
        place = str(self.place)
        self.agent(
            *("enroll", "--url", home.url, "--token", token, "--name", name, "--platform", "linux-amd64"),
            *("--install-command", f"cp {{file}} {place}", "--health-command", HEALTH.format(place=place)),
        )

    def agent(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `wavegate-agent`."""
        call: list[str | Path] = [BIN / "wavegate-agent", command, "--home", str(self.folder), *arguments]
        done = subprocess.run(call, env=self._environ, capture_output=True, text=True, timeout=120)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def poll(self) -> None:
        """One poll, whatever comes of it."""
        self.agent("run", "--once", check=False)

    @property
    def runs(self) -> bytes | None:
        """The bytes that are installed."""
        return self.place.read_bytes() if self.place.exists() else None


@pytest.fixture
def fleet(home: Home, tmp_path: Path) -> list[Device]:
    """Four devices in the group `everyone`."""
    home.log_in()
    home.publish("group", "create", "everyone")
    token = home.publish("enroll-token", "create", "batch", "--group", "everyone", "--max-uses", "4")["token"]
    return [Device(home, tmp_path, token, f"device-{number}") for number in range(4)]


def push(home: Home, folder: Path, version: str, content: bytes) -> None:
    (folder / f"{version}.bin").write_bytes(content)
    home.publish(
        *("push", folder / f"{version}.bin", "--product", "fw", "--version", version),
        *("--platform", "linux-amd64", "--file-name", "fw.bin"),
    )


def create(home: Home, version: str, *waves: str) -> str:
    arguments = [part for wave in waves for part in ("--wave", wave)]
    made = home.publish("rollout", "create", "--product", "fw", "--version", version, *arguments)
    rollout_id: str = made["id"]
    return rollout_id


def show(home: Home, rollout_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = home.publish("rollout", "show", rollout_id)
    return shown


def installed(fleet: list[Device]) -> set[bytes | None]:
    """Let the devices poll; what is installed then."""
    for device in fleet:
        device.poll()
    return {device.runs for device in fleet}


def carry(home: Home, fleet: list[Device], rollout_id: str, state: str, wait_until: Wait) -> dict[str, Any]:
    """Let the devices poll until the rollout is in this state."""

    def reached() -> dict[str, Any] | None:
        installed(fleet)
        shown = show(home, rollout_id)
        return shown if shown["state"] == state else None

    found: dict[str, Any] = wait_until(reached)
    return found


@pytest.mark.pooler
def test_a_release_reaches_the_fleet_and_a_bad_one_is_taken_back(
    home: Home, fleet: list[Device], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"good release one")
    first = create(home, "1.0.0", "everyone:50,approvals=1,soak=1s,success=100", "everyone,soak=1s,success=100")

    # Nothing is offered before the approval, and who made the rollout cannot give it.
    for device in fleet:
        device.poll()
    assert [device.runs for device in fleet] == [None] * 4
    refused = home.publish("rollout", "approve", first, "--wave", "1", "--yes", check=False)
    assert refused.returncode == 0, "the admin is another person than the key that made it"
    carry(home, fleet, first, "completed", wait_until)
    wait_until(lambda: installed(fleet) == {b"good release one"})
    wait_until(lambda: sum(wave["counters"]["succeeded"] for wave in show(home, first)["waves"]) == 4)

    push(home, tmp_path, "1.1.0", b"broken release")
    foreseen = home.publish("rollout", "preview", "--product", "fw", "--version", "1.1.0", "--wave", "everyone")
    assert (foreseen["devices"], foreseen["waves"][0]["platforms"]) == (4, {"linux-amd64": 4})
    assert (foreseen["blocks"], foreseen["notes"]) == ([], [])
    bad = create(home, "1.1.0", "everyone:75,max_failures=1,soak=1h", "everyone")
    paused = carry(home, fleet, bad, "paused", wait_until)
    assert "failed" in paused["why"]
    assert [device.runs for device in fleet] == [b"good release one"] * 4, "a failed health check rolls back by itself"
    watched = home.publish("rollout", "watch", bad, "--timeout", "30s", check=False)
    assert watched.returncode == 6
    assert [json.loads(line)["state"] for line in watched.stdout.splitlines()][-1] == "paused"
    assert json.loads(watched.stdout.splitlines()[-1])["failures"] != []
    reasons = home.publish("rollout", "failures", bad)["reasons"]
    told = home.publish("rollout", "devices", bad, "-o", "csv", check=False)
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert {row["device_name"] for row in rows} <= {device.name for device in fleet}
    assert next(row["code"] for row in rows if row["progress"] == reasons[0]["progress"]) == reasons[0]["code"] != ""
    home.publish("rollout", "abort", bad, "--mode", "roll_back", "--reason", "health check fails")
    for device in fleet:
        device.poll()
    assert [device.runs for device in fleet] == [b"good release one"] * 4

    tags = [event["tag"] for event in home.publish("audit", "list", "--limit", "0", "--subject", bad)["items"]]
    assert tags[:3] == ["rollout.created", "rollout.submitted", "rollout.wave.opened"]
    assert tags[-2:] == ["rollout.wave.failed", "rollout.aborted"]
    running = {one["name"]: one["running"][0]["version"] for one in home.publish("device", "list")["items"]}
    assert running == {device.name: "1.0.0" for device in fleet}


def test_an_abort_with_roll_back_returns_devices_that_had_succeeded(
    home: Home, fleet: list[Device], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"first")
    carry(home, fleet, create(home, "1.0.0", "everyone"), "completed", wait_until)
    push(home, tmp_path, "2.0.0", b"second")
    second = create(home, "2.0.0", "everyone,soak=1h")
    wait_until(lambda: installed(fleet) == {b"second"})
    home.publish("rollout", "abort", second, "--mode", "roll_back", "--reason", "customers complain")
    wait_until(lambda: installed(fleet) == {b"first"})
    wait_until(lambda: rolled_back(home, second) == 4)


def test_a_completed_rollout_calls_devices_back_and_a_rerun_brings_them_forward_again(
    home: Home, fleet: list[Device], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"first")
    carry(home, fleet, create(home, "1.0.0", "everyone"), "completed", wait_until)
    wait_until(lambda: installed(fleet) == {b"first"})
    push(home, tmp_path, "2.0.0", b"second")
    second = create(home, "2.0.0", "everyone")
    carry(home, fleet, second, "completed", wait_until)
    wait_until(lambda: installed(fleet) == {b"second"})
    back = home.publish("rollout", "roll-back", second, "--reason", "customers complain")
    assert (back["state"], back["rolled_back_because"]) == ("completed", "customers complain")
    wait_until(lambda: installed(fleet) == {b"first"})
    again = home.publish("rollout", "rerun", second)
    assert again["cloned_from"] == second
    carry(home, fleet, again["id"], "completed", wait_until)
    wait_until(lambda: installed(fleet) == {b"second"})
    assert [one["is_sound"] for one in home.publish("rollout", "recount")["items"]] == [True, True, True]


def rolled_back(home: Home, rollout_id: str) -> int:
    return sum(int(wave["counters"]["rolled_back"]) for wave in show(home, rollout_id)["waves"])


def test_a_revoked_device_is_refused_and_a_server_that_is_away_changes_nothing(
    home: Home, fleet: list[Device], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"first")
    carry(home, fleet, create(home, "1.0.0", "everyone"), "completed", wait_until)
    lost = fleet[0]
    seen = home.publish("device", "show", lost.name)["last_seen_at"]
    home.publish("device", "revoke", lost.name, "--reason", "stolen")
    lost.poll()
    shown = home.publish("device", "show", lost.name)
    assert shown["status"] == "revoked"
    assert shown["last_seen_at"] == seen
    for process in home.running():
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    fleet[1].poll()
    assert fleet[1].runs == b"first"
    status = fleet[1].agent("status")
    assert "1.0.0" in status.stdout


def test_a_tampered_decision_and_a_tampered_artifact_are_refused(
    home: Home, fleet: list[Device], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"the real firmware")
    create(home, "1.0.0", "everyone")
    blobs = home.folder / "orgs" / "acme" / "repository" / "blobs"
    wait_until(lambda: any(b"wavegate-decision" in path.read_bytes() for path in blobs.rglob("*") if path.is_file()))
    [decision] = [path for path in blobs.rglob("*") if path.is_file() and b"wavegate-decision" in path.read_bytes()]
    [artifact] = [path for path in blobs.rglob("*") if path.is_file() and path.read_bytes() == b"the real firmware"]
    signed = decision.read_bytes()
    decision.write_bytes(signed.replace(b'"to":10000', b'"to":99999'))
    fleet[0].poll()
    assert fleet[0].runs is None
    decision.write_bytes(signed)
    artifact.write_bytes(b"the evil firmware")
    fleet[1].poll()
    assert fleet[1].runs is None
    artifact.write_bytes(b"the real firmware")
    wait_until(lambda: installed(fleet) == {b"the real firmware"})


def test_a_yanked_release_that_stays_open_for_late_devices_is_installed_by_nobody_new(
    home: Home, fleet: list[Device], tmp_path: Path, wait_until: Wait
) -> None:
    push(home, tmp_path, "1.0.0", b"first")
    rollout_id = create(home, "1.0.0", "everyone")
    wait_until(lambda: show(home, rollout_id)["state"] == "running")
    fleet[0].poll()
    assert fleet[0].runs == b"first"
    wait_until(lambda: show(home, rollout_id)["state"] == "completed")
    home.publish("artifact", "yank", "fw/1.0.0/linux-amd64/fw.bin", "--reason", "eats batteries")
    fleet[1].poll()
    assert fleet[1].runs is None
    assert "yanked" in fleet[1].agent("status").stdout
