"""What the pages for operators and CI jobs tell people to type, typed into a real shell against a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.conftest import BIN, Home
from tests.databases import Databases
from tests.simulators.listening import free_port

DOCS = Path(__file__).parents[2] / "docs"
CI = (DOCS / "ci.md").read_text()

# What the commands of the pages need of a machine: its services, and programs that only install.
PRELUDE = """
set -euo pipefail
systemctl() {
  case "$1" in
    stop) kill "$(cat "$T/pid")"; while kill -0 "$(cat "$T/pid")" 2>/dev/null; do sleep 0.1; done;;
    start) publish serve >>"$T/serve.log" 2>&1 & echo $! >"$T/pid"
      until (exec 3<>"/dev/tcp/${WAVEGATE_LISTEN/://}") 2>/dev/null; do kill -0 "$(cat "$T/pid")"; sleep 0.2; done;;
  esac
}
"""


class Machine:
    """A home under systemd, as far as the pages know; ``T`` holds what they keep in places of a whole machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(Databases(None), folder / "lib" / "wavegate", "--org", "acme")
        port, device_port = free_port(), free_port()
        (folder / "backups").mkdir()
        (folder / "bin").mkdir()
        for name in ("pip", "pipx"):
            (folder / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$T/installed"\n')
        (folder / "bin" / "make").write_text(
            '#!/bin/sh\nfor one; do case "$one" in *.cdx.json) cp "$T/sbom.json" "$one";; '
            '*) head -c 5000 /dev/urandom > "$one";; esac; done\n'
        )
        for program in (folder / "bin").iterdir():
            program.chmod(0o755)
        (folder / "sbom.json").write_text(
            json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []})
        )
        self.environ = {
            **self.home.environ,
            "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}",
            "T": str(folder),
            "WAVEGATE_LISTEN": f"127.0.0.1:{port}",
            "WAVEGATE_DEVICE_LISTEN": f"127.0.0.1:{device_port}",
            "WAVEGATE_URL": f"http://127.0.0.1:{port}",
        }
        self.home.url = self.environ["WAVEGATE_URL"]

    @property
    def key(self) -> str:
        key: str = self.home.made["api_key"]
        return key

    def type(self, script: str, folder: Path | None = None, **variables: str) -> str:
        """Run what somebody types and return stdout; it must end well."""
        for there, here in (
            ("/opt/wavegate/bin/", ""),
            ("/var/lib/wavegate", str(self.home.folder)),
            ("/var/backups/wavegate", str(self.folder / "backups")),
        ):
            script = script.replace(there, here)
        done = subprocess.run(
            ["bash", "-c", PRELUDE + script],
            cwd=folder or self.folder,
            env={**self.environ, **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def end(self) -> None:
        """End the server; its worker ends with it."""
        pid = self.folder / "pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)


def block(name: str) -> str:
    """A block of docs/operate.md that is marked to be run."""
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)^```", (DOCS / "operate.md").read_text(), re.M | re.S)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    made.type("systemctl start wavegate")
    try:
        yield made
    finally:
        made.end()


def checkout(machine: Machine, name: str) -> Path:
    """A job's folder: the trusted root in it, and the key in a file beside it."""
    folder = machine.folder / name
    folder.mkdir()
    (folder / "wavegate-root.json").write_bytes(Path(machine.home.made["root"]).read_bytes())
    (folder.with_suffix(".key")).write_text(machine.key)
    return folder


def groups(machine: Machine) -> None:
    if not machine.home.publish("group", "list")["items"]:
        for name in ("canary", "field"):
            machine.home.publish("group", "create", name)


def test_the_github_job_publishes_checks_and_rolls_out(machine: Machine) -> None:
    groups(machine)
    (text,) = re.findall(r"^```yaml\n(name: release\n.*?)^```", CI, re.M | re.S)
    job: dict[str, Any] = yaml.safe_load(text)["jobs"]["release"]
    assert set(job["env"]) == {"WAVEGATE_URL", "WAVEGATE_API_KEY"}
    folder = checkout(machine, "github")
    outputs, summary = folder.with_suffix(".outputs"), folder.with_suffix(".md")
    named: dict[str, dict[str, str]] = {}
    for step in job["steps"]:
        if "run" not in step:
            continue
        outputs.write_text("")
        variables = {
            name: re.sub(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", lambda found: named[found[1]][found[2]], value)
            for name, value in step.get("env", {}).items()
        }
        machine.type(
            step["run"],
            folder,
            GITHUB_OUTPUT=str(outputs),
            GITHUB_STEP_SUMMARY=str(summary),
            GITHUB_REF_NAME="v1.0.0",
            WAVEGATE_API_KEY=machine.key,
            **variables,
        )
        found = re.findall(r"^(\w+)<<(wavegate_\w+)\n(.*?)\n\2$", outputs.read_text(), re.M | re.S)
        named[step.get("id", "")] = {name: value for name, _, value in found}
    assert named["publish"]["target_path"] == "gateway/1.0.0/any/gateway.bin"
    assert named["rollout"]["id"].startswith("rol_")
    told = summary.read_text()
    assert "### Published gateway/1.0.0/any/gateway.bin" in told
    assert "### Rollout of gateway 1.0.0" in told


@pytest.mark.nightly
def test_the_gitlab_job_publishes_checks_and_rolls_out(machine: Machine) -> None:
    groups(machine)
    (text,) = re.findall(r"^```yaml\n(release:\n.*?)^```", CI, re.M | re.S)
    job = yaml.safe_load(text)["release"]
    folder = checkout(machine, "gitlab")
    script = "\n".join(job["script"])
    machine.type(script, folder, CI_COMMIT_TAG="v1.1.0", WAVEGATE_API_KEY=str(folder.with_suffix(".key")))
    assert json.loads((folder / "published.json").read_text())["target_path"] == "gateway/1.1.0/any/gateway.bin"
    assert json.loads((folder / "rollout.json").read_text())["version"] == "1.1.0"
    assert {"published.json", "rollout.json"} == set(job["artifacts"]["paths"])


@pytest.mark.nightly
def test_the_jenkins_job_publishes_checks_and_rolls_out(machine: Machine) -> None:
    groups(machine)
    (script,) = re.findall(r"sh '''\n(.*?)'''", CI, re.S)
    folder = checkout(machine, "jenkins")
    machine.type(script, folder, TAG_NAME="v1.2.0", WAVEGATE_API_KEY_FILE=str(folder.with_suffix(".key")))
    assert json.loads((folder / "rollout.json").read_text())["version"] == "1.2.0"
    # A retry of the whole job finds the same bytes published and the groups busy with its own first try.
    again = machine.home.publish("artifact", "list")["items"]
    assert [one["version"] for one in again if one["version"] == "1.2.0"] == ["1.2.0"]


@pytest.mark.nightly
def test_backup_upgrade_and_restore_are_done_as_the_page_says(machine: Machine) -> None:
    """Last in this module: it replaces the home."""
    (machine.folder / "later.bin").write_bytes(b"later")
    machine.type("publish push later.bin --product later --version 1", WAVEGATE_API_KEY=machine.key)
    machine.type(block("backup"), WAVEGATE_API_KEY=machine.key)
    machine.type(block("upgrade"), WAVEGATE_API_KEY=machine.key)
    assert "pip install --upgrade wavegate[postgresql,bucket,otel]" in (machine.folder / "installed").read_text()
    told = machine.type(block("restore"), WAVEGATE_API_KEY=machine.key)
    assert '"target_path": "later/1/any/later.bin"' in told
    assert sorted(path.name for path in (machine.folder / "backups").iterdir()) == ["before-upgrade.tar", "today.tar"]
    lines = [line for line in (machine.folder / "serve.log").read_text().splitlines() if line]
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert [line for line in lines if machine.key in line] == []
