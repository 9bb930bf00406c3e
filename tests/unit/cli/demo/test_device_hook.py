"""The demo's pretended boot loader: what it installs is whole, and its health depends on the device."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from cli.demo import device_hook


def packed(folder: Path, first: str, content: bytes) -> Path:
    path = folder / "release.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(first)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


def settings(version: str, memory: int) -> bytes:
    return json.dumps({"product": "gateway", "version": version, "needs_memory_mib": memory}).encode()


def test_installed_release_is_the_one_that_runs(tmp_path: Path) -> None:
    assert device_hook.install(tmp_path, packed(tmp_path, "release.json", settings("1.0.0", 128))) == 0
    assert json.loads((tmp_path / "running.json").read_text())["version"] == "1.0.0"


def test_file_that_is_no_release_changes_nothing(tmp_path: Path) -> None:
    device_hook.install(tmp_path, packed(tmp_path, "release.json", settings("1.0.0", 128)))
    assert device_hook.install(tmp_path, packed(tmp_path, "readme.txt", b"{}")) == 1
    assert json.loads((tmp_path / "running.json").read_text())["version"] == "1.0.0"


def test_release_is_healthy_only_where_there_is_memory_for_it(tmp_path: Path) -> None:
    device_hook.install(tmp_path, packed(tmp_path, "release.json", settings("1.1.0", 512)))
    (tmp_path / "device.json").write_text('{"memory_mib": 512}')
    assert device_hook.health(tmp_path, starts_within_seconds=0) == 0
    (tmp_path / "device.json").write_text('{"memory_mib": 511}')
    assert device_hook.health(tmp_path, starts_within_seconds=0) == 1
