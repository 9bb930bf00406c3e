"""Stopped at every step of every transition that changes what is served: after recovery both stores agree."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from evidence.model import SCHEDULER
from rollout.documents import documents
from rollout.errors import RolloutChanged
from rollout.machine import replay
from rollout.model import AbortMode, Progress, Rollout, State, WavePlan
from tests.simulators.rollouts import Stopped, carry_on
from tests.unit.rollout.world import ANN, BOB, CREATOR, ORG, World, two_waves

STEPS = ["propose:before", "propose:after", "commit:before", "commit:after", "settle:before", "settle:after"]
ONE_STORE = ["save:before", "save:after"]
Act = Callable[[World, Rollout], object]
Scene = Callable[[World], Rollout]


def waiting(world: World) -> Rollout:
    return world.submitted()


def to_be_approved(world: World) -> Rollout:
    return world.submitted(waves=two_waves(approvals=1))


def running(world: World) -> Rollout:
    return world.running()


def paused(world: World) -> Rollout:
    rollout = world.running()
    return world.service.pause(ORG, rollout.id, reason="look", by=BOB, now=world.now)


def failing(world: World) -> Rollout:
    rollout = world.running()
    world.report(rollout, "dev_c1", Progress.FAILED)
    return rollout


def last_wave(world: World) -> Rollout:
    rollout = world.running(waves=(WavePlan(group="canary"),), keep_open=False)
    for device in ("dev_c1", "dev_c2", "dev_c3"):
        world.report(rollout, device, Progress.SUCCEEDED)
    return rollout


def tick(world: World, rollout: Rollout) -> None:
    world.tick()


def pause(world: World, rollout: Rollout) -> None:
    world.service.pause(ORG, rollout.id, reason="look", by=BOB, now=world.now)


def resume(world: World, rollout: Rollout) -> None:
    world.service.resume(ORG, rollout.id, reason="go", by=BOB, now=world.now)


def retry(world: World, rollout: Rollout) -> None:
    world.service.retry(ORG, rollout.id, by=BOB, now=world.now)


def abort(world: World, rollout: Rollout) -> None:
    world.service.abort(ORG, rollout.id, reason="bad", by=BOB, now=world.now, mode=AbortMode.ROLL_BACK)


def approve(world: World, rollout: Rollout) -> None:
    world.service.approve(ORG, rollout.id, wave=1, plan_hash=rollout.plan_hash, by=ANN, now=world.now)


def supersede(world: World, rollout: Rollout) -> None:
    world.wait()
    world.submitted("2.0")


SIGNED: list[tuple[str, Scene, Act, State, State]] = [
    ("open", waiting, tick, State.WAITING, State.RUNNING),
    ("pause", running, pause, State.RUNNING, State.PAUSED),
    ("resume", paused, resume, State.PAUSED, State.RUNNING),
    ("retry", paused, retry, State.PAUSED, State.PAUSED),
    ("abort", running, abort, State.RUNNING, State.ABORTED),
    ("abort a paused one", paused, abort, State.PAUSED, State.ABORTED),
    ("fail", failing, tick, State.RUNNING, State.PAUSED),
    ("complete", last_wave, tick, State.RUNNING, State.COMPLETED),
    ("supersede", running, supersede, State.RUNNING, State.SUPERSEDED),
]


def stop_at(world: World, at: str) -> None:
    def reached(step: str) -> None:
        if step == at:
            raise Stopped(step)

    world.rollouts.on_step = world.decisions.on_step = reached


def start_again(world: World) -> None:
    world.rollouts.on_step = world.decisions.on_step = carry_on


def agree(world: World, rollout: Rollout) -> None:
    state = world.get(rollout)
    assert world.decisions.documents == documents(state)
    assert replay(world.rollouts.events(ORG, rollout.id)) == state
    assert world.rollouts.open_intents == {}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("name", "scene", "act", "before", "after"), SIGNED, ids=[one[0] for one in SIGNED])
def test_after_a_stop_at_any_step_recovery_makes_both_stores_agree(
    name: str, scene: Scene, act: Act, before: State, after: State, step: str
) -> None:
    world = World()
    rollout = scene(world)
    stop_at(world, step)
    with pytest.raises(Stopped):
        act(world, rollout)
    start_again(world)
    world.service.recover(ORG, world.now)
    signed = step in {"commit:after", "settle:before", "settle:after"}
    assert world.get(rollout).state is (after if signed else before), name
    agree(world, rollout)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("name", "scene", "act", "before", "after"), SIGNED[:5], ids=[one[0] for one in SIGNED[:5]])
def test_who_comes_back_ten_seconds_later_finds_the_rollout_usable(
    name: str, scene: Scene, act: Act, before: State, after: State, step: str
) -> None:
    world = World()
    rollout = scene(world)
    stop_at(world, step)
    with pytest.raises(Stopped):
        act(world, rollout)
    start_again(world)
    world.wait(10)
    world.service.abort(ORG, rollout.id, reason="enough", by=BOB, now=world.now) if name != "abort" else world.tick()
    ended = world.get(rollout)
    assert ended.state is (before if name == "abort" and step in STEPS[:3] else State.ABORTED)
    agree(world, rollout)


@pytest.mark.parametrize("step", ONE_STORE)
def test_an_approval_is_there_or_not(step: str) -> None:
    world = World()
    rollout = to_be_approved(world)
    stop_at(world, step)
    with pytest.raises(Stopped):
        approve(world, rollout)
    start_again(world)
    world.service.recover(ORG, world.now)
    assert len(world.get(rollout).approvals) == (1 if step == "save:after" else 0)
    agree(world, rollout)


@pytest.mark.parametrize("step", STEPS)
def test_an_approved_wave_whose_opening_was_cut_off_opens_at_a_later_tick(step: str) -> None:
    world = World()
    rollout = to_be_approved(world)
    approve(world, rollout)
    stop_at(world, step)
    with pytest.raises(Stopped):
        world.tick()
    start_again(world)
    world.wait(10)
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    agree(world, rollout)


def test_a_living_writer_is_not_recovered_from_under_itself_by_commands() -> None:
    world = World()
    rollout = running(world)
    stop_at(world, "propose:after")
    with pytest.raises(Stopped):
        pause(world, rollout)
    start_again(world)
    world.now += timedelta(seconds=9)
    with pytest.raises(RolloutChanged, match="is being changed by Bob"):
        abort(world, rollout)
    world.service.tick(ORG, world.now)
    assert len(world.rollouts.open_intents) == 1
    world.wait()
    abort(world, rollout)
    agree(world, rollout)


def test_a_writer_whose_intent_was_dropped_signs_nothing() -> None:
    world = World()
    rollout = running(world)

    def recover_meanwhile(step: str) -> None:
        if step == "commit:before":
            world.service.recover(ORG, world.now)

    world.decisions.on_step = recover_meanwhile
    with pytest.raises(RolloutChanged, match="given up before it was signed"):
        pause(world, rollout)
    assert world.get(rollout) == rollout
    agree(world, rollout)


def test_a_writer_whose_intent_was_settled_by_recovery_writes_nothing_twice() -> None:
    world = World()
    rollout = running(world)

    def recover_meanwhile(step: str) -> None:
        if step == "commit:after":
            world.service.recover(ORG, world.now)

    world.decisions.on_step = recover_meanwhile
    pause(world, rollout)
    tags = [event.tag for event in world.rollouts.events(ORG, rollout.id)]
    assert tags.count("rollout.paused") == 1
    agree(world, rollout)


def test_the_scheduler_and_the_creator_are_named_in_the_events() -> None:
    world = World()
    rollout = running(world)
    by = [event.by for event in world.rollouts.events(ORG, rollout.id)]
    assert by == [CREATOR, CREATOR, SCHEDULER]
