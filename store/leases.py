"""Whose turn it is to write an organisation's repository, among servers that share a bucket.

All servers go by the database's clock, so theirs may differ.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from sqlalchemy import ColumnElement, literal, literal_column, update

from store.columns import upsert
from store.database import Database
from store.models import leases

log: Final = logging.getLogger("wavegate.store")

SECONDS: Final = 15.0  # many times what a stalled disk or database takes; nobody waits longer for a server that died


class SqlLease:
    """The repository room's ``Lease`` port. One server process is one holder.

    Args:
        database: Shared by all servers.
        org: Whose repository.
        seconds: How long a turn lasts unless it is renewed.
    """

    def __init__(self, database: Database, org: str, *, seconds: float = SECONDS) -> None:
        self._database: Final = database
        self._org: Final = org
        self._seconds: Final = seconds

    @property
    def seconds(self) -> float:
        """How long a turn lasts unless it is renewed."""
        return self._seconds

    def take(self) -> int | None:
        """Take the turn if nobody has it or its end has passed; returns its number."""
        now = self._now()
        with self._database.write() as connection:
            mine = upsert(connection, leases).values(org=self._org, token=1, ends=now + literal(self._seconds))
            add = mine.on_conflict_do_update(
                index_elements=[leases.c.org],
                set_={"token": leases.c.token + 1, "ends": now + literal(self._seconds)},
                where=leases.c.ends <= now,
            ).returning(leases.c.token)
            token = connection.execute(add).scalar_one_or_none()
        return None if token is None else int(token)

    def renew(self, token: int) -> bool:
        """Move the end of the turn; False when another one began or this one has ended."""
        now = self._now()
        still_mine = (leases.c.org == self._org) & (leases.c.token == token) & (leases.c.ends > now)
        with self._database.write() as connection:
            moved = connection.execute(update(leases).where(still_mine).values(ends=now + literal(self._seconds)))
        return moved.rowcount == 1

    def give_back(self, token: int) -> None:
        """End the turn now, if it still is this one."""
        mine = (leases.c.org == self._org) & (leases.c.token == token)
        try:
            with self._database.write() as connection:
                connection.execute(update(leases).where(mine).values(ends=literal(0.0)))
        except Exception as error:  # noqa: BLE001 - it ends by itself; what was done under it stands
            log.warning("the turn to write was not given back and ends by itself: %s", type(error).__name__)

    def _now(self) -> ColumnElement[Any]:
        """Seconds since 1970 by the database's clock, at the statement and not at the transaction's begin."""
        if self._database.is_sqlite:
            return literal_column("((julianday('now') - 2440587.5) * 86400.0)")
        return literal_column("CAST(extract(epoch FROM clock_timestamp()) AS double precision)")
