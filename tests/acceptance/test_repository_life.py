"""The life of a repository from the outside: canary, mirror, backup and restore, rebuild, bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import BIN, Home
from tests.acceptance.test_publishing import client


def ready(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.sqlite
def test_a_home_is_mirrored_and_backed_up_while_it_serves_and_clients_follow_to_the_restored_one(
    home: Home, tmp_path: Path, wait_until: Callable[[Callable[[], Any]], Any]
) -> None:
    (tmp_path / "one.bin").write_bytes(b"one")
    (tmp_path / "two.bin").write_bytes(b"two")
    first = home.publish("push", tmp_path / "one.bin", "--product", "fw", "--version", "1")
    wait_until(lambda: ready(home.url)["checks"]["canary"] not in ("not yet",))
    wait_until(lambda: ready(home.url)["checks"]["canary"]["serial"] == first["serial"])
    assert ready(home.url)["checks"]["canary"]["ok"] is True
    assert ready(home.url)["status"] == "ready"

    assert home.publish("repo", "sync", tmp_path / "mirror", key=False)["serial"] == first["serial"]
    assert (tmp_path / "mirror" / "targets" / "fw" / "1" / "any" / f"{first['sha256']}.one.bin").read_bytes() == b"one"
    made = home.publish("repo", "backup", tmp_path / "backup.tar", key=False)
    assert (made["serial"], made["keys"]) == (first["serial"], True)

    second = home.publish("push", tmp_path / "two.bin", "--product", "fw", "--version", "2")
    updater = client(home, tmp_path / "client")
    assert updater.get_targetinfo(second["target_path"]) is not None
    assert home.publish("repo", "rebuild-db", key=False) == {
        "serial": second["serial"],
        "artifacts": 2,
        "equal": True,
    }

    for process in home.running():
        process.terminate()
        process.wait(30)
    lost = home.folder
    home.folder = tmp_path / "restored"
    home.environ["WAVEGATE_HOME"] = str(home.folder)
    done = home.publish("repo", "restore", tmp_path / "backup.tar", key=False)
    assert done["serial"] > second["serial"]
    shutil.rmtree(lost)
    home.made["root"] = str(home.folder / "root.json")
    home.url = ""
    home.serve()
    follower = client(home, tmp_path / "client")
    assert follower.get_targetinfo(second["target_path"]) is None
    found = follower.get_targetinfo(first["target_path"])
    assert found is not None
    assert Path(follower.download_target(found)).read_bytes() == b"one"
    assert home.publish("repo", "check")["ok"] is True


def test_a_device_enrols_with_the_bundle_and_refuses_another_repositorys(
    home: Home, make_home: Callable[..., Home], tmp_path: Path
) -> None:
    home.log_in()
    bundle = home.publish("repo", "bundle", tmp_path / "bundle")
    assert bundle["root_sha256"] == home.made["root_sha256"]
    home.publish("group", "create", "field")
    token = home.publish("enroll-token", "create", "line", "--group", "field", key=False)["token"]
    other = make_home(fresh=True)
    (tmp_path / "foreign").mkdir()
    shutil.copyfile(other.made["root"], tmp_path / "foreign" / "root.json")

    def enrol(root: Path) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [BIN / "wavegate-agent", "enroll", "--url", home.url, "--token", token]
        command += ["--name", "press-1", "--root", root, "--home", tmp_path / "device", "-o", "json"]
        return subprocess.run(command, capture_output=True, text=True)

    refused = enrol(tmp_path / "foreign")
    assert refused.returncode == 8
    assert "untrusted_root" in refused.stderr
    taken = enrol(tmp_path / "bundle")
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout)["root_sha256"] == home.made["root_sha256"]
