"""A look-up answers what the same SELECT answers by SQLAlchemy, and fails as any transaction does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Select, Text, bindparam, cast, func, insert, literal, select, text

from store.database import Database
from store.errors import DatabaseBusy, DatabaseUnreachable, UnstorableValue
from store.lookup import Lookup
from store.models import audit_events, devices
from store.pool import Limits
from tests.integration.conftest import BORN

SEEN = datetime(2026, 11, 21, 9, 30, 15, 123456, tzinfo=UTC)
LABELS = {"site": "Zürich", "quote": '"\\', "line": "a\nb\u2028c", "none": None, "list": [1, 2]}


def one_device(**more: object) -> Select[tuple[object, ...]]:
    extra = [value.label(name) for name, value in more.items()]  # type: ignore[attr-defined]
    return select(devices, *extra).where(devices.c.name == bindparam("name"))


def add(database: Database, name: str, last_seen_at: datetime | None) -> None:
    told = {"hostname": "h", "os_family": "", "os_name": "Débian 🐧", "agent_version": "1", "state": 'says "x\\y"\ttab'}
    row = {"id": f"dev_{name}", "org": "acme", "name": name, "status": "active", "platform": "linux/amd64", **told}
    with database.write() as connection:
        connection.execute(insert(devices), {**row, "labels": LABELS, "created_at": BORN, "last_seen_at": last_seen_at})


@pytest.mark.parametrize("seen", [SEEN, SEEN.replace(microsecond=0), None])
def test_each_column_is_what_the_same_select_answers(database: Database, seen: datetime | None) -> None:
    add(database, "press-1", seen)
    statement = one_device(number=literal(9_007_199_254_740_993), truth=devices.c.name == "press-1")
    with database.read() as connection:
        expected = connection.execute(statement, {"name": "press-1"}).mappings().one()
    found = database.look_up(Lookup(statement, "name"), "press-1")
    assert vars(found) == dict(expected)
    assert found.last_seen_at == seen
    assert found.labels == LABELS
    assert found.truth is True
    assert found.number == 9_007_199_254_740_993


def test_what_a_select_makes_as_json_stays_the_text_of_it(database: Database) -> None:
    add(database, "press-1", None)
    pair = func.json_array if database.is_sqlite else func.json_build_array
    statement = one_device(pair=cast(pair(devices.c.name, devices.c.os_family), Text))
    assert database.look_up(Lookup(statement, "name"), "press-1").pair.replace(" ", "") == '["press-1",""]'


def test_a_row_that_changed_is_seen_at_the_next_look_up_and_one_that_is_gone_is_none(database: Database) -> None:
    lookup = Lookup(one_device(), "name", made=lambda row: (row.name, row.last_seen_at))
    assert database.look_up(lookup, "press-1") is None
    add(database, "press-1", None)
    assert database.look_up(lookup, "press-1") == ("press-1", None)
    with database.write() as connection:
        connection.execute(devices.update().values(last_seen_at=SEEN))
    assert database.look_up(lookup, "press-1") == ("press-1", SEEN)
    with database.write() as connection:
        connection.execute(devices.delete())
    assert database.look_up(lookup, "press-1") is None


def test_bytes_cannot_be_looked_up() -> None:
    with pytest.raises(TypeError, match="a lookup cannot have body"):
        Lookup(select(audit_events.c.body))


def test_a_text_that_no_row_can_hold_is_told_so(postgresql_database_url: str) -> None:
    database = Database(postgresql_database_url)
    with pytest.raises(UnstorableValue):
        database.look_up(Lookup(one_device(), "name"), "nul\0")
    assert database.look_up(Lookup(one_device(), "name"), "press-1") is None
    database.close()


def test_on_postgresql_a_look_up_takes_one_of_the_pool_s_connections(postgresql_database_url: str) -> None:
    database = Database(postgresql_database_url, limits=Limits(size=1, overflow=0, wait_seconds=0.2))
    lookup = Lookup(one_device(), "name")
    with database.read(), pytest.raises(DatabaseBusy, match=r"no database connection became free in 0\.2 s"):
        database.look_up(lookup, "press-1")
    assert database.look_up(lookup, "press-1") is None
    database.close()


def test_on_postgresql_a_look_up_that_takes_too_long_is_ended_and_the_next_is_answered(
    postgresql_database_url: str,
) -> None:
    database = Database(postgresql_database_url, limits=Limits(size=1, overflow=0, statement_seconds=0.2))
    slow = Lookup(select(cast(func.pg_sleep(30), Text).label("slept")))
    with pytest.raises(DatabaseBusy, match=r"longer than 0\.2 s"):
        database.look_up(slow)
    assert database.look_up(Lookup(one_device(), "name"), "press-1") is None
    database.close()


def test_a_connection_that_the_server_ended_is_not_given_to_a_look_up(postgresql_database_url: str) -> None:
    database = Database(postgresql_database_url, limits=Limits(size=1, overflow=0))
    other = Database(postgresql_database_url)
    who = Lookup(select(func.pg_backend_pid().label("pid")))
    first = database.look_up(who).pid
    with other.write() as connection:
        assert connection.execute(text("SELECT pg_terminate_backend(:pid, 30000)"), {"pid": first}).scalar() is True
    assert database.look_up(who).pid != first
    database.close()
    other.close()


def test_behind_a_pooler_a_look_up_keeps_to_the_limits(postgresql_database_url: str) -> None:
    database = Database(postgresql_database_url, limits=Limits(statement_seconds=7, pooler=True))
    held = Lookup(select(func.current_setting("statement_timeout").label("timeout")))
    for _ in range(12):
        assert database.look_up(held).timeout == "7s"
    database.close()


def test_a_server_that_is_not_there_is_unreachable() -> None:
    database = Database("postgresql://nobody:hidden@127.0.0.1:1/none", limits=Limits(connect_seconds=2))
    with pytest.raises(DatabaseUnreachable) as told:
        database.look_up(Lookup(one_device(), "name"), "press-1")
    assert "hidden" not in str(told.value)
