"""One row by one statement that is made once: for what is asked at every call of a device or of the API.

Putting a statement together, and a transaction around it, each take several times as long as running it; so the text is
made once and goes to the driver itself. The row comes as one text, a JSON array: SQLite's driver lets the interpreter's
lock go and takes it again for each column that it reads, and a server of several threads then spends more on handing
that lock around than on the row; and of an equal text nothing has to be made again.
Source: docs/adr/0104-who-calls-is-one-statement.md
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Label,
    LargeBinary,
    Numeric,
    Select,
    String,
    Text,
    cast,
    func,
    literal_column,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.types import TypeEngine

from store.columns import UtcDateTime

_KEPT: Final = 1_024


class Lookup:
    """A SELECT of at most one row, with parameters that are texts; no two of its columns have the same name.

    Args:
        made: Makes of a row what the caller wants, by default the row itself. It depends on nothing but the row, and
            nobody changes what it made: equal rows share one.
    """

    def __init__(self, statement: Select[Any], *parameters: str, made: Callable[[Any], Any] | None = None) -> None:
        for column in statement.selected_columns:
            if isinstance(column.type, LargeBinary | Numeric):
                raise TypeError(f"a lookup cannot have {column.name}: bytes and fractions do not survive as JSON")
        self._statement = statement
        self._parameters = parameters
        self._made = made

    @cached_property
    def sqlite(self) -> Asked:
        """As SQLite's driver is asked."""
        return Asked(self._statement, self._parameters, self._made, sqlite.dialect())

    @cached_property
    def postgresql(self) -> Asked:
        """As PostgreSQL's driver is asked."""
        dialect: Dialect = psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy's own
        return Asked(self._statement, self._parameters, self._made, dialect)

    def run(self, connection: Connection, *values: str) -> Any:
        """What is made of the row, or None, in a transaction of either database."""
        given = dict(zip(self._parameters, values, strict=True))
        found = connection.execute(self._statement, given).first()
        return found if found is None or self._made is None else self._made(found)


class Asked:
    """A lookup as a driver is asked: ``sql`` with :meth:`bound`, and :meth:`row` for the one text that it answers."""

    def __init__(
        self, statement: Select[Any], parameters: tuple[str, ...], made: Callable[[Any], Any] | None, dialect: Dialect
    ) -> None:
        columns = tuple(statement.selected_columns)
        plain = map(_plain, columns)
        array = func.json_array(*plain) if dialect.name == "sqlite" else cast(func.json_build_array(*plain), Text)
        packed = statement.with_only_columns(array, maintain_column_froms=True)
        compiled: Any = packed.compile(dialect=dialect)
        state = compiled.construct_expanded_state(dict.fromkeys(parameters, ""))
        self.sql: Final[str] = state.statement
        # The driver looks for an adapter for whatever is not a plain str, such as the member of a StrEnum, each time.
        fixed = {name: str(held) if isinstance(held, str) else held for name, held in state.parameters.items()}
        self._bound = tuple(
            (parameters.index(name), None) if name in parameters else (None, fixed[name])
            for name in state.positiontup or ()
        )
        self._names = tuple(column.name for column in columns)
        self._convert = tuple(
            (place, convert)
            for place, column in enumerate(columns)
            if (convert := _from_json(column.type, dialect)) is not None
        )
        self._made = made
        # A row itself is never shared: what JSON became can be changed.
        self._row = self._converted if made is None else lru_cache(_KEPT)(self._converted)

    def bound(self, *values: str) -> tuple[Any, ...]:
        """The driver's parameters, in order."""
        return tuple([fixed if place is None else values[place] for place, fixed in self._bound])

    def row(self, found: str) -> Any:
        """What is made of the driver's answer, by default the columns as attributes, times and JSON as values."""
        return self._row(found)

    def _converted(self, found: str) -> Any:
        values = json.loads(found)
        for place, convert in self._convert:
            values[place] = convert(values[place])
        row = SimpleNamespace(**dict(zip(self._names, values, strict=True)))
        return row if self._made is None else self._made(row)


def _plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column as an element of JSON that is again what the driver would have answered."""
    bare = column.element if isinstance(column, Label) else column
    if isinstance(bare, Column) or not isinstance(column.type, String):
        return bare
    # SQLite nests what an expression made as JSON; as the beginning of a longer text it is a text.
    return bare.concat(literal_column("''"))


def _from_json(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """What makes of the element what SQLAlchemy makes of the driver's value."""
    if dialect.name != "sqlite" and isinstance(kind, UtcDateTime):
        return lambda told: None if told is None else datetime.fromisoformat(told).astimezone(UTC)
    return kind.dialect_impl(dialect).result_processor(dialect, None)
