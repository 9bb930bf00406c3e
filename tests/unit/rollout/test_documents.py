"""What is signed follows from the state, and cohorts only grow."""

from __future__ import annotations

from typing import Any

import pytest

from evidence.model import SCHEDULER
from rollout.commands import Abort, Command, OpenWave, PassWave, Pause, Resume, Retry, Submit, Supersede
from rollout.decision import Stance, decode_brake, decode_decision
from rollout.documents import changes, changes_to_text, decision_hash, documents, wave_document
from rollout.gate import Outcome, Verdict
from rollout.machine import apply, begin
from rollout.model import AbortMode, Gate, Rollout, WavePlan
from tests.unit.rollout.world import BOB, CREATOR, NOW, SALT, artifact, request

THREE_WAVES = (
    WavePlan(group="fleet", percent=10),
    WavePlan(group="canary", gate=Gate(approvals=0)),
    WavePlan(group="fleet", percent=50),
)
FLEET, CANARY = "decisions/firmware/fleet.json", "decisions/firmware/canary.json"
FLEET_BRAKE, CANARY_BRAKE = "brakes/firmware/fleet.json", "brakes/firmware/canary.json"
GOOD = Verdict(Outcome.PASS, "good")


def opened(waves: int, **more: Any) -> Rollout:
    plan = request(waves=THREE_WAVES, **more).with_artifacts({"linux-amd64": artifact("1.0")})
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=plan, salt=SALT, by=CREATOR, now=NOW)
    rollout = after(rollout, Submit(by=CREATOR))
    for wave in range(1, waves + 1):
        if wave > 1:
            rollout = after(rollout, PassWave(by=SCHEDULER, wave=wave - 1, verdict=GOOD))
        rollout = after(rollout, OpenWave(by=SCHEDULER, wave=wave))
    return rollout


def after(rollout: Rollout, command: Command) -> Rollout:
    return apply(rollout, command, now=NOW)[0]


def test_nothing_is_served_before_a_wave_opens() -> None:
    assert documents(opened(0)) == {}


def test_a_decision_is_these_bytes() -> None:
    served = documents(opened(1))
    assert set(served) == {FLEET}
    assert served[FLEET].decode() == (
        '{"_type":"wavegate-decision","artifacts":{"linux-amd64":{"length":1000,'
        '"path":"firmware/1.0/linux-amd64/firmware.bin","sha256":"' + "ab" * 32 + '"}},"attempt":1,"channel":"stable",'
        '"cohort":{"from":0,"salt":"000102030405060708090a0b0c0d0e0f","to":1000},"device_attempts":{},"expires":null,'
        '"format":1,"group":"fleet","not_before":null,"org":"acme","plan_hash":"' + opened(1).plan_hash + '",'
        '"product":"firmware","revision":3,"rollout":"rol_1","state":"open","submitted_at":"2026-11-21T12:00:00Z",'
        '"version":"1.0","version_policy":{"downgrade":false,"from":[]},"wave":1,"window":null}'
    )


def test_each_group_reached_has_one_decision_with_its_widest_cohort() -> None:
    served = {path: decode_decision(document) for path, document in documents(opened(3)).items()}
    assert {path: (one.wave, one.cohort_from, one.cohort_to) for path, one in served.items()} == {
        FLEET: (3, 0, 5000),
        CANARY: (2, 0, 10000),
    }


def test_a_decision_carries_the_revision_that_last_changed_it() -> None:
    third = opened(3)
    assert third.revision == 7
    served = documents(third)
    assert decode_decision(served[CANARY]).revision == 5
    assert decode_decision(served[FLEET]).revision == 7
    assert set(changes(opened(2), third)) == {FLEET}


def test_passing_a_wave_changes_nothing_served() -> None:
    running = opened(1)
    assert changes(running, after(running, PassWave(by=SCHEDULER, wave=1, verdict=GOOD))) == {}


def test_a_pause_puts_a_brake_beside_each_decision_and_a_resume_takes_it_away() -> None:
    running = opened(2)
    paused = after(running, Pause(by=BOB, reason="lunch"))
    delta = changes(running, paused)
    assert set(delta) == {FLEET_BRAKE, CANARY_BRAKE}
    brakes = {path: decode_brake(document) for path, document in delta.items() if document is not None}
    assert {path: (one.wave, one.stance, one.reason, one.revision) for path, one in brakes.items()} == {
        FLEET_BRAKE: (1, Stance.HALTED, "lunch", 6),
        CANARY_BRAKE: (2, Stance.HALTED, "lunch", 6),
    }
    resumed = after(paused, Resume(by=BOB, reason="back"))
    assert changes(paused, resumed) == {FLEET_BRAKE: None, CANARY_BRAKE: None}
    assert documents(resumed) == documents(running)


def test_a_retry_changes_decisions_and_not_brakes() -> None:
    paused = after(opened(1), Pause(by=BOB, reason="lunch"))
    retried = after(paused, Retry(by=BOB, devices=("dev_f31",)))
    assert set(changes(paused, retried)) == {FLEET}
    decision = decode_decision(documents(retried)[FLEET])
    assert (decision.revision, decision.attempt_for("dev_f31"), decision.attempt_for("dev_f00")) == (5, 2, 1)


@pytest.mark.parametrize(
    ("command", "stance", "reason"),
    [
        (Abort(by=BOB, reason="bad"), Stance.HALTED, "bad"),
        (Abort(by=BOB, reason="bad", mode=AbortMode.ROLL_BACK), Stance.ROLL_BACK, "bad"),
        (Supersede(by=BOB, rollout="rol_2"), Stance.HALTED, "superseded by rol_2"),
    ],
)
def test_the_end_leaves_the_decision_under_a_brake(command: Command, stance: Stance, reason: str) -> None:
    ended = documents(after(opened(1), command))
    assert set(ended) == {FLEET, FLEET_BRAKE}
    brake = decode_brake(ended[FLEET_BRAKE])
    assert (brake.stance, brake.reason, brake.rollout, brake.wave) == (stance, reason, "rol_1", 1)


def test_an_abort_after_a_pause_replaces_the_brake() -> None:
    paused = after(opened(1), Pause(by=BOB, reason="lunch"))
    aborted = after(paused, Abort(by=BOB, reason="bad", mode=AbortMode.ROLL_BACK))
    delta = changes(paused, aborted)
    assert set(delta) == {FLEET_BRAKE}
    assert decode_brake(delta[FLEET_BRAKE] or b"").revision == 5


@pytest.mark.parametrize(("keep_open", "brakes"), [(True, set()), (False, {FLEET_BRAKE, CANARY_BRAKE})])
def test_a_completed_rollout_stays_open_if_the_plan_says_so(keep_open: bool, brakes: set[str]) -> None:
    last = opened(3, keep_open=keep_open)
    done = after(last, PassWave(by=SCHEDULER, wave=3, verdict=GOOD))
    assert set(documents(done)) - {FLEET, CANARY} == brakes


def test_the_document_of_a_wave_is_that_of_its_group() -> None:
    running = opened(2)
    assert wave_document(running, 1) == documents(running)[FLEET]
    assert wave_document(running, 3) == documents(running)[FLEET]
    assert wave_document(opened(0), 1) is None


def test_the_hash_of_a_change_tells_removal_from_emptiness() -> None:
    assert changes_to_text({"a": None, "b": "ä".encode()}) == {"a": None, "b": "ä"}
    assert decision_hash({"a": None}) != decision_hash({"a": ""})
    # printf '{"a":null}' | sha256sum
    assert decision_hash({"a": None}) == "d091f9c83c091f79652fe8786375b3fe4ce0861a56f5bfbafedbe431877ff0e8"
