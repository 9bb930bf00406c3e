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
from rollout.errors import ApprovalRefused, InvalidCommand, InvalidPlan, SignaturesNeeded, TransitionNotAllowed
from rollout.gate import Outcome, Verdict
from rollout.machine import apply, begin, replay
from rollout.model import Advance, Gate, Progress, RetryPolicy, Rollout, State, WavePlan
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


def by_share(rollout: Rollout, number: int) -> None:
    """No wave here has a count."""


def waiting(waves: tuple[WavePlan, ...] = SCHEDULE) -> Rollout:
    plan = request(waves=waves).with_artifacts({"linux-amd64": artifact("1.0")})
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=plan, salt=SALT, by=CREATOR, now=NOW)
    return apply(rollout, Submit(by=CREATOR), now=NOW)[0]


def test_each_wave_of_a_schedule_changes_its_groups_decision_and_carries_its_time() -> None:
    asked = to_sign(waiting(), 1, 3, NOW, reach=by_share)
    assert [(number, list(changed)) for number, changed in asked] == [(1, [CANARY]), (2, [FLEET]), (3, [FLEET])]
    decisions = [decode_decision(document) for _, changed in asked for document in changed.values()]
    assert [(one.wave, one.revision, one.cohort_to, one.not_before) for one in decisions] == [
        (1, 1, 10_000, None),
        (2, 2, 1000, TOMORROW),
        (3, 3, 5000, TOMORROW + timedelta(days=1)),
    ]


def test_what_is_signed_is_what_is_served_however_much_happened_before_the_wave_opens() -> None:
    rollout = waiting()
    asked = to_sign(rollout, 1, 3, NOW, reach=by_share)
    for number, changed in asked:
        for revision in range(number):  # pauses in between raise the revision
            rollout = apply(rollout, Pause(by=BOB, reason=f"lunch {revision}"), now=NOW)[0]
            rollout = rollout_from_dict({**rollout_to_dict(rollout), "state": "waiting", "paused_from": None})
        opened = apply(rollout, OpenWave(by=SCHEDULER, wave=number, signed=True), now=NOW + timedelta(days=9))[0]
        assert changes(rollout, opened) == changed
        rollout = apply(opened, PassWave(by=SCHEDULER, wave=number, verdict=GOOD), now=NOW)[0]


def test_signing_later_still_gives_the_same_bytes() -> None:
    assert to_sign(waiting(), 1, 2, NOW, reach=by_share) == to_sign(
        waiting(), 1, 2, NOW + timedelta(days=3), reach=by_share
    )


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
        to_sign(waiting(waves), wave, through, NOW, reach=by_share)


def test_what_does_not_wait_is_not_signed() -> None:
    running = apply(waiting(), OpenWave(by=SCHEDULER, wave=1), now=NOW)[0]
    with pytest.raises(TransitionNotAllowed, match="rol_1 is running"):
        to_sign(running, 1, 1, NOW, reach=by_share)


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
    [(_, changed)] = to_sign(world.get(rollout), 1, 1, world.now, reach=by_share)
    world.decisions.approved.append(dict(changed))
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    assert world.decisions.documents == changed == documents(world.get(rollout))
    assert replay(world.rollouts.events(ORG, rollout.id)) == world.get(rollout)


def test_stopping_needs_no_approver_and_a_retry_does() -> None:
    world, rollout = signed_world()
    [(_, changed)] = to_sign(world.get(rollout), 1, 1, world.now, reach=by_share)
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


def signed(world: World, rollout: Rollout, through: int | None = None) -> list[dict[str, bytes]]:
    """Approvers are asked for the awaited wave and those up to ``through``, and all of them sign."""
    now = world.get(rollout)
    asked = world.service.openings.to_sign(now, now.wave, through or now.wave, world.now)
    world.decisions.asked[rollout.id] = {number: dict(changed) for number, changed in asked}
    world.decisions.approved.extend(dict(changed) for _, changed in asked)
    return [changed for _, changed in asked]


def reach_of_fleet(documents: dict[str, bytes]) -> int:
    return decode_decision(documents[FLEET]).cohort_to


def test_a_count_reaches_what_approvers_signed_whoever_joins_the_group_before_it_opens() -> None:
    world = World()
    world.decisions.signed_products.add("firmware")
    waves = (
        WavePlan(group="fleet", count=5, gate=Gate(not_before=NOW + timedelta(hours=1))),
        WavePlan(group="fleet", count=20, gate=Gate(not_before=NOW + timedelta(hours=2))),
    )
    rollout = world.submitted(waves=waves)
    first = signed(world, rollout, through=2)
    reached = [reach_of_fleet(one) for one in first]
    assert reached[0] < reached[1]
    world.groups.devices["fleet"] += [f"dev_g{number:03}" for number in range(400)]
    assert signed(world, rollout, through=2) == first, "the second approver is asked for the same bytes"
    world.wait(3600)
    world.tick()
    opened = world.get(rollout)
    assert (opened.state, opened.waves[0].reach, opened.waves[0].signed) == (State.RUNNING, reached[0], True)
    assert world.decisions.documents == first[0] == documents(opened)
    assert replay(world.rollouts.events(ORG, rollout.id)) == opened


def test_a_count_is_worked_out_anew_for_another_plan_and_when_it_would_reach_nobody() -> None:
    world = World()
    world.decisions.signed_products.add("firmware")
    world.groups.devices["fleet"] = []
    rollout = world.submitted(waves=(WavePlan(group="fleet", count=5),))
    assert [reach_of_fleet(one) for one in signed(world, rollout)] == [0]
    world.groups.devices["fleet"] = [f"dev_f{number:02}" for number in range(40)]
    [few] = [reach_of_fleet(one) for one in signed(world, rollout)]
    assert few > 0
    request_of_20 = request(waves=(WavePlan(group="fleet", count=20),))
    world.service.edit(ORG, rollout.id, request_of_20, by=CREATOR, now=world.now)
    world.service.submit(ORG, rollout.id, by=CREATOR, now=world.now)
    [more] = [reach_of_fleet(one) for one in signed(world, rollout)]
    assert more > few


def test_a_spread_counts_from_the_signed_time_of_its_wave() -> None:
    world = World()
    world.decisions.signed_products.add("firmware")
    waves = (WavePlan(group="canary", gate=Gate(not_before=TOMORROW)),)
    rollout = world.submitted(waves=waves, spread_seconds=3600)
    [asked] = signed(world, rollout)
    assert decode_decision(asked[CANARY]).spread_from == TOMORROW
    world.wait(25 * 3600)
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    assert world.decisions.documents == asked


def test_a_spread_without_a_time_to_count_from_is_refused_before_anybody_is_asked_to_sign() -> None:
    world = World()
    managed = world.submitted(waves=(WavePlan(group="canary"),), spread_seconds=60)
    draft = world.service.create(ORG, request(waves=SCHEDULE, spread_seconds=60), by=CREATOR, now=world.now)
    world.decisions.signed_products.add("firmware")
    told = "waves.1.gate.not_before: expected a time"
    with pytest.raises(InvalidPlan, match=told):
        world.service.create(ORG, request(waves=SCHEDULE, spread_seconds=60), by=CREATOR, now=world.now)
    with pytest.raises(InvalidPlan, match=told):
        world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)
    with pytest.raises(InvalidCommand, match=r"wave 1 of .* cannot be signed, not_before: expected a time"):
        world.service.openings.to_sign(world.get(managed), 1, 1, world.now)


def test_devices_retry_by_themselves_within_what_approvers_signed() -> None:
    world = World()
    world.decisions.signed_products.add("firmware")
    waves = (WavePlan(group="canary", gate=Gate(max_failures=3, max_failure_rate_percent=None)),)
    rollout = world.submitted(waves=waves, retry=RetryPolicy(count=1, backoff_seconds=0))
    [asked] = signed(world, rollout)
    assert decode_decision(asked[CANARY]).retry == RetryPolicy(count=1, backoff_seconds=0)
    world.tick()
    assert world.report(rollout, "dev_c1", Progress.FAILED)
    assert world.report(rollout, "dev_c1", Progress.SUCCEEDED, attempt=2)
    with pytest.raises(SignaturesNeeded):
        world.service.retry(ORG, rollout.id, by=BOB, now=world.now)
    assert world.decisions.documents == asked, "nothing was signed for the try"


def test_the_gate_and_the_order_come_before_signatures_in_what_is_told_and_in_what_opens() -> None:
    world = World()
    first = world.submitted(waves=(WavePlan(group="fleet"),))
    world.decisions.signed_products.add("firmware")
    manual = Gate(advance=Advance.MANUAL)
    waves = (WavePlan(group="canary", gate=manual), WavePlan(group="empty"))
    rollout = world.submitted(waves=waves, after=(first.id,))

    def why() -> str:
        return world.service.why(world.get(rollout), world.now)

    assert why() == f"wave 1 is held back until {first.id} is completed; it is waiting"
    signed(world, rollout)
    world.tick()
    assert world.get(rollout).state is State.WAITING, "signed, and held back all the same"
    signed(world, first)
    for _ in range(2):
        world.tick()
        for device in world.groups.devices["fleet"]:
            if world.get(first).state is State.RUNNING:
                world.report(first, device, Progress.SUCCEEDED)
    world.tick()
    assert world.get(first).state is State.COMPLETED
    world.tick()
    for device in world.groups.devices["canary"]:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.tick()
    assert why() == f"wave 2 waits for an operator's word: publish rollout advance {rollout.id}"
    with pytest.raises(SignaturesNeeded):
        world.service.advance(ORG, rollout.id, by=BOB, now=world.now)
    signed(world, rollout)
    world.tick()
    assert world.get(rollout).state is State.WAITING, "signed, and no word yet"
    after = world.service.advance(ORG, rollout.id, by=BOB, now=world.now)
    assert (after.state, after.waves[1].signed) == (State.RUNNING, True)
