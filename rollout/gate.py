"""Gates judge, they do not act: may the next wave open, and is the open one to pass, to fail or to wait.

Each verdict carries one line that a person can act on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from evidence.model import Actor
from rollout import metrics
from rollout.model import AbortMode, Advance, Counters, Gate, Rollout, Silent, State, Wave, WaveState
from rollout.silence import Silence, began, silence, silent_from

_NOTHING_MEASURED: Final[Mapping[str, metrics.Reading]] = MappingProxyType({})


class Outcome(StrEnum):
    """What follows from a gate."""

    WAIT = "wait"
    PASS = "pass"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and why, in one line. ``silent`` is how many silent devices stood behind it."""

    outcome: Outcome
    reason: str
    silent: int = 0


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


def may_open(rollout: Rollout, now: datetime, *, by_hand: bool = False) -> Verdict:
    """PASS when the awaited wave may open now, else WAIT. Blocked artifacts are the service's to ask for.

    ``by_hand``: an operator asks, whose word a wave behind one with ``advance: manual`` needs.
    """
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
    if _waits_for_a_word(rollout, number) and not by_hand:
        return Verdict(
            Outcome.WAIT, f"wave {number} waits for an operator's word: publish rollout advance {rollout.id}"
        )
    return Verdict(Outcome.PASS, f"wave {number} may open")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tally:
    """What one look at the open wave is judged by.

    ``devices`` are those the wave reaches, ``needed`` how many ``results`` there must be; ``failures`` and ``finishes``
    are since the last resume, silent ones included where the plan says so; ``judged`` are the devices that the share
    that must succeed is of.
    """

    counters: Counters
    devices: int
    needed: int
    failures: int
    finishes: int
    results: int
    judged: int
    silence: Silence
    silent_failures: int


def judge(
    rollout: Rollout,
    counters: Counters,
    expected: int,
    now: datetime,
    *,
    stalled: int = 0,
    unsure: int = 0,
    readings: Mapping[str, metrics.Reading] = _NOTHING_MEASURED,
) -> Verdict:
    """Judge the open wave.

    Args:
        rollout: One that is running; any other gets WAIT.
        counters: What the wave's devices have reported.
        expected: How many devices the wave reaches that no wave before it reached.
        now: Soak, deadline and report timeout run from the opening, or from the last resume.
        stalled: How many devices under way were last heard of before ``silence.stalled_before``.
        unsure: By how many devices ``expected`` may be too high: so many are not missed.
        readings: Of the gate's metrics, by name.

    Failures before the last resume are forgiven: they count for no limit, and the devices that stand failed since
    then are left out of the share that must succeed, until they are retried. Silent devices are failures, or nothing
    at all, as the gate says; as many as the wave had when it failed last are forgiven, too.

    Source: docs/adr/0088-silent-devices.md
    """
    if rollout.state is not State.RUNNING:
        return Verdict(Outcome.WAIT, f"the rollout is {rollout.state}, only a running one is judged")
    number = rollout.wave
    wave, gate = rollout.waves[number - 1], rollout.plan.waves[number - 1].gate
    name = f"wave {number}"
    unmeasured = metrics.lacking(gate.metrics, readings, since=began(wave), now=now)
    missed = metrics.violated(gate.metrics, readings, since=began(wave), now=now)
    if expected == 0 and counters.acting == 0:
        if missed is not None:
            return Verdict(Outcome.FAIL, f"{name}: {missed}")
        if unmeasured is not None:
            return Verdict(Outcome.WAIT, f"{name}: no device is in it; {unmeasured}")
        return Verdict(Outcome.PASS, f"{name}: no device is in it")
    tally = _tally(wave, gate, counters, expected, silence(wave, gate, counters, expected - unsure, stalled, now))
    silent = tally.silence.devices
    failure = _failure(name, gate, tally)
    if failure is None and missed is not None:
        failure = f"{name}: {missed}"
    if failure is not None:
        return Verdict(Outcome.FAIL, failure, silent)
    waiting = _lacking(wave, gate, tally, now) or unmeasured
    if waiting is None:
        quiet = f", {silent} silent" if silent else ""
        return Verdict(
            Outcome.PASS, f"{name}: {counters.succeeded} of {_devices(tally.devices)} succeeded{quiet}", silent
        )
    if gate.deadline_seconds is not None and now >= began(wave) + timedelta(seconds=gate.deadline_seconds):
        return Verdict(Outcome.FAIL, f"{name}: not passed within {gate.deadline_seconds} s; {waiting}", silent)
    return Verdict(Outcome.WAIT, f"{name}: {waiting}", silent)


def why(rollout: Rollout, counters: Counters, expected: int, now: datetime) -> str:
    """One line: what the rollout waits for, what blocks it, or how it ended.

    ``counters`` and ``expected`` are those of the wave ``rollout.wave``; zeros serve where no wave is open. A running
    rollout whose plan has a report timeout is told by :func:`judge`, which knows who is silent.
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


def glance(rollout: Rollout, counters: Counters) -> str:
    """One line on an open wave for lists, from counters alone: how many it reaches is not asked for."""
    results = counters.succeeded + counters.failed + counters.rolled_back
    under_way = counters.acting - results
    failed = counters.failed + counters.rolled_back
    return f"wave {rollout.wave} is open: {counters.succeeded} succeeded, {failed} failed, {under_way} under way"


def _waits_for_a_word(rollout: Rollout, number: int) -> bool:
    return number > 1 and rollout.plan.waves[number - 2].gate.advance is Advance.MANUAL


def _all_passed(rollout: Rollout) -> str:
    return f"completed: all {len(rollout.waves)} waves passed"


def _tally(wave: Wave, gate: Gate, counters: Counters, expected: int, quiet: Silence) -> _Tally:
    devices = max(expected, counters.acting)
    results = counters.succeeded + counters.failed + counters.rolled_back
    counts = gate.silent is Silent.FAIL
    silent_failures = max(0, quiet.devices - wave.silence_judged) if counts else 0
    # Heard of and silent since: left out of who must succeed. Never heard of: put in, where silence is failure.
    judged = counters.acting - quiet.stalled + silent_failures
    return _Tally(
        counters=counters,
        devices=devices,
        needed=min(gate.min_reports, max(1, devices if counts else devices - quiet.devices)),
        failures=counters.failures - wave.judged_from.failures + silent_failures,
        finishes=counters.finishes - wave.judged_from.finishes + silent_failures,
        results=results + (quiet.devices if counts else 0),
        judged=judged - _forgiven(wave, counters),
        silence=quiet,
        silent_failures=silent_failures,
    )


def _failure(name: str, gate: Gate, tally: _Tally) -> str | None:
    failures, finishes = tally.failures, tally.finishes
    silent = f"{tally.silent_failures} of them silent" if tally.silent_failures else ""
    if gate.max_failures is not None and failures >= gate.max_failures:
        told = f" ({silent})" if silent else ""
        return f"{name}: {failures} of {_devices(tally.devices)} failed{told}, limit {gate.max_failures}"
    rate = gate.max_failure_rate_percent
    if rate is not None and finishes >= tally.needed and failures * 100 > rate * finishes:
        told = ", ".join(part for part in (f"{failures * 100 // finishes} %", silent) if part)
        return f"{name}: {failures} of {finishes} results are failures ({told}), limit {rate} %"
    return None


def _lacking(wave: Wave, gate: Gate, tally: _Tally, now: datetime) -> str | None:
    """What the wave still needs before it passes; None when nothing."""
    succeeded, devices = tally.counters.succeeded, tally.devices
    if tally.results < tally.needed:
        return f"{tally.results} of {_devices(devices)} reported a result, {tally.needed} needed"
    if tally.judged <= 0 and succeeded == 0:
        return "every device that reported failed before the resume; retry them"
    # Nobody's success is no success, however many failures were forgiven.
    if succeeded == 0 or succeeded * 100 < gate.success_percent * tally.judged:
        silent = f" ({tally.silent_failures} silent)" if tally.silent_failures else ""
        return f"{succeeded} of {tally.judged} acting devices{silent} succeeded, {gate.success_percent} % needed"
    listens = silent_from(wave, gate)
    # Silence that counts as failure cannot be judged before it is over; what was forgiven is not waited for again.
    missing = devices - tally.results - wave.silence_judged
    if gate.silent is Silent.FAIL and listens is not None and now < listens and missing > 0:
        return f"{tally.results} of {_devices(devices)} reported a result, the others have until {_clock(listens)}"
    soaked = began(wave) + timedelta(seconds=gate.soak_seconds)
    if now < soaked:
        return f"{succeeded} of {_devices(devices)} succeeded, soaks until {_clock(soaked)}"
    return None


def _forgiven(wave: Wave, counters: Counters) -> int:
    """How many devices still stand where they failed before the last resume."""
    at_resume = wave.judged_from.failed + wave.judged_from.rolled_back
    since = counters.failures - wave.judged_from.failures
    return min(at_resume, max(0, counters.failed + counters.rolled_back - since))


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _clock(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
