"""What an examination finds, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

CERTIFICATE_SOON = timedelta(days=30)
CERTIFICATE_URGENT = timedelta(days=7)
CLOCK_WARN = timedelta(seconds=5)
CLOCK_FAIL = timedelta(seconds=60)  # from here on the server refuses to sign


class Level(StrEnum):
    """How grave it is. ``unknown``: it could not be looked at from here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and what to do; nothing when it is well. Never a secret."""

    name: str
    level: Level
    found: str
    todo: str = ""


Looks = Iterator[Check]


def well(name: str, found: str) -> Check:
    """A check that found nothing to do."""
    return Check(name, Level.OK, found)


def warn(name: str, found: str, todo: str) -> Check:
    """A check that found what somebody should look at."""
    return Check(name, Level.WARN, found, todo)


def fail(name: str, found: str, todo: str) -> Check:
    """A check that found what does not work, or will not for long."""
    return Check(name, Level.FAIL, found, todo)


def unknown(name: str, found: str, todo: str = "") -> Check:
    """A check that could not be made."""
    return Check(name, Level.UNKNOWN, found, todo)


def guarded(name: str, look: Callable[[], Looks]) -> Looks:
    """What ``look`` finds; an error that nobody foresaw is a finding, too, and ends no examination."""
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001  (whatever it is, the other checks are still wanted)
        yield fail(name, f"{type(error).__name__}: {error}", "see the message; the other checks do not depend on it")


def certificate(name: str, expires: datetime, now: datetime, todo: str, *, soon: timedelta = CERTIFICATE_SOON) -> Check:
    """Judge how long a certificate is still valid."""
    left = expires - now
    told = f"valid until {expires:%Y-%m-%d}, {left.days} days"
    if left <= timedelta(0):
        return fail(name, f"expired on {expires:%Y-%m-%d}", todo)
    if left <= CERTIFICATE_URGENT:
        return fail(name, told, todo)
    return warn(name, told, todo) if left <= soon else well(name, told)


def clock(name: str, off: timedelta, whose: str) -> Check:
    """Judge how far this machine's clock is from another's; positive is ahead."""
    seconds = off.total_seconds()
    told = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} {whose}"
    todo = "set the clock of the one that is wrong; let chrony or systemd-timesyncd keep it"
    if abs(off) > CLOCK_FAIL:
        return fail(name, told, todo)
    return warn(name, told, todo) if abs(off) > CLOCK_WARN else well(name, f"as {whose}")
