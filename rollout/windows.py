"""Weekly windows on the wall clock of a time zone, right across changes of summer time. Pure.

A window *starts* when the clocks of its zone show its start on one of its days, and *lasts* a length that is told as
elapsed time: two hours stay two hours in the night the clocks change. A start that the clocks show twice is the first
of the two; one that they skip is as much later as they were put forward (02:30 becomes 03:30). (PEP 495, ``fold=0``.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LOCAL: Final = "local"
MAX_MINUTES: Final = 7 * 24 * 60
FORM: Final = "DAYS START LENGTH ZONE, e.g. 'sat,sun 02:00 4h Europe/Berlin'; DAYS may be 'daily' or 'mon-fri'"
_START: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_LENGTH: Final = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,5})m)?")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,30}(/[A-Za-z0-9_+-]{1,30}){0,2}")


class InvalidWindow(ValueError):
    """The text or the fields are no window; the message says which part, and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """``days`` of ``DAYS``, in their order; ``start`` as ``HH:MM``; ``minutes`` 1 to 10,080.

    ``zone`` is an IANA name, or ``local``: the zone of the device that asks.
    """

    days: tuple[str, ...]
    start: str
    minutes: int
    zone: str

    def words(self) -> str:
        """The text that :func:`parse_window` reads."""
        hours, minutes = divmod(self.minutes, 60)
        length = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
        days = "daily" if self.days == DAYS else ",".join(self.days)
        return f"{days} {self.start} {length} {self.zone}"

    def closes_at(self, moment: datetime, *, local: tzinfo = UTC) -> datetime | None:
        """When the window around ``moment`` closes, UTC; None when the moment is in none.

        Windows that meet or overlap are one; the answer is at most some ten days ahead.
        """
        closes = None
        for start in self._starts(moment - timedelta(minutes=self.minutes, days=2), moment + timedelta(days=8), local):
            end = start + timedelta(minutes=self.minutes)
            if start <= (closes or moment) < end:
                closes = end
        return closes

    def opens_at(self, moment: datetime, *, local: tzinfo = UTC) -> datetime:
        """When the next window starts, at ``moment`` or after it, UTC."""
        later = self._starts(moment - timedelta(days=2), moment + timedelta(days=10), local)
        return next(start for start in later if start >= moment)

    def _starts(self, least: datetime, most: datetime, local: tzinfo) -> Iterator[datetime]:
        zone = local if self.zone == LOCAL else ZoneInfo(self.zone)
        hour, minute = map(int, self.start.split(":"))
        day: date = least.astimezone(zone).date()
        last = most.astimezone(zone).date()
        while day <= last:
            if DAYS[day.weekday()] in self.days:
                yield datetime.combine(day, time(hour, minute), zone).astimezone(UTC)
            day += timedelta(days=1)


def window_faults(window: Window, *, local_is_known: bool) -> list[str]:
    """What is wrong with a window, in words; empty when nothing is. ``local_is_known``: ``local`` means something."""
    faults = []
    if not window.days or list(window.days) != [day for day in DAYS if day in window.days]:
        faults.append(f"days are some of {', '.join(DAYS)}, each once and in this order")
    if _START.fullmatch(window.start) is None:
        faults.append(f"the start is a time of day from 00:00 to 23:59, found {window.start[:20]!r}")
    if isinstance(window.minutes, bool) or not 1 <= window.minutes <= MAX_MINUTES:
        faults.append(f"the length is 1 minute to 7 days, found {window.minutes} minutes")
    if window.zone == LOCAL:
        if not local_is_known:
            faults.append("the zone 'local' is a device's own; name one such as Europe/Berlin")
    elif not is_zone(window.zone):
        faults.append(f"{window.zone[:60]!r} is no time zone known here; name one such as Europe/Berlin or UTC")
    return faults


def is_zone(name: str) -> bool:
    """Whether this machine knows the time zone."""
    if _ZONE.fullmatch(name) is None:
        return False
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder, an unreadable file, no such zone
        return False
    return True


def parse_window(text: str) -> Window:
    """Read ``sat,sun 02:00 4h Europe/Berlin``; raises InvalidWindow. Whether the zone exists is not asked."""
    parts = text.split()
    if len(parts) != 4:
        raise InvalidWindow(f"{text[:80]!r} is no window; write {FORM}")
    length = _LENGTH.fullmatch(parts[2])
    if length is None or not parts[2]:
        raise InvalidWindow(f"{parts[2][:20]!r} is no length; write it like 4h, 90m or 1h30m")
    minutes = int(length[1] or 0) * 60 + int(length[2] or 0)
    return Window(days=_days(parts[0]), start=parts[1], minutes=minutes, zone=parts[3])


def window_to_dict(window: Window) -> dict[str, object]:
    """JSON values only."""
    return {"days": list(window.days), "start": window.start, "minutes": window.minutes, "zone": window.zone}


def window_from_dict(fields: Mapping[str, Any]) -> Window:
    """Read what :func:`window_to_dict` wrote; raises InvalidWindow for a field that is missing, unknown or mistyped."""
    try:
        days, start, minutes, zone = fields["days"], fields["start"], fields["minutes"], fields["zone"]
    except (KeyError, TypeError) as error:
        raise InvalidWindow(f"a window has days, start, minutes and zone: {error!r}") from error
    texts = [start, zone, *(days if isinstance(days, list | tuple) else [None])]
    if not all(isinstance(text, str) for text in texts) or type(minutes) is not int or len(fields) != 4:
        raise InvalidWindow("a window has days (a list of texts), start and zone (texts) and minutes (a whole number)")
    return Window(days=tuple(days), start=start, minutes=minutes, zone=zone)


def _days(text: str) -> tuple[str, ...]:
    if text == "daily":
        return DAYS
    named: set[str] = set()
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise InvalidWindow(f"{part[:20]!r} is no day; write {', '.join(DAYS)}, a range such as mon-fri, or daily")
        start, end = DAYS.index(first), DAYS.index(last if dash else first)
        named |= set(DAYS[start : end + 1]) if start <= end else {*DAYS[start:], *DAYS[: end + 1]}
    return tuple(day for day in DAYS if day in named)
