"""An organisation made beside a running server: every process of it serves the new one, devices and all."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import BIN, START_SECONDS, Home


@pytest.mark.nightly
def test_a_new_organisation_rolls_out_to_its_device_and_the_first_one_sees_nothing(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = make_home()
    home.serve()
    made = home.publish("org", "create", "beta", "--admin", "bea@example.com")
    first, home.made = home.made, made
    (tmp_path / "fw.bin").write_bytes(b"firmware of beta")
    home.publish("push", tmp_path / "fw.bin", "--product", "fw", "--version", "1.0")
    home.publish("group", "create", "field")
    home.log_in()
    token = home.publish("enroll-token", "create", "line", "--group", "field")["token"]
    device, installed = tmp_path / "device", tmp_path / "installed"
    more = ("--name", "press", "--platform", "linux-amd64", "--install-command", f"cp {{file}} {installed}")
    agent("enroll", device, "--url", home.url, "--token", token, *more)
    rollout = home.publish("rollout", "create", "--product", "fw", "--version", "1.0", "--wave", "field")
    deadline = time.monotonic() + START_SECONDS
    while not installed.exists():
        assert time.monotonic() < deadline, home.publish("rollout", "show", rollout["id"])
        agent("run", device, "--once")
    assert installed.read_bytes() == b"firmware of beta"
    while home.publish("rollout", "show", rollout["id"])["state"] != "completed":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    home.made = first
    for noun in ("artifact", "device", "rollout", "group"):
        assert home.publish(noun, "list")["items"] == [], noun
    refused = home.publish("rollout", "show", rollout["id"], check=False)
    assert refused.returncode == 5


def agent(command: str, folder: Path, *arguments: str) -> None:
    call: list[str | Path] = [BIN / "wavegate-agent", command, "--home", folder, *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
