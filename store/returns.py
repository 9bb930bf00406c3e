"""When devices came back, and how what they did becomes events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table, bindparam, insert, or_, select, true, update

from evidence.ids import new_id
from evidence.model import AuditEvent
from fleet.tidings import Failure, MakeFailed, MakeOnline, Return
from store.audit import append
from store.columns import AnyRow, among
from store.database import Database
from store.models import device_returns, device_steps, devices

T = TypeVar("T")

# Read where it is locked: of two servers that a device calls at once, the second finds it online.
_RETURN: Final = insert(device_returns).from_select(
    ["device", "org", "silent_since", "at", "id", "untold"],
    select(
        devices.c.id,
        devices.c.org,
        devices.c.last_seen_at,
        bindparam("called_at", type_=device_returns.c.at.type),
        bindparam("return_id", type_=device_returns.c.id.type),
        true(),
    )
    .where(
        devices.c.id == bindparam("called"),
        devices.c.org == bindparam("owner"),
        or_(devices.c.last_seen_at.is_(None), devices.c.last_seen_at < bindparam("limit")),
    )
    .with_for_update(key_share=True),
)


def write_returns(connection: Connection, org: str, back: Mapping[str, datetime], *, online_within: timedelta) -> None:
    """Keep that devices called, which were silent for longer; before their calls are stored.

    What a device is meanwhile found to have said is no return.
    """
    if back:
        rows = [
            {"called": device, "called_at": at, "return_id": new_id("ret"), "owner": org, "limit": at - online_within}
            for device, at in sorted(back.items())
        ]
        connection.execute(_RETURN, rows)


class SqlTidings:
    """Fulfils ``fleet.tidings.Untold``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tell_returns(self, org: str, make: MakeOnline, *, limit: int) -> int:
        """The oldest ``limit`` returns, told by the events that are made of them."""
        return self._tell(org, device_returns, _to_return, make, limit)

    def tell_failures(self, org: str, make: MakeFailed, *, limit: int) -> int:
        """The oldest ``limit`` failures, told by the events that are made of them."""
        return self._tell(org, device_steps, _to_failure, make, limit)

    def _tell(
        self,
        org: str,
        table: Table,
        value: Callable[[AnyRow], T],
        make: Callable[[Sequence[T]], Sequence[AuditEvent]],
        limit: int,
    ) -> int:
        untold = (table.c.org == org) & table.c.untold.is_(True)
        query: Any = (
            select(table, devices.c.name)
            .join_from(table, devices, devices.c.id == table.c.device)
            .where(untold)
            .order_by(table.c.id)
            .limit(limit)
            # A second process that does this for a moment passes over what the first is telling.
            .with_for_update(of=table, skip_locked=True)
        )
        with self._database.read() as connection:
            if connection.execute(select(table.c.id).where(untold).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            rows = connection.execute(query).all()
            if not rows:
                return 0
            told = update(table).where(untold, among(connection, table.c.id, [row.id for row in rows]))
            connection.execute(told.values(untold=False))
            append(connection, org, make([value(row) for row in rows]))
            return len(rows)


def _to_return(row: AnyRow) -> Return:
    return Return(device=row.device, name=row.name, at=row.at, silent_since=row.silent_since)


def _to_failure(row: AnyRow) -> Failure:
    return Failure(
        device=row.device,
        name=row.name,
        at=row.at,
        rollout=row.rollout,
        wave=row.wave,
        attempt=row.attempt,
        progress=row.progress,
        code=row.code,
        detail=row.detail,
    )
