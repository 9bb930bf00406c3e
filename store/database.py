"""One database, SQLite or PostgreSQL: engine, transactions, schema version."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from store.asking import Ask, AskPostgresql, AskSqlite
from store.errors import (
    DatabaseBusy,
    DatabaseNotMigrated,
    DatabaseTooNew,
    DatabaseUnreachable,
    InvalidDatabaseUrl,
    NestedWrite,
    UnstorableValue,
)
from store.lookup import Lookup
from store.pool import WRITER_PATIENCE_SECONDS, Limits, prepare_postgresql
from store.together import Together

T = TypeVar("T")

_MIGRATION_LOCK: Final = 0x57617665  # any constant; PostgreSQL's advisory locks are numbers ("Wave")
_IS_WRITE: Final = "wavegate_write"
_CANCELLED: Final = "57014"  # PostgreSQL's query_canceled: a statement that took too long
_DEFAULT: Final = Limits()
_WAL_PAGES: Final = 8_000  # of 4 KiB, written back together


class Database:
    """A pool of connections and the two kinds of transactions.

    On SQLite: WAL, ``synchronous=FULL`` (an answered write survives power loss), foreign keys on, ``BEGIN IMMEDIATE``
    for writes. A deferred transaction that turns into a write fails at once under contention, whatever the timeout.
    On PostgreSQL: READ COMMITTED with row locks for writes, one read-only snapshot for reads.

    Args:
        url: ``sqlite:///<file>`` (the folder must exist), ``postgresql://…`` (psycopg 3).
        limits: How many connections there are, and how long anything may take on one.

    Raises:
        InvalidDatabaseUrl: The URL is malformed or names another kind of database. Nothing is opened before the
            first transaction.
    """

    def __init__(self, url: str, *, limits: Limits = _DEFAULT) -> None:
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._shown = parsed.render_as_string(hide_password=True)
        self._limits = limits
        self._writing = threading.local()
        # SQLite lets one writer in and has the others sleep and poll; threads of one process queue here instead.
        self._sqlite_writer = threading.Lock()
        self._together = Together(self.write, self._translated)
        self._engine = create_engine(
            parsed,
            pool_size=limits.size,
            max_overflow=limits.overflow,
            pool_timeout=limits.wait_seconds,
            hide_parameters=True,  # statements carry password hashes and digests of secrets
            connect_args={"timeout": WRITER_PATIENCE_SECONDS} if self.is_sqlite else limits.connect_args(),
        )
        self._ask: Ask
        if self.is_sqlite:
            _prepare_sqlite(self._engine)
            self._ask = AskSqlite(self._engine)
        else:
            prepare_postgresql(self._engine, limits)
            self._ask = AskPostgresql(self._engine)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only look at one moment of the database; never waits for a writer."""
        options: dict[str, Any] = {} if self.is_sqlite else _SNAPSHOT
        with self._transaction(options) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed when the block ends, rolled back when it raises.

        Do nothing slow inside: on SQLite every other writer of the database waits.

        Raises:
            DatabaseBusy: Another writer held the database for 30 seconds.
            NestedWrite: This thread is in a write transaction already (it would wait for itself).
        """
        self._refuse_nested()
        self._writing.now = True
        try:
            with self._turn(), self._transaction({_IS_WRITE: True}) as connection:
                yield connection
        finally:
            self._writing.now = False

    def look_up(self, lookup: Lookup, *values: str) -> Any:
        """What a lookup makes of its row at the moment it runs, or None; sees every transaction that is committed.

        Raises:
            DatabaseBusy, DatabaseUnreachable: As any transaction.
        """
        if self._limits.pooler and not self.is_sqlite:  # its limits need a transaction around the statement
            with self._transaction(_SNAPSHOT) as connection:
                return lookup.run(connection, *values)
        with self._translated():
            return self._ask.one(lookup, *values)

    def write_together(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work`` in a write transaction, which on SQLite it may share with those of other threads.

        For small writes that many ask for at once. What ``work`` raises undoes its own writes alone. The answer comes
        when all is stored.

        Raises:
            What ``work`` raises, and what :meth:`write` raises: then nothing is stored.
        """
        self._refuse_nested()
        if self.is_sqlite:
            return self._together.run(work)
        with self.write() as connection:
            return work(connection)

    def migrate(self) -> str:
        """Bring the tables to this program's version, in one transaction; returns that version.

        Any number of processes may call it at once: one works, the others wait and find it done.

        Raises:
            DatabaseTooNew: The tables were made by a later release; nothing is changed.
        """
        with self._turn(), self._translated(), self._engine.connect() as connection:
            if self.is_sqlite:
                # Rebuilding a table drops the old one, and that would cascade into its children. SQLite passes over
                # this word inside a transaction, so it goes around the one that every statement here begins.
                connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            try:
                connection = connection.execution_options(**{_IS_WRITE: True})
                with connection.begin():
                    if not self.is_sqlite:
                        # A large table takes its time, and so does waiting for whoever migrates already.
                        connection.execute(text("SET LOCAL statement_timeout = 0"))
                        connection.execute(text("SET LOCAL lock_timeout = 0"))
                        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
                    self._refuse_newer(_stored_version(connection))
                    config = _alembic()
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
                    if self.is_sqlite:
                        self._refuse_dangling(connection)
            finally:
                if self.is_sqlite:
                    # A fresh connection has foreign keys on again.
                    connection.invalidate()
        return _program_version()

    def schema_version(self) -> str | None:
        """Version of the tables as they stand, such as ``0001``; None for an empty database."""
        with self.read() as connection:
            return _stored_version(connection)

    def check_schema(self) -> None:
        """Raises DatabaseNotMigrated or DatabaseTooNew unless the tables are exactly those of this program."""
        found, wanted = self.schema_version(), _program_version()
        if found == wanted:
            return
        self._refuse_newer(found)
        raise DatabaseNotMigrated(
            f"the database {self._shown} has schema {found or 'none'}, this program needs {wanted}; migrate it first"
        )

    def observe(self, told: Callable[[str, float], None]) -> None:
        """Have every statement told from now on, with the seconds it took; its values are never in it.

        What :meth:`look_up` asks is not: it goes to the driver itself.
        """

        def begin(_connection: object, _cursor: object, _text: str, _values: object, context: Any, _many: bool) -> None:
            context.wavegate_began = time.perf_counter()

        def end(_connection: object, _cursor: object, text: str, _values: object, context: Any, _many: bool) -> None:
            told(text, time.perf_counter() - context.wavegate_began)

        event.listen(self._engine, "before_cursor_execute", begin)
        event.listen(self._engine, "after_cursor_execute", end)

    def ping(self) -> None:
        """Raises DatabaseUnreachable or DatabaseBusy unless the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all idle connections; the object can be used again afterwards."""
        self._engine.dispose()
        self._ask.close()

    def _refuse_nested(self) -> None:
        if getattr(self._writing, "now", False):
            raise NestedWrite("this thread is in a write transaction already; pass its connection on instead")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._sqlite_writer.acquire(timeout=WRITER_PATIENCE_SECONDS):
            raise DatabaseBusy(f"another thread has been writing for {WRITER_PATIENCE_SECONDS} s; try again")
        try:
            yield
        finally:
            self._sqlite_writer.release()

    @contextmanager
    def _transaction(self, options: dict[str, Any]) -> Iterator[Connection]:
        with (
            self._translated(),
            self._engine.connect() as connection,
            connection.execution_options(**options) as prepared,
            prepared.begin(),
        ):
            yield prepared

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            waited = f"{self._limits.wait_seconds:g}"
            raise DatabaseBusy(f"no database connection became free in {waited} s; try again") from error
        except OperationalError as error:
            if _sqlstate(error) == _CANCELLED:
                most = f"{self._limits.statement_seconds:g}"
                raise DatabaseBusy(f"a statement took longer than {most} s and was ended; try again") from error
            if _is_contention(error):
                raise DatabaseBusy("another writer was in the way for too long; try again") from error
            raise DatabaseUnreachable(f"the database {self._shown} does not answer: {_first_line(error)}") from error
        except (DataError, UnicodeEncodeError, OverflowError) as error:
            raise UnstorableValue("a text or number cannot be stored: NUL, a lone surrogate, or too large") from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise DatabaseUnreachable(f"the connection to {self._shown} broke: {_first_line(error)}") from error

    def _refuse_newer(self, found: str | None) -> None:
        if found is None:
            return
        try:
            _scripts().get_revision(found)
        except CommandError as error:
            raise DatabaseTooNew(
                f"the database {self._shown} has schema {found}, newer than this program's {_program_version()}; "
                "use the release that wrote it, or a later one; there is no way back but a backup made before"
            ) from error

    def _refuse_dangling(self, connection: Connection) -> None:
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if dangling is not None:
            raise DatabaseNotMigrated(f"the migration would leave {dangling[0]} pointing at nothing; nothing was done")


_SNAPSHOT: Final = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidDatabaseUrl("the database URL is malformed; expected sqlite:///FILE or postgresql://…") from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "postgresql+psycopg":
        return parsed
    if parsed.drivername != "sqlite":
        raise InvalidDatabaseUrl(f"the database is a {parsed.drivername}; expected sqlite:///FILE or postgresql://…")
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidDatabaseUrl("the SQLite URL names no file; expected sqlite:///FILE")
    return parsed


def _prepare_sqlite(engine: Engine) -> None:
    def connected(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own idea of when to BEGIN is switched off; see ``begun``.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        # The heartbeats of a large fleet are some thousand pages a second; by SQLite's own 1,000 each batch of them
        # would end with a checkpoint of its own.
        cursor.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        cursor.close()

    def begun(connection: Connection) -> None:
        is_write = connection.get_execution_options().get(_IS_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _is_contention(error: OperationalError) -> bool:
    """Somebody else's lock: SQLite's busy and locked, PostgreSQL's lock timeout, deadlock and serialisation failure."""
    name = getattr(error.orig, "sqlite_errorname", None) or _sqlstate(error)
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "40", "55P03"))


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "store:migrations")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic())


def _program_version() -> str:
    head = _scripts().get_current_head()
    assert head is not None, "store/migrations holds no migration"
    return head


def _stored_version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
