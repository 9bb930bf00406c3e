"""The launcher's order of ``sys.path``, in processes of its own because it changes the path for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = """
import json, os, sys
sys.path.append(sys.argv[2])
import wavegate_launcher
sys.path[:] = json.loads(sys.argv[1])
wavegate_launcher.find_ourselves_first()
print(json.dumps(sys.path))
"""


def reordered(path: list[str], cwd: Path, **variables: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, json.dumps(path), str(ROOT)],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return [str(entry) for entry in json.loads(ran.stdout)]


def test_working_directory_and_pythonpath_come_after_our_own_folder(tmp_path: Path) -> None:
    job, hooks = tmp_path / "job", tmp_path / "hooks"
    job.mkdir()
    path = ["", str(job), str(hooks), "/usr/lib/python", "/opt/site"]
    assert reordered(path, job, PYTHONPATH=f".:{hooks}") == [
        "/usr/lib/python",
        "/opt/site",
        str(ROOT),
        "",
        str(job),
        str(hooks),
    ]


def test_our_folder_keeps_its_place_when_it_already_stands_first(tmp_path: Path) -> None:
    path = [str(tmp_path), "/usr/lib/python", str(ROOT), "/opt/site"]
    assert reordered(path, tmp_path, PYTHONPATH=str(tmp_path)) == [
        "/usr/lib/python",
        str(ROOT),
        "/opt/site",
        str(tmp_path),
    ]


def test_our_folder_goes_first_even_if_it_is_the_working_directory(tmp_path: Path) -> None:
    path = ["", str(tmp_path), str(ROOT), "/usr/lib/python"]
    assert reordered(path, ROOT, PYTHONPATH=str(tmp_path)) == ["/usr/lib/python", str(ROOT), "", str(tmp_path)]
