"""The order of a list, and where in it a page begins.

A place is what an item is sorted by and its id, so it stays where it is whatever is added, changed or deleted between
two pages: nothing is listed twice, and nothing that was there all the time is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Table, tuple_
from sqlalchemy.sql import Select

Q = TypeVar("Q", bound=Select[Any])

_BETWEEN = " "  # of id and value in a place; no id holds one


@dataclass(frozen=True, slots=True)
class Order:
    """By one column, a text that does not change, then by id; ``column`` is ``id`` for the order of creation."""

    column: str
    is_down: bool

    @classmethod
    def of(cls, sort: str) -> Order:
        """As the API says it: ``name``, ``-name``; ``created_at`` is the order of ids."""
        name = sort.removeprefix("-")
        return cls("id" if name == "created_at" else name, sort.startswith("-"))

    def place(self, item_id: str, value: str) -> str:
        """Where the item with this id and this value of :attr:`column` stands."""
        return item_id if self.column == "id" else f"{item_id}{_BETWEEN}{value}"

    def page(self, query: Q, table: Table, *, after: str | None, limit: int) -> Q:
        """At most ``limit`` rows of the query in this order, behind the place ``after``."""
        by_id = self.column == "id"
        columns = (table.c.id,) if by_id else (table.c[self.column], table.c.id)
        query = query.order_by(*(column.desc() if self.is_down else column for column in columns)).limit(limit)
        if after is None:
            return query
        item_id, _, value = after.partition(_BETWEEN)
        here, stands = tuple_(*((item_id,) if by_id else (value, item_id))), tuple_(*columns)
        return query.where(stands < here if self.is_down else stands > here)
