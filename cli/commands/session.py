"""`publish session`: where you are logged in."""

from __future__ import annotations

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import moment, table


@click.group()
def session() -> None:
    """List and end your own logins. A person's login is needed (`publish login`)."""


@session.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List your logins that count: browsers' sessions and programs' tokens."""
    items = list(invocation.client(as_person=True).items("/profile/sessions", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("kind", "this one", "since", "last used", "until", "id"),
            [
                (
                    item["kind"],
                    item["current"],
                    moment(item["created_at"]),
                    moment(item["last_used_at"]),
                    moment(item["expires_at"]),
                    item["id"],
                )
                for item in items
            ],
        ),
    )


@session.command()
@click.argument("session_id", metavar="SESSION_ID")
@server_options
def revoke(invocation: Invocation, session_id: str) -> None:
    """End one of your logins (ses_…) at once."""
    invocation.client(as_person=True).delete(f"/profile/sessions/{segment(session_id)}")
    invocation.emit({"id": session_id, "ended": True}, f"ended login {session_id}")
