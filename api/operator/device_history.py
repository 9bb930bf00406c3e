"""The timeline of one device."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.audit import EventActor
from api.operator.routes import (
    IdPath,
    Moment,
    Page,
    PageQuery,
    Routes,
    decode_cursor,
    no_cursor,
    page,
    reply_page,
    services,
)
from fleet import history
from fleet.history import Place, Wanted

api = Routes("device_history", "Devices")


class HistoryEntry(BaseModel):
    """One thing that happened to a device, `text` says it for people.

    `kind` is the tag of the audit event; `device.online` sums up the calls between two silences; `device.update.…` is a
    step of an update, its `details` name the rollout, the artifact and the repository serial it was published with.
    `by` is null for what the device did of itself.
    """

    id: str
    at: datetime
    kind: str
    text: str
    by: EventActor | None
    details: dict[str, Any]


class HistoryQuery(PageQuery):
    """Filters of the timeline; all given must hold."""

    kind: str | None = Field(
        None, max_length=100, description="a kind, with all below it: `device.update`, `device.update.failed`"
    )
    since: Moment | None = Field(None, description="not before this moment")
    until: Moment | None = Field(None, description="not at or after this moment")

    def wanted(self) -> Wanted:
        """The filters as the history takes them."""
        return Wanted(kind=self.kind, since=self.since, until=self.until)


@api.on(
    "GET",
    "/devices/{id}/history",
    Page[HistoryEntry],
    permission=Permission.DEVICES_READ,
    errors=("device_not_found",),
)
def get_device_history(path: IdPath, query: HistoryQuery) -> Response:
    """Show what happened to a device, the newest first"""
    org, histories, wanted = services().org, services().histories, query.wanted()
    device = services().fleet.device(org, path.id).id
    found = histories.history(org, device, wanted, before=_place(query.cursor), limit=query.limit + 1)
    total = histories.count_history(org, device, wanted) if query.total else None
    return reply_page(page([_entry(one) for one in found], query.limit, _cursor, total))


def _entry(one: history.Entry) -> HistoryEntry:
    by = one.by
    return HistoryEntry(
        id=one.id,
        at=one.at,
        kind=one.kind,
        text=history.words(one),
        by=None if by is None else EventActor(kind=by.kind.value, id=by.id, name=by.name, credential=by.credential),
        details=dict(one.details),
    )


def _cursor(entry: HistoryEntry) -> str:
    return f"{entry.at.astimezone(UTC).isoformat()} {entry.id}"


def _place(cursor: str | None) -> Place | None:
    told = decode_cursor(cursor)
    if told is None:
        return None
    at, _, entry = told.partition(" ")
    try:
        return Place(datetime.fromisoformat(at).astimezone(UTC), entry)
    except (ValueError, OverflowError):
        raise no_cursor() from None
