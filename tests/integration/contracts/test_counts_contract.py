"""One count for all who share a store: memory, SQLite, PostgreSQL and Redis hold to the same lines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from api.auth.rates import Counts, MemoryCounts
from store.database import Database
from store.errors import CountsUnreachable
from store.redis_counts import RedisCounts
from store.request_counts import SqlRequestCounts
from tests.simulators.redis_server import RedisServer

MINUTE = 60
END = 1_800_000_000 - 1_800_000_000 % MINUTE


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def servers(request: pytest.FixtureRequest) -> Iterator[list[Counts]]:
    """What two servers count with; memory is of one."""
    if request.param == "memory":
        yield [MemoryCounts()] * 2
    elif request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        pair = [RedisCounts(server.url) for _ in range(2)]
        pair[0]._redis.flushall()
        yield [*pair]
        for one in pair:
            one.close()
    else:
        databases = [Database(request.getfixturevalue(f"{request.param}_database_url")) for _ in range(2)]
        yield [SqlRequestCounts(one) for one in databases]
        for database in databases:
            database.close()


def test_two_servers_count_together_and_no_number_is_told_twice(servers: list[Counts]) -> None:
    def add(number: int) -> int:
        return servers[number % 2].add("reads:key_1", ends_at=END)

    with ThreadPoolExecutor(8) as pool:
        told = sorted(pool.map(add, range(40)))
    assert told == list(range(1, 41))


def test_keys_and_windows_are_counted_each_for_itself(servers: list[Counts]) -> None:
    first, second = servers
    assert first.add("reads:key_1", ends_at=END) == 1
    assert second.add("reads:key_1", ends_at=END + MINUTE) == 1
    assert second.add("reads:key_2", ends_at=END) == 1
    assert second.add("reads:key_1", ends_at=END) == 2


def test_the_rows_of_windows_long_over_are_dropped(database: Database) -> None:
    counts = SqlRequestCounts(database)
    for ends_at in (END, END + MINUTE, END + 2 * MINUTE):
        counts.add("reads:key_1", ends_at=ends_at)
    assert counts.forget(now=datetime.fromtimestamp(END + 121, UTC)) == 1
    assert counts.add("reads:key_1", ends_at=END + MINUTE) == 2


def test_redis_drops_a_count_by_itself_after_its_window(redis_server: RedisServer) -> None:
    counts = RedisCounts(redis_server.url)
    soon = int(datetime.now(UTC).timestamp()) + MINUTE
    counts.add("reads:expiring", ends_at=soon)
    assert 60 < counts._redis.ttl(f"wavegate:rates:reads:expiring:{soon}") <= 120
    counts.close()


def test_a_redis_that_is_not_there_is_told_without_its_address() -> None:
    counts = RedisCounts("redis://somebody:secret@127.0.0.1:1/0")
    with pytest.raises(CountsUnreachable, match=r"^Redis does not count: ConnectionError$"):
        counts.add("reads:key_1", ends_at=END)
    counts.close()
