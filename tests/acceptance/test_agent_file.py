"""The agent's one file, in a Python with nothing beside it, before a real server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from agent.pyz import build, installed, locked
from agent.web import Limits, Web
from tests.acceptance.conftest import Home


@pytest.mark.nightly
def test_one_file_brings_a_release_onto_a_device_and_tells_what_runs(home: Home, tmp_path: Path) -> None:
    file, content = tmp_path / "wavegate-agent", os.urandom(3_000_000)
    build(file, installed(locked()), "0.1.0")
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    (tmp_path / "app.bin").write_bytes(content)
    home.log_in()
    home.publish("group", "create", "canary")
    token = home.publish("enroll-token", "create", "lab", "--group", "canary")["token"]
    home.publish("push", tmp_path / "app.bin", "--product", "app", "--version", "1.0.0", "--platform", "any")
    home.publish("rollout", "create", "--product", "app", "--version", "1.0.0", "--wave", "canary,approvals=0,soak=1s")

    def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "bare/bin/python"), str(file), *arguments, "--home", str(tmp_path / "device")]
        environment = {"PATH": os.environ["PATH"], "WAVEGATE_AGENT_CACHE": str(tmp_path / "cache")}
        return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)

    agent(
        *("enroll", "--url", home.url, "--token", token, "--name", "press-1", "--platform", "linux-x86_64"),
        *("--install-command", f"cp {{file}} {tmp_path / 'runs'}"),
    )
    status: dict[str, dict[str, str]] = {}
    for _ in range(60):
        agent("run", "--once")
        status = json.loads(agent("status", "-o", "json").stdout)
        if status["reason"] == {"app": "up_to_date"}:
            break

    assert (tmp_path / "runs").read_bytes() == content
    assert status["why"] == {"app": "runs 1.0.0; up to date"}
    assert "app 1.0.0 is app/1.0.0/any/app.bin" in agent("verify").stdout
    assert home.publish("device", "show", "press-1")["state"] == "app: runs 1.0.0; up to date"

    # What the agent asks for after a broken download, the server answers as the agent wants it.
    digest = hashlib.sha256(content).hexdigest()
    web = Web(agent="test")
    known = json.loads((tmp_path / "device/identity/identity.json").read_bytes())
    url = f"{known['targets_url'].rstrip('/')}/app/1.0.0/any/{digest}.app.bin"
    with web.request("GET", url, limits=Limits(), headers={"Range": "bytes=2000000-"}) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 2000000-2999999/3000000")
        assert b"".join(answer.pieces) == content[2_000_000:]
    web.close()
