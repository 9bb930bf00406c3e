"""What goes into a log bundle, and what never does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.bundle import PIECE, Bundle, Wanted, room
from agent.config import AgentConfig
from agent.errors import BadConfig
from agent.home import Home

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = b"-----BEGIN PRIVATE KEY-----\nsecret\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    home.identity.mkdir()
    (home.identity / "credentials.pem").write_bytes(KEY)
    return home


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def put(file: Path, content: bytes, *, days: float = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    at = (NOW - timedelta(days=days)).timestamp()
    os.utime(file, (at, at))


def bundled(
    home: Home, *patterns: str, most_bytes: int = 10**6, most_files: int = 100, days: float = 7
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by the end of their names, and the list of what was passed over and why."""
    wanted = Wanted(patterns=patterns, most_bytes=most_bytes, most_files=most_files, age=timedelta(days=days))
    bundle = Bundle(home, wanted, NOW)
    pieces = list(bundle)
    content = b"".join(pieces)
    assert max(len(piece) for piece in pieces) <= PIECE
    assert (bundle.length, bundle.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    manifest = json.loads(files.pop("manifest.json"))
    assert bundle.files == len(files) + 1
    return {Path(name).name: found for name, found in files.items()}, {
        Path(one["name"]).name: one["why"] for one in manifest["passed_over"]
    }


def test_patterns_find_files_as_a_shell_would_and_folders_of_any_depth(home: Home, logs: Path) -> None:
    for name in ("a.log", ".hidden.log", "a.txt", "one/b.log", "one/two/c.log"):
        put(logs / name, name.encode())

    assert set(bundled(home, f"{logs}/*.log")[0]) == {"a.log"}
    assert set(bundled(home, f"{logs}/*/*.log")[0]) == {"b.log"}
    assert set(bundled(home, f"{logs}/**/*.log")[0]) == {"a.log", "b.log", "c.log"}
    assert set(bundled(home, f"{logs}/a.txt", f"{logs}/a.t?t", f"{logs}/.h*")[0]) == {"a.txt", ".hidden.log"}


def test_no_link_below_a_pattern_leads_out_neither_to_a_file_nor_to_a_folder(home: Home, logs: Path) -> None:
    put(logs.parent / "elsewhere" / "shadow", b"secret")
    (logs / "file.log").symlink_to(logs.parent / "elsewhere" / "shadow")
    (logs / "sub").symlink_to(logs.parent / "elsewhere")
    put(logs / "good.log", b"good")

    files, passed = bundled(home, f"{logs}/*.log", f"{logs}/*/*", f"{logs}/**/*")

    assert files == {"good.log": b"good"}
    assert passed["file.log"] == "it is a symbolic link"


def test_a_folder_that_the_owner_names_may_be_a_link(home: Home, logs: Path) -> None:
    put(logs / "app" / "a.log", b"a")
    (logs / "current").symlink_to(logs / "app")

    assert bundled(home, f"{logs}/current/*.log")[0] == {"a.log": b"a"}


@pytest.mark.parametrize(
    "pattern", ["{home}/identity/*", "{home}/**/*", "{home}/identity/credentials.pem", "{up}/**/*"]
)
def test_the_agent_s_identity_is_in_no_bundle(home: Home, logs: Path, pattern: str) -> None:
    os.link(home.identity / "credentials.pem", logs / "copy.log")
    put(logs / "good.log", b"good")

    files, _ = bundled(home, pattern.format(home=home.folder, up=home.folder.parent), f"{logs}/*")

    assert files == {"good.log": b"good"}


def test_what_is_no_file_is_not_waited_for(home: Home, logs: Path) -> None:
    os.mkfifo(logs / "pipe.log")

    assert bundled(home, f"{logs}/*") == ({}, {"pipe.log": "it is no file"})


def test_the_newest_files_come_first_and_of_the_last_one_its_end(home: Home, logs: Path) -> None:
    put(logs / "new.log", b"n" * 600, days=1)
    put(logs / "older.log", b"o" * 300 + b"e" * 400, days=2)
    put(logs / "oldest.log", b"x", days=3)
    put(logs / "ancient.log", b"x", days=8)

    files, passed = bundled(home, f"{logs}/*", most_bytes=1000, most_files=3)

    assert files == {"new.log": b"n" * 600, "older.log": b"e" * 400}
    assert passed == {"oldest.log": "the bundle is full", "ancient.log": "3 newer files are taken"}
    assert bundled(home, f"{logs}/*")[1] == {"ancient.log": "it was last written more than 7 days, 0:00:00 ago"}


def test_a_file_that_is_cut_off_while_it_is_read_leaves_a_whole_archive(home: Home, logs: Path) -> None:
    put(logs / "a.log", os.urandom(4 * PIECE))
    put(logs / "b.log", b"b", days=1)
    wanted = Wanted(patterns=[f"{logs}/*"], most_bytes=10**6, most_files=10, age=timedelta(days=7))
    pieces = iter(Bundle(home, wanted, NOW))
    content = next(pieces)
    (logs / "a.log").write_bytes(b"")
    content += b"".join(pieces)

    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        names = [Path(one.name).name for one in archive]
    assert names == ["a.log", "b.log", "manifest.json"]


def test_a_bundle_of_what_does_not_become_smaller_stays_below_what_the_server_takes(home: Home, logs: Path) -> None:
    for number in range(20):
        put(logs / f"{number}.log", os.urandom(100_000))
    most = 1024**2
    wanted = Wanted(patterns=[f"{logs}/*"], most_bytes=room(most, 20), most_files=20, age=timedelta(days=7))

    assert most // 4 < sum(len(piece) for piece in Bundle(home, wanted, NOW)) <= most


@pytest.mark.parametrize("pattern", ["*.log", "/var/log/../../etc/*", "/", "/var/log/", ""])
def test_a_pattern_that_names_no_files_is_refused(pattern: str) -> None:
    with pytest.raises(BadConfig):
        AgentConfig(platform="linux-x86_64", log_paths=(pattern,))
