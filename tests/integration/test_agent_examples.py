"""The installers of docs/examples/agent as they stand there, run by the agent on a device that loses its power."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.hooks import CommandHooks, Outcome
from agent.state import Release, State, Step
from rollout.decision import Stance
from tests.simulators.agents import Commands, DeviceBench, PowerCut, device_bench, make_bench
from tests.simulators.signed_tree import SignedTree, served

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples/agent"
# Counts the moments at which something was made to last, and takes the power from who asks at one of them.
SYNC = """#!/bin/sh
echo x >>"$MOMENTS"
[ "$(wc -l <"$MOMENTS")" -ne "$CUT_AT" ] || { touch "$DARK"; kill -9 $PPID; }
exit 0
"""
# The same in the middle of a slot that is being written.
DD = """#!/bin/sh
echo x >>"$MOMENTS"
[ "$(wc -l <"$MOMENTS")" -eq "$CUT_AT" ] || exec /bin/dd "$@"
head -c 1500 "${1#if=}" | /bin/dd "$2" conv=notrunc 2>/dev/null
touch "$DARK"
kill -9 $PPID
"""
REBOOT = """#!/bin/sh
touch "$DARK"
kill -9 $PPID
"""


@dataclass
class Board(Commands):
    """A device with two slots, the example's scripts, and a boot loader that runs when the power comes back.

    Of releases in ``dead`` no slot comes up: the boot loader is asked again, as a watchdog does.
    """

    folder: Path = Path()
    dead: set[str] = field(default_factory=set)
    cut_at: int = 0
    boots: list[str] = field(default_factory=list)

    @classmethod
    def create(cls, folder: Path) -> Board:
        board = cls(folder=folder)
        (folder / "slots").mkdir(parents=True)
        (folder / "bin").mkdir()
        for name, script in (("sync", SYNC), ("dd", DD), ("reboot", REBOOT)):
            (folder / "bin" / name).write_text(script)
            (folder / "bin" / name).chmod(0o755)
        (folder / "moments").touch()
        (folder / "slots/slot.a").write_bytes(b"0.9" * 5000)
        (folder / "slots/slot.b").write_bytes(b"none" * 5000)
        (folder / "slots/slot.a.sha256").write_text("00" * 32)
        (folder / "slots/boot").write_text("good=a\nnext=\ntries=0\ntried=\n")
        board.boot()
        return board

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "MOMENTS": str(self.folder / "moments"),
            "DARK": str(self.folder / "dark"),
            "CUT_AT": str(self.cut_at),
        }

    @property
    def moments(self) -> int:
        return len((self.folder / "moments").read_text().splitlines())

    @property
    def runs(self) -> bytes:
        """The first bytes of the slot that was booted."""
        booted = (self.folder / "slots/booted").read_text().strip()
        return (self.folder / f"slots/slot.{booted}").read_bytes()[:3000]

    @property
    def boot_variables(self) -> dict[str, str]:
        lines = (self.folder / "slots/boot").read_text().splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def boot(self) -> None:
        for _ in range(5):
            ran = subprocess.run(
                [EXAMPLES / "ab", "boot", self.folder / "slots"],
                env={**self.environment, "CUT_AT": "0"},
                check=True,
                capture_output=True,
                text=True,
            )
            self.boots.append(ran.stdout.strip())
            if not any(self.runs.startswith(version.encode()) for version in self.dead):
                return
        raise AssertionError("no slot comes up")

    def install(self, release: Release, file: Path, action: str) -> Outcome:
        self.ran.append((action, release.version))
        return self._lit(self._hooks().install(release, file, action))

    def healthy(self, release: Release, file: Path) -> Outcome:
        self.ran.append(("health", release.version))
        if release.version in self.ill:
            return Outcome(False, "port 80 is closed")
        return self._lit(self._hooks().healthy(release, file))

    def _hooks(self) -> CommandHooks:
        before = " ".join(f"{name}={value}" for name, value in self.environment.items())
        return CommandHooks(
            install_command=f"env {before} {EXAMPLES}/ab install {self.folder}/slots {{file}}",
            health_command=f"env {before} {EXAMPLES}/ab health {self.folder}/slots true",
            install_timeout_seconds=60,
            health_timeout_seconds=60,
            platform="linux-x86_64",
            log=self.folder / "hook.log",
        )

    def _lit(self, outcome: Outcome) -> Outcome:
        dark = self.folder / "dark"
        if not dark.exists():
            return outcome
        dark.unlink()
        self.boot()
        raise PowerCut


def board_of(bench: DeviceBench) -> Board:
    assert isinstance(bench.commands, Board)
    return bench.commands


def until_idle(bench: DeviceBench) -> State:
    """Switch the device on as often as it takes."""
    for _ in range(12):
        try:
            state = bench.poll()
        except PowerCut:
            continue
        if state.step is Step.IDLE:
            return state
    raise AssertionError("the device does not come to rest")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        bench.commands = Board.create(tmp_path / "board")
        yield bench


def test_a_release_is_written_to_the_other_slot_tried_and_kept(bench: DeviceBench) -> None:
    board = board_of(bench)
    bench.offer("1.0", "rol_1")
    state = until_idle(bench)

    assert (state.running["app"].version, board.runs) == ("1.0", b"1.0" * 1000)
    assert board.boot_variables == {"good": "b", "next": "", "tries": "0", "tried": ""}
    assert board.boots == ["a", "b"]
    bench.offer("2.0", "rol_2", minutes=1)
    state = until_idle(bench)
    assert (state.running["app"].version, board.runs) == ("2.0", b"2.0" * 1000)
    assert board.boot_variables["good"] == "a"
    assert [one[2] for one in bench.server.results] == ["succeeded", "succeeded"]


def test_a_slot_that_does_not_come_up_is_left_by_the_boot_loader_and_the_rollout_hears_why(bench: DeviceBench) -> None:
    board = board_of(bench)
    bench.offer("1.0", "rol_1")
    until_idle(bench)
    bench.offer("2.0", "rol_2", minutes=1)
    board.dead = {"2.0"}

    state = until_idle(bench)

    assert (state.running["app"].version, board.runs) == ("1.0", b"1.0" * 1000)
    assert board.boots[2:] == ["a", "a", "a", "b"]  # three tries, then what was good
    assert board.boot_variables == {"good": "b", "next": "", "tries": "0", "tried": ""}
    assert bench.server.results[-1] == ("rol_2", 1, "failed", "install_failed")
    assert "came up in slot b again: the new one did not start" in bench.server.received[-1].detail


def test_a_release_that_is_not_well_is_left_for_the_slot_before(bench: DeviceBench) -> None:
    board = board_of(bench)
    bench.offer("1.0", "rol_1")
    until_idle(bench)
    bench.offer("2.0", "rol_2", minutes=1)
    board.ill = {"2.0"}

    state = until_idle(bench)

    assert (state.running["app"].version, board.runs) == ("1.0", b"1.0" * 1000)
    assert board.boot_variables == {"good": "b", "next": "", "tries": "0", "tried": ""}
    assert bench.server.results[-1] == ("rol_2", 1, "failed", "health_failed")


def test_called_back_it_returns_to_the_other_slot_without_writing_it(bench: DeviceBench) -> None:
    board = board_of(bench)
    bench.offer("1.0", "rol_1")
    until_idle(bench)
    decision = bench.offer("2.0", "rol_2", minutes=1)
    until_idle(bench)
    written = (board.folder / "slots/slot.b").stat().st_mtime_ns
    bench.brake(decision, Stance.ROLL_BACK)

    state = until_idle(bench)

    assert (state.running["app"].version, board.runs) == ("1.0", b"1.0" * 1000)
    assert board.boot_variables["good"] == "b"
    assert (board.folder / "slots/slot.b").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("ill", "dead", "ends_with"),
    [
        ((), (), "2.0"),
        pytest.param(("2.0",), (), "1.0", marks=pytest.mark.nightly),
        pytest.param((), ("2.0",), "1.0", marks=pytest.mark.nightly),
    ],
    ids=["good", "not well", "does not start"],
)
def test_wherever_the_power_fails_it_runs_one_release_whole_and_the_boot_loader_keeps_that_one(
    tmp_path: Path, ill: tuple[str, ...], dead: tuple[str, ...], ends_with: str
) -> None:
    tree = SignedTree()
    with served(tree.files) as mirror:
        first = make_bench(tmp_path, tree, mirror)
        first.commands = Board.create(tmp_path / "board")
        first.offer("1.0", "rol_1")
        until_idle(first)
        begun = board_of(first).moments
        first.offer("2.0", "rol_2", minutes=1)

        def device(name: str) -> DeviceBench:
            shutil.copytree(tmp_path / "board", tmp_path / name / "board")
            bench = first.copy_to(tmp_path / name / "home")
            bench.commands = Board(folder=tmp_path / name / "board", ill=set(ill), dead=set(dead))
            return bench

        whole = device("whole")
        until_idle(whole)
        moments = board_of(whole).moments
        assert moments - begun >= 10

        for cut_at in range(begun + 1, moments + 1):
            bench = device(str(cut_at))
            board_of(bench).cut_at = cut_at

            state = until_idle(bench)

            board = board_of(bench)
            assert (state.running["app"].version, board.runs) == (ends_with, ends_with.encode() * 1000), cut_at
            board.boot()
            assert board.runs == ends_with.encode() * 1000, cut_at
            assert board.boot_variables["next"] == "", cut_at


def test_a_file_is_put_in_its_place_whole_and_what_follows_is_run(tmp_path: Path) -> None:
    destination, new, log = tmp_path / "app", tmp_path / "arrived", tmp_path / "log"
    destination.write_bytes(b"old")
    new.write_bytes(b"new")

    for _ in range(2):
        subprocess.run([EXAMPLES / "install-file", destination, new, "sh", "-c", f"echo again >>{log}"], check=True)

    assert (destination.read_bytes(), destination.stat().st_mode & 0o777) == (b"new", 0o755)
    assert log.read_text() == "again\nagain\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "arrived", "log"]


def test_the_example_verifies_what_it_wrote(tmp_path: Path) -> None:
    board = Board.create(tmp_path)
    (tmp_path / "file").write_bytes(b"new")
    variables = {"WAVEGATE_ACTION": "install", "WAVEGATE_SHA256": hashlib.sha256(b"other").hexdigest()}

    ran = subprocess.run(
        [EXAMPLES / "ab", "install", tmp_path / "slots", tmp_path / "file"],
        env=board.environment | variables,
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, ran.stderr) == (1, "slot b does not hold what was written to it\n")
    assert board.boot_variables == {"good": "a", "next": "", "tries": "0", "tried": ""}
    assert not (tmp_path / "slots/slot.b.sha256").exists()


def test_a_slot_that_was_being_overwritten_is_not_taken_for_what_it_held(tmp_path: Path) -> None:
    board = Board.create(tmp_path)
    (tmp_path / "slots/slot.b.sha256").write_text("11" * 32)
    (tmp_path / "file").write_bytes(b"new" * 1000)
    variables = {"WAVEGATE_ACTION": "install", "WAVEGATE_SHA256": hashlib.sha256(b"new" * 1000).hexdigest()}
    board.cut_at = 2 + board.moments  # in the middle of the slot

    ran = subprocess.run(
        [EXAMPLES / "ab", "install", tmp_path / "slots", tmp_path / "file"], env=board.environment | variables
    )

    assert ran.returncode == -9
    assert (tmp_path / "slots/slot.b").read_bytes()[:1503] == b"new" * 500 + b"non"
    assert not (tmp_path / "slots/slot.b.sha256").exists()
    assert board.boot_variables["next"] == ""


def test_the_docs_show_the_examples_as_they_are_called() -> None:
    page = (EXAMPLES.parents[1] / "devices.md").read_text()
    shown = set(re.findall(r"examples/agent/([\w.-]+)", page))
    assert shown == {path.name for path in EXAMPLES.iterdir()}
