"""The audit trail, readable."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.routes import Moment, Page, PageQuery, Routes, decode_seq, page, reply_page, services
from store.audit import EventFilter, Recorded

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
    actor: str | None = Field(None, max_length=200, description="id of who did it")
    since: Moment | None = Field(None, description="not before this moment")
    until: Moment | None = Field(None, description="not at or after this moment")
    after_seq: int = Field(0, ge=0, description="only events behind this number")
    sort: Literal["seq", "-seq"] = Field("seq", description="order; `-` for falling")

    def where(self) -> EventFilter:
        """The filters as the log takes them."""
        return EventFilter(
            subject=self.subject,
            tag=self.tag,
            actor=self.actor,
            since=self.since,
            until=self.until,
        )


@api.on("GET", "/audit/events", Page[Event], permission=Permission.AUDIT_READ)
def list_audit_events(query: EventQuery) -> Response:
    """List audit events, oldest first unless sorted otherwise"""
    audit, org = services().audit, services().org
    after, before, place = query.after_seq, None, decode_seq(query.cursor)
    newest_first = query.sort == "-seq"
    if place is not None and newest_first:
        before = place
    elif place is not None:
        after = place
    found = audit.events(
        org, query.where(), after_seq=after, before_seq=before, newest_first=newest_first, limit=query.limit + 1
    )
    total = audit.count(org, query.where(), after_seq=query.after_seq) if query.total else None
    return reply_page(page([event(one) for one in found], query.limit, lambda item: str(item.seq), total))


def event(stored: Recorded) -> Event:
    """An event as the API shows it."""
    told = stored.event
    by = EventActor(kind=told.by.kind.value, id=told.by.id, name=told.by.name, credential=told.by.credential)
    return Event(
        seq=stored.seq, id=stored.id, tag=told.tag, subject=told.subject, by=by, at=told.at, data=dict(told.data)
    )
