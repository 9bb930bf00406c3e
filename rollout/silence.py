"""Devices that say nothing: how many have been silent too long, from counters and not from a row each.

A gate with ``report_timeout_seconds`` gives every device of its wave that long, from the opening of the wave or the
last resume, to be heard of, and that long again after each step it reports. Who is over it without a result is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollout.model import Counters, Gate, Rollout, State, Wave


@dataclass(frozen=True, slots=True)
class Silence:
    """How many devices of a wave are silent: never heard of at all, and heard of last before the timeout."""

    unheard: int = 0
    stalled: int = 0

    @property
    def devices(self) -> int:
        """All of them."""
        return self.unheard + self.stalled


def began(wave: Wave) -> datetime:
    """From when an opened wave's spans run: its opening, or the last resume."""
    return max(moment for moment in (wave.opened_at, wave.resumed_at) if moment is not None)


def silent_from(wave: Wave, gate: Gate) -> datetime | None:
    """The first moment at which a device of the wave can be silent; None without a timeout, or before it opened."""
    if gate.report_timeout_seconds is None or wave.opened_at is None:
        return None
    return began(wave) + timedelta(seconds=gate.report_timeout_seconds)


def stalled_before(rollout: Rollout, now: datetime) -> datetime | None:
    """Devices under way in the open wave that were last heard of at this moment or before are silent.

    None while nobody can be silent: not running, no timeout, or it is not over for anybody yet.
    """
    if rollout.state is not State.RUNNING:
        return None
    wave, gate = rollout.waves[rollout.wave - 1], rollout.plan.waves[rollout.wave - 1].gate
    first = silent_from(wave, gate)
    if first is None or now < first or gate.report_timeout_seconds is None:
        return None
    return now - timedelta(seconds=gate.report_timeout_seconds)


def silence(wave: Wave, gate: Gate, counters: Counters, expected: int, stalled: int, now: datetime) -> Silence:
    """Who is silent in an opened wave now.

    Args:
        counters: What the wave's devices have reported.
        expected: How many devices the wave reaches that no wave before it reached.
        stalled: How many under way were last heard of before :func:`stalled_before`.
    """
    first = silent_from(wave, gate)
    if first is None or now < first:
        return Silence()
    under_way = counters.acting - counters.succeeded - counters.failed - counters.rolled_back
    return Silence(unheard=max(0, expected - counters.acting), stalled=min(stalled, under_way))
