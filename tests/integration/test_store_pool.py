"""What a full pool, a slow statement and a forgotten transaction do to whoever comes next: an answer, never a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import insert, select, text

from store.account_models import orgs
from store.database import Database
from store.errors import DatabaseBusy, DatabaseUnreachable
from store.pool import Limits
from tests.integration.conftest import BORN

Open = Callable[..., Database]
ANOTHER = {"slug": "o", "name": "O", "created_at": BORN}


@pytest.fixture
def opened(postgresql_database_url: str) -> Iterator[Open]:
    """Opens the PostgreSQL database with limits of the test's own."""
    made: list[Database] = []

    def open_with(**limits: float) -> Database:
        made.append(Database(postgresql_database_url, limits=Limits(**limits)))  # type: ignore[arg-type]
        return made[-1]

    yield open_with
    for database in made:
        database.close()


def test_whoever_finds_no_free_connection_is_told_after_the_wait(database_url: str) -> None:
    database = Database(database_url, limits=Limits(size=1, overflow=0, wait_seconds=0.2))
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with database.read() as connection:
            connection.execute(select(orgs.c.slug))
            inside.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    with pytest.raises(DatabaseBusy, match=r"no database connection became free in 0\.2 s; try again"):
        database.ping()
    leave.set()
    holder.join()
    database.ping()
    database.close()


def test_no_more_connections_are_opened_than_allowed(opened: Open) -> None:
    database = opened(size=1, overflow=1, wait_seconds=0.2)
    with database.read(), database.read(), pytest.raises(DatabaseBusy):
        database.ping()


def test_a_statement_that_takes_too_long_is_ended_and_its_connection_is_good_again(opened: Open) -> None:
    database = opened(size=1, overflow=0, statement_seconds=0.2)

    def write_slowly() -> None:
        with database.write() as connection:
            connection.execute(insert(orgs), ANOTHER)
            connection.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(DatabaseBusy, match=r"a statement took longer than 0\.2 s and was ended; try again"):
        write_slowly()
    assert _slugs(database) == ["acme", "rival"]


def test_a_transaction_in_which_nothing_happens_is_ended_and_lets_go_of_its_locks(opened: Open) -> None:
    forgetful, other = opened(idle_seconds=0.2), opened()

    def forget() -> None:
        with forgetful.write() as connection:
            connection.execute(insert(orgs), ANOTHER)
            while _slugs_locked(other):
                time.sleep(0.05)
            connection.execute(select(orgs.c.slug))

    with pytest.raises(DatabaseUnreachable, match="idle"):
        forget()
    assert _slugs(forgetful) == ["acme", "rival"], "nothing of it is stored, and the pool serves on"


def test_a_connection_that_the_server_ended_is_not_given_out(opened: Open) -> None:
    database, other = opened(size=1, overflow=0), opened()
    with database.read() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with other.write() as connection:
        assert connection.execute(text("SELECT pg_terminate_backend(:pid, 30000)"), {"pid": pid}).scalar() is True
    assert _slugs(database) == ["acme", "rival"]


def test_migrating_has_no_limit_of_time(opened: Open, postgresql_database_url: str) -> None:
    database, holder = opened(statement_seconds=0.2), opened()
    with holder.write() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": 0x57617665})
        migrating = threading.Thread(target=database.migrate)
        migrating.start()
        time.sleep(0.6)
        assert migrating.is_alive()
    migrating.join(30)
    assert not migrating.is_alive()
    database.check_schema()


def test_behind_a_pooler_the_limits_hold_in_each_transaction_and_nothing_is_prepared(opened: Open) -> None:
    database = opened(size=1, overflow=0, statement_seconds=7, pooler=True)
    for _ in range(12):
        assert _slugs(database) == ["acme", "rival"]
    with database.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "7s"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "30s"
        assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 0
        connection.connection.rollback()
        # What the next client of the same connection finds.
        assert connection.connection.cursor().execute("SHOW statement_timeout").fetchone() == ("0",)


def test_without_a_pooler_statements_are_prepared_and_the_limits_last(opened: Open) -> None:
    database = opened(size=1, overflow=0, statement_seconds=7)
    for _ in range(12):
        assert _slugs(database) == ["acme", "rival"]
    with database.read() as connection:
        prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar()
        assert prepared is not None
        assert prepared > 0
        connection.connection.rollback()
        assert connection.connection.cursor().execute("SHOW statement_timeout").fetchone() == ("7s",)


def _slugs(database: Database) -> list[str]:
    with database.read() as connection:
        return [*connection.execute(select(orgs.c.slug).order_by(orgs.c.slug)).scalars()]


def _slugs_locked(database: Database) -> bool:
    """Whether somebody holds a transaction with a write on the organisations."""
    query = "SELECT count(*) FROM pg_locks WHERE relation = 'orgs'::regclass AND mode = 'RowExclusiveLock'"
    with database.read() as connection:
        return bool(connection.execute(text(query)).scalar())
