"""Commands after the end and for later: roll back, retry later, clones; the states are those of test_machine."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from evidence.model import SCHEDULER
from rollout.commands import Abort, Command, Retry, RetryLater, RollBack, Supersede
from rollout.errors import InvalidCommand, TransitionNotAllowed
from rollout.machine import apply, begin, replay
from rollout.model import State
from tests.unit.rollout.test_machine import AT, LATER, SAID, after, plan
from tests.unit.rollout.world import BOB, CREATOR, NOW, SALT


class TestRollingBackAfterTheEnd:
    def test_the_end_stays_and_devices_are_called_back(self) -> None:
        ended = AT[State.COMPLETED]
        back, [event] = apply(ended, SAID[RollBack], now=LATER)
        assert back == dataclasses.replace(
            ended,
            revision=ended.revision + 1,
            rolled_back_because="eats batteries",
            braked_revision=ended.revision + 1,
        )
        assert event.tag == "rollout.rolled_back"

    @pytest.mark.parametrize("state", [State.COMPLETED, State.ABORTED])
    def test_once_is_enough(self, state: State) -> None:
        with pytest.raises(TransitionNotAllowed, match="told to leave rol_1 already"):
            after(AT[state], SAID[RollBack], SAID[RollBack])

    def test_an_abort_that_rolled_back_is_enough(self) -> None:
        with pytest.raises(TransitionNotAllowed, match="already"):
            after(AT[State.RUNNING], SAID[Abort], SAID[RollBack])

    def test_nothing_was_offered(self) -> None:
        with pytest.raises(TransitionNotAllowed, match="no device has anything to give back"):
            after(AT[State.DRAFT], SAID[Abort], SAID[RollBack])

    def test_it_needs_a_reason(self) -> None:
        with pytest.raises(InvalidCommand, match="needs a reason"):
            after(AT[State.COMPLETED], RollBack(by=BOB, reason=" "))


class TestRetryingLater:
    def test_it_is_remembered_and_done_by_the_retry(self) -> None:
        planned = after(AT[State.RUNNING], SAID[RetryLater])
        assert (planned.retry_at, planned.retry_devices) == (LATER + timedelta(hours=2), ("dev_c1",))
        assert planned.device_attempts == {}
        done = after(planned, Retry(by=SCHEDULER, devices=planned.retry_devices))
        assert (done.retry_at, done.retry_devices, done.device_attempts) == (None, (), {"dev_c1": 2})

    def test_the_last_one_told_stands(self) -> None:
        sooner = RetryLater(by=BOB, at=LATER + timedelta(minutes=1))
        assert after(AT[State.RUNNING], SAID[RetryLater], sooner).retry_at == LATER + timedelta(minutes=1)

    @pytest.mark.parametrize("at", [LATER, LATER - timedelta(hours=1), LATER + timedelta(days=367)])
    def test_only_a_moment_of_the_next_year_will_do(self, at: Any) -> None:
        with pytest.raises(InvalidCommand, match="within 366 days from now"):
            after(AT[State.RUNNING], RetryLater(by=BOB, at=at))

    @pytest.mark.parametrize("end", [Abort, Supersede])
    def test_the_end_forgets_it(self, end: type[Command]) -> None:
        assert after(AT[State.RUNNING], SAID[RetryLater], SAID[end]).retry_at is None


def test_a_clone_tells_what_it_was_made_after() -> None:
    made, event = begin(rollout_id="rol_2", org="acme", plan=plan(), salt=SALT, by=CREATOR, now=NOW, origin="rol_1")
    assert (made.origin, event.data["origin"]) == ("rol_1", "rol_1")
    assert replay([event]) == made
