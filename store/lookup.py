"""One row by one statement that is made once: for what is asked at every call of a device or of the API.

On SQLite putting a statement together, and a transaction around it, each take several times as long as running it; so
there the text is made once and the row comes from the driver itself.
Source: docs/adr/0104-who-calls-is-one-statement.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

_KEPT: Final = 1_024


class Lookup:
    """A SELECT of at most one row, with parameters that are texts; no two of its columns have the same name.

    ``sql`` and :meth:`bound` are for SQLite's driver, and :meth:`row` turns what it answers into what SQLAlchemy would.

    Args:
        made: Makes of a row what the caller wants, by default the row itself. It depends on nothing but the row, and
            nobody changes what it made: equal rows of SQLite's share one.
    """

    def __init__(self, statement: Select[Any], *parameters: str, made: Callable[[Any], Any] | None = None) -> None:
        self._statement = statement
        self._parameters = parameters
        dialect: Any = sqlite.dialect()
        state = statement.compile(dialect=dialect).construct_expanded_state(dict.fromkeys(parameters, ""))
        self.sql: Final[str] = state.statement
        # The driver looks for an adapter for whatever is not a plain str, such as the member of a StrEnum, each time.
        fixed = {name: str(held) if isinstance(held, str) else held for name, held in state.parameters.items()}
        self._bound = tuple(
            (parameters.index(name), None) if name in parameters else (None, fixed[name])
            for name in state.positiontup or ()
        )
        columns = tuple(statement.selected_columns)
        self._names = tuple(column.name for column in columns)
        self._convert = tuple(
            (place, convert)
            for place, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        )
        self._made = made
        # A row itself is never shared: what JSON became can be changed.
        self._row = self._converted if made is None else lru_cache(_KEPT)(self._converted)

    def bound(self, *values: str) -> tuple[Any, ...]:
        """The driver's parameters, in order."""
        return tuple([fixed if place is None else values[place] for place, fixed in self._bound])

    def row(self, found: Sequence[Any]) -> Any:
        """What is made of the driver's row, by default its columns as attributes, times and JSON as values."""
        return self._row(found)

    def run(self, connection: Connection, *values: str) -> Any:
        """The same, or None, in a transaction of either database."""
        given = dict(zip(self._parameters, values, strict=True))
        found = connection.execute(self._statement, given).first()
        return found if found is None or self._made is None else self._made(found)

    def _converted(self, found: Sequence[Any]) -> Any:
        values = list(found)
        for place, convert in self._convert:
            values[place] = convert(values[place])
        row = SimpleNamespace(**dict(zip(self._names, values, strict=True)))
        return row if self._made is None else self._made(row)
