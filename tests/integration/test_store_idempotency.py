"""One effect and one answer for each Idempotency-Key."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from store.database import Database
from store.errors import IdempotencyInProgress, IdempotencyMismatch, IdempotencyUnknown
from store.idempotency import Answer, Claim, IdempotencyKeys, Request

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REQUEST = Request(org="acme", actor="usr_1", key="k-1", route="POST /api/v1/groups", body_sha256="ab" * 32)
CREATED = Answer(status=201, body=b'{"id":"grp_1"}', etag='"grp_1-1"')


@pytest.fixture
def keys(database: Database) -> IdempotencyKeys:
    return IdempotencyKeys(database)


def test_the_second_request_gets_the_first_one_s_answer(keys: IdempotencyKeys) -> None:
    work = Work(CREATED)
    assert keys.once(REQUEST, work, clock=at_noon) == (CREATED, False)
    assert keys.once(REQUEST, work, clock=at_noon) == (CREATED, True)
    assert work.done == 1


def test_eight_racers_have_one_effect_and_one_answer(keys: IdempotencyKeys) -> None:
    work = Work(CREATED, seconds=0.2)
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: keys.once(REQUEST, work, clock=at_noon), range(8))]
    assert work.done == 1
    assert {answer for answer, _ in answers} == {CREATED}
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 7


@pytest.mark.parametrize("change", [{"body_sha256": "cd" * 32}, {"route": "POST /api/v1/rollouts"}])
def test_the_key_of_another_request_is_refused(keys: IdempotencyKeys, change: dict[str, str]) -> None:
    keys.once(REQUEST, Work(CREATED), clock=at_noon)
    other = Work(CREATED)
    with pytest.raises(IdempotencyMismatch, match="was used for POST /api/v1/groups"):
        keys.once(replace(REQUEST, **change), other, clock=at_noon)
    assert other.done == 0


@pytest.mark.parametrize("change", [{"actor": "usr_2"}, {"org": "rival"}, {"key": "k-2"}])
def test_a_key_counts_for_one_account_only(keys: IdempotencyKeys, change: dict[str, str]) -> None:
    keys.once(REQUEST, Work(CREATED), clock=at_noon)
    assert keys.once(replace(REQUEST, **change), Work(CREATED), clock=at_noon) == (CREATED, False)


def test_a_refusal_is_an_answer_and_a_fault_is_none(keys: IdempotencyKeys) -> None:
    refusal, fault = Answer(status=409, body=b"taken"), Answer(status=503, body=b"away")
    assert keys.once(REQUEST, Work(fault), clock=at_noon) == (fault, False)
    assert keys.once(REQUEST, Work(refusal), clock=at_noon) == (refusal, False)
    assert keys.once(REQUEST, Work(CREATED), clock=at_noon) == (refusal, True)


def test_work_that_raises_can_be_done_again(keys: IdempotencyKeys) -> None:
    def fail() -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keys.once(REQUEST, fail, clock=at_noon)
    assert keys.once(REQUEST, Work(CREATED), clock=at_noon) == (CREATED, False)


def test_while_the_first_is_at_work_others_are_told_so(keys: IdempotencyKeys) -> None:
    assert isinstance(keys.claim(REQUEST, now=NOON), Claim)
    with pytest.raises(IdempotencyInProgress):
        keys.claim(REQUEST, now=NOON + timedelta(seconds=119))
    with pytest.raises(IdempotencyInProgress):
        keys.once(REQUEST, Work(CREATED), clock=at_noon, patience_seconds=0.05)
    with pytest.raises(IdempotencyMismatch):
        keys.claim(replace(REQUEST, body_sha256="cd" * 32), now=NOON)


def test_work_that_was_never_answered_is_not_done_again(keys: IdempotencyKeys) -> None:
    keys.claim(REQUEST, now=NOON)
    work = Work(CREATED)
    with pytest.raises(IdempotencyUnknown, match="began at 2026-11-21T12:00:00Z and was never answered"):
        keys.once(REQUEST, work, clock=lambda: NOON + timedelta(minutes=2))
    assert work.done == 0


def test_an_answer_that_comes_very_late_is_kept_all_the_same(keys: IdempotencyKeys) -> None:
    slow = keys.claim(REQUEST, now=NOON)
    assert isinstance(slow, Claim)
    later = NOON + timedelta(minutes=20)
    with pytest.raises(IdempotencyUnknown):
        keys.claim(REQUEST, now=later)
    assert keys.finish(slow, CREATED) is True
    assert keys.claim(REQUEST, now=later) == CREATED


def test_an_answer_to_a_key_forgotten_meanwhile_is_not_kept(keys: IdempotencyKeys) -> None:
    slow = keys.claim(REQUEST, now=NOON)
    assert isinstance(slow, Claim)
    later = NOON + timedelta(days=2)
    assert keys.forget(now=later) == 1
    again = keys.claim(REQUEST, now=later)
    assert isinstance(again, Claim)
    assert keys.finish(slow, CREATED) is False
    keys.release(slow)
    with pytest.raises(IdempotencyInProgress):
        keys.claim(REQUEST, now=later)


def test_an_answer_is_not_given_back(keys: IdempotencyKeys) -> None:
    claim = keys.claim(REQUEST, now=NOON)
    assert isinstance(claim, Claim)
    keys.finish(claim, CREATED)
    keys.release(claim)
    assert keys.claim(REQUEST, now=NOON + timedelta(hours=23)) == CREATED


def test_keys_are_forgotten_after_a_day(keys: IdempotencyKeys) -> None:
    keys.once(REQUEST, Work(CREATED), clock=at_noon)
    assert keys.forget(now=NOON + timedelta(days=1)) == 0
    assert keys.forget(now=NOON + timedelta(days=1, seconds=1)) == 1
    assert keys.once(REQUEST, Work(CREATED), clock=at_noon) == (CREATED, False)


class Work:
    """Counts how often it is done; takes its time when asked to."""

    def __init__(self, answer: Answer, *, seconds: float = 0) -> None:
        self._answer, self._seconds = answer, seconds
        self._lock = threading.Lock()
        self.done = 0

    def __call__(self) -> Answer:
        with self._lock:
            self.done += 1
        time.sleep(self._seconds)
        return self._answer


def at_noon() -> datetime:
    return NOON
