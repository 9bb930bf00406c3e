"""The agent through power cuts: at every moment of an update, and again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.state import Step
from rollout.decision import Stance
from tests.simulators.agents import (
    Commands,
    DeviceBench,
    Power,
    PowerCut,
    device_bench,
    make_bench,
)
from tests.simulators.signed_tree import SignedTree, served


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def moments_of(bench: DeviceBench) -> int:
    """How often the device could go dark in the poll that is due now; takes the poll."""
    power = Power()
    bench.poll(power)
    return power.moments


def upgrade(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)


def bad_upgrade(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.ill = {"2.0"}


def broken_upgrade(bench: DeviceBench) -> None:
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.refuse = {"2.0"}


def call_back(bench: DeviceBench) -> None:
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.brake(decision, Stance.ROLL_BACK)


@pytest.mark.parametrize(
    ("scene", "ends_with", "result", "least"),
    [
        (upgrade, "2.0", "succeeded", 12),
        (bad_upgrade, "1.0", "failed", 12),
        (broken_upgrade, "1.0", "failed", 10),
        (call_back, "1.0", "rolled_back", 6),
    ],
    ids=["a good release", "one that is not well", "one that does not install", "a call back"],
)
def test_a_power_cut_at_any_moment_ends_installed_or_rolled_back_never_between(
    tmp_path: Path, scene: object, ends_with: str, result: str, least: int
) -> None:
    assert callable(scene)

    tree = SignedTree()
    with served(tree.files) as mirror:
        first = make_bench(tmp_path, tree, mirror)
        first.offer("1.0", "rol_1")
        first.poll()
        scene(first)
        moments = moments_of(first.copy_to(tmp_path / "count"))
        assert moments >= least

        for cut_at in range(1, moments + 1):
            bench = first.copy_to(tmp_path / str(cut_at))
            with pytest.raises(PowerCut):
                bench.poll(Power(cut_at))

            bench.poll()
            state = bench.poll()

            assert state.step is Step.IDLE, cut_at
            assert state.running["app"].version == ends_with, cut_at
            assert bench.commands.installed == ends_with.encode() * 1000, cut_at
            results = [r for r in bench.server.results if r[0] == "rol_2"]
            assert results[-1][:3] == ("rol_2", 1, result), cut_at
            assert len(results) == (2 if scene is call_back else 1), cut_at
            stored = {path.name for path in bench.home.artifacts.iterdir()}
            assert state.running["app"].sha256 in stored


def test_a_device_that_restarts_in_every_try_of_an_install_gives_up_and_goes_back(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)

    class Deadly(Commands):
        def install(self, release, file, action):  # type: ignore[no-untyped-def]
            if release.version == "2.0":
                raise PowerCut
            return super().install(release, file, action)

    bench.commands = Deadly(installed=bench.commands.installed)
    for _ in range(3):
        with pytest.raises(PowerCut):
            bench.poll()

    state = bench.poll()

    assert state.running["app"].version == "1.0"
    assert bench.server.results[-1] == ("rol_2", 1, "failed", "install_failed")


def test_what_lies_damaged_on_the_disk_is_not_run(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")

    class Dark(Commands):
        def install(self, release, file, action):  # type: ignore[no-untyped-def]
            raise PowerCut

    good, bench.commands = bench.commands, Dark()
    with pytest.raises(PowerCut):
        bench.poll()
    bench.commands = good
    (stored,) = bench.home.artifacts.iterdir()
    stored.write_bytes(b"rotten")

    bench.poll()

    assert good.ran == []
    assert bench.server.results == [("rol_1", 1, "failed", "install_failed")]
