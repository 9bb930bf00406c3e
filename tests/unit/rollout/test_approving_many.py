"""Where approvers sign with their own keys, rollouts are foreseen, ranked, retried and made again by the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from rollout.aftermath import Aftermath
from rollout.decision import decode_decision
from rollout.documents import documents
from rollout.errors import InvalidPlan, SignaturesNeeded, TransitionNotAllowed
from rollout.machine import replay
from rollout.model import Gate, Priority, Progress, Rollout, State, WavePlan
from rollout.preview import Finding, Previews
from tests.simulators.rollouts import DecisionsSimulator, InventorySimulator
from tests.unit.rollout.world import BOB, CANARY, CREATOR, NOW, ORG, SALT, World, request

SPREAD = "waves.1.gate.not_before: expected a time: approvers sign this product's waves, and spread_seconds"
ONE_WAVE = (WavePlan(group="canary", gate=Gate(max_failures=1)),)


def signed_world() -> World:
    world = World()
    world.decisions.signed_products.add("firmware")
    return world


def sign(world: World, rollout: Rollout) -> dict[str, bytes]:
    now = world.get(rollout)
    [(number, changed)] = world.service.openings.to_sign(now, now.wave, now.wave, world.now)
    world.decisions.asked[rollout.id] = {number: dict(changed)}
    world.decisions.approved.append(dict(changed))
    return dict(changed)


def opened(world: World, **more: Any) -> Rollout:
    rollout = world.submitted(waves=ONE_WAVE, **more)
    sign(world, rollout)
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    return world.get(rollout)


def previews(world: World) -> Previews:
    return Previews(
        rollouts=world.rollouts,
        decisions=world.decisions,
        releases=world.releases,
        groups=world.groups,
        inventory=InventorySimulator(world.groups),
        make_salt=lambda: SALT,
    )


def told(found: Any) -> list[tuple[str, str]]:
    return [(one.code, one.message) for one in found]


def test_a_retry_is_not_planned_for_later_either() -> None:
    world = signed_world()
    rollout = opened(world)
    for devices in ((), ("dev_c1",)):
        with pytest.raises(SignaturesNeeded, match="another decision, which approvers sign: 0 of 2 signatures given"):
            world.service.retry(ORG, rollout.id, by=BOB, now=world.now, devices=devices, after=timedelta(hours=1))
    assert world.get(rollout) == rollout, "nothing of it is kept"
    waiting = world.submitted("2.0", waves=(WavePlan(group="fleet"),))
    with pytest.raises(TransitionNotAllowed):
        world.service.retry(ORG, waiting.id, by=BOB, now=world.now, after=timedelta(hours=1))


def test_a_retry_planned_before_approvers_were_appointed_keeps_no_wave_from_its_judge() -> None:
    world = World()
    rollout = world.running(waves=ONE_WAVE)
    world.service.retry(ORG, rollout.id, by=BOB, now=world.now, after=timedelta(seconds=5))
    world.decisions.signed_products.add("firmware")
    world.wait(10)
    world.report(rollout, "dev_c1", Progress.FAILED)
    world.tick()
    after = world.get(rollout)
    assert (after.state, after.attempt) == (State.PAUSED, 1)
    assert after.retry_at is not None, "it is still owed, once the server signs again"


def test_the_priority_is_in_what_approvers_sign_and_goes_first() -> None:
    world = signed_world()
    normal = opened(world)
    urgent = world.submitted("2.0", waves=ONE_WAVE, priority=Priority.SECURITY)
    assert world.get(normal).state is State.SUPERSEDED
    asked = sign(world, urgent)
    assert decode_decision(asked["decisions/firmware/canary.json"]).is_security
    world.tick()
    assert world.get(urgent).state is State.RUNNING
    assert asked.items() <= world.decisions.documents.items()
    assert documents(world.get(urgent)) == asked
    late = world.submitted("3.0", waves=ONE_WAVE)
    sign(world, late)
    world.tick()
    held = f"wave 1 waits: {urgent.id} of priority 'security' holds a group"
    assert world.service.why(world.get(late), world.now) == held, "signed, and waits all the same"


def test_devices_are_called_back_after_the_end_without_approvers() -> None:
    world = signed_world()
    rollout = opened(world)
    for device in CANARY:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.tick()
    assert world.get(rollout).state is State.COMPLETED
    Aftermath(world.service).roll_back(ORG, rollout.id, reason="eats batteries", by=BOB, now=world.now)
    assert "brakes/firmware/canary.json" in world.decisions.documents
    assert replay(world.rollouts.events(ORG, rollout.id)) == world.get(rollout)


def test_what_is_made_again_is_signed_again_and_refused_when_nobody_could() -> None:
    world = World()
    spread = world.running(waves=ONE_WAVE, spread_seconds=60)
    world.service.abort(ORG, spread.id, reason="bad", by=BOB, now=world.now)
    world.decisions.signed_products.add("firmware")
    aftermath = Aftermath(world.service)
    for again in (aftermath.clone, aftermath.rerun):
        with pytest.raises(InvalidPlan, match=SPREAD):
            again(ORG, spread.id, by=CREATOR, now=world.now)
    made = aftermath.clone(ORG, spread.id, request(waves=ONE_WAVE), by=CREATOR, now=world.now)
    world.service.submit(ORG, made.id, by=CREATOR, now=world.now)
    world.tick()
    assert world.get(made).state is State.WAITING
    sign(world, made)
    world.tick()
    assert world.get(made).state is State.RUNNING


def test_a_preview_says_who_has_to_sign_and_what_nobody_could() -> None:
    world = signed_world()
    with pytest.raises(InvalidPlan, match=SPREAD):
        previews(world).of_plan(ORG, request(waves=ONE_WAVE, spread_seconds=60), by=CREATOR, now=NOW)
    found = previews(world).of_plan(ORG, request(waves=ONE_WAVE), by=CREATOR, now=NOW)
    assert told(found.notes) == [("approvers_sign", "approvers of firmware sign each wave with their own keys")]
    rollout = world.submitted(waves=ONE_WAVE)
    missing = "wave 1 waits for signatures: 0 of 2 signatures given"
    assert previews(world).of_rollout(ORG, rollout.id, world.now).blocks == [
        Finding(code="signatures_needed", message=missing, wave=1)
    ]
    sign(world, rollout)
    assert previews(world).of_rollout(ORG, rollout.id, world.now).blocks == []


def test_a_preview_of_a_plan_from_before_approvers_says_that_they_cannot_sign_it() -> None:
    world = World()
    rollout = world.submitted(waves=ONE_WAVE, spread_seconds=60)
    world.decisions.signed_products.add("firmware")
    [(code, message)] = told(previews(world).of_rollout(ORG, rollout.id, world.now).blocks)
    assert (code, message[: len(SPREAD)]) == ("unsignable", SPREAD)


class Counting(DecisionsSimulator):
    """Tells how often proposals were looked for."""

    looks = 0

    def lacking(self, changes: Mapping[str, bytes | None]) -> str:
        self.looks += 1
        return super().lacking(changes)


def test_a_list_says_the_mode_and_looks_for_no_proposals() -> None:
    decisions = Counting()
    world = World(decisions=decisions)
    decisions.signed_products.add("firmware")
    rollout = world.submitted(waves=ONE_WAVE)
    [seen] = world.service.glance([rollout], world.now)
    assert (seen.signed, seen.why, decisions.looks) == (True, "wave 1 may open once approvers have signed it", 0)
    shown = world.service.view(rollout, world.now)
    assert (shown.signed, shown.why) == (True, "wave 1 waits for signatures: 0 of 2 signatures given")
    assert decisions.looks == 1
