"""The audit log at rest: gapless, ordered, whole."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from evidence.ids import is_id
from evidence.model import Actor, ActorKind, AuditEvent
from store.audit import AuditLog, EventFilter, append
from store.database import Database
from store.errors import NaiveTime, UnknownOrg
from store.models import audit_events

NOON = datetime(2026, 11, 21, 12, 0, 0, 42, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_1", "Ada", "ses_1")


def test_an_event_comes_back_as_it_was_told(database: Database) -> None:
    log = AuditLog(database)
    told = AuditEvent("rollout.paused", "rol_1", ADA, NOON, {"reason": "zu früh ✓", "counts": [1, {"a": None}]})
    log.append("acme", [told])
    (found,) = log.events("acme")
    assert found.event == told
    assert found.seq == 1
    assert is_id(found.id, "evt")


def test_the_stored_body_is_canonical_and_its_leaf_hash_is_rfc_6962_s(database: Database) -> None:
    berlin = timezone(timedelta(hours=1))
    log = AuditLog(database)
    log.append("acme", [AuditEvent("a.b", "rol_1", ADA, NOON.astimezone(berlin), {"z": 1, "a": "ü"})])
    with database.read() as connection:
        row = connection.execute(select(audit_events)).one()
    assert (
        row.body
        == (
            '{"at":"2026-11-21T12:00:00.000042Z",'
            '"by":{"credential":"ses_1","id":"usr_1","kind":"user","name":"Ada"},'
            '"data":{"a":"ü","z":1},"format":1,'
            f'"id":"{row.id}","org":"acme","seq":1,"subject":"rol_1","tag":"a.b"}}'
        ).encode()
    )
    assert row.leaf_hash == hashlib.sha256(b"\x00" + row.body).digest()


def test_each_organisation_counts_for_itself(database: Database) -> None:
    log = AuditLog(database)
    log.append("acme", [an_event("one"), an_event("two")])
    log.append("rival", [an_event("other")])
    log.append("acme", [an_event("three")])
    assert [(one.seq, one.event.tag) for one in log.events("acme")] == [(1, "one"), (2, "two"), (3, "three")]
    assert [(one.seq, one.event.tag) for one in log.events("rival")] == [(1, "other")]


def test_an_organisation_that_is_not_there_has_no_log(database: Database) -> None:
    with pytest.raises(UnknownOrg, match="there is no organisation nobody"):
        AuditLog(database).append("nobody", [an_event("one")])


def test_events_are_filtered_and_paged(database: Database) -> None:
    log = AuditLog(database)
    log.append(
        "acme",
        [
            an_event("rollout.paused", "rol_1"),
            an_event("rollout.wave.opened", "rol_2"),
            an_event("rollout.wave.passed", "rol_2"),
            an_event("rollouts.other", "rol_2"),
            an_event("rollout_x", "rol_1"),
        ],
    )

    def found(subject: str | None = None, tag: str | None = None, after_seq: int = 0, limit: int = 50) -> list[int]:
        where = EventFilter(subject=subject, tag=tag)
        return [one.seq for one in log.events("acme", where, after_seq=after_seq, limit=limit)]

    assert found(subject="rol_2") == [2, 3, 4]
    assert found(tag="rollout.wave.opened") == [2]
    assert found(tag="rollout.wave") == [2, 3]
    assert found(tag="rollout") == [1, 2, 3]
    assert found(subject="rol_2", tag="rollout") == [2, 3]
    assert found(after_seq=2, limit=2) == [3, 4]
    assert found(after_seq=5) == []
    assert log.count("acme") == 5
    assert log.count("acme", EventFilter(subject="rol_2", tag="rollout")) == 2
    assert log.count("acme", after_seq=3) == 2


def test_events_are_found_by_actor_and_time_and_read_backwards(database: Database) -> None:
    log = AuditLog(database)
    told = [replace(an_event(f"e{number}"), at=NOON + timedelta(minutes=number)) for number in range(4)]
    log.append("acme", [*told[:3], replace(told[3], by=replace(told[3].by, id="usr_9"))])

    def found(where: EventFilter, *, before_seq: int | None = None, limit: int = 9) -> list[int]:
        return [one.seq for one in log.events("acme", where, before_seq=before_seq, newest_first=True, limit=limit)]

    assert found(EventFilter(actor="usr_9")) == [4]
    span = EventFilter(since=NOON + timedelta(minutes=1), until=NOON + timedelta(minutes=3))
    assert (found(span), log.count("acme", span)) == ([3, 2], 2)
    assert found(EventFilter(), limit=2) == [4, 3]
    assert found(EventFilter(), before_seq=3, limit=2) == [2, 1]


def test_a_number_is_given_back_when_the_change_fails(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            append(connection, "acme", [an_event("lost")])
            raise ZeroDivisionError

    log = AuditLog(database)
    with pytest.raises(ZeroDivisionError):
        fail()
    log.append("acme", [an_event("kept")])
    assert [(one.seq, one.event.tag) for one in log.events("acme")] == [(1, "kept")]


def test_eight_writers_leave_no_gap_and_commit_in_order(database: Database) -> None:
    log = AuditLog(database)

    def write(writer: int) -> None:
        for number in range(20):
            log.append("acme", [an_event("one", f"{writer}"), AuditEvent("two", f"{writer}", ADA, NOON, {"n": number})])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    found = log.events("acme", limit=1_000)
    assert [one.seq for one in found] == list(range(1, 321))
    # The two events of one transaction are neighbours, and each writer's come in the order it wrote them.
    pairs = [(a.event, b.event) for a, b in zip(found[::2], found[1::2], strict=True)]
    assert {(a.tag, b.tag, a.subject == b.subject) for a, b in pairs} == {("one", "two", True)}
    numbers = [one.event.data["n"] for one in found if one.event.tag == "two" and one.event.subject == "3"]
    assert numbers == list(range(20))


def test_what_is_no_json_or_has_no_zone_is_refused(database: Database) -> None:
    log = AuditLog(database)
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append("acme", [AuditEvent("a", "s", ADA, NOON, {"rate": float("nan")})])
    with pytest.raises(NaiveTime):
        log.append("acme", [AuditEvent("a", "s", ADA, datetime(2026, 1, 1))])  # noqa: DTZ001
    assert log.events("acme") == []


def test_the_body_holds_the_whole_event(database: Database) -> None:
    AuditLog(database).append("acme", [an_event("a.b")])
    with database.read() as connection:
        body = connection.execute(select(audit_events.c.body)).scalar_one()
    assert sorted(json.loads(body)) == ["at", "by", "data", "format", "id", "org", "seq", "subject", "tag"]


def an_event(tag: str, subject: str = "subject") -> AuditEvent:
    return AuditEvent(tag, subject, ADA, NOON)
