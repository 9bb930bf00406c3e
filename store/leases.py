"""Leases: at most one process at a time does a job, and one that stopped hands over when its lease has run out.

The clock is the database's, so that servers on machines whose clocks differ agree. A token goes up by one whenever a
lease passes from one holder to another: whoever acts under a lease names its token, and an older one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Connection, case, literal_column, select, update

from store.columns import insert_if_absent
from store.database import Database
from store.models import leases

_CLOCK: Final = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as it was got: ``token`` fences, 1 or more; ``life`` is what each renewal adds to the clock's now."""

    name: str
    holder: str
    token: int
    life: timedelta


class Leases:
    """Takes, keeps and gives up leases by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, name: str, holder: str, *, life: timedelta) -> Lease | None:
        """Get or renew the lease ``name``; None while another holder's has not run out.

        Ask again well within ``life``. While more than half of it is left nothing is written.
        The token stays while one holder renews in time; whoever comes late gets a new one, as another would.
        """
        with self._database.read() as connection:
            now = _now(connection)
            found = connection.execute(
                select(leases.c.holder, leases.c.token, leases.c.expires_at, now).where(leases.c.name == name)
            ).first()
        if found is not None:
            left = found.expires_at - found[3]
            if found.holder != holder and left > 0:
                return None
            if found.holder == holder and left > _milliseconds(life) // 2:
                return Lease(name=name, holder=holder, token=found.token, life=life)
        with self._database.write() as connection:
            now = _now(connection)
            row = {"name": name, "holder": "", "token": 0, "expires_at": 0}
            insert_if_absent(connection, leases, row)
            mine_still = (leases.c.holder == holder) & (leases.c.expires_at > now)
            taken = connection.execute(
                update(leases)
                .where(leases.c.name == name, mine_still | (leases.c.expires_at <= now))
                .values(
                    holder=holder,
                    token=case((mine_still, leases.c.token), else_=leases.c.token + 1),
                    expires_at=now + _milliseconds(life),
                )
                .returning(leases.c.token)
            ).scalar_one_or_none()
        return None if taken is None else Lease(name=name, holder=holder, token=taken, life=life)

    def is_held(self, lease: Lease) -> bool:
        """Whether this very lease, by its token, has neither run out nor passed to another."""
        with self._database.read() as connection:
            return holds(connection, lease)

    def give_up(self, lease: Lease) -> None:
        """End it at once, so that another need not wait; does nothing when it is not held any more."""
        with self._database.write() as connection:
            connection.execute(update(leases).where(_held(connection, lease)).values(expires_at=0))

    def clock(self) -> datetime:
        """The time by the database's clock, which every lease goes by."""
        with self._database.read() as connection:
            milliseconds = connection.execute(select(_now(connection))).scalar_one()
        return datetime.fromtimestamp(milliseconds / 1000, UTC)

    def holder(self, name: str) -> str | None:
        """Who holds the lease now; None when nobody does."""
        with self._database.read() as connection:
            query = select(leases.c.holder).where(leases.c.name == name, leases.c.expires_at > _now(connection))
            return connection.execute(query).scalar_one_or_none()


def holds(connection: Connection, lease: Lease) -> bool:
    """As :meth:`Leases.is_held`, within a transaction."""
    return connection.execute(select(leases.c.token).where(_held(connection, lease))).first() is not None


def keep(connection: Connection, lease: Lease) -> bool:
    """Renew the lease inside a write transaction of what it allows; False when it is lost, and nothing may be done.

    Until that transaction ends nobody else can take the lease: the row is locked.
    """
    expires_at = _now(connection) + _milliseconds(lease.life)
    kept = connection.execute(update(leases).where(_held(connection, lease)).values(expires_at=expires_at))
    return kept.rowcount == 1


def _held(connection: Connection, lease: Lease) -> ColumnElement[bool]:
    return (
        (leases.c.name == lease.name)
        & (leases.c.holder == lease.holder)
        & (leases.c.token == lease.token)
        & (leases.c.expires_at > _now(connection))
    )


def _now(connection: Connection) -> ColumnElement[int]:
    """Milliseconds since 1970 by the database's clock, read when the statement runs."""
    return literal_column(_CLOCK[connection.dialect.name], BigInteger())


def _milliseconds(span: timedelta) -> int:
    return int(span.total_seconds() * 1000)
