"""Transactions, migrations and what goes wrong with a database."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text, update

from store.account_models import orgs
from store.accounts import Accounts
from store.database import Database
from store.errors import (
    DatabaseBusy,
    DatabaseNotMigrated,
    DatabaseTooNew,
    DatabaseUnreachable,
    InvalidDatabaseUrl,
    NaiveTime,
    NestedWrite,
    UnstorableValue,
)
from store.models import metadata

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("empty_postgresql_url")
    database = Database(url)
    yield database
    database.close()


def test_migrating_from_empty_gives_exactly_the_models(empty: Database) -> None:
    assert empty.migrate() == "0019"
    with empty.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_an_empty_database_has_no_version_and_is_refused(empty: Database) -> None:
    assert empty.schema_version() is None
    with pytest.raises(DatabaseNotMigrated, match="has schema none, this program needs 0019; migrate it first"):
        empty.check_schema()


def test_migrating_twice_changes_nothing(empty: Database) -> None:
    empty.migrate()
    empty.migrate()
    empty.check_schema()
    assert empty.schema_version() == "0019"


def test_many_may_migrate_at_once(empty: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda _: empty.migrate(), range(4))] == ["0019"] * 4
    empty.check_schema()


def test_a_database_of_a_later_release_is_refused_and_left_alone(empty: Database) -> None:
    empty.migrate()
    with empty.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (empty.migrate, empty.check_schema):
        with pytest.raises(DatabaseTooNew, match="has schema 9999, newer than this program's 0019"):
            refused()
    assert empty.schema_version() == "9999"


def test_times_come_back_aware_and_in_utc(database: Database) -> None:
    berlin = timezone(timedelta(hours=1))
    with database.write() as connection:
        connection.execute(insert(orgs), {"slug": "o", "name": "O", "created_at": NOON.astimezone(berlin)})
    with database.read() as connection:
        found = connection.execute(select(orgs.c.created_at).where(orgs.c.slug == "o")).scalar_one()
    assert found == NOON
    assert found.tzinfo is UTC


def test_a_naive_time_is_refused(database: Database) -> None:
    with pytest.raises(NaiveTime, match="has no zone"), database.write() as connection:
        connection.execute(insert(orgs), {"slug": "o", "name": "O", "created_at": datetime(2026, 1, 1)})  # noqa: DTZ001


@pytest.mark.parametrize("name", ["\ud800", "n" + chr(0)])
def test_text_that_cannot_be_stored_is_our_error(database: Database, name: str) -> None:
    if name.endswith(chr(0)) and database.is_sqlite:
        # SQLite keeps a NUL; nothing is lost, so nothing is refused.
        _add(database, name)
        assert name in _slugs(database)
        return
    with pytest.raises(UnstorableValue):
        _add(database, name)


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    def write_and_fail() -> None:
        with database.write() as connection:
            connection.execute(insert(orgs), {"slug": "o", "name": "O", "created_at": NOON})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert _slugs(database) == ["acme", "rival"]


def test_a_write_inside_a_write_is_refused_at_once(database: Database) -> None:
    with database.write(), pytest.raises(NestedWrite), database.write():
        raise AssertionError("never reached")
    _add(database, "o")
    assert "o" in _slugs(database)


def test_a_reader_sees_one_moment_while_somebody_writes(database: Database) -> None:
    with database.read() as connection:
        before = connection.execute(select(orgs.c.slug).order_by(orgs.c.slug)).scalars().all()
        writer = threading.Thread(target=_add, args=(database, "o"))
        writer.start()
        writer.join()
        assert connection.execute(select(orgs.c.slug).order_by(orgs.c.slug)).scalars().all() == before
    assert _slugs(database) == ["acme", "o", "rival"]


def test_a_writer_that_finds_the_database_held_by_another_program_is_told(
    sqlite_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database.WRITER_PATIENCE_SECONDS", 0)
    holder, other = Database(sqlite_database_url), Database(sqlite_database_url)
    with holder.write(), pytest.raises(DatabaseBusy, match="another writer was in the way"):
        _add(other, "o")
    _add(other, "o")
    assert "o" in _slugs(holder)
    holder.close()
    other.close()


def test_two_writers_who_wait_for_each_other_do_not_hang(postgresql_database_url: str) -> None:
    database = Database(postgresql_database_url)
    both_hold_one = threading.Barrier(2)

    def write(first: str, second: str) -> str:
        try:
            with database.write() as connection:
                for slug in (first, second):
                    connection.execute(update(orgs).where(orgs.c.slug == slug).values(name="x"))
                    if slug == first:
                        both_hold_one.wait(10)
        except DatabaseBusy:
            return "busy"
        return "done"

    with ThreadPoolExecutor(2) as pool:
        ends = [*pool.map(write, ("acme", "rival"), ("rival", "acme"))]
    database.close()
    assert sorted(ends) == ["busy", "done"]


def test_postgresql_refuses_a_write_in_a_read(postgresql_database_url: str) -> None:
    database = Database(postgresql_database_url)
    with pytest.raises(Exception, match="read-only transaction"), database.read() as connection:
        connection.execute(insert(orgs), {"slug": "o", "name": "O", "created_at": NOON})
    database.close()


def test_sqlite_keeps_what_it_answered_for(sqlite_database_url: str) -> None:
    database = Database(sqlite_database_url)
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_foreign_keys_hold_again_after_a_migration(sqlite_database_url: str) -> None:
    database = Database(sqlite_database_url)
    database.migrate()
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://root@localhost/x", "postgresql+asyncpg://x/y"]
)
def test_an_address_that_names_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(InvalidDatabaseUrl):
        Database(url)


def test_a_file_in_a_folder_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match=r"missing/wavegate\.db does not answer: unable to open"):
        Database(f"sqlite:///{tmp_path}/missing/wavegate.db").ping()


def test_a_server_that_is_not_there_is_unreachable_and_its_password_not_told() -> None:
    database = Database("postgresql://wavegate:s3cr3t@127.0.0.1:1/wavegate")
    with pytest.raises(DatabaseUnreachable, match="does not answer") as refused:
        database.ping()
    assert "s3cr3t" not in str(refused.value)


def _add(database: Database, slug: str) -> None:
    with database.write() as connection:
        connection.execute(insert(orgs), {"slug": slug, "name": slug, "created_at": NOON})


def _slugs(database: Database) -> list[str]:
    with database.read() as connection:
        return [*connection.execute(select(orgs.c.slug).order_by(orgs.c.slug)).scalars()]


def test_a_closed_database_has_no_file_open(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'closed.db'}")
    database.migrate()
    Accounts(database).key_by_sha256("0" * 64)
    assert _open_files(tmp_path) > 0
    database.close()
    assert _open_files(tmp_path) == 0


def _open_files(folder: Path) -> int:
    """How many files below the folder this process has open."""
    return sum(os.path.realpath(one).startswith(str(folder.resolve())) for one in Path("/proc/self/fd").iterdir())
