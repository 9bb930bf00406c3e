"""The audit trail, readable."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.routes import Page, PageQuery, Routes, decode_cursor, page, reply_page, services
from store.audit import Recorded

api = Routes("audit", "Audit")


class EventActor(BaseModel):
    """Who did it, and with which credential."""

    kind: str
    id: str
    name: str
    credential: str | None


class Event(BaseModel):
    """One thing that happened. `seq` counts the organisation's events without a gap."""

    seq: int
    id: str
    tag: str
    subject: str
    by: EventActor
    at: datetime
    data: dict[str, Any]


class EventQuery(PageQuery):
    """Filters of the trail."""

    subject: str | None = Field(None, max_length=200, description="id of what it happened to")
    tag: str | None = Field(None, max_length=100, description="a tag, with all below it: `rollout`, `rollout.wave`")
    after_seq: int = Field(0, ge=0, description="only events behind this number")


@api.on("GET", "/audit/events", Page[Event], permission=Permission.AUDIT_READ)
def list_audit_events(query: EventQuery) -> Response:
    """List audit events, oldest first"""
    position = decode_cursor(query.cursor)
    after = int(position) if position is not None and position.isdecimal() else query.after_seq
    audit, org = services().audit, services().org
    found = audit.events(org, after_seq=after, limit=query.limit + 1, subject=query.subject, tag=query.tag)
    total = audit.count(org, subject=query.subject, tag=query.tag) if query.total else None
    return reply_page(page([event(one) for one in found], query.limit, lambda item: str(item.seq), total))


def event(stored: Recorded) -> Event:
    """An event as the API shows it."""
    told = stored.event
    by = EventActor(kind=told.by.kind.value, id=told.by.id, name=told.by.name, credential=told.by.credential)
    return Event(
        seq=stored.seq, id=stored.id, tag=told.tag, subject=told.subject, by=by, at=told.at, data=dict(told.data)
    )
