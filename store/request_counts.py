"""How often somebody called within a window, counted for all servers of a database."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import delete

from store.columns import upsert
from store.database import Database
from store.models import request_counts

_KEPT_SECONDS: Final = 120  # past its end: servers' clocks may differ


class SqlRequestCounts:
    """One row for each key and window.

    On PostgreSQL the table is unlogged: a commit waits for no disk, and after a crash the counts begin anew.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: str, *, ends_at: int) -> int:
        """Count one more for ``key`` in the window that ends at ``ends_at`` (seconds since 1970), and tell how many.

        Raises:
            DatabaseBusy, DatabaseUnreachable: Nothing is counted.
        """
        with self._database.write() as connection:
            more = (
                upsert(connection, request_counts)
                .values(key=key, ends_at=ends_at, used=1)
                .on_conflict_do_update(index_elements=["key", "ends_at"], set_={"used": request_counts.c.used + 1})
                .returning(request_counts.c.used)
            )
            return int(connection.execute(more).scalar_one())

    def forget(self, *, now: datetime) -> int:
        """Drop the counts of windows that are over; returns how many."""
        with self._database.write() as connection:
            over = delete(request_counts).where(request_counts.c.ends_at < int(now.timestamp()) - _KEPT_SECONDS)
            return connection.execute(over).rowcount
