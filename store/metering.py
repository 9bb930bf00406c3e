"""Nights that were metered, and how many devices the audit log says were active."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import func, select

from fleet.metering import ENDED, ENROLLED, Night
from store.columns import insert_if_absent
from store.database import Database
from store.models import audit_events, metered_nights

_STATUS_TAGS: Final = (ENROLLED, *ENDED)


class SqlMeter:
    """Fulfils ``fleet.metering.Meter``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def first_day(self, org: str) -> date | None:
        """The UTC day of the organisation's first event; None without any."""
        query = select(audit_events.c.at).where(audit_events.c.org == org).order_by(audit_events.c.seq).limit(1)
        with self._database.read() as connection:
            first: datetime | None = connection.execute(query).scalar()
        return None if first is None else first.astimezone(UTC).date()

    def counted(self, org: str, first: date, last: date) -> Sequence[Night]:
        """Nights that are counted, in order, both ends with them."""
        rows = metered_nights.c
        query = (
            select(rows.night, rows.active, rows.counted_at)
            .where(rows.org == org, rows.night >= first.isoformat(), rows.night <= last.isoformat())
            .order_by(rows.night)
        )
        with self._database.read() as connection:
            return [
                Night(date.fromisoformat(row.night), row.active, row.counted_at) for row in connection.execute(query)
            ]

    def count_active(self, org: str, moment: datetime) -> int:
        """Devices whose last event of those that change the status, before this moment, is that they enrolled."""
        event = audit_events.c
        last = (
            select(func.max(event.seq).label("seq"))
            .where(event.org == org, event.tag.in_(_STATUS_TAGS), event.at < moment)
            .group_by(event.subject)
            .subquery()
        )
        query = (
            select(func.count())
            .select_from(audit_events)
            .join(last, last.c.seq == event.seq)
            .where(event.org == org, event.tag == ENROLLED)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def keep(self, org: str, night: Night) -> bool:
        """Store a night; False when it was counted before, and it stays as it was."""
        row = {
            "org": org,
            "night": night.night.isoformat(),
            "active": night.active,
            "counted_at": night.counted_at,
        }
        with self._database.write() as connection:
            return insert_if_absent(connection, metered_nights, row)
