"""What people want to see of an opened wave beside its counters: rates they can trust, and what its clocks say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollout.interval import Rate, rate
from rollout.model import Counters, Rollout, State, WaveState
from rollout.silence import Silence, began, silence, silent_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One opened wave.

    ``success`` is of the devices that have a result, where they stand now; ``failure`` is of the results since the last
    resume, which is what the gate's limits look at. The moments are None where the plan has no such rule or the wave
    has ended; ``silence`` is counted in a running rollout's open wave only.
    """

    success: Rate | None
    failure: Rate | None
    silence: Silence
    soaks_until: datetime | None
    silent_from: datetime | None
    deadline_at: datetime | None


def outlook(
    rollout: Rollout, number: int, counters: Counters, *, expected: int, stalled: int, now: datetime, unsure: int = 0
) -> Outlook | None:
    """The outlook of wave ``number``; None before it opened. ``stalled`` and ``unsure`` as in ``gate.judge``."""
    wave, gate = rollout.waves[number - 1], rollout.plan.waves[number - 1].gate
    if wave.opened_at is None:
        return None
    is_open = wave.state is WaveState.OPEN
    ends = began(wave)
    is_judged = is_open and rollout.state is State.RUNNING
    results = counters.succeeded + counters.failed + counters.rolled_back
    return Outlook(
        success=rate(counters.succeeded, results),
        failure=rate(counters.failures - wave.judged_from.failures, counters.finishes - wave.judged_from.finishes),
        silence=silence(wave, gate, counters, expected - unsure, stalled, now) if is_judged else Silence(),
        soaks_until=ends + timedelta(seconds=gate.soak_seconds) if is_open and gate.soak_seconds else None,
        silent_from=silent_from(wave, gate) if is_open else None,
        deadline_at=ends + timedelta(seconds=gate.deadline_seconds)
        if is_open and gate.deadline_seconds is not None
        else None,
    )
