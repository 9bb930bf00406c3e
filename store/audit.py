"""The audit log: append in the transaction of a change, read in order.

An event's ``body`` is canonical JSON, and ``leaf_hash`` is RFC 6962's hash of it (section 2.1: SHA-256 over a zero byte
and the leaf), so a transparency log can be built over the stored bytes without encoding them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent, device_of
from evidence.times import rfc3339
from store.database import Database
from store.errors import NaiveTime, UnknownOrg
from store.models import audit_events, audit_heads

BODY_FORMAT: Final = 1


class Recorded(NamedTuple):
    """An event and its place: ``seq`` counts 1, 2, 3… in the organisation without gaps, ``id`` is ``evt_…``."""

    seq: int
    id: str
    event: AuditEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What an event must be; None asks for nothing.

    Args:
        subject: What it happened to, an id.
        tag: This tag or one below it: ``rollout.wave`` finds ``rollout.wave.opened``.
        actor: Id of who did it.
        since: Not before this moment.
        until: Before this moment.
    """

    subject: str | None = None
    tag: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self, org: str) -> list[ColumnElement[bool]]:
        """The filter on the table ``audit_events``."""
        event = audit_events.c
        wanted = [event.org == org]
        if self.subject is not None:
            wanted.append(event.subject == self.subject)
        if self.tag is not None:
            wanted.append(or_(event.tag == self.tag, event.tag.startswith(f"{self.tag}.", autoescape=True)))
        if self.actor is not None:
            wanted.append(event.actor_id == self.actor)
        if self.since is not None:
            wanted.append(event.at >= self.since)
        if self.until is not None:
            wanted.append(event.at < self.until)
        return wanted


ALL: Final = EventFilter()


def append(connection: Connection, org: str, events: Sequence[AuditEvent]) -> None:
    """Write the events into the caller's transaction, in order.

    Call it last: on PostgreSQL it locks the organisation's head row until the transaction ends, and whoever takes
    other row locks after this one can meet a second writer head-on.
    """
    if not events:
        return
    last = _advance(connection, org, len(events))
    rows = []
    for seq, event in enumerate(events, start=last - len(events) + 1):
        event_id = new_id("evt")
        body = encode_body(org, seq, event_id, event)
        rows.append(
            {
                "org": org,
                "seq": seq,
                "id": event_id,
                "tag": event.tag,
                "subject": event.subject,
                "actor_kind": event.by.kind.value,
                "actor_id": event.by.id,
                "actor_name": event.by.name,
                "actor_credential": event.by.credential,
                "at": event.at,
                "body": body,
                "leaf_hash": leaf_hash(body),
                "device": device_of(event),
            }
        )
    connection.execute(insert(audit_events), rows)


def encode_body(org: str, seq: int, event_id: str, event: AuditEvent) -> bytes:
    """The bytes that are stored, hashed and exported: sorted keys, no spaces, UTF-8, time as RFC 3339 UTC."""
    return json.dumps(
        {
            "format": BODY_FORMAT,
            "org": org,
            "seq": seq,
            "id": event_id,
            "tag": event.tag,
            "subject": event.subject,
            "by": event.by.to_dict(),
            "at": _utc(event.at),
            "data": dict(event.data),
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    ).encode()


def decode_body(body: bytes) -> AuditEvent:
    """Read back what :func:`encode_body` wrote."""
    stored: dict[str, Any] = json.loads(body)
    return AuditEvent(
        stored["tag"],
        stored["subject"],
        Actor.from_dict(stored["by"]),
        datetime.fromisoformat(stored["at"]),
        stored["data"],
    )


def leaf_hash(body: bytes) -> bytes:
    """RFC 6962 section 2.1: the zero byte keeps a leaf from ever being mistaken for an inner node."""
    return hashlib.sha256(b"\x00" + body).digest()


class AuditLog:
    """An organisation's events in order of seq."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, org: str, events: Sequence[AuditEvent]) -> None:
        """Write events that tell of no change of ours, such as a refused login."""
        with self._database.write() as connection:
            append(connection, org, events)

    def events(
        self,
        org: str,
        where: EventFilter = ALL,
        *,
        after_seq: int = 0,
        before_seq: int | None = None,
        newest_first: bool = False,
        limit: int = 50,
    ) -> Sequence[Recorded]:
        """At most ``limit`` events behind ``after_seq``, 0 begins at the beginning, and before ``before_seq``."""
        seq = audit_events.c.seq
        query = (
            select(seq, audit_events.c.id, audit_events.c.body)
            .where(seq > after_seq, *where.conditions(org))
            .order_by(seq.desc() if newest_first else seq)
            .limit(limit)
        )
        if before_seq is not None:
            query = query.where(seq < before_seq)
        with self._database.read() as connection:
            return [Recorded(row.seq, row.id, decode_body(row.body)) for row in connection.execute(query)]

    def count(self, org: str, where: EventFilter = ALL, *, after_seq: int = 0) -> int:
        """How many events there are behind ``after_seq`` that the filter leaves."""
        query = select(func.count()).select_from(audit_events)
        query = query.where(audit_events.c.seq > after_seq, *where.conditions(org))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()


def events_of(connection: Connection, org: str, subject: str) -> list[AuditEvent]:
    """Every event of one subject, in order, in the caller's transaction."""
    query = (
        select(audit_events.c.body)
        .where(audit_events.c.org == org, audit_events.c.subject == subject)
        .order_by(audit_events.c.seq)
    )
    return [decode_body(body) for body in connection.execute(query).scalars()]


def _utc(at: datetime) -> str:
    if at.tzinfo is None:
        raise NaiveTime(f"the event's time {at.isoformat()} has no zone; pass an aware UTC datetime")
    return rfc3339(at)


def _advance(connection: Connection, org: str, places: int) -> int:
    advance = (
        update(audit_heads)
        .where(audit_heads.c.org == org)
        .values(seq=audit_heads.c.seq + places)
        .returning(audit_heads.c.seq)
    )
    last: int | None = connection.execute(advance).scalar_one_or_none()
    if last is None:
        raise UnknownOrg(f"there is no organisation {org}; add it first")
    return last
