"""The service file of the docs, by systemd's own judgement."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "docs/examples/agent/wavegate-agent.service"
EXPOSURE = "25"  # tenths, of 100; what systemd calls OK ends at 50


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        reason = "systemd-analyze is missing; Debian, Ubuntu: apt-get install systemd"
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """As it stands, but for a program that is here."""
    text = UNIT.read_text()
    assert text.count("ExecStart=/usr/bin/python3 -I /usr/lib/wavegate-agent/wavegate-agent.pyz run\n") == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/usr/bin/python3 -I", "/bin/true"))
    return copy


def test_systemd_finds_nothing_wrong_with_it(analyze: str, unit: Path) -> None:
    ran = subprocess.run([analyze, "verify", "--man=no", "--recursive-errors=no", unit], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_it_is_walled_in(analyze: str, unit: Path) -> None:
    command = [analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", unit]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert "Overall exposure level for wavegate-agent.service: 2." in ran.stdout


def test_an_install_under_way_gets_no_signal_of_its_own() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"KillMode=mixed", "TimeoutStopSec=35min", "Restart=always"} <= set(lines)
