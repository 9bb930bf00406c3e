"""Permits: leave to install what a plan with a budget offers, for a time, asked for by each device before it begins.

A permit is a lease in the server's database. It ends with the report of a result, when the device gives it back, or
when its time is over. Nothing that a device does otherwise depends on one: who hands out permits can hold devices up,
and hand out too many, but cannot have anything installed that was not signed for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from rollout.budget import Budget
from rollout.decision import Stance
from rollout.documents import stance_of
from rollout.model import DeviceProgress, Progress, Rollout
from rollout.ports import Groups, Rollouts
from rollout.progress import wave_of

RETURNED_BY: Final = frozenset({Progress.SUCCEEDED, Progress.ROLLED_BACK})
"""Results that end a permit. Not a failure: it is told before the device goes back, and until then it updates."""
_TOLD: Final = 3  # values in one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A device's leave to install one attempt of a rollout; it counts where its device had ``value`` when it began."""

    rollout: str
    device: str
    label: str
    value: str
    attempt: int
    granted_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What a permit is decided on, all of one moment in which nobody else decides for the value.

    ``updating``: other devices with the value that hold a permit, of whatever rollout. ``devices``: how many active
    devices of the plan's groups have the value; 0 where the budget does not ask. ``mine`` and ``row``: what the device
    holds and has reported in this rollout.
    """

    value: str
    updating: int
    devices: int
    mine: Permit | None
    row: DeviceProgress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitAnswer:
    """``reason`` says in one line why not, or why none is needed; ``lease_seconds`` is 0 then."""

    granted: bool
    reason: str = ""
    lease_seconds: int = 0


class PermitRows(Protocol):
    """Permits at rest. Every method is one transaction."""

    def decide(
        self,
        rollout: Rollout,
        budget: Budget,
        device: str,
        choose: Callable[[Census], Permit | None],
        *,
        now: datetime,
    ) -> Permit | None:
        """Ask ``choose`` while nobody else decides for the device's value, and keep the permit it answers.

        Permits that are over by ``now``, and those of devices that are not active, do not count.
        """

    def give_back(self, org: str, rollout_id: str, device: str) -> bool:
        """End a permit; False when there was none."""

    def updating(self, org: str, label: str, *, now: datetime) -> Mapping[str, int]:
        """How many devices hold a permit, by value of the label; values where none does are absent."""

    def held(
        self, org: str, label: str, *, now: datetime, after: tuple[str, str, str] | None, limit: int
    ) -> Sequence[Permit]:
        """Permits in order of (value, device, rollout), beginning behind ``after``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """What devices ask, and what people see of it."""

    rows: PermitRows
    rollouts: Rollouts
    groups: Groups

    def ask(self, org: str, device: str, rollout_id: str, attempt: int, *, now: datetime) -> PermitAnswer:
        """Give the device leave to install, or say why not.

        Asked again, also after the device was switched off, it is the same permit with its time begun anew. Whatever
        is in doubt is a no: the device asks again. Raises UnknownRollout.
        """
        rollout = self.rollouts.get(org, rollout_id)
        budget = rollout.plan.budget
        if budget is None:
            return PermitAnswer(granted=True, reason="the plan has no budget")
        mine = self.groups.of_device(org, device)
        refusals: list[str] = []

        def choose(census: Census) -> Permit | None:
            refusal = _refusal(rollout, budget, census, device, mine, attempt)
            if refusal:
                refusals.append(refusal)
                return None
            return Permit(
                rollout=rollout.id,
                device=device,
                label=budget.label,
                value=census.value if census.mine is None else census.mine.value,
                attempt=attempt,
                granted_at=now if census.mine is None else census.mine.granted_at,
                expires_at=now + timedelta(seconds=budget.lease_seconds),
            )

        permit = self.rows.decide(rollout, budget, device, choose, now=now)
        if permit is None:
            return PermitAnswer(granted=False, reason=refusals[-1])
        return PermitAnswer(granted=True, lease_seconds=budget.lease_seconds)

    def give_back(self, org: str, device: str, rollout_id: str) -> None:
        """The device does not install, or has gone back: others may. Raises UnknownRollout."""
        self.rollouts.get(org, rollout_id)
        self.rows.give_back(org, rollout_id, device)

    def words(self, rollout: Rollout, now: datetime) -> str:
        """Who updates now, for the line that says what a rollout waits for; empty without a budget."""
        budget = rollout.plan.budget
        if budget is None:
            return ""
        found = self.rows.updating(rollout.org, budget.label, now=now)
        if not found:
            return "; no device holds a permit"
        most = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{count} at {place(budget, value)}" for value, count in most[:_TOLD])
        more = f" and {len(found) - _TOLD} more places" if len(found) > _TOLD else ""
        return f"; hold a permit: {told}{more}"


def place(budget: Budget, value: str) -> str:
    """Devices with one value of the budget's label, in words."""
    return f"{budget.label}={value}" if value else f"no {budget.label}"


def _refusal(
    rollout: Rollout, budget: Budget, census: Census, device: str, groups: frozenset[str], attempt: int
) -> str:
    """Why the device gets no permit now; empty when it gets one."""
    stance, why = stance_of(rollout)
    if stance is not Stance.OPEN:
        return f"{rollout.id} is stopped: {why}"
    row = census.row
    if row is None and wave_of(rollout, device, groups) is None:
        return f"no opened wave of {rollout.id} reaches the device"
    if attempt > rollout.attempt_for(device) + rollout.plan.tries - 1:
        return f"attempt {attempt} of {rollout.id} was not offered to the device"
    # A failure is over, too: what comes after it is another attempt.
    over = row is not None and row.progress not in (Progress.DOWNLOADING, Progress.INSTALLING)
    if row is not None and (attempt < row.attempt or (over and attempt == row.attempt)):
        return f"attempt {attempt} of {rollout.id} is over for the device"
    if census.mine is not None:
        return ""
    limit = budget.limit(census.devices)
    if census.updating < limit:
        return ""
    where = place(budget, census.value)
    if budget.max_updating is None:
        return (
            f"{census.updating} of {census.devices} devices with {where} are updating, "
            f"{budget.min_available} must stay available"
        )
    return f"{census.updating} of at most {limit} devices with {where} are updating"
