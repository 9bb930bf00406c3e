"""The wheel, installed where a CI job would run it: in a folder with packages of the same names as ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
NOT_SHIPPED: Final = {"__pycache__", ".cache"}


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env | variables, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A copy is built, because setuptools writes into the folder that it builds and the tree is not ours to change.
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for room in [*ROOMS, "tests"]:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", out, source),
        cwd=source,
    )
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of a new environment that holds the wheel; its dependencies are the ones we run with."""
    place = tmp_path_factory.mktemp("installed") / "env"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    put = run(
        *(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-deps",
            "--no-index",
            "--no-cache-dir",
            wheel,
        ),
        cwd=place,
    )
    assert put.returncode == 0, put.stderr
    (site,) = place.glob("lib/python3*/site-packages")
    # Lines of a .pth file found through another .pth file are not followed, so our editable copy stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A CI job's working directory: its own packages with our names, each of which ends the process when imported."""
    for name in (*ROOMS[:-1], "tests"):
        assert name != "wavegate_launcher"
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(f"raise SystemExit('the package {name} of the job was imported')\n")
        (package / "main.py").write_text("")
    return tmp_path


def test_wheel_holds_every_file_of_the_rooms_and_no_test(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and not NOT_SHIPPED & set(path.parts)
    }
    assert shipped == expected
    assert {"store/migrations/env.py", "api/device/device.proto", "rollout/py.typed"} <= shipped


@pytest.mark.parametrize("command", ["publish", "wavegate-agent"])
@pytest.mark.parametrize("path", [".", "", None])
def test_installed_command_runs_in_a_folder_with_packages_of_the_same_names(
    command: str, path: str | None, installed: Path, checkout: Path
) -> None:
    brought = {} if path is None else {"PYTHONPATH": path}
    ran = run(installed / command, "--help", cwd=checkout, **brought)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"Usage: {command}")


def test_installed_command_finds_the_rooms_of_the_wheel_and_still_finds_what_the_caller_brought(
    installed: Path, checkout: Path
) -> None:
    (checkout / "a_plug_in_of_the_job.py").write_text("")
    ran = run(
        *(installed / "python", "-c"),
        "import wavegate_launcher; wavegate_launcher.find_ourselves_first()\n"
        "import cli, keys, json, a_plug_in_of_the_job\n"
        "print(cli.__file__, keys.__file__, json.__file__, a_plug_in_of_the_job.__file__, sep='\\n')",
        cwd=checkout,
        PYTHONPATH=".",
    )
    assert ran.returncode == 0, ran.stderr
    places = [Path(line) for line in ran.stdout.splitlines()]
    (site,) = installed.parent.glob("lib/python3*/site-packages")
    assert places[0] == site / "cli" / "__init__.py"
    assert places[1] == site / "keys" / "__init__.py"
    assert site not in places[2].parents
    assert places[3] == checkout / "a_plug_in_of_the_job.py"


def test_installed_command_runs_where_the_working_directory_was_removed(installed: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ran = run("/bin/sh", "-c", f'rmdir "{gone}" && exec "{installed / "publish"}" --help', cwd=gone)
    assert (ran.returncode, ran.stderr) == (0, "")
