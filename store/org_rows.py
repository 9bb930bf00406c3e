"""Rows of organisations, written in a caller's transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert

from store.account_models import orgs
from store.columns import insert_if_absent
from store.errors import OrgExists
from store.models import audit_heads


def insert_org(connection: Connection, slug: str, name: str, now: datetime) -> None:
    """Add an organisation, and with it the beginning of its log; raises OrgExists."""
    if not insert_if_absent(connection, orgs, {"slug": slug, "name": name, "created_at": now}):
        raise OrgExists(f"the organisation {slug} exists already")
    connection.execute(insert(audit_heads), {"org": slug, "seq": 0})
