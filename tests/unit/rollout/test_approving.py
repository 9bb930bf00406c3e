"""Approvals by people's own keys: what is to be signed, who counts, and that nothing opens without it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from evidence.model import SCHEDULER
from rollout.approving import to_sign
from rollout.commands import Approve, OpenWave, PassWave, Pause, Submit, command_from_dict, command_to_dict
from rollout.decision import decode_decision
from rollout.documents import changes, documents
from rollout.errors import ApprovalRefused, InvalidCommand, SignaturesNeeded, TransitionNotAllowed
from rollout.gate import Outcome, Verdict
from rollout.machine import apply, begin, replay
from rollout.model import Gate, Rollout, State, WavePlan
from rollout.stored import rollout_from_dict, rollout_to_dict
from tests.unit.rollout.world import ANN, BOB, CREATOR, NOW, ORG, SALT, World, artifact, request

FLEET, CANARY = "decisions/firmware/fleet.json", "decisions/firmware/canary.json"
TOMORROW = NOW + timedelta(days=1)
SCHEDULE = (
    WavePlan(group="canary"),
    WavePlan(group="fleet", percent=10, gate=Gate(not_before=TOMORROW)),
    WavePlan(group="fleet", percent=50, gate=Gate(not_before=TOMORROW + timedelta(days=1))),
)
GOOD = Verdict(Outcome.PASS, "good")


def waiting(waves: tuple[WavePlan, ...] = SCHEDULE) -> Rollout:
    plan = request(waves=waves).with_artifacts({"linux-amd64": artifact("1.0")})
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=plan, salt=SALT, by=CREATOR, now=NOW)
    return apply(rollout, Submit(by=CREATOR), now=NOW)[0]


def test_each_wave_of_a_schedule_changes_its_groups_decision_and_carries_its_time() -> None:
    asked = to_sign(waiting(), 1, 3, NOW)
    assert [(number, list(changed)) for number, changed in asked] == [(1, [CANARY]), (2, [FLEET]), (3, [FLEET])]
    decisions = [decode_decision(document) for _, changed in asked for document in changed.values()]
    assert [(one.wave, one.revision, one.cohort_to, one.not_before) for one in decisions] == [
        (1, 1, 10_000, None),
        (2, 2, 1000, TOMORROW),
        (3, 3, 5000, TOMORROW + timedelta(days=1)),
    ]


def test_what_is_signed_is_what_is_served_however_much_happened_before_the_wave_opens() -> None:
    rollout = waiting()
    asked = to_sign(rollout, 1, 3, NOW)
    for number, changed in asked:
        for revision in range(number):  # pauses in between raise the revision
            rollout = apply(rollout, Pause(by=BOB, reason=f"lunch {revision}"), now=NOW)[0]
            rollout = rollout_from_dict({**rollout_to_dict(rollout), "state": "waiting", "paused_from": None})
        opened = apply(rollout, OpenWave(by=SCHEDULER, wave=number, signed=True), now=NOW + timedelta(days=9))[0]
        assert changes(rollout, opened) == changed
        rollout = apply(opened, PassWave(by=SCHEDULER, wave=number, verdict=GOOD), now=NOW)[0]


def test_signing_later_still_gives_the_same_bytes() -> None:
    assert to_sign(waiting(), 1, 2, NOW) == to_sign(waiting(), 1, 2, NOW + timedelta(days=3))


@pytest.mark.parametrize(
    ("waves", "wave", "through", "error", "told"),
    [
        (SCHEDULE, 2, 2, TransitionNotAllowed, "waits for wave 1, not 2"),
        (SCHEDULE, 1, 4, InvalidCommand, "found 4"),
        (SCHEDULE, 1, 0, InvalidCommand, "found 0"),
        ((SCHEDULE[0], WavePlan(group="fleet")), 1, 2, InvalidCommand, "wave 2 of rol_1 has no not_before"),
        (
            (SCHEDULE[1], WavePlan(group="canary", gate=Gate(not_before=NOW))),
            1,
            2,
            InvalidCommand,
            "not before the wave",
        ),
    ],
)
def test_what_nothing_would_hold_back_is_not_signed_in_advance(
    waves: tuple[WavePlan, ...], wave: int, through: int, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        to_sign(waiting(waves), wave, through, NOW)


def test_what_does_not_wait_is_not_signed() -> None:
    running = apply(waiting(), OpenWave(by=SCHEDULER, wave=1), now=NOW)[0]
    with pytest.raises(TransitionNotAllowed, match="rol_1 is running"):
        to_sign(running, 1, 1, NOW)


def yes(rollout: Rollout, signature: str | None, wave: int = 1) -> Rollout:
    command = Approve(by=ANN, wave=wave, plan_hash=rollout.plan_hash, signature=signature)
    return apply(rollout, command, now=NOW)[0]


def test_a_person_signs_anew_what_has_moved_and_a_second_key_is_no_second_yes() -> None:
    first = yes(waiting(), "key1:7:aa")
    with pytest.raises(ApprovalRefused, match="approved wave 1 already"):
        yes(first, "key2:7:bb")
    with pytest.raises(ApprovalRefused):
        yes(first, None)
    again = yes(first, "key2:9:cc")
    assert [one.signature for one in again.approvals] == ["key2:9:cc"]
    assert [one.signature for one in yes(yes(waiting(), None), "key1:7:aa").approvals] == ["key1:7:aa"]
    assert [one.wave for one in yes(again, "key1:8:dd", wave=2).approvals] == [1, 2]


def test_a_history_from_before_signed_waves_replays_as_it_was_told() -> None:
    managed = OpenWave(by=SCHEDULER, wave=1)
    assert command_to_dict(managed) == {"name": "open_wave", "wave": 1}
    assert command_to_dict(OpenWave(by=SCHEDULER, wave=1, signed=True))["signed"] is True
    assert command_from_dict({"name": "open_wave", "wave": 1}, SCHEDULER) == managed
    stored: dict[str, Any] = rollout_to_dict(waiting())
    for wave in stored["waves"]:
        del wave["signed"]
    assert rollout_from_dict(stored) == waiting()


def signed_world() -> tuple[World, Rollout]:
    world = World()
    world.decisions.signed_products.add("firmware")
    waves = (WavePlan(group="canary"), WavePlan(group="fleet", gate=Gate(not_before=TOMORROW)))
    made = world.service.create(ORG, request(waves=waves), by=CREATOR, now=world.now)
    return world, world.service.submit(ORG, made.id, by=CREATOR, now=world.now)


def test_the_scheduler_opens_nothing_until_the_signatures_are_there() -> None:
    world, rollout = signed_world()
    world.tick()
    view = world.service.show(ORG, rollout.id, world.now)
    assert (view.rollout.state, view.signed) == (State.WAITING, True)
    assert view.why == "wave 1 waits for signatures: 0 of 2 signatures given"
    assert world.rollouts.intents(ORG) == []
    [(_, changed)] = to_sign(world.get(rollout), 1, 1, world.now)
    world.decisions.approved.append(dict(changed))
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    assert world.decisions.documents == changed == documents(world.get(rollout))
    assert replay(world.rollouts.events(ORG, rollout.id)) == world.get(rollout)


def test_stopping_needs_no_approver_and_a_retry_does() -> None:
    world, rollout = signed_world()
    [(_, changed)] = to_sign(world.get(rollout), 1, 1, world.now)
    world.decisions.approved.append(dict(changed))
    world.tick()
    with pytest.raises(SignaturesNeeded):
        world.service.retry(ORG, rollout.id, by=BOB, now=world.now)
    assert world.rollouts.intents(ORG) == [], "what was refused leaves nothing behind"
    paused = world.service.pause(ORG, rollout.id, reason="look", by=BOB, now=world.now)
    assert paused.state is State.PAUSED
    assert "brakes/firmware/canary.json" in world.decisions.documents
    assert world.service.resume(ORG, rollout.id, reason="on", by=BOB, now=world.now).state is State.RUNNING


def test_signatures_are_taken_only_from_somebody_who_may_approve() -> None:
    world, rollout = signed_world()
    taken: list[str] = []

    def approve(by: Any, signatures: dict[int, str]) -> Rollout:
        return world.service.approve_signed(
            ORG, rollout.id, signatures, plan_hash=rollout.plan_hash, by=by, now=world.now,
            take=lambda: taken.append(by.name),
        )  # fmt: skip

    with pytest.raises(ApprovalRefused, match="another person must approve"):
        approve(CREATOR, {1: "key1:7:aa", 2: "key1:8:bb"})
    assert taken == []
    after = approve(ANN, {1: "key1:7:aa", 2: "key1:8:bb"})
    assert [(one.wave, one.signature) for one in after.approvals] == [(1, "key1:7:aa"), (2, "key1:8:bb")]
    assert approve(ANN, {1: "key1:7:aa", 2: "key1:8:bb"}) == after, "the same again changes nothing"
    assert taken == ["Ann", "Ann"]
