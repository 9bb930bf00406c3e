"""Small writes of many threads in one transaction: each is whole, each is answered, none harms another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

from store.database import Database
from store.errors import NestedWrite, StoreError

THREADS = 12


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'together.db'}")
    with opened.write() as connection:
        connection.execute(text("CREATE TABLE said (number INTEGER PRIMARY KEY)"))
    yield opened
    opened.close()


def said(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT number FROM said ORDER BY number")).scalars())


def put(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(text("INSERT INTO said VALUES (:number)"), {"number": number})
        if number % 5 == 0:
            raise ValueError(f"{number} is refused after it was written")
        return number * 10

    return work


def all_at_once(database: Database, works: list[Callable[[Connection], int]]) -> list[Future[int]]:
    """Ask for all of them while somebody else writes, so that they wait together."""
    with ThreadPoolExecutor(THREADS) as threads:
        with database.write():
            asked = [threads.submit(database.write_together, work) for work in works]
            threading.Event().wait(0.2)
        return asked


def test_each_thread_gets_its_own_answer_and_a_failure_undoes_its_own_writes_alone(database: Database) -> None:
    asked = all_at_once(database, [put(number) for number in range(1, 61)])

    assert [one.result() for one in asked[:4]] == [10, 20, 30, 40]
    with pytest.raises(ValueError, match="5 is refused after it was written"):
        asked[4].result()
    assert said(database) == [number for number in range(1, 61) if number % 5]


def test_writes_that_wait_for_the_same_writer_share_a_transaction(database: Database) -> None:
    begun: list[Connection] = []

    def note(connection: Connection) -> None:
        begun.append(connection)

    event.listen(Engine, "begin", note)
    try:
        asked = all_at_once(database, [put(number) for number in (1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14)])
    finally:
        event.remove(Engine, "begin", note)

    assert len(said(database)) == len(asked) == 12
    assert len(begun) <= 4  # who held the writer back, who came first, and those who waited behind


def test_an_error_of_the_database_is_the_stores_and_spares_the_others(database: Database) -> None:
    def twice(connection: Connection) -> int:
        connection.execute(text("INSERT INTO nowhere VALUES (1)"))
        return 0

    good, bad = all_at_once(database, [put(1), twice])

    assert good.result() == 10
    with pytest.raises(StoreError):
        bad.result()
    assert said(database) == [1]


def test_what_was_answered_is_there_for_every_other_connection(database: Database) -> None:
    for number in (1, 2, 3):
        database.write_together(put(number))
        assert said(database)[-1] == number


def test_a_thread_that_writes_already_is_refused(database: Database) -> None:
    with database.write(), pytest.raises(NestedWrite):
        database.write_together(put(1))
