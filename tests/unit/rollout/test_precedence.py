"""Several rollouts of one product at once: who goes first, who waits, who ends."""

from __future__ import annotations

import pytest

from rollout.decision import decode_decision
from rollout.errors import GroupBusy
from rollout.model import Priority, Progress, Rollout, State, WavePlan
from rollout.precedence import outranks
from tests.unit.rollout.world import BOB, CREATOR, ORG, World, artifact, request

CANARY_ONLY = (WavePlan(group="canary"),)
FLEET_ONLY = (WavePlan(group="fleet"),)
SECURITY = Priority.SECURITY


def states(world: World, *rollouts: Rollout) -> list[State]:
    return [world.get(one).state for one in rollouts]


def test_a_security_rollout_ends_an_older_normal_one() -> None:
    world = World()
    older = world.running(waves=CANARY_ONLY)
    urgent = world.running("2.0", waves=CANARY_ONLY, priority=SECURITY)
    assert states(world, older, urgent) == [State.SUPERSEDED, State.RUNNING]
    assert world.get(older).superseded_by == urgent.id


def test_a_newer_normal_one_waits_for_a_security_one_and_goes_on_after_it() -> None:
    world = World()
    urgent = world.running(waves=CANARY_ONLY, priority=SECURITY)
    normal = world.submitted("2.0", waves=CANARY_ONLY)
    for _ in range(3):
        world.tick()
    assert states(world, urgent, normal) == [State.RUNNING, State.WAITING]
    assert world.service.why(world.get(normal), world.now) == (
        f"wave 1 waits: {urgent.id} of priority 'security' holds a group"
    )
    assert decode_decision(world.decisions.documents["decisions/firmware/canary.json"]).rollout == urgent.id
    for device in ("dev_c1", "dev_c2", "dev_c3"):
        world.report(urgent, device, Progress.SUCCEEDED)
    world.tick()
    world.tick()
    assert states(world, urgent, normal) == [State.COMPLETED, State.RUNNING]
    assert decode_decision(world.decisions.documents["decisions/firmware/canary.json"]).rollout == normal.id


def test_a_newer_security_one_ends_an_older_one() -> None:
    world = World()
    first = world.running(waves=CANARY_ONLY, priority=SECURITY)
    second = world.running("2.0", waves=CANARY_ONLY, priority=SECURITY)
    assert states(world, first, second) == [State.SUPERSEDED, State.RUNNING]


def test_security_does_not_wait_for_another_channel() -> None:
    world = World()
    beta = world.running("2.1", waves=CANARY_ONLY, channel="beta")
    urgent = world.running("3.0", waves=CANARY_ONLY, priority=SECURITY)
    assert states(world, beta, urgent) == [State.SUPERSEDED, State.RUNNING]


def test_of_two_channels_a_security_one_holds_its_group_against_both_kinds() -> None:
    world = World()
    urgent = world.running(waves=CANARY_ONLY, priority=SECURITY)
    for priority in Priority:
        draft = world.service.create(
            ORG, request("2.1", CANARY_ONLY, channel="beta", priority=priority), by=CREATOR, now=world.now
        )
        with pytest.raises(GroupBusy, match=f"held by {urgent.id}"):
            world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)


def test_where_groups_differ_all_run_at_once() -> None:
    world = World()
    in_fleet = world.running(waves=FLEET_ONLY)
    in_canary = world.running("2.0", waves=CANARY_ONLY)
    urgent = world.running("3.0", waves=(WavePlan(group="empty"),), priority=SECURITY)
    assert states(world, in_fleet, in_canary) == [State.RUNNING, State.RUNNING]
    assert world.get(urgent).state is State.RUNNING
    assert [outranks(world.get(in_canary), world.get(in_fleet)), outranks(urgent, world.get(in_canary))] == [True, True]


def test_the_scheduler_moves_security_first() -> None:
    world = World()
    world.releases.signed[ORG, "other", "1.0", "stable"] = {"linux-amd64": artifact("1.0")}
    normal = world.submitted(waves=FLEET_ONLY)
    urgent = world.submitted("2.0", waves=CANARY_ONLY, priority=SECURITY)
    signed: list[str] = []
    world.rollouts.on_step = lambda step: signed.extend(
        one for one in world.rollouts.open_intents if step == "propose:after" and one not in signed
    )
    world.tick()
    assert signed == [urgent.id, normal.id]


def test_the_decision_of_a_security_rollout_says_so() -> None:
    world = World()
    world.running(waves=FLEET_ONLY)
    world.running("2.0", waves=CANARY_ONLY, priority=SECURITY)
    fleet, canary = (world.decisions.documents[f"decisions/firmware/{name}.json"] for name in ("fleet", "canary"))
    assert (b'"priority"' in fleet, decode_decision(fleet).is_security) == (False, False)
    assert (b'"priority":"security"' in canary, decode_decision(canary).is_security) == (True, True)


def test_a_paused_security_rollout_holds_its_group_until_it_is_aborted() -> None:
    world = World()
    urgent = world.running(waves=CANARY_ONLY, priority=SECURITY)
    world.service.pause(ORG, urgent.id, reason="look", by=BOB, now=world.now)
    normal = world.running("2.0", waves=CANARY_ONLY)
    assert states(world, urgent, normal) == [State.PAUSED, State.WAITING]
    world.service.abort(ORG, urgent.id, reason="done with it", by=BOB, now=world.now)
    world.tick()
    assert states(world, urgent, normal) == [State.ABORTED, State.RUNNING]
