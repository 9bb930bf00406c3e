"""What may not stand in the tree, looked for in every file that is ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NOT_OURS: Final = re.compile(
    r"\.git|\.venv|\.cache|\.\w+_cache|\.hypothesis|__pycache__|node_modules|build|dist|.*\.egg-info"
)
MAX_LINES: Final = 450  # 400 is the wish; who passes this has two things in one file
LONG_BY_NATURE: Final = {"requirements.lock", "package-lock.json", "device_pb2.pyi", "device_pb2_grpc.py"}
VAGUE: Final = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "handlers", "processor", "misc"}

# The words are put together here, so that this file does not hold what it looks for.
PRIVATE_KEY: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIV" + rb"ATE KEY-----(?:\\n|\\r|\s|[\w-]+: [^\n]*)*[A-Za-z0-9+/]{32}"
)
MACHINE_PATH: Final = re.compile(r"(?<![\w.}>)\]-])/(?:work|farm|root)" + r"/")
INDEX_HOSTS: Final = re.compile(r"pypi" + r"\.org|python" + r"hosted|npm" + r"js\.(?:org|com)|yarn" + r"pkg")
UNFINISHED: Final = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
NOT_RUN: Final = re.compile(r"mark\.(?:sk" + r"ip|xf" + r"ail)|pytest\.xf" + r"ail|import" + r"orskip")


def files() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not NOT_OURS.fullmatch(name))
        yield from (Path(folder, name) for name in sorted(names) if name != "bench-results.json")


def texts() -> Iterator[tuple[str, str]]:
    for path in files():
        yield str(path.relative_to(ROOT)), path.read_bytes().decode("utf-8", "replace")


def lines_with(pattern: re.Pattern[str], *suffixes: str) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        if not suffixes or name.endswith(suffixes)
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_walk_sees_the_tree() -> None:
    names = {str(path.relative_to(ROOT)) for path in files()}
    assert {"pyproject.toml", "api/device/device.proto", "tests/unit/test_house_tree.py", ".ci/run"} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/"))]


def test_the_key_pattern_knows_a_key_when_it_sees_one() -> None:
    body = "MC4CAQAwBQYDK2VwBCIEIJ" + "A" * 42
    assert PRIVATE_KEY.search(f"-----BEGIN PRIVATE KEY-----\n{body}\n".encode())
    assert PRIVATE_KEY.search(f'"-----BEGIN ENCRYPTED PRIVATE KEY-----\\n{body}"'.encode())
    assert not PRIVATE_KEY.search(b'assert b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem')


def test_no_private_key_bytes_stand_in_the_tree() -> None:
    assert [str(path.relative_to(ROOT)) for path in files() if PRIVATE_KEY.search(path.read_bytes())] == []


def test_no_file_names_a_place_on_somebody_s_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


def test_no_file_names_the_host_of_a_package_index() -> None:
    assert lines_with(INDEX_HOSTS) == []


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED, ".py", ".md", ".toml", ".proto", "Makefile") == []


def test_no_test_is_switched_off() -> None:
    assert lines_with(NOT_RUN, ".py") == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path.relative_to(ROOT)) for path in files() if path.suffix == ".py" and path.stem in VAGUE] == []


def test_every_room_is_typed_and_says_what_it_is_for() -> None:
    rooms = [path.parent for path in ROOT.glob("*/__init__.py")]
    assert sorted(room.name for room in rooms) == [
        "agent",
        "api",
        "cli",
        "evidence",
        "fleet",
        "keys",
        "repo_signing",
        "rollout",
        "sbom",
        "store",
        "wavegate_launcher",
    ]
    assert [room.name for room in rooms if not (room / "py.typed").exists()] == []
    assert [room.name for room in rooms if not (room / "__init__.py").read_text().startswith('"""')] == []


def test_no_file_of_code_is_longer_than_it_can_be_read() -> None:
    long = [
        f"{name}: {text.count(chr(10))} lines"
        for name, text in texts()
        if name.endswith((".py", ".js", ".sh"))
        and Path(name).name not in LONG_BY_NATURE
        and not name.endswith("_pb2.py")
        and text.count("\n") > MAX_LINES
    ]
    assert long == []
