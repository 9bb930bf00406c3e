"""The loop of docs/devices.md that provisions many devices, as it stands there, in a real shell against a server."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import BIN, Home

PAGE = Path(__file__).parents[2] / "docs" / "devices.md"


@pytest.mark.parametrize("count", [3, pytest.param(1_000, marks=[pytest.mark.nightly, pytest.mark.timeout(3_600)])])
def test_the_loop_makes_a_device_and_a_code_for_each(
    make_home: Callable[..., Home], tmp_path: Path, count: int
) -> None:
    home = make_home()
    home.serve()
    home.publish("group", "create", "canary")
    (script,) = re.findall(r"<!-- run: provision -->\n```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert script.startswith("COUNT=1000\n")
    environ = {
        **home.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "WAVEGATE_URL": home.url,
        "WAVEGATE_API_KEY": home.made["api_key"],
    }

    for _ in range(2):  # the second time finds all of them there
        loop = ["bash", "-euo", "pipefail", "-c", script.replace("COUNT=1000", f"COUNT={count}")]
        done = subprocess.run(loop, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=3_000)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr

    codes = {path.name: path for path in (tmp_path / "codes").iterdir()}
    assert sorted(codes) == sorted(f"press-{number}" for number in range(1, count + 1))
    assert {stat.S_IMODE(path.stat().st_mode) for path in codes.values()} == {0o600}
    assert len({path.read_text() for path in codes.values()}) == count
    listed = home.publish("device", "list", "--status", "pending", "--group", "canary", "--limit", "0")
    assert {one["name"] for one in listed["items"]} == set(codes)
    assert json.dumps(listed).find("wge_") == -1


@pytest.mark.nightly
def test_a_spreadsheet_comes_in_goes_out_and_comes_in_again_without_a_change(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = make_home()
    home.serve()
    home.publish("group", "create", "canary")
    (tmp_path / "presses.csv").write_text("name,groups,labels\npress-1,canary,site=berlin;rack=7\npress-2,,\n")
    environ = {**home.environ, "WAVEGATE_URL": home.url, "WAVEGATE_API_KEY": home.made["api_key"]}

    made = home.publish("device", "import", str(tmp_path / "presses.csv"), "--codes-file", str(tmp_path / "codes.csv"))
    assert (made["created"], made["codes"]) == (2, None)
    assert [line.split(",")[0] for line in (tmp_path / "codes.csv").read_text().splitlines()] == [
        "name",
        "press-1",
        "press-2",
    ]
    exported = subprocess.run([BIN / "publish", "device", "export"], env=environ, capture_output=True, timeout=60)
    assert exported.returncode == 0, exported.stderr
    again = subprocess.run(
        [BIN / "publish", "device", "import", "-", "--update", "-o", "json"],
        env=environ,
        input=exported.stdout,
        capture_output=True,
        timeout=60,
    )
    told = json.loads(again.stdout)
    assert (told["created"], told["updated"], told["unchanged"]) == (0, 0, 2)
