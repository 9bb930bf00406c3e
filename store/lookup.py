"""One row by one statement that is made once: for what is asked at every call of a device or of the API.

On SQLite putting a statement together, and a transaction around it, each take several times as long as running it; so
there the text is made once and the row comes from the driver itself.
Source: docs/adr/0104-who-calls-is-one-statement.md
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite


class Lookup:
    """A SELECT of at most one row, with parameters that are texts; no two of its columns have the same name.

    ``sql`` and :meth:`bound` are for SQLite's driver, and :meth:`row` turns what it answers into what SQLAlchemy would.
    """

    def __init__(self, statement: Select[Any], *parameters: str) -> None:
        self._statement = statement
        self._parameters = parameters
        dialect: Any = sqlite.dialect()
        state = statement.compile(dialect=dialect).construct_expanded_state(dict.fromkeys(parameters, ""))
        self.sql: Final[str] = state.statement
        # The driver looks for an adapter for whatever is not quite a str, such as the member of a StrEnum, each time.
        self._others = {name: str(held) if isinstance(held, str) else held for name, held in state.parameters.items()}
        self._order = tuple(state.positiontup or ())
        columns = tuple(statement.selected_columns)
        self._names = tuple(column.name for column in columns)
        self._convert = tuple(
            (place, convert)
            for place, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        )

    def bound(self, *values: str) -> tuple[Any, ...]:
        """The driver's parameters, in order."""
        given = {**self._others, **self._given(values)}
        return tuple(given[name] for name in self._order)

    def row(self, found: Sequence[Any]) -> Any:
        """The driver's row with its columns as attributes, times and JSON as values."""
        values = list(found)
        for place, convert in self._convert:
            values[place] = convert(values[place])
        return SimpleNamespace(**dict(zip(self._names, values, strict=True)))

    def run(self, connection: Connection, *values: str) -> Any:
        """The row, or None, in a transaction of either database."""
        return connection.execute(self._statement, self._given(values)).first()

    def _given(self, values: Sequence[str]) -> dict[str, str]:
        return dict(zip(self._parameters, values, strict=True))
