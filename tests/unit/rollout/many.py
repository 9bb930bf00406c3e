"""The life of many rollouts: security ones among them, called back after their end, run again, retried later."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from rollout.aftermath import Aftermath
from rollout.errors import ReleaseBlocked, RolloutError
from rollout.model import Progress
from tests.simulators.rollouts import Stopped, carry_on
from tests.unit.rollout.life import RolloutLife
from tests.unit.rollout.model import EARLY, FINAL, STEPS, VERSIONS, Expected
from tests.unit.rollout.world import BOB, CREATOR, ORG

WHY = "eats batteries"


class ManyLives(RolloutLife):
    """What operators can do besides; the invariants are those of every life."""

    @property
    def aftermath(self) -> Aftermath:
        return Aftermath(self.world.service)

    @precondition(lambda self: 0 < len(self.all) < len(VERSIONS))
    @rule(needs=st.integers(0, 1), steps=st.integers(0, 3))
    def come_with_something_urgent(self, needs: int, steps: int) -> None:
        before = len(self.all)
        self.create(needs, 0, urgent=True)
        if len(self.all) > before:
            self.submit_it(self.all[-1])
            for _ in range(steps):
                self.tick()

    @precondition(lambda self: any(one.urgent and one.state not in FINAL for one in self.all))
    @rule(needs=st.integers(0, 1), ticks=st.integers(1, 2))
    def come_behind_something_urgent(self, needs: int, ticks: int) -> None:
        self.come_with_another(needs, True)
        for _ in range(ticks):
            self.tick()

    @precondition(lambda self: any(one.state in {"completed", "aborted"} for one in self.all))
    @rule(which=st.integers(0, 5), reason=st.sampled_from([WHY, WHY, ""]))
    def roll_back(self, which: int, reason: str) -> None:
        ended = [one for one in self.all if one.state in {"completed", "aborted"}]
        self.call_back(ended[which % len(ended)], reason)

    @precondition(lambda self: any(one.open and one.state not in FINAL for one in self.all))
    @rule(which=st.integers(0, 3), sure=st.integers(0, 3))
    def stop_it_and_think_again(self, which: int, sure: int) -> None:
        going = [one for one in self.all if one.open and one.state not in FINAL]
        one = going[which % len(going)]
        if not sure and self.has_the_word(one):
            self.world.service.abort(ORG, one.id, reason="bad", by=BOB, now=self.world.now)
            one.state, one.mode = "aborted", "stop"
            self.call_back(one, WHY)

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3))
    def roll_back_whatever_it_is(self, which: int) -> None:
        self.call_back(self.pick(which), WHY)

    def call_back(self, one: Expected, reason: str) -> None:
        self.the_state_is_the_model_s()
        may = bool(reason and one.open) and not one.rolled and one.mode != "roll_back" and self.has_the_word(one)
        act = self.aftermath.roll_back
        if self.attempt_it(
            one, "roll_back", lambda: act(ORG, one.id, reason=reason, by=BOB, now=self.world.now), guard=may
        ):
            self.is_called_back(one)

    def is_called_back(self, one: Expected) -> None:
        """The end stays what it was but for the call."""
        one.rolled = True
        revision = self.ended[one.id].revision + 1
        self.ended[one.id] = replace(
            self.ended[one.id], revision=revision, braked_revision=revision, rolled_back_because=WHY
        )

    @precondition(lambda self: any(one.state in {"waiting", "running"} for one in self.all))
    @rule(steps=st.sampled_from([0, 0, 9]), called_back=st.booleans())
    def end_well(self, steps: int, called_back: bool) -> None:
        for _ in range(steps):
            if any(one.state in {"waiting", "running"} for one in self.all):
                self.go_forward(0, 2)
        for one in self.all:
            if called_back and steps and one.state == "completed" and not one.rolled:
                self.call_back(one, WHY)
                self.obey_the_call(one)

    def obey_the_call(self, one: Expected) -> None:
        for device in EARLY[:2]:
            self.say(one, device, Progress.ROLLED_BACK, self.offer(one, device))

    @precondition(lambda self: any(one.state in {"completed", "aborted"} and not one.rolled for one in self.all))
    @rule(which=st.integers(0, 3), step=st.sampled_from(STEPS))
    def crash_while_rolling_back(self, which: int, step: str) -> None:
        ended = [one for one in self.all if one.state in {"completed", "aborted"} and not one.rolled]
        one = ended[which % len(ended)]

        def stop(reached: str) -> None:
            if reached == step:
                raise Stopped(reached)

        self.world.rollouts.on_step = self.world.decisions.on_step = stop
        try:
            self.aftermath.roll_back(ORG, one.id, reason=WHY, by=BOB, now=self.world.now)
        except (Stopped, RolloutError):
            pass
        finally:
            self.world.rollouts.on_step = self.world.decisions.on_step = carry_on
        self.world.service.recover(ORG, self.world.now)
        if self.world.rollouts.stored[one.id].rolled_back_because is not None:
            self.is_called_back(one)

    @precondition(lambda self: any(one.state in {"running", "paused"} for one in self.all))
    @rule(which=st.integers(0, 3), named=st.booleans(), seconds=st.integers(0, 3), then=st.booleans())
    def retry_later(self, which: int, named: bool, seconds: int, then: bool) -> None:
        offered = [one for one in self.all if one.state in {"running", "paused"}]
        self.plan_a_retry(offered[which % len(offered)], EARLY[:1] if named else [], seconds)
        if then:
            self.world.wait(2)
            self.tick()

    @precondition(lambda self: self.all)
    @rule(which=st.integers(0, 3))
    def retry_whatever_it_is_later(self, which: int) -> None:
        self.plan_a_retry(self.pick(which), [], 2)

    def plan_a_retry(self, one: Expected, devices: list[str], seconds: int) -> None:
        after = timedelta(seconds=seconds)
        act = self.world.service.retry
        if self.attempt_it(
            one,
            "retry_later",
            lambda: act(ORG, one.id, by=BOB, now=self.world.now, devices=devices, after=after),
            guard=bool(one.open and seconds),
        ):
            one.retry_at, one.retry_devices = self.world.now + after, devices

    @precondition(lambda self: 0 < len(self.all) < len(VERSIONS))
    @rule(which=st.integers(0, 5), hand_in=st.booleans())
    def run_again(self, which: int, hand_in: bool) -> None:
        one = self.all[which % len(self.all)]
        try:
            made = self.aftermath.rerun(ORG, one.id, by=CREATOR, now=self.world.now)
        except ReleaseBlocked:
            assert one.state in FINAL
            assert self.blocked(one.version)
            return
        except RolloutError:
            assert one.state not in FINAL
            return
        assert one.state in FINAL
        assert not self.blocked(one.version)
        assert (made.plan_hash, made.origin) == (one.hash, one.id)
        self.all.append(Expected(made.id, one.version, one.needs, made.plan_hash, urgent=one.urgent))
        if hand_in:
            self.submit_it(self.all[-1])
