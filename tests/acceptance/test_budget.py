"""A disruption budget with real agents at two sites: installing devices of one site never overlap."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import BIN, Home

Wait = Callable[[Callable[[], Any]], Any]

SITES = {"berlin-1": "berlin", "berlin-2": "berlin", "berlin-3": "berlin", "oslo-1": "oslo", "oslo-2": "oslo"}
# Written before and after an install, in one file for all: the order of the lines is the order of what happened.
INSTALL = """#!/bin/sh
echo "begin $1" >>"$2"
sleep 0.4
cp "$3" "$4"
echo "end $1" >>"$2"
"""


@pytest.fixture
def site_home(make_home: Callable[..., Home]) -> Home:
    """A server that lets devices ask again within a second or so."""
    home = make_home()
    home.serve(WAVEGATE_CHECK_IN_SECONDS="1")
    home.log_in()
    return home


class Fleet:
    """Agents that run by themselves until the test ends."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home, self.folder = home, folder
        self.events = folder / "events"
        self.events.touch()
        script = folder / "install.sh"
        script.write_text(INSTALL)
        script.chmod(0o755)
        home.publish("group", "create", "everyone")
        for name, site in SITES.items():
            token = home.publish("enroll-token", "create", name, "--group", "everyone", "--max-uses", "1")["token"]
            command = f"{script} {name} {self.events} {{file}} {folder / f'{name}.installed'}"
            self.agent(
                *("enroll", "--url", home.url, "--token", token, "--platform", "any-box", "--name", name),
                *("--install-command", command),
                name=name,
            )
            home.publish("device", "label", name, f"site={site}")
        self.running: list[subprocess.Popen[bytes]] = []

    def agent(self, command: str, *arguments: str, name: str) -> str:
        call: list[str | Path] = [BIN / "wavegate-agent", command, "--home", str(self.folder / name), *arguments]
        done = subprocess.run(call, env=self.home.environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        for name in SITES:
            call: list[str | Path] = [
                BIN / "wavegate-agent",
                "run",
                "--home",
                str(self.folder / name),
                "--interval",
                "0.3",
            ]
            log = (self.folder / f"{name}.log").open("wb")
            self.running.append(
                subprocess.Popen(call, env=self.home.environ, stdout=log, stderr=log, start_new_session=True)
            )
            log.close()

    def end(self) -> None:
        for process in self.running:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)

    def most_at_once(self) -> dict[str, int]:
        """By site, how many installs were ever under way at the same moment."""
        now = dict.fromkeys(SITES.values(), 0)
        most = dict(now)
        for line in self.events.read_text().splitlines():
            what, name = line.split()
            now[SITES[name]] += 1 if what == "begin" else -1
            most[SITES[name]] = max(most[SITES[name]], now[SITES[name]])
        return most


@pytest.fixture
def fleet(site_home: Home, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(site_home, tmp_path)
    yield fleet
    fleet.end()


def test_never_two_devices_of_one_site_install_at_once(fleet: Fleet, wait_until: Wait, tmp_path: Path) -> None:
    home = fleet.home
    (tmp_path / "fw.bin").write_bytes(b"firmware")
    home.publish(
        *("push", tmp_path / "fw.bin", "--product", "fw", "--version", "1.0.0", "--platform", "any"),
        *("--file-name", "fw.bin"),
    )
    made = home.publish(
        *("rollout", "create", "--product", "fw", "--version", "1.0.0", "--wave", "everyone,success=100,min_reports=5"),
        *("--budget", "site,max_updating=1,lease=10m"),
    )
    assert made["plan"]["budget"] == {
        "label": "site",
        "max_updating": 1,
        "min_available": None,
        "lease_seconds": 600,
    }

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = home.publish("rollout", "show", made["id"])
        return found

    wait_until(lambda: shown()["state"] == "running")
    assert shown()["why"].endswith("; no device holds a permit")
    fleet.agent("run", "--once", name="berlin-1")
    assert home.publish("rollout", "permits", made["id"])["items"] == [], "its result gave it back"

    fleet.start()
    wait_until(lambda: shown()["state"] == "completed")

    lines = fleet.events.read_text().splitlines()
    assert sorted(lines) == sorted(f"{what} {name}" for what in ("begin", "end") for name in SITES)
    assert fleet.most_at_once() == {"berlin": 1, "oslo": 1}


def test_a_device_that_is_lost_with_its_permit_holds_up_its_own_site_only(
    fleet: Fleet, wait_until: Wait, tmp_path: Path
) -> None:
    home = fleet.home
    (tmp_path / "fw.bin").write_bytes(b"firmware")
    home.publish(
        *("push", tmp_path / "fw.bin", "--product", "fw", "--version", "1.0.0", "--platform", "any"),
        *("--file-name", "fw.bin"),
    )
    script = tmp_path / "install.sh"
    script.write_text("#!/bin/sh\nkill -9 $PPID\n")
    made = home.publish(
        *("rollout", "create", "--product", "fw", "--version", "1.0.0", "--wave", "everyone"),
        *("--budget", "site,max_updating=1"),
    )
    wait_until(lambda: home.publish("rollout", "show", made["id"])["state"] == "running")
    call: list[str | Path] = [BIN / "wavegate-agent", "run", "--once", "--home", str(tmp_path / "berlin-1")]
    assert subprocess.run(call, env=home.environ, capture_output=True, timeout=60).returncode == -signal.SIGKILL
    script.write_text(INSTALL)

    fleet.agent("run", "--once", name="berlin-2")
    fleet.agent("run", "--once", name="oslo-1")

    assert fleet.events.read_text().split() == ["begin", "oslo-1", "end", "oslo-1"]
    status = fleet.agent("status", name="berlin-2")
    assert "1.0.0 is here and waits for a permit: 1 of at most 1 devices with site=berlin are updating" in status
    [held] = home.publish("rollout", "permits", made["id"])["items"]
    assert (held["value"], held["device_name"], held["rollout_id"]) == ("berlin", "berlin-1", made["id"])
    assert home.publish("rollout", "show", made["id"])["why"].endswith("; hold a permit: 1 at site=berlin")

    fleet.agent("run", "--once", name="berlin-1")
    fleet.start()
    wait_until(lambda: len(fleet.events.read_text().splitlines()) == 2 * len(SITES))
    assert fleet.most_at_once() == {"berlin": 1, "oslo": 1}
