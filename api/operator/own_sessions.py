"""Where one is logged in, and the end of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Response
from pydantic import BaseModel

from api.operator.routes import (
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from evidence import people
from evidence.model import AuditEvent

api = Routes("own_sessions", "Accounts")


class OwnSession(BaseModel):
    """One of one's own logins: a browser's session, or a program's token. `current` is the one that asks."""

    id: str
    kind: people.SessionKind
    current: bool
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime


@api.on("GET", "/profile/sessions", Page[OwnSession], person=True)
def list_own_sessions(query: PageQuery) -> Response:
    """List one's own logins that count, newest first"""
    me = caller()
    idle = timedelta(minutes=services().settings.session_idle_minutes)
    live = services().accounts.live_sessions(services().org, me.user.id, now=now(), idle=idle)
    after = decode_cursor(query.cursor)
    shown = [_shown(one) for one in live if after is None or one.id < after]
    total = len(live) if query.total else None
    return reply_page(page(shown[: query.limit + 1], query.limit, lambda item: item.id, total))


@api.on("DELETE", "/profile/sessions/{id}", None, status=204, person=True, errors=("session_not_found",))
def end_own_session(path: IdPath) -> Response:
    """End one of one's own logins at once"""
    me = caller()
    event = AuditEvent("user.logged_out", me.user.id, me.actor, now(), {"session": path.id})
    services().accounts.end_session(services().org, path.id, event, of=me.user.id)
    return reply(None)


def _shown(session: people.Session) -> OwnSession:
    return OwnSession(
        id=session.id,
        kind=session.kind,
        current=session.id == caller().credential_id,
        created_at=session.created_at,
        last_used_at=session.last_used_at,
        expires_at=session.expires_at,
    )
