"""Gates judge, they do not act: may the next wave open, and is the open one to pass, to fail or to wait.

Each verdict carries one line that a person can act on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from evidence.model import Actor
from rollout.model import AbortMode, Counters, Gate, Rollout, State, Wave, WaveState


class Outcome(StrEnum):
    """What follows from a gate."""

    WAIT = "wait"
    PASS = "pass"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and why, in one line."""

    outcome: Outcome
    reason: str


def approvers(rollout: Rollout, number: int) -> dict[str, Actor]:
    """The people whose approval of wave ``number`` counts, by id.

    The creator and whoever edited the plan never count, nor does who refused this plan; one person counts once,
    whatever credentials were used; only approvals of the plan as it is now count.
    """
    never = {rollout.created_by.id, *(editor.id for editor in rollout.editors)}
    never |= {refusal.by.id for refusal in rollout.refusals if refusal.plan_hash == rollout.plan_hash}
    return {
        approval.by.id: approval.by
        for approval in rollout.approvals
        if approval.wave == number and approval.plan_hash == rollout.plan_hash and approval.by.id not in never
    }


def may_open(rollout: Rollout, now: datetime) -> Verdict:
    """PASS when the awaited wave may open now, else WAIT. Blocked artifacts are the service's to ask for."""
    if rollout.state is not State.WAITING:
        return Verdict(Outcome.WAIT, f"the rollout is {rollout.state}, a wave opens while it is waiting")
    number = rollout.wave
    if rollout.waves[number - 1].state is not WaveState.PENDING:
        return Verdict(Outcome.WAIT, f"wave {number} is {rollout.waves[number - 1].state} already")
    if any(wave.state is not WaveState.PASSED for wave in rollout.waves[: number - 1]):
        return Verdict(Outcome.WAIT, f"wave {number} waits for the wave before it to pass")
    gate = rollout.plan.waves[number - 1].gate
    have = len(approvers(rollout, number))
    if have < gate.approvals:
        return Verdict(Outcome.WAIT, f"wave {number} waits for approval: {have} of {gate.approvals} given")
    if gate.not_before is not None and now < gate.not_before:
        return Verdict(Outcome.WAIT, f"wave {number} opens not before {_clock(gate.not_before)}")
    return Verdict(Outcome.PASS, f"wave {number} may open")


def judge(rollout: Rollout, counters: Counters, expected: int, now: datetime) -> Verdict:
    """Judge the open wave.

    Args:
        rollout: One that is running; any other gets WAIT.
        counters: What the wave's devices have reported.
        expected: How many devices the wave reaches that no wave before it reached.
        now: Soak and deadline run from the opening, or from the last resume.

    Failures before the last resume are forgiven: they count for no limit, and the devices that stand failed since
    then are left out of the share that must succeed, until they are retried.
    """
    if rollout.state is not State.RUNNING:
        return Verdict(Outcome.WAIT, f"the rollout is {rollout.state}, only a running one is judged")
    number = rollout.wave
    wave, gate = rollout.waves[number - 1], rollout.plan.waves[number - 1].gate
    name = f"wave {number}"
    if expected == 0 and counters.acting == 0:
        return Verdict(Outcome.PASS, f"{name}: no device is in it")
    devices = max(expected, counters.acting)
    failure = _failure(name, wave, gate, counters, devices)
    if failure is not None:
        return failure
    waiting = _lacking(wave, gate, counters, devices, now)
    if waiting is None:
        return Verdict(Outcome.PASS, f"{name}: {counters.succeeded} of {_devices(devices)} succeeded")
    if gate.deadline_seconds is not None and now >= _began(wave) + timedelta(seconds=gate.deadline_seconds):
        return Verdict(Outcome.FAIL, f"{name}: not passed within {gate.deadline_seconds} s; {waiting}")
    return Verdict(Outcome.WAIT, f"{name}: {waiting}")


def why(rollout: Rollout, counters: Counters, expected: int, now: datetime) -> str:
    """One line: what the rollout waits for, what blocks it, or how it ended.

    ``counters`` and ``expected`` are those of the wave ``rollout.wave``; zeros serve where no wave is open.
    """
    match rollout.state:
        case State.DRAFT:
            refused = [one for one in rollout.refusals if one.plan_hash == rollout.plan_hash]
            if refused:
                return f"refused by {refused[-1].by.name}: {refused[-1].reason}; edit it or submit it again"
            return "a draft: submit it to begin"
        case State.WAITING:
            return may_open(rollout, now).reason
        case State.RUNNING:
            return judge(rollout, counters, expected, now).reason
        case State.PAUSED:
            who = " (an approver must resume)" if rollout.pause_needs_approver else ""
            return f"paused: {rollout.paused_because}{who}"
        case State.COMPLETED | State.ABORTED if rollout.rolled_back_because is not None:
            return f"{rollout.state}, then rolled back: {rollout.rolled_back_because}"
        case State.COMPLETED:
            return "completed: its only wave passed" if len(rollout.waves) == 1 else _all_passed(rollout)
        case State.ABORTED:
            back = ", devices roll back" if rollout.abort_mode is AbortMode.ROLL_BACK else ""
            return f"aborted{back}: {rollout.abort_reason}"
        case State.SUPERSEDED:
            return f"superseded by {rollout.superseded_by}"


def _all_passed(rollout: Rollout) -> str:
    return f"completed: all {len(rollout.waves)} waves passed"


def _failure(name: str, wave: Wave, gate: Gate, counters: Counters, devices: int) -> Verdict | None:
    failures = counters.failures - wave.judged_from.failures
    finishes = counters.finishes - wave.judged_from.finishes
    if gate.max_failures is not None and failures >= gate.max_failures:
        return Verdict(Outcome.FAIL, f"{name}: {failures} of {_devices(devices)} failed, limit {gate.max_failures}")
    rate = gate.max_failure_rate_percent
    if rate is not None and finishes >= min(gate.min_reports, devices) and failures * 100 > rate * finishes:
        return Verdict(
            Outcome.FAIL,
            f"{name}: {failures} of {finishes} results are failures ({failures * 100 // finishes} %), limit {rate} %",
        )
    return None


def _lacking(wave: Wave, gate: Gate, counters: Counters, devices: int, now: datetime) -> str | None:
    """What the wave still needs before it passes; None when nothing."""
    results = counters.succeeded + counters.failed + counters.rolled_back
    needed = min(gate.min_reports, devices)
    if results < needed:
        return f"{results} of {_devices(devices)} reported a result, {needed} needed"
    judged = counters.acting - _forgiven(wave, counters)
    if judged == 0:
        return "every device that reported failed before the resume; retry them"
    # Nobody's success is no success, however many failures were forgiven.
    if counters.succeeded == 0 or counters.succeeded * 100 < gate.success_percent * judged:
        return f"{counters.succeeded} of {judged} acting devices succeeded, {gate.success_percent} % needed"
    soaked = _began(wave) + timedelta(seconds=gate.soak_seconds)
    if now < soaked:
        return f"{counters.succeeded} of {_devices(devices)} succeeded, soaks until {_clock(soaked)}"
    return None


def _forgiven(wave: Wave, counters: Counters) -> int:
    """How many devices still stand where they failed before the last resume."""
    at_resume = wave.judged_from.failed + wave.judged_from.rolled_back
    since = counters.failures - wave.judged_from.failures
    return min(at_resume, max(0, counters.failed + counters.rolled_back - since))


def _began(wave: Wave) -> datetime:
    moments = [moment for moment in (wave.opened_at, wave.resumed_at) if moment is not None]
    return max(moments)


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _clock(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
