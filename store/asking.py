"""How a look-up reaches the driver, past SQLAlchemy: its transaction and its result each cost more than the statement.

Source: docs/adr/0104-who-calls-is-one-statement.md
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from store.lookup import Asked, Lookup


class Ask(Protocol):
    """Runs look-ups, each as a transaction of its own."""

    def one(self, lookup: Lookup, *values: str) -> Any:
        """What the lookup makes of its row, or None. Raises SQLAlchemy's errors."""

    def close(self) -> None:
        """Close what is idle."""


class AskSqlite:
    """Over idle connections of its own, as many as ever asked at once: taking the pool's costs more than asking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: list[Any] = []

    def one(self, lookup: Lookup, *values: str) -> Any:
        """As :class:`Ask` says."""
        asked = lookup.sqlite
        driver = None
        try:
            driver = self._idle.pop() if self._idle else self._connect()
            with closing(driver.execute(asked.sql, asked.bound(*values))) as cursor:
                found = cursor.fetchone()
        except BaseException as error:
            if driver is not None:
                driver.close()
            _translate(self._engine, error, broken=False)
            raise
        self._idle.append(driver)
        return _made(asked, found)

    def close(self) -> None:
        """As :class:`Ask` says."""
        while self._idle:
            self._idle.pop().close()

    def _connect(self) -> Any:
        pooled = self._engine.raw_connection()
        driver = pooled.driver_connection
        pooled.detach()
        return driver


class AskPostgresql:
    """Over the pool's connections, which are counted, and pinged when in doubt, there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def one(self, lookup: Lookup, *values: str) -> Any:
        """As :class:`Ask` says."""
        asked = lookup.postgresql
        try:
            pooled = self._engine.raw_connection()
        except BaseException as error:
            _translate(self._engine, error, broken=True)
            raise
        driver: Any = pooled.driver_connection
        try:
            driver.autocommit = True
            found = driver.execute(asked.sql, asked.bound(*values)).fetchone()
            driver.autocommit = False
        except BaseException as error:
            broken = driver.closed
            pooled.invalidate(error)
            _translate(self._engine, error, broken=broken)
            raise
        pooled.close()
        return _made(asked, found)

    def close(self) -> None:
        """Nothing: the pool closes what it lent."""


def _made(asked: Asked, found: Any) -> Any:
    return None if found is None else asked.row(found[0])


def _translate(engine: Engine, error: BaseException, *, broken: bool) -> None:
    """Raise what SQLAlchemy would where the driver itself raised, and nothing for any other error."""
    root = engine.dialect.loaded_dbapi.Error
    if isinstance(error, root):
        raise DBAPIError.instance(
            None, None, error, root, connection_invalidated=broken, dialect=engine.dialect
        ) from error
