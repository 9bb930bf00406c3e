"""Requests are counted by the minute of the clock, each caller and each policy for itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from api.auth.rates import MemoryCounts, Policy, Rates, Standing
from store.errors import CountsUnreachable

NOON = datetime(2026, 11, 22, 12, 0, 17, tzinfo=UTC)


class Failing:
    """Counts as memory does, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self._counts = MemoryCounts()

    def add(self, key: str, *, ends_at: int) -> int:
        self.asked += 1
        if self.away:
            raise CountsUnreachable("nobody is there")
        return self._counts.add(key, ends_at=ends_at)


def used(rates: Rates, caller: str = "key_1", *, policy: Policy = Policy.READS, now: datetime = NOON) -> int:
    standing = rates.count(policy, caller, now=now)
    assert standing is not None
    return standing.used


def test_the_request_after_the_last_of_a_quota_is_one_too_many() -> None:
    rates = Rates({Policy.READS: 2}, MemoryCounts())
    over = []
    for _ in range(3):
        standing = rates.count(Policy.READS, "key_1", now=NOON)
        assert standing is not None
        over.append(standing.is_over)
    assert over == [False, False, True]


def test_callers_and_policies_are_counted_each_for_itself() -> None:
    rates = Rates({Policy.READS: 9, Policy.WRITES: 9}, MemoryCounts())
    assert [used(rates), used(rates), used(rates, "key_2"), used(rates, policy=Policy.WRITES)] == [1, 2, 1, 1]


def test_a_new_minute_begins_at_nothing_and_a_late_request_of_the_old_one_still_counts_there() -> None:
    rates = Rates({Policy.READS: 9}, MemoryCounts())
    last, first = NOON.replace(second=59), NOON.replace(minute=1, second=0)
    assert [used(rates, now=last), used(rates, now=last), used(rates, now=first), used(rates, now=last)] == [1, 2, 1, 3]
    assert used(rates, now=first + timedelta(minutes=2)) == 1


def test_a_policy_of_nothing_has_no_limit_and_says_none() -> None:
    assert Rates({Policy.READS: 0}, MemoryCounts()).count(Policy.READS, "key_1", now=NOON) is None
    assert Rates({}, MemoryCounts()).count(Policy.READS, "key_1", now=NOON) is None


def test_the_headers_are_those_of_the_draft() -> None:
    assert Standing(Policy.READS, 100, 58, 43).headers() == {
        "RateLimit-Policy": '"reads";q=100;w=60',
        "RateLimit": '"reads";r=42;t=43',
    }
    assert Standing(Policy.WRITES, 100, 130, 1).headers()["RateLimit"] == '"writes";r=0;t=1'


def test_the_time_told_is_what_is_left_of_the_minute() -> None:
    rates = Rates({Policy.READS: 9}, MemoryCounts())
    left = [rates.count(Policy.READS, "key_1", now=NOON.replace(second=second)) for second in (0, 17, 59)]
    assert [standing.seconds for standing in left if standing] == [60, 43, 1]


def test_without_its_store_a_process_counts_alone_and_asks_again_after_five_seconds() -> None:
    store, failures = Failing(), [0]
    rates = Rates({Policy.READS: 9}, store, failed=lambda: failures.append(1))
    assert used(rates) == 1
    store.away = True
    assert [used(rates), used(rates), used(rates, now=NOON + timedelta(seconds=4))] == [1, 2, 3]
    assert (store.asked, sum(failures)) == (2, 1)
    store.away = False
    assert used(rates, now=NOON + timedelta(seconds=5)) == 2
    assert used(rates, now=NOON) == 3
