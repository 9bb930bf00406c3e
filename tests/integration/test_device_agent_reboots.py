"""The device reboots in every state: just before it is written, just after, once and more often than it may try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.state import State, StateFile, Step
from agent.steps import MAX_RETURNS, MAX_TRIES
from rollout.decision import Stance
from tests.simulators.agents import DeviceBench, PowerCut, make_bench
from tests.simulators.signed_tree import SignedTree, served

OFTEN = MAX_TRIES + 2


def good(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)


def not_well(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.ill = {"2.0"}


def not_installable(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.refuse = {"2.0"}


def called_back(bench: DeviceBench) -> None:
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.brake(decision, Stance.ROLL_BACK)


@dataclass(frozen=True)
class Ends:
    """What runs in the end, and what was reported of the rollout, for a reboot once and for one again and again."""

    once: str
    often: str


SUCCEEDED = "2.0 succeeded"
NOT_WELL = "1.0 failed health_failed"
NOT_INSTALLED = "1.0 failed install_failed"
CALLED_BACK = "1.0 rolled_back rolled_back"

SCENES = (good, not_well, not_installable, called_back)
Scene = Callable[[DeviceBench], None]
# Each state, and each scene that comes by it: the end after reboots before it is written, and after that.
TABLE: dict[Step, dict[Scene, tuple[Ends, Ends]]] = {
    Step.IDLE: {
        good: (Ends(SUCCEEDED, NOT_WELL), Ends(SUCCEEDED, SUCCEEDED)),
        not_well: (Ends(NOT_WELL, NOT_WELL), Ends(NOT_WELL, NOT_WELL)),
        not_installable: (Ends(NOT_INSTALLED, NOT_INSTALLED), Ends(NOT_INSTALLED, NOT_INSTALLED)),
        called_back: (Ends(CALLED_BACK, CALLED_BACK), Ends(CALLED_BACK, CALLED_BACK)),
    },
    Step.DOWNLOADING: {
        good: (Ends(SUCCEEDED, SUCCEEDED), Ends(SUCCEEDED, SUCCEEDED)),
        not_well: (Ends(NOT_WELL, NOT_WELL), Ends(NOT_WELL, NOT_WELL)),
        not_installable: (Ends(NOT_INSTALLED, NOT_INSTALLED), Ends(NOT_INSTALLED, NOT_INSTALLED)),
    },
    Step.INSTALLING: {
        good: (Ends(SUCCEEDED, SUCCEEDED), Ends(SUCCEEDED, NOT_INSTALLED)),
        not_well: (Ends(NOT_WELL, NOT_WELL), Ends(NOT_WELL, NOT_INSTALLED)),
        not_installable: (Ends(NOT_INSTALLED, NOT_INSTALLED), Ends(NOT_INSTALLED, NOT_INSTALLED)),
    },
    Step.CONFIRMING: {
        good: (Ends(SUCCEEDED, NOT_INSTALLED), Ends(SUCCEEDED, NOT_WELL)),
        not_well: (Ends(NOT_WELL, NOT_INSTALLED), Ends(NOT_WELL, NOT_WELL)),
    },
    Step.ROLLING_BACK: {
        not_well: (Ends(NOT_WELL, NOT_WELL), Ends(NOT_WELL, NOT_WELL)),
        not_installable: (Ends(NOT_INSTALLED, NOT_INSTALLED), Ends(NOT_INSTALLED, NOT_INSTALLED)),
        called_back: (Ends(CALLED_BACK, CALLED_BACK), Ends(CALLED_BACK, CALLED_BACK)),
    },
}


class RebootingFile(StateFile):
    """Takes the power before or after a write of one state, so many times."""

    def __init__(self, path: Path, step: Step, *, after: bool, times: int) -> None:
        super().__init__(path)
        self._step, self._after, self.left, self._was = step, after, times, Step.IDLE

    def load(self) -> State:
        state = super().load()
        self._was = state.step
        return state

    def save(self, state: State) -> None:
        # Of idle only the write that settles a piece of work is one of a state.
        here = state.step is self._step and (state.step is not Step.IDLE or self._was is not Step.IDLE)
        if here and self.left and not self._after:
            self.left -= 1
            raise PowerCut
        super().save(state)
        self._was = state.step
        if here and self.left and self._after:
            self.left -= 1
            raise PowerCut


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Scene, DeviceBench]]:
    """A device right before each scene's poll, each before a repository of its own."""
    folder = tmp_path_factory.mktemp("scenes")
    with ExitStack() as stack:
        found: dict[Scene, DeviceBench] = {}
        for scene in SCENES:
            tree = SignedTree()
            mirror = stack.enter_context(served(tree.files))
            (folder / scene.__name__).mkdir()
            bench = found[scene] = make_bench(folder / scene.__name__, tree, mirror)
            bench.offer("1.0", "rol_1")
            bench.poll()
            scene(bench)
        yield found


def rebooted(bench: DeviceBench, step: Step, *, after: bool, times: int) -> str:
    """How it ends for a device that loses its power there."""
    file = RebootingFile(bench.home.state, step, after=after, times=times)
    for _ in range(times + 1):
        with suppress(PowerCut):
            bench.poll(state_file=file)
    assert file.left < times, "the power was never taken"
    state = bench.poll()
    assert state.step is Step.IDLE
    running = state.running["app"].version
    assert bench.commands.installed == running.encode() * 1000
    last = [result for result in bench.server.results if result[0] == "rol_2"][-1]
    return " ".join([running, *last[2:]]).strip()


def test_every_state_has_its_rows() -> None:
    assert set(TABLE) == set(Step)
    assert [step for step, rows in TABLE.items() if not rows] == []


def test_a_way_back_that_the_power_cuts_off_for_ever_is_given_up_and_said(
    devices: dict[Scene, DeviceBench], tmp_path: Path
) -> None:
    bench = devices[not_well].copy_to(tmp_path / "home")
    file = RebootingFile(bench.home.state, Step.ROLLING_BACK, after=True, times=100)
    for _ in range(100):
        with suppress(PowerCut):
            bench.poll(state_file=file)

    state = bench.poll()

    # Once as it is begun, once as its report leaves, and once in every try.
    assert (100 - file.left, state.step, state.running) == (2 + MAX_RETURNS, Step.IDLE, {})
    assert state.words["app"].endswith("(rollback_failed: port 80 is closed; the way back was cut off 30 times)")
    assert bench.server.results[-1] == ("rol_2", 1, "failed", "rollback_failed")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "scene"),
    [(step, scene) for step, rows in TABLE.items() for scene in rows],
    ids=lambda it: it.value if isinstance(it, Step) else it.__name__,
)
def test_a_device_that_reboots_in_a_state_ends_as_the_table_says(
    devices: dict[Scene, DeviceBench], step: Step, scene: Scene, moment: str, tmp_path: Path
) -> None:
    after = moment == "after"
    ends = TABLE[step][scene][int(after)]

    once = rebooted(devices[scene].copy_to(tmp_path / "once"), step, after=after, times=1)
    often = rebooted(devices[scene].copy_to(tmp_path / "often"), step, after=after, times=OFTEN)

    assert Ends(once, often) == ends
