"""After the end: devices are called back, the same is done again, and a rollout is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from rollout.aftermath import Aftermath, request_of
from rollout.decision import Stance, decode_brake, decode_decision
from rollout.errors import ReleaseBlocked, RolloutChanged, TransitionNotAllowed
from rollout.machine import replay
from rollout.model import Counters, Gate, Priority, Progress, Rollout, State, WavePlan
from rollout.progress import counted
from tests.unit.rollout.world import ANN, BOB, CANARY, CREATOR, ORG, World, request

CANARY_ONLY = (WavePlan(group="canary"),)
FORGIVING = (WavePlan(group="canary", gate=Gate(max_failure_rate_percent=None, success_percent=100)),)
BRAKE = "brakes/firmware/canary.json"
DECISION = "decisions/firmware/canary.json"


@dataclass
class Rows:
    """Counts the rows that the simulator keeps, wave by wave."""

    world: World

    def recount(self, org: str, rollout_id: str) -> tuple[Mapping[int, Counters], Mapping[int, Counters]]:
        self.world.rollouts.get(org, rollout_id)
        found: dict[int, Counters] = {}
        for (owner, _), row in self.world.rollouts.rows.items():
            if owner == rollout_id:
                one, so_far = counted(row), found.get(row.wave, Counters())
                names = ("acting", "succeeded", "failed", "rolled_back", "failures", "finishes")
                found[row.wave] = Counters(**{name: getattr(one, name) + getattr(so_far, name) for name in names})
        return self.world.rollouts.counters(rollout_id), found


def completed(world: World, version: str = "1.0", **more: object) -> Rollout:
    rollout = world.running(version, CANARY_ONLY, **more)
    for device in CANARY:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.tick()
    assert world.get(rollout).state is State.COMPLETED
    return world.get(rollout)


def after(world: World) -> Aftermath:
    return Aftermath(world.service)


class TestRollingBack:
    def back(self, world: World, rollout: Rollout) -> Rollout:
        return after(world).roll_back(ORG, rollout.id, reason="eats batteries", by=BOB, now=world.now)

    @pytest.mark.parametrize("keep_open", [True, False])
    def test_a_completed_rollout_stays_completed_and_calls_its_devices_back(self, keep_open: bool) -> None:
        world = World()
        rollout = completed(world, keep_open=keep_open)
        back = self.back(world, rollout)
        assert (back.state, back.revision) == (State.COMPLETED, rollout.revision + 1)
        brake = decode_brake(world.decisions.documents[BRAKE])
        assert (brake.stance, brake.rollout, brake.reason) == (Stance.ROLL_BACK, rollout.id, "eats batteries")
        assert decode_decision(world.decisions.documents[DECISION]).rollout == rollout.id
        assert world.service.why(back, world.now) == "completed, then rolled back: eats batteries"
        assert replay(world.rollouts.events(ORG, rollout.id)) == world.get(rollout) == back

    def test_going_back_when_asked_is_no_failure(self) -> None:
        world = World()
        rollout = completed(world)
        self.back(world, rollout)
        for device in CANARY:
            assert world.report(rollout, device, Progress.ROLLED_BACK)
        assert world.rollouts.counters(rollout.id)[1] == Counters(acting=3, rolled_back=3, finishes=3)

    def test_what_was_stopped_by_an_abort_can_be_called_back_later(self) -> None:
        world = World()
        rollout = world.running(waves=CANARY_ONLY)
        world.service.abort(ORG, rollout.id, reason="bad", by=BOB, now=world.now)
        assert decode_brake(world.decisions.documents[BRAKE]).stance is Stance.HALTED
        assert self.back(world, rollout).state is State.ABORTED
        assert decode_brake(world.decisions.documents[BRAKE]).stance is Stance.ROLL_BACK

    def test_once_another_rollout_has_the_group_that_one_must_be_rolled_back(self) -> None:
        world = World()
        first = completed(world)
        second = world.running("2.0", CANARY_ONLY)
        world.service.pause(ORG, second.id, reason="look", by=BOB, now=world.now)
        served = dict(world.decisions.documents)
        with pytest.raises(TransitionNotAllowed, match="another rollout has reached group 'canary' since"):
            self.back(world, first)
        assert world.decisions.documents == served

    def test_a_rollout_that_only_waits_for_the_group_is_no_hindrance(self) -> None:
        world = World()
        first = completed(world)
        world.service.create(ORG, request("2.0", CANARY_ONLY), by=CREATOR, now=world.now)
        assert self.back(world, first).rolled_back_because == "eats batteries"

    def test_one_that_gets_the_group_while_it_is_signed_wins(self) -> None:
        world = World()
        first = completed(world)

        def overtake(step: str) -> None:
            if step == "commit:before":
                world.rollouts.on_step = world.decisions.on_step = lambda step: None
                world.running("2.0", CANARY_ONLY)

        world.decisions.on_step = overtake
        with pytest.raises(RolloutChanged):
            self.back(world, first)
        assert world.get(first) == first
        assert BRAKE not in world.decisions.documents
        assert not world.rollouts.open_intents

    def test_a_crash_after_signing_is_settled(self) -> None:
        world = World()
        rollout = completed(world)

        def stop(step: str) -> None:
            if step == "commit:after":
                raise KeyboardInterrupt

        world.decisions.on_step = stop
        with pytest.raises(KeyboardInterrupt):
            self.back(world, rollout)
        world.decisions.on_step = lambda step: None
        world.service.recover(ORG, world.now)
        assert world.get(rollout).rolled_back_because == "eats batteries"

    def test_one_under_way_is_aborted_instead(self) -> None:
        world = World()
        with pytest.raises(TransitionNotAllowed, match="roll_back is not possible while rol_0001 is running"):
            self.back(world, world.running())


class TestAgain:
    def test_a_clone_has_the_same_plan_and_names_its_source(self) -> None:
        world = World()
        rollout = world.running(waves=CANARY_ONLY, priority=Priority.SECURITY, note="please", keep_open=False)
        made = after(world).clone(ORG, rollout.id, by=ANN, now=world.now)
        assert (made.state, made.origin, made.plan_hash) == (State.DRAFT, rollout.id, rollout.plan_hash)
        assert (made.id != rollout.id, made.created_by) == (True, ANN)
        assert replay(world.rollouts.events(ORG, made.id)) == made

    def test_a_clone_may_differ(self) -> None:
        world = World()
        rollout = completed(world, "2.0")
        wanted = replace(request_of(rollout), version="1.0", allow_downgrade=True)
        made = after(world).clone(ORG, rollout.id, wanted, by=ANN, now=world.now)
        assert (made.plan.version, made.plan.allow_downgrade, made.plan.waves) == ("1.0", True, rollout.plan.waves)

    def test_a_yanked_release_is_not_cloned(self) -> None:
        world = World()
        rollout = completed(world)
        world.releases.yanked["art_1.0_linux-amd64"] = "bad"
        with pytest.raises(ReleaseBlocked):
            after(world).clone(ORG, rollout.id, by=ANN, now=world.now)
        assert len(world.rollouts.stored) == 1

    def test_a_rerun_offers_it_to_who_failed_and_counts_who_has_it(self) -> None:
        world = World()
        first = world.running(waves=CANARY_ONLY)
        world.report(first, "dev_c1", Progress.SUCCEEDED)
        world.report(first, "dev_c2", Progress.FAILED)
        world.service.abort(ORG, first.id, reason="cable", by=BOB, now=world.now)
        again = after(world).rerun(ORG, first.id, by=CREATOR, now=world.now)
        world.service.submit(ORG, again.id, by=CREATOR, now=world.now)
        world.tick()
        for device in CANARY:  # the first one adopts what it runs
            assert world.report(again, device, Progress.SUCCEEDED)
        world.tick()
        assert (world.get(again).state, world.get(again).origin) == (State.COMPLETED, first.id)

    def test_what_is_under_way_is_not_run_again(self) -> None:
        world = World()
        rollout = world.running()
        with pytest.raises(TransitionNotAllowed, match="is running; retry what failed, or abort it"):
            after(world).rerun(ORG, rollout.id, by=CREATOR, now=world.now)


class TestRetryingLater:
    def test_the_scheduler_retries_when_it_is_time(self) -> None:
        world = World()
        rollout = world.running(waves=FORGIVING)
        world.report(rollout, "dev_c1", Progress.FAILED)
        world.service.retry(ORG, rollout.id, by=BOB, devices=["dev_c1"], now=world.now, after=timedelta(seconds=30))
        served = dict(world.decisions.documents)
        world.wait(28)
        world.tick()
        assert world.decisions.documents == served
        world.tick()
        assert world.get(rollout).device_attempts == {"dev_c1": 2}
        assert decode_decision(world.decisions.documents[DECISION]).attempt_for("dev_c1") == 2
        told = [event for event in world.rollouts.events(ORG, rollout.id) if event.tag == "rollout.retried"]
        assert [event.by.name for event in told] == ["scheduler"]
        world.tick()
        assert world.get(rollout).device_attempts == {"dev_c1": 2}
        assert replay(world.rollouts.events(ORG, rollout.id)) == world.get(rollout)

    def test_a_paused_rollout_retries_once_it_goes_on(self) -> None:
        world = World()
        rollout = world.running(waves=FORGIVING)
        world.report(rollout, "dev_c1", Progress.FAILED)
        world.service.pause(ORG, rollout.id, reason="look", by=BOB, now=world.now)
        world.service.retry(ORG, rollout.id, by=BOB, now=world.now, after=timedelta(seconds=5))
        world.wait(60)
        world.tick()
        assert world.get(rollout).attempt == 1
        world.service.resume(ORG, rollout.id, reason="seen", by=BOB, now=world.now)
        world.tick()
        assert world.get(rollout).attempt == 2


class TestChecking:
    def faults(self, world: World, rollout: Rollout) -> list[str]:
        return [*after(world).recount(ORG, rollout.id, Rows(world)).faults]

    def test_a_sound_rollout_has_no_faults(self) -> None:
        world = World()
        rollout = completed(world)
        found = after(world).recount(ORG, rollout.id, Rows(world))
        assert (found.faults, found.kept) == ([], {1: Counters(acting=3, succeeded=3, finishes=3)})
        assert found.counted == found.kept

    def test_counters_that_are_wrong_are_told(self) -> None:
        world = World()
        rollout = completed(world)
        world.rollouts.kept_counters[rollout.id][1] = Counters(acting=4)
        [fault] = self.faults(world, rollout)
        assert fault.startswith("wave 1: the counters say Counters(acting=4, succeeded=0")

    def test_a_lost_event_is_told(self) -> None:
        world = World()
        rollout = completed(world)
        del world.rollouts.told[2]
        [fault] = self.faults(world, rollout)
        assert fault.startswith("its events do not replay: rollout.wave.passed cannot follow revision 2")

    def test_a_state_that_its_events_do_not_give_is_told(self) -> None:
        world = World()
        rollout = completed(world)
        world.rollouts.stored[rollout.id] = replace(rollout, attempt=7)
        assert self.faults(world, rollout) == ["its events replay to revision 4, which is not what is stored"]

    def test_a_document_that_the_state_does_not_give_is_told(self) -> None:
        world = World()
        rollout = world.running(waves=CANARY_ONLY)
        world.decisions.documents[DECISION] += b" "
        assert self.faults(world, rollout) == ["decisions/firmware/canary.json is not served as the state says"]


def test_of_the_rollouts_a_device_reported_in_it_follows_the_highest() -> None:
    world = World()
    first = world.running(waves=(WavePlan(group="fleet"),))
    urgent = world.running("2.0", CANARY_ONLY, priority=Priority.SECURITY)
    last = world.running("3.0", (WavePlan(group="empty"),))
    reported = {"dev_1": [last, urgent], "dev_2": [last], "dev_3": []}
    found = after(world).overtaken_by(world.get(first), reported)
    assert {device: one.id for device, one in found.items()} == {"dev_1": urgent.id, "dev_2": last.id}
    assert after(world).overtaken_by(urgent, {"dev_1": [first, last]}) == {}


def test_a_security_rollout_that_has_lost_its_groups_to_a_later_one_is_followed_by_nobody() -> None:
    world = World()
    urgent = completed(world, priority=Priority.SECURITY)
    elsewhere = world.running("3.0", (WavePlan(group="fleet"),))
    instead = world.running("2.0", CANARY_ONLY)
    found = after(world)
    assert found.overtaken_by(world.get(elsewhere), {"dev_1": [urgent]}) == {"dev_1": urgent}
    assert found.overtaken_by(world.get(instead), {"dev_1": [urgent]}) == {}
