"""Events of devices that came back or failed an update: one each when they are few, one for all when they are many.

A device that calls or reports does not wait for its event, and writes none; who leads tells of what is untold.
Source: docs/adr/0154-what-many-devices-do-is-one-event.md
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from evidence.model import Actor, ActorKind, AuditEvent
from evidence.times import rfc3339

FLEET: Final = Actor(ActorKind.SYSTEM, "system:fleet", "fleet")
ONLINE: Final = "device.online"
FAILED: Final = "device.update.failed"
MANY: Final = "many"  # the last part of a tag: who asked for events of one device gets these as well

MOST_SINGLY: Final = 20  # of one turn; a receiver takes these, and the log of a small fleet tells of each
MOST_NAMED: Final = 20  # devices, and codes of failures, in an event of many
MOST_AT_ONCE: Final = 10_000  # in one transaction: a tenth of a second of writing
QUIET: Final = timedelta(minutes=1)  # after an event of many, so that a storm of hours is hundreds of events


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A device called after a silence; ``silent_since`` is its call before that, None when there was none."""

    device: str
    name: str
    at: datetime
    silent_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A device failed an attempt of a rollout, as its gate counts failures."""

    device: str
    name: str
    at: datetime
    rollout: str
    wave: int
    attempt: int
    progress: str
    code: str
    detail: str


MakeOnline = Callable[[Sequence[Return]], Sequence[AuditEvent]]
MakeFailed = Callable[[Sequence[Failure]], Sequence[AuditEvent]]


class Untold(Protocol):
    """What no event tells of yet. Each method is one transaction: what is read is told from then on, with the events
    that are made of it. The answer is how many there were."""

    def tell_returns(self, org: str, make: MakeOnline, *, limit: int) -> int:
        """The oldest ``limit`` returns."""

    def tell_failures(self, org: str, make: MakeFailed, *, limit: int) -> int:
        """The oldest ``limit`` failures."""


class Tidings:
    """Tells of one organisation's devices; ``turn`` is meant to be called every few seconds by one process."""

    def __init__(self, org: str, untold: Untold) -> None:
        self._org = org
        self._untold = untold
        self._quiet_until: dict[str, datetime] = {}

    def turn(self, now: datetime) -> int:
        """Write the events that are due; of how many returns and failures."""
        return self._tell(ONLINE, now, self._untold.tell_returns, self._online) + self._tell(
            FAILED, now, self._untold.tell_failures, failed
        )

    def _online(self, returns: Sequence[Return]) -> Sequence[AuditEvent]:
        return online(self._org, returns)

    def _tell(
        self, tag: str, now: datetime, some: Callable[..., int], make: Callable[..., Sequence[AuditEvent]]
    ) -> int:
        if now < self._quiet_until.get(tag, now):
            return 0
        told = last = some(self._org, make, limit=MOST_AT_ONCE)
        while last == MOST_AT_ONCE:
            last = some(self._org, make, limit=MOST_AT_ONCE)
            told += last
        if told > MOST_SINGLY:
            self._quiet_until[tag] = now + QUIET
        return told


def online(org: str, returns: Sequence[Return]) -> list[AuditEvent]:
    """``device.online`` of each, or ``device.online.many`` of the organisation."""
    if len(returns) <= MOST_SINGLY:
        return [AuditEvent(ONLINE, one.device, _device(one), one.at, _back(one)) for one in returns]
    silent = [one.at - one.silent_since for one in returns if one.silent_since is not None]
    more = {
        "first_calls": len(returns) - len(silent),
        "longest_silence_seconds": int(max(silent).total_seconds()) if silent else None,
    }
    return [AuditEvent(f"{ONLINE}.{MANY}", org, FLEET, max(one.at for one in returns), _many(returns) | more)]


def failed(failures: Sequence[Failure]) -> list[AuditEvent]:
    """By rollout: ``device.update.failed`` of each device, or ``device.update.failed.many`` of the rollout."""
    by_rollout: dict[str, list[Failure]] = defaultdict(list)
    for one in failures:
        by_rollout[one.rollout].append(one)
    events: list[AuditEvent] = []
    for rollout, some in sorted(by_rollout.items()):
        if len(some) <= MOST_SINGLY:
            events += [AuditEvent(FAILED, one.device, _device(one), one.at, _told(one)) for one in some]
            continue
        codes = Counter(one.code for one in some)
        more = {"rollout": rollout, "codes": dict(codes.most_common(MOST_NAMED))}
        events.append(AuditEvent(f"{FAILED}.{MANY}", rollout, FLEET, max(one.at for one in some), _many(some) | more))
    return events


def _back(one: Return) -> Mapping[str, object]:
    if one.silent_since is None:
        return {"name": one.name, "silent_since": None, "silent_seconds": None}
    silent = one.at - one.silent_since
    return {
        "name": one.name,
        "silent_since": rfc3339(one.silent_since),
        "silent_seconds": int(silent.total_seconds()),
    }


def _told(one: Failure) -> Mapping[str, object]:
    return {
        "name": one.name,
        "rollout": one.rollout,
        "wave": one.wave,
        "attempt": one.attempt,
        "progress": one.progress,
        "code": one.code,
        "detail": one.detail,
    }


def _many(some: Sequence[Return] | Sequence[Failure]) -> dict[str, object]:
    devices = {one.device: one.name for one in some}
    return {
        "devices": len(devices),
        "first_at": rfc3339(min(one.at for one in some)),
        "last_at": rfc3339(max(one.at for one in some)),
        "some": [{"id": device, "name": name} for device, name in [*devices.items()][:MOST_NAMED]],
    }


def _device(one: Return | Failure) -> Actor:
    return Actor(ActorKind.DEVICE, one.device, one.name)
