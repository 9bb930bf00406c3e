"""Organisations at rest: what the installation knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, select

from evidence.model import AuditEvent
from evidence.people import User
from store.account_models import orgs
from store.accounts import insert_user
from store.audit import append
from store.database import Database
from store.models import repository_state
from store.org_rows import insert_org


class Organisation(NamedTuple):
    """An organisation: its slug, which never changes, and its name for people."""

    slug: str
    name: str
    created_at: datetime


class Organisations:
    """All organisations of a database, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def found(
        self, slug: str, name: str, admin: User, events: Sequence[AuditEvent], *, serial: int, now: datetime
    ) -> None:
        """Add an organisation with its first admin, all of it or nothing.

        Args:
            slug: Free, and for ever its own.
            name: For people.
            admin: Of this organisation.
            events: The first of its log.
            serial: Up to which its repository is signed and, being empty, indexed; 0 while signatures are missing.
            now: When.

        Raises:
            OrgExists: The slug is taken.
        """
        with self._database.write() as connection:
            insert_org(connection, slug, name, now)
            if serial:
                connection.execute(insert(repository_state), {"org": slug, "projected_serial": serial})
            insert_user(connection, admin)
            append(connection, slug, events)

    def all(self) -> Sequence[Organisation]:
        """Every organisation."""
        query = select(orgs.c.slug, orgs.c.name, orgs.c.created_at).order_by(orgs.c.created_at, orgs.c.slug)
        with self._database.read() as connection:
            return [Organisation(row.slug, row.name, row.created_at) for row in connection.execute(query)]

    def nearest(self, slug: str | None) -> Sequence[str]:
        """The slug in a list if it is one's, else that of the oldest organisation; empty when there is none at all."""
        query = select(orgs.c.slug).order_by((orgs.c.slug == (slug or "")).desc(), orgs.c.created_at, orgs.c.slug)
        with self._database.read() as connection:
            return list(connection.execute(query.limit(1)).scalars())
