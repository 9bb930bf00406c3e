"""The agent as one file: what is in it, that a bare Python runs it, and that it runs only what is in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from agent.pyz import CannotBuild, build, from_wheels, installed, locked
from tests.faults.injector import Impossible, find_strace
from tests.faults.injector import environment as strace_environment
from tests.simulators.gate import Gate, open_gate

CHANGING = (
    *("openat", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
    *("link", "linkat", "symlink", "symlinkat", "truncate", "chmod", "fchmodat", "chown", "fchownat", "utimensat"),
)
WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT)")
ROOT = Path(__file__).resolve().parents[2]
SERVER = ("flask", "sqlalchemy", "alembic", "granian", "pydantic", "lxml", "orjson", "jsonschema_rs", "argon2", "rich")
SERVER_ROOMS = ("store", "fleet", "sbom", "keys", "repo_signing", "cli", "api.operator", "api.wiring")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pyz")


@pytest.fixture(scope="module")
def file(place: Path) -> Path:
    build(place / "wavegate-agent.pyz", installed(locked()), "0.1.0")
    return place / "wavegate-agent.pyz"


@pytest.fixture(scope="module")
def bare(place: Path) -> Path:
    """The Python of an environment with nothing in it, not even pip."""
    venv.create(place / "bare", with_pip=False, symlinks=True)
    return place / "bare" / "bin" / "python"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as gate:
        yield gate


def run(
    bare: Path, file: Path, *arguments: str | Path, cache: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "WAVEGATE_AGENT_CACHE": str(cache), **variables}
    command = [bare, file, *arguments]
    return subprocess.run(
        [str(word) for word in command], env=environment, cwd=cache.parent, capture_output=True, text=True
    )


def test_it_holds_what_the_agent_needs_and_nothing_of_the_server(file: Path) -> None:
    with ZipFile(file) as zipped:
        names = [name.removeprefix("lib/") for name in zipped.namelist() if name.startswith("lib/")]
    tops = {name.partition("/")[0] for name in names if "dist-info" not in name}

    assert {re.sub(r"\.cpython-.*", "", top) for top in tops} == {
        *("agent", "api", "rollout", "evidence", "LICENSE"),
        *("_cffi_backend", "cffi", "click", "cryptography", "google", "grpc", "pycparser"),
        *("securesystemslib", "tuf", "typing_extensions.py", "urllib3", "__pycache__"),
    }
    assert {name for name in names if name.startswith("api/") and name.endswith(".py")} == {
        *("api/__init__.py", "api/device/__init__.py", "api/device/device_pb2.py", "api/device/device_pb2_grpc.py"),
    }
    assert not [name for name in names if name.startswith(("agent/pyz", "google/cloud", "google/api"))]
    described = {name.partition("-")[0] for name in names if name.endswith("dist-info/METADATA")}
    assert described == {*(name.replace("-", "_") for name in locked()), "wavegate"}


def test_its_lock_is_a_part_of_the_servers() -> None:
    whole = locked(ROOT / "requirements.lock")
    assert len(locked()) == 10
    assert {name: entry for name, entry in locked().items() if whole.get(name) != entry} == {}


def test_two_builds_are_the_same_bytes(file: Path, tmp_path: Path) -> None:
    build(tmp_path / "again.pyz", installed(locked()), "0.1.0")
    assert (tmp_path / "again.pyz").read_bytes() == file.read_bytes()


def test_a_bare_python_enrols_installs_and_verifies_with_it(
    gate: Gate, bare: Path, file: Path, place: Path, tmp_path: Path
) -> None:
    home, target, cache = tmp_path / "home", tmp_path / "installed", place / "cache"
    gate.offer(b"the release" * 5000)
    foreign = tmp_path / "foreign"
    for name in ("agent", "api", "google", "click"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "__init__.py").write_text("raise SystemExit('another one of this name')")

    enrolled = run(
        *(bare, file, "enroll", "--url", gate.mirror.url, "--token", gate.token(), "--name", "press-1"),
        *("--platform", "linux-x86_64", "--install-command", f"cp {{file}} {target}", "--home", home),
        cache=cache,
        PYTHONPATH=str(foreign),
    )
    assert enrolled.returncode == 0, enrolled.stderr
    once = run(bare, file, "run", "--once", "--home", home, cache=cache)
    assert (once.returncode, once.stderr) == (0, "app: runs 1.0; up to date\n")
    assert target.read_bytes() == b"the release" * 5000
    assert gate.fleet.device("acme", "press-1").running["app"].version == "1.0"
    assert gate.fleet.device("acme", "press-1").agent_version == "0.1.0"

    status = json.loads(run(bare, file, "status", "-o", "json", "--home", home, cache=cache).stdout)
    assert (status["running"]["app"]["version"], status["step"]) == ("1.0", "idle")
    assert run(bare, file, "verify", target, "--home", home, cache=cache).returncode == 0
    target.write_bytes(b"another release")
    assert run(bare, file, "verify", target, "--home", home, cache=cache).returncode == 8


def test_it_writes_to_its_home_and_its_cache_and_nowhere_else(
    gate: Gate, bare: Path, file: Path, place: Path, tmp_path: Path
) -> None:
    """What it only tries to write counts, too: on a root file system that cannot be written it would fail."""
    try:
        strace = find_strace()
    except Impossible as why:
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(str(why))
        pytest.skip(str(why))
    home, target, cache, log = tmp_path / "home", tmp_path / "slot", tmp_path / "cache", tmp_path / "calls"
    gate.offer(b"the release" * 5000)
    traced = [*strace, "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={','.join(f'?{call}' for call in CHANGING)}"]
    enrolment = ["enroll", "--url", gate.mirror.url, "--token", gate.token(), "--name", "press-1"]
    for arguments in (
        [*enrolment, "--platform", "linux-x86_64", "--install-command", f"cp {{file}} {target}"],
        ["run", "--once"],
        ["status"],
        ["verify"],
    ):
        variables = {"PATH": os.environ["PATH"], "WAVEGATE_AGENT_CACHE": str(cache), **strace_environment()}
        command = [*traced, "-A", str(bare), str(file), *arguments, "--home", str(home)]
        ran = subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    assert target.read_bytes() == b"the release" * 5000

    lines = [
        line for line in log.read_text(errors="replace").splitlines() if "openat(" not in line or WRITES.search(line)
    ]
    touched = {found for line in lines for found in re.findall(r'"(/[^"]*)"', line)}
    assert len(touched) > 800  # what was unpacked is among them
    allowed = (str(home), str(cache), str(target), "/dev/null")
    assert {path for path in touched if not path.startswith(allowed)} == set()


ALL_READ_ONLY = """
mount --make-rprivate / && mount --bind "$0" "$0" || exit 99
for place in / /tmp; do if mountpoint -q "$place"; then mount -o remount,ro,bind "$place" || exit 99; fi; done
! touch "$0/../written" 2>/dev/null && ! touch /written 2>/dev/null || exit 98
exec "$@"
"""


@pytest.mark.nightly
def test_it_runs_where_nothing_but_its_home_can_be_written(gate: Gate, bare: Path, file: Path, tmp_path: Path) -> None:
    home, command = tmp_path / "home", ["unshare", "--map-root-user", "--mount", "sh", "-c", ALL_READ_ONLY]
    home.mkdir(mode=0o700)
    gate.offer(b"the release" * 5000)
    variables = {"PATH": os.environ["PATH"], "WAVEGATE_AGENT_CACHE": str(home / "unpacked")}
    enrolment = ["enroll", "--url", gate.mirror.url, "--token", gate.token(), "--name", "press-1"]
    installs = ["--platform", "linux-x86_64", "--install-command", f"cp {{file}} {home / 'slot'}"]
    for arguments in ([*enrolment, *installs], ["run", "--once"], ["status"], ["verify"]):
        words = [*command, str(home), str(bare), str(file), *arguments, "--home", str(home)]
        ran = subprocess.run(words, env=variables, cwd="/", capture_output=True, text=True)
        if ran.returncode in {1, 99} and ("unshare" in ran.stderr or "mount:" in ran.stderr):
            why = f"file systems cannot be mounted read-only for one process here: {ran.stderr}"
            if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
                pytest.fail(why)
            pytest.skip(why)
        assert ran.returncode == 0, ran.stderr
    assert (home / "slot").read_bytes() == b"the release" * 5000
    assert gate.fleet.device("acme", "press-1").running["app"].version == "1.0"


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("health", "ends_with"), [("true", "2.0"), ("false", "1.0")])
def test_killed_at_any_of_its_writes_it_ends_installed_or_rolled_back(
    gate: Gate, bare: Path, file: Path, tmp_path: Path, health: str, ends_with: str
) -> None:
    """A real process and a real SIGKILL, as it enters each rename: every state is written by one."""
    strace, cache, begun = find_strace(), tmp_path / "cache", tmp_path / "begun"
    begun.mkdir()
    gate.offer(b"1.0" * 5000)
    enrolment = ["enroll", "--url", gate.mirror.url, "--token", gate.token(), "--platform", "linux-x86_64"]
    script = tmp_path / "health"
    script.write_text(f'#!/bin/sh\n[ "$WAVEGATE_VERSION" = 1.0 ] || {health}\n')
    script.chmod(0o755)
    commands = ["--install-command", "cp {file} installed", "--health-command", str(script), "--health-pause", "0"]
    assert run(bare, file, *enrolment, *commands, "--home", begun / "home", cache=cache).returncode == 0
    environment = {"PATH": os.environ["PATH"], "WAVEGATE_AGENT_CACHE": str(cache), **strace_environment()}

    def once(folder: Path, *before: str) -> int:
        command = [*before, str(bare), str(file), "run", "--once", "--home", str(folder / "home")]
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True).returncode

    assert once(begun) == 0
    gate.offer(b"2.0" * 5000, "2.0", "rol_2", 1)

    for number in range(1, 100):
        folder = tmp_path / str(number)
        shutil.copytree(begun, folder)
        kill = [*strace, "-f", "-qq", "-o", "/dev/null", "-e", f"inject=rename:signal=KILL:when={number}"]
        if once(folder, *kill) == 0:
            assert number > 12
            break
        for _ in range(2):
            assert once(folder) == 0
        state = json.loads((folder / "home/state.json").read_bytes())
        assert (state["work"], state["running"]["app"]["version"]) == (None, ends_with), number
        assert (folder / "installed").read_bytes() == ends_with.encode() * 5000, number


def test_nothing_of_the_server_can_be_imported_from_it(bare: Path, file: Path, place: Path) -> None:
    run(bare, file, "--version", cache=place / "cache")
    (unpacked,) = (place / "cache").iterdir()
    ask = (
        "import importlib.util, sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1]);"
        "import agent.main; print([name for name in sys.argv[2:] if importlib.util.find_spec(name)])"
    )
    command = [str(bare), "-I", "-c", ask, str(unpacked), *SERVER, *SERVER_ROOMS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_was_changed_in_its_cache_is_never_run(bare: Path, file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(bare, file, "--version", cache=cache).stdout == "wavegate-agent, version 0.1.0\n"
    (unpacked,) = cache.iterdir()
    good = (unpacked / "agent/main.py").read_bytes()
    evil = f"open({str(tmp_path / 'evil')!r}, 'w')\n"
    for name in ("agent/main.py", "sitecustomize.py", "click/__init__.py"):
        (unpacked / name).write_text(evil)
    (unpacked / "agent/__pycache__/main.cpython-311.pyc").unlink(missing_ok=True)

    assert run(bare, file, "--version", cache=cache).stdout == "wavegate-agent, version 0.1.0\n"

    assert not (tmp_path / "evil").exists()
    assert (unpacked / "agent/main.py").read_bytes() == good
    assert [one.name for one in cache.iterdir()] == [unpacked.name]
    assert not (unpacked / "sitecustomize.py").exists()


def test_a_cache_that_others_may_write_to_is_refused(bare: Path, file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)

    ran = run(bare, file, "--version", cache=cache)

    assert ran.returncode == 2
    assert ran.stderr == (
        f"wavegate-agent: others may write to {cache}; name a folder of your own in WAVEGATE_AGENT_CACHE\n"
    )


def test_another_python_is_told_what_is_wrong(bare: Path, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pyz"
    with ZipFile(file) as zipped, ZipFile(other, "w") as made:
        made.writestr("__main__.py", zipped.read("__main__.py"))
        contents = json.loads(zipped.read("contents.json"))
        made.writestr("contents.json", json.dumps({**contents, "abi": ".cpython-399-mips-linux-gnu.so"}))

    ran = run(bare, other, "--version", cache=tmp_path / "cache")

    assert ran.returncode == 2
    assert "is for Python with .cpython-399-mips-linux-gnu.so modules, this Python loads .cpython-3" in ran.stderr


def test_only_wheels_of_the_lock_are_taken(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "click-8.5.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("click/__init__.py", "evil")

    with pytest.raises(CannotBuild, match=r"click-8\.5\.1-py3-none-any\.whl is not a file that"):
        list(from_wheels(tmp_path, locked()))


def test_all_wheels_of_the_lock_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match="has no wheel of cffi, click, cryptography, grpcio"):
        list(from_wheels(tmp_path, locked()))


def test_a_distribution_of_another_version_than_the_lock_s_is_not_packed() -> None:
    with pytest.raises(CannotBuild, match=r"click is .* here, the lock names 1\.0; run: make setup"):
        list(installed({"click": ("1.0", frozenset())}))
