"""Devices that came back or failed become events: one each, or one for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from evidence.model import AuditEvent
from fleet.tidings import MOST_AT_ONCE, Failure, MakeFailed, MakeOnline, Return, Tidings, failed, online

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Waiting:
    """Returns and failures that wait in memory, and the events that came of them."""

    def __init__(self) -> None:
        self.returns: list[Return] = []
        self.failures: list[Failure] = []
        self.events: list[AuditEvent] = []

    def tell_returns(self, org: str, make: MakeOnline, *, limit: int) -> int:
        return self._tell(self.returns, make, limit)

    def tell_failures(self, org: str, make: MakeFailed, *, limit: int) -> int:
        return self._tell(self.failures, make, limit)

    def _tell(self, waiting: list[Any], make: Callable[[Sequence[Any]], Sequence[AuditEvent]], limit: int) -> int:
        some, waiting[:] = waiting[:limit], waiting[limit:]
        self.events += make(some)
        return len(some)


def a_return(number: int, *, silent_minutes: int | None = 30) -> Return:
    at = NOON + timedelta(seconds=number)
    silent = None if silent_minutes is None else at - timedelta(minutes=silent_minutes)
    return Return(device=f"dev_{number}", name=f"gw-{number}", at=at, silent_since=silent)


def a_failure(number: int, *, code: str = "health_failed", rollout: str = "rol_1") -> Failure:
    return Failure(
        device=f"dev_{number}",
        name=f"gw-{number}",
        at=NOON + timedelta(seconds=number),
        rollout=rollout,
        wave=2,
        attempt=1,
        progress="failed",
        code=code,
        detail="port 80 is closed",
    )


def test_a_few_devices_that_came_back_are_an_event_each() -> None:
    one, first = online("acme", [a_return(1), a_return(2, silent_minutes=None)])
    assert (one.tag, one.subject, one.by.id, one.at) == (
        "device.online",
        "dev_1",
        "dev_1",
        NOON + timedelta(seconds=1),
    )
    assert one.data == {"name": "gw-1", "silent_since": "2026-11-21T11:30:01Z", "silent_seconds": 1800}
    assert first.data == {"name": "gw-2", "silent_since": None, "silent_seconds": None}


def test_twenty_one_devices_that_came_back_are_one_event() -> None:
    assert len(online("acme", [a_return(number) for number in range(20)])) == 20
    (event,) = online("acme", [a_return(number, silent_minutes=number or None) for number in range(21)])
    assert (event.tag, event.subject, event.by.id) == ("device.online.many", "acme", "system:fleet")
    assert len(event.data.pop("some")) == 20  # type: ignore[attr-defined]  # a dict
    assert event.data == {
        "devices": 21,
        "first_at": "2026-11-21T12:00:00Z",
        "last_at": "2026-11-21T12:00:20Z",
        "first_calls": 1,
        "longest_silence_seconds": 1200,
    }


def test_failures_are_told_by_rollout_and_many_by_their_codes() -> None:
    many = [a_failure(number, code="disk" if number < 5 else "health_failed") for number in range(25)]
    one, summed = failed([*many, a_failure(77, rollout="rol_0")])
    assert (one.tag, one.subject) == ("device.update.failed", "dev_77")
    assert one.data == {
        "name": "gw-77",
        "rollout": "rol_0",
        "wave": 2,
        "attempt": 1,
        "progress": "failed",
        "code": "health_failed",
        "detail": "port 80 is closed",
    }
    assert (summed.tag, summed.subject) == ("device.update.failed.many", "rol_1")
    assert summed.data["devices"] == 25
    assert summed.data["codes"] == {"health_failed": 20, "disk": 5}


def test_after_a_storm_the_next_event_waits_a_minute_and_failures_do_not_wait_for_it() -> None:
    waiting = Waiting()
    tidings = Tidings("acme", waiting)
    waiting.returns = [a_return(number) for number in range(21)]
    assert tidings.turn(NOON) == 21
    waiting.returns, waiting.failures = [a_return(1)], [a_failure(1)]
    assert tidings.turn(NOON + timedelta(seconds=59)) == 1
    assert [event.tag for event in waiting.events] == ["device.online.many", "device.update.failed"]
    assert tidings.turn(NOON + timedelta(seconds=60)) == 1
    assert waiting.events[-1].tag == "device.online"


def test_a_fleet_that_comes_back_is_told_in_parts_until_none_waits() -> None:
    waiting = Waiting()
    waiting.returns = [a_return(number) for number in range(MOST_AT_ONCE + 30)]
    assert Tidings("acme", waiting).turn(NOON) == MOST_AT_ONCE + 30
    assert [event.data["devices"] for event in waiting.events] == [MOST_AT_ONCE, 30]
