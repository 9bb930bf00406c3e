"""One holder at a time, on both databases; a lease that ran out passes on with a new token."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import pytest

from store.database import Database
from store.job_leases import Lease, Leases, keep

LONG = timedelta(hours=1)
SHORT = timedelta(milliseconds=200)

T = TypeVar("T")


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database)


def test_who_comes_second_gets_nothing_until_the_first_gives_up(leases: Leases) -> None:
    first = leases.take("scheduler", "one", life=LONG)
    assert first == Lease(name="scheduler", holder="one", token=1, life=LONG)
    assert leases.take("scheduler", "two", life=LONG) is None
    assert leases.holder("scheduler") == "one"
    assert first is not None
    leases.give_up(first)
    assert leases.holder("scheduler") is None
    assert leases.take("scheduler", "two", life=LONG) == Lease(name="scheduler", holder="two", token=2, life=LONG)
    assert not leases.is_held(first)


def test_renewing_keeps_the_token_and_leases_of_other_names_are_others(leases: Leases) -> None:
    assert taken(leases, "scheduler", "one").token == 1
    assert taken(leases, "scheduler", "one").token == 1
    assert taken(leases, "commits", "two").token == 1


def test_a_lease_that_ran_out_passes_on_and_its_holder_can_do_nothing_with_it(
    leases: Leases, database: Database
) -> None:
    first = taken(leases, "scheduler", "one", SHORT)
    second = until(lambda: leases.take("scheduler", "two", life=LONG))
    assert (first.token, second.token) == (1, 2)
    with database.write() as connection:
        assert not keep(connection, first)
        assert keep(connection, second)
    leases.give_up(first)
    assert leases.is_held(second)


def test_a_holder_who_comes_back_late_gets_a_new_token(leases: Leases, database: Database) -> None:
    first = taken(leases, "scheduler", "one", SHORT)
    until(lambda: leases.holder("scheduler") is None)
    again = taken(leases, "scheduler", "one")
    assert again.token == 2
    with database.write() as connection:
        assert not keep(connection, first)


def test_acting_under_a_lease_renews_it(leases: Leases, database: Database) -> None:
    lease = taken(leases, "scheduler", "one", timedelta(seconds=30))
    longer = Lease(name=lease.name, holder=lease.holder, token=lease.token, life=LONG)
    with database.write() as connection:
        assert keep(connection, longer)
    assert leases.take("scheduler", "two", life=LONG) is None
    assert taken(leases, "scheduler", "one", timedelta(minutes=90)) == Lease(
        name="scheduler", holder="one", token=1, life=timedelta(minutes=90)
    )


def test_of_eight_threads_and_four_processes_one_gets_it(leases: Leases, database_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        got = [*pool.map(lambda number: leases.take("threads", f"thread-{number}", life=LONG), range(8))]
    assert sum(lease is not None for lease in got) == 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as processes:
        tokens = processes.map(take_in_a_process, [(database_url, number) for number in range(4)])
        processes.close()
        processes.join()
    assert sorted(tokens) == [0, 0, 0, 1]


def take_in_a_process(asked: tuple[str, int]) -> int:
    """The token, 0 for none."""
    url, number = asked
    database = Database(url)
    lease = Leases(database).take("processes", f"process-{number}", life=LONG)
    database.close()
    return 0 if lease is None else lease.token


def taken(leases: Leases, name: str, holder: str, life: timedelta = LONG) -> Lease:
    lease = leases.take(name, holder, life=life)
    assert lease is not None
    return lease


def until(ask: Callable[[], T | None]) -> T:
    """Asks until the answer is true; a lease of 200 ms has run out by then."""
    for _ in range(600):
        answer = ask()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("the lease never ran out")
