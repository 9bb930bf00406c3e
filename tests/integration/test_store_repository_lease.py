"""Whose turn it is, on both databases."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from store.database import Database
from store.repository_lease import SqlLease


def test_one_has_the_turn_until_it_is_given_back(database: Database) -> None:
    one, two = SqlLease(database, "acme"), SqlLease(database, "acme")
    token = one.take()
    assert token == 1
    assert two.take() is None
    assert one.renew(1)
    assert not two.renew(2)
    one.give_back(1)
    assert not one.renew(1)
    assert two.take() == 2
    one.give_back(1)
    assert two.renew(2)


def test_each_organisation_has_turns_of_its_own(database: Database) -> None:
    assert SqlLease(database, "acme").take() == 1
    assert SqlLease(database, "rival").take() == 1


def test_a_turn_that_nobody_renews_ends_by_the_database_s_clock(database: Database) -> None:
    dead, alive = SqlLease(database, "acme", seconds=0.2), SqlLease(database, "acme")
    assert dead.take() == 1
    token = alive.take()
    while token is None:
        time.sleep(0.02)
        token = alive.take()
    assert token == 2
    assert not dead.renew(1)


def test_many_ask_at_once_and_one_is_given_it(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: SqlLease(database, "acme").take(), range(16)))
    assert [token for token in tokens if token is not None] == [1]
