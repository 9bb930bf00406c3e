"""How many devices are active, night by night: at the end of each UTC day, counted from the audit log.

A device is active from when it enrols until it is revoked or deleted, whether it calls or not: it may call at any time.
The log says when each of that happened and does not change, so a night that was missed is counted later to the same
number, and anybody who has the log can count again.
Source: docs/adr/0155-active-devices-are-counted-from-the-log.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

from fleet.errors import InvalidFleetInput

ENROLLED: Final = "device.enrolled"
ENDED: Final = ("device.revoked", "device.deleted")
SETTLED_AFTER: Final = timedelta(minutes=10)  # an event of the day may be committed a little after midnight
MOST_BACK: Final = 400  # nights that are made up for: more than a year and a month
MOST_IN_A_TURN: Final = 31  # a night of a million devices takes seconds
_FIRST_YEAR: Final = 1970


@dataclass(frozen=True, slots=True)
class Night:
    """The devices that were active when the UTC day ``night`` ended."""

    night: date
    active: int
    counted_at: datetime

    @property
    def ended(self) -> datetime:
        """The midnight that is counted at."""
        return end_of(self.night)


@dataclass(frozen=True, slots=True)
class Month:
    """One month's nights that have been counted, in order."""

    nights: tuple[Night, ...]

    @property
    def most(self) -> int:
        """Of the night with the most devices; 0 without nights."""
        return max((one.active for one in self.nights), default=0)

    @property
    def device_nights(self) -> int:
        """The sum over the nights."""
        return sum(one.active for one in self.nights)

    @property
    def average(self) -> float:
        """A night's, to two decimals."""
        return round(self.device_nights / len(self.nights), 2) if self.nights else 0.0


class Meter(Protocol):
    """Nights at rest, and the log they are counted from."""

    def first_day(self, org: str) -> date | None:
        """The UTC day of the organisation's first event; None without any."""

    def counted(self, org: str, first: date, last: date) -> Sequence[Night]:
        """Nights that are counted, in order, both ends with them."""

    def count_active(self, org: str, moment: datetime) -> int:
        """Devices that were active at this moment, from the log alone."""

    def keep(self, org: str, night: Night) -> bool:
        """Store a night; False when it was counted before, and it stays as it was."""


def end_of(day: date) -> datetime:
    """The midnight with which a UTC day ends."""
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)


def last_settled(now: datetime) -> date:
    """The last UTC day whose events are all in the log."""
    return (now.astimezone(UTC) - SETTLED_AFTER).date() - timedelta(days=1)


def count_nights(meter: Meter, org: str, now: datetime) -> Sequence[Night]:
    """Count the nights that are over and not counted, the oldest first, a month of them at most; those counted here.

    Any number of processes may do so at once: each night is kept once.
    """
    began, last = meter.first_day(org), last_settled(now)
    if began is None or began > last:
        return ()
    first = max(began, last - timedelta(days=MOST_BACK - 1))
    there = {one.night for one in meter.counted(org, first, last)}
    missing = (first + timedelta(days=number) for number in range((last - first).days + 1))
    due = [day for day in missing if day not in there][:MOST_IN_A_TURN]
    made = [Night(day, meter.count_active(org, end_of(day)), now) for day in due]
    return [one for one in made if meter.keep(org, one)]


def month_of(meter: Meter, org: str, month: str) -> Month:
    """The month ``YYYY-MM``; raises InvalidFleetInput for what is none."""
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        first = date.min
    if first.year < _FIRST_YEAR or f"{first:%Y-%m}" != month:
        raise InvalidFleetInput(f"the month {month!r} is none; expected YYYY-MM, for example 2026-11")
    following = (first + timedelta(days=31)).replace(day=1) if (first.year, first.month) != (9999, 12) else date.max
    return Month(tuple(meter.counted(org, first, following - timedelta(days=1))))


def active_at(events: Iterable[tuple[str, str]]) -> int:
    """How many devices are active after these events, given in the log's order as ``(tag, device id)``.

    What the counting in the database must agree with, and what somebody who counts an exported log may do.
    """
    active: set[str] = set()
    for tag, device in events:
        if tag == ENROLLED:
            active.add(device)
        elif tag in ENDED:
            active.discard(device)
    return len(active)
