"""What it takes to be the same on SQLite and PostgreSQL: column types, and INSERT with an answer to conflicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Row,
    String,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from store.errors import NaiveTime

# A row of whatever columns; read by attribute.
AnyRow: TypeAlias = Row[*tuple[Any, ...]]

# Cursors compare identifiers; bytewise order is the one that every PostgreSQL locale and SQLite agree on.
Key: Final[TypeEngine[str]] = String().with_variant(String(collation="C"), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, both ways; refuses a naive one with NaiveTime.

    SQLite has no time type and drops the zone, so what comes back from there is UTC by construction.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise NaiveTime(f"the time {value.isoformat()} has no zone; pass an aware UTC datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """A JSON value kept as text with sorted keys.

    Escaped to ASCII, so that NUL and lone surrogates inside strings, which PostgreSQL's text refuses, survive.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, _dialect: Dialect) -> str | None:
        if value is None:
            return None
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: str | None, _dialect: Dialect) -> object:
        return None if value is None else json.loads(value)


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that has ``on_conflict_do_update`` and ``on_conflict_do_nothing``; both databases spell them alike."""
    return upsert_for(is_sqlite(connection), table)


def upsert_for(is_sqlite: bool, table: Table) -> sqlite.Insert | postgresql.Insert:
    """As :func:`upsert`, for a statement made once."""
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


def among(connection: Connection, column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """``column IN (values)`` with one bound value however many there are, so that the statement is made ready once."""
    if connection.dialect.name == "sqlite":
        rows = func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(select(rows.c.value))
    return column == func.any(literal(list(values), postgresql.ARRAY(Text)))


def among_given(is_sqlite: bool, column: ColumnElement[str]) -> ColumnElement[bool]:
    """As :func:`among`, for a statement made once: the values come as the parameter ``ids``, see :func:`given`."""
    if is_sqlite:
        rows = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        return column.in_(select(rows.c.value))
    return column == func.any(bindparam("ids", type_=postgresql.ARRAY(Text)))


def given(connection: Connection, values: Sequence[str]) -> str | list[str]:
    """What the parameter of :func:`among_given` takes."""
    return json.dumps(list(values)) if is_sqlite(connection) else list(values)


def is_sqlite(connection: Connection) -> bool:
    """Which of the two databases it is; statements made once are made once for each."""
    return connection.dialect.name == "sqlite"


def insert_if_absent(connection: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert the row; False when a row in the way of it was there. On PostgreSQL it waits for who is inserting one.

    RETURNING says which: ``rowcount`` is -1 for an INSERT on PostgreSQL, whatever happened.
    """
    first = next(iter(table.primary_key))
    inserted = upsert(connection, table).on_conflict_do_nothing().returning(first)
    return connection.execute(inserted, row).first() is not None
