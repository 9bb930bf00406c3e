"""Use cases over simulators: one life, rivals, yanks, races, audiences."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from rollout import audience
from rollout.decision import decode_brake, decode_decision
from rollout.documents import documents
from rollout.errors import (
    GroupBusy,
    InvalidPlan,
    ReleaseBlocked,
    RolloutChanged,
    TransitionNotAllowed,
    UnknownGroup,
    UnknownRelease,
    UnknownRollout,
)
from rollout.machine import replay
from rollout.model import Counters, Progress, Rollout, State, WavePlan
from rollout.plan import PlanRequest
from tests.unit.rollout.world import ANN, BOB, CANARY, CREATOR, NOW, ORG, World, artifact, request, two_waves

HALF_OF_FLEET = [
    "dev_f02", "dev_f03", "dev_f08", "dev_f09", "dev_f11", "dev_f12", "dev_f13", "dev_f14", "dev_f16", "dev_f17",
    "dev_f18", "dev_f19", "dev_f20", "dev_f21", "dev_f27", "dev_f28", "dev_f31", "dev_f32", "dev_f34", "dev_f36",
]  # fmt: skip


def all_succeed(world: World, rollout: Rollout, devices: list[str]) -> None:
    for device in devices:
        world.report(rollout, device, Progress.SUCCEEDED)


def test_a_rollout_lives_from_draft_to_completed() -> None:
    world = World()
    draft = world.service.create(ORG, request(waves=two_waves(approvals=1)), by=CREATOR, now=world.now)
    assert (draft.state, draft.id, world.service.why(draft, NOW)) == (
        State.DRAFT,
        "rol_0001",
        "a draft: submit it to begin",
    )
    world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)
    world.tick()
    assert world.service.show(ORG, draft.id, world.now).why == "wave 1 waits for approval: 0 of 1 given"
    for wave, devices in ((1, CANARY), (2, HALF_OF_FLEET)):
        world.service.approve(ORG, draft.id, wave=wave, plan_hash=draft.plan_hash, by=ANN, now=world.now)
        world.tick()
        assert world.get(draft).state is State.RUNNING
        all_succeed(world, draft, devices)
        world.tick()
    view = world.service.show(ORG, draft.id, world.now)
    assert (view.rollout.state, view.why) == (State.COMPLETED, "completed: all 2 waves passed")
    assert view.expected == {1: 3, 2: 20}
    assert view.counters == {
        1: Counters(acting=3, succeeded=3, finishes=3),
        2: Counters(acting=20, succeeded=20, finishes=20),
    }
    assert [event.tag for event in world.rollouts.events(ORG, draft.id)] == [
        "rollout.created",
        "rollout.submitted",
        "rollout.wave.approved",
        "rollout.wave.opened",
        "rollout.wave.passed",
        "rollout.wave.approved",
        "rollout.wave.opened",
        "rollout.wave.passed",
        "rollout.completed",
    ]
    assert replay(world.rollouts.events(ORG, draft.id)) == world.get(draft)
    assert world.decisions.documents == documents(world.get(draft))
    assert world.decisions.serial == 2


def test_failures_pause_and_an_approver_resumes_after_a_retry() -> None:
    world = World()
    rollout = world.running(waves=two_waves(max_failures=2))
    world.report(rollout, "dev_c1", Progress.SUCCEEDED)
    world.report(rollout, "dev_c2", Progress.FAILED)
    world.report(rollout, "dev_c3", Progress.FAILED)
    world.tick()
    paused = world.get(rollout)
    assert (paused.state, world.service.why(paused, world.now)) == (
        State.PAUSED,
        "paused: wave 1: 2 of 3 devices failed, limit 2 (an approver must resume)",
    )
    assert decode_brake(world.decisions.documents["brakes/firmware/canary.json"]).reason == paused.paused_because
    world.service.retry(ORG, rollout.id, by=BOB, now=world.now)
    world.service.resume(ORG, rollout.id, reason="cable fixed", by=ANN, now=world.now, as_approver=True)
    assert "brakes/firmware/canary.json" not in world.decisions.documents
    for device in ("dev_c2", "dev_c3"):
        assert world.report(rollout, device, Progress.SUCCEEDED, attempt=2)
    world.tick()
    assert (world.get(rollout).state, world.get(rollout).wave) == (State.WAITING, 2)


def test_an_empty_group_passes_with_a_note() -> None:
    world = World()
    rollout = world.running(waves=(WavePlan(group="empty"), WavePlan(group="canary")))
    world.tick()
    assert (world.get(rollout).state, world.get(rollout).waves[0].note) == (State.WAITING, "wave 1: no device is in it")


def test_a_tick_makes_one_step() -> None:
    world = World()
    rollout = world.submitted(waves=(WavePlan(group="empty"),))
    revisions = []
    for _ in range(4):
        world.tick()
        revisions.append(world.get(rollout).revision)
    assert revisions == [3, 4, 4, 4]


class TestCreating:
    def create(self, world: World, asked: PlanRequest) -> Rollout:
        return world.service.create(ORG, asked, by=CREATOR, now=world.now)

    def test_every_fault_of_the_request_is_told_before_releases_are_looked_for(self) -> None:
        with pytest.raises(InvalidPlan) as refused:
            self.create(World(), request("NO", waves=(WavePlan(group="canary", percent=0),)))
        assert [where for where, _ in refused.value.details] == ["version", "waves.1.percent"]

    def test_a_release_must_be_signed(self) -> None:
        with pytest.raises(UnknownRelease, match=r"no signed artifact of firmware 9\.9"):
            self.create(World(), request("9.9"))

    def test_a_release_of_another_channel_is_another_release(self) -> None:
        with pytest.raises(UnknownRelease):
            self.create(World(), request("2.1"))

    def test_a_yanked_release_is_not_taken(self) -> None:
        world = World()
        world.releases.yanked["art_1.0_linux-amd64"] = "eats\x00batteries"
        with pytest.raises(ReleaseBlocked, match=r"art_1\.0_linux-amd64 is yanked: eats batteries"):
            self.create(world, request())

    def test_groups_must_exist(self) -> None:
        with pytest.raises(UnknownGroup, match="no group is named nowhere"):
            self.create(World(), request(waves=(WavePlan(group="canary"), WavePlan(group="nowhere"))))

    def test_another_organisation_has_neither_groups_nor_releases_nor_rollouts(self) -> None:
        world = World()
        rollout = world.submitted()
        with pytest.raises(UnknownRelease):
            world.service.create("other", request(), by=CREATOR, now=world.now)
        with pytest.raises(UnknownRollout):
            world.service.pause("other", rollout.id, reason="x", by=BOB, now=world.now)

    def test_nothing_is_stored_when_it_is_refused(self) -> None:
        world = World()
        with pytest.raises(UnknownRelease):
            self.create(world, request("9.9"))
        assert (world.rollouts.stored, world.rollouts.told) == ({}, [])


class TestSubmitting:
    def test_the_release_is_looked_at_again(self) -> None:
        world = World()
        draft = world.service.create(ORG, request(), by=CREATOR, now=world.now)
        world.releases.yanked["art_1.0_linux-amd64"] = "bad"
        with pytest.raises(ReleaseBlocked):
            world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)
        world.releases.yanked.clear()
        world.releases.signed[ORG, "firmware", "1.0", "stable"] = {"linux-arm64": artifact("1.0", "linux-arm64")}
        with pytest.raises(UnknownRelease, match="linux-amd64"):
            world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)
        assert world.get(draft).state is State.DRAFT

    def test_groups_are_looked_for_again(self) -> None:
        world = World()
        draft = world.service.create(ORG, request(), by=CREATOR, now=world.now)
        del world.groups.devices["fleet"]
        with pytest.raises(UnknownGroup):
            world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)

    def test_twice_is_not_possible(self) -> None:
        world = World()
        rollout = world.submitted()
        with pytest.raises(TransitionNotAllowed):
            world.service.submit(ORG, rollout.id, by=CREATOR, now=world.now)

    def test_an_older_rollout_of_the_channel_is_superseded_and_stopped(self) -> None:
        world = World()
        older = world.running()
        world.wait()
        newer = world.submitted("2.0")
        ended = world.get(older)
        assert (ended.state, ended.superseded_by) == (State.SUPERSEDED, newer.id)
        assert decode_brake(world.decisions.documents["brakes/firmware/canary.json"]).rollout == older.id
        world.tick()
        assert decode_decision(world.decisions.documents["decisions/firmware/canary.json"]).rollout == newer.id

    def test_a_rollout_of_other_groups_is_left_alone(self) -> None:
        world = World()
        other = world.running(waves=(WavePlan(group="fleet"),))
        world.submitted("2.0", waves=(WavePlan(group="canary"),))
        assert world.get(other).state is State.RUNNING

    def test_a_group_held_by_another_channel_is_busy(self) -> None:
        world = World()
        holder = world.running("2.1", channel="beta")
        draft = world.service.create(ORG, request(), by=CREATOR, now=world.now)
        with pytest.raises(GroupBusy, match=f"held by {holder.id} of channel 'beta'"):
            world.service.submit(ORG, draft.id, by=CREATOR, now=world.now)
        world.service.abort(ORG, holder.id, reason="done", by=BOB, now=world.now)
        assert world.service.submit(ORG, draft.id, by=CREATOR, now=world.now).state is State.WAITING

    def test_an_older_rollout_that_is_moving_just_now_is_superseded_before_anything_opens(self) -> None:
        world = World()
        older = world.running()
        world.wait()

        def stop(step: str) -> None:
            if step == "commit:before":
                raise KeyboardInterrupt

        world.decisions.on_step = stop
        with pytest.raises(KeyboardInterrupt):
            world.service.pause(ORG, older.id, reason="x", by=BOB, now=world.now)
        world.decisions.on_step = lambda step: None
        newer = world.submitted("2.0")
        assert world.get(older).state is State.RUNNING
        world.tick()
        assert (world.get(older).state, world.get(newer).state) == (State.RUNNING, State.WAITING)
        world.wait(10)
        world.tick()
        assert (world.get(older).state, world.get(newer).state) == (State.SUPERSEDED, State.RUNNING)

    def test_of_two_submitted_together_the_later_one_stays(self) -> None:
        world = World()
        first, second = (world.service.create(ORG, request(v), by=CREATOR, now=world.now) for v in ("1.0", "2.0"))
        world.service.submit(ORG, second.id, by=CREATOR, now=world.now + timedelta(seconds=1))
        world.service.submit(ORG, first.id, by=CREATOR, now=world.now)
        world.wait()
        world.tick()
        assert (world.get(first).state, world.get(second).state) == (State.SUPERSEDED, State.RUNNING)


class TestYanking:
    def test_a_tick_pauses_what_carries_a_yanked_artifact(self) -> None:
        world = World()
        rollout = world.running()
        world.releases.yanked["art_1.0_linux-amd64"] = "eats batteries"
        world.tick()
        assert world.get(rollout).paused_because == "artifact art_1.0_linux-amd64 is yanked: eats batteries"
        assert "brakes/firmware/canary.json" in world.decisions.documents

    def test_it_cannot_be_resumed_or_retried(self) -> None:
        world = World()
        rollout = world.running()
        world.service.pause(ORG, rollout.id, reason="x", by=BOB, now=world.now)
        world.releases.yanked["art_1.0_linux-amd64"] = "bad"
        with pytest.raises(ReleaseBlocked):
            world.service.resume(ORG, rollout.id, reason="y", by=BOB, now=world.now)
        with pytest.raises(ReleaseBlocked):
            world.service.retry(ORG, rollout.id, by=BOB, now=world.now)
        world.service.abort(ORG, rollout.id, reason="z", by=BOB, now=world.now)

    @pytest.mark.parametrize("step", ["propose:before", "propose:after", "commit:before"])
    def test_a_yank_between_the_decision_and_its_signature_is_in_time(self, step: str) -> None:
        world = World()
        rollout = world.submitted()

        def yank(reached: str) -> None:
            if reached == step:
                world.releases.yanked["art_1.0_linux-amd64"] = "bad"

        world.rollouts.on_step = world.decisions.on_step = yank
        world.tick()
        assert world.decisions.documents == {}
        assert (world.get(rollout).state, world.rollouts.open_intents) == (State.WAITING, {})
        world.tick()
        assert world.get(rollout).state is State.PAUSED


def test_an_edit_takes_the_revision_that_was_seen() -> None:
    world = World()
    rollout = world.submitted()
    with pytest.raises(RolloutChanged, match="is at revision 2, you saw 1"):
        world.service.edit(ORG, rollout.id, request("2.0"), by=CREATOR, now=world.now, seen=1)
    edited = world.service.edit(ORG, rollout.id, request("2.0"), by=CREATOR, now=world.now, seen=2)
    assert (edited.state, edited.plan.version) == (State.DRAFT, "2.0")


def test_one_of_two_writers_on_a_revision_wins() -> None:
    world = World()
    rollout = world.running()
    ready = threading.Barrier(2)
    outcomes: list[str] = []

    def wait_for_the_other(step: str) -> None:
        if step == "propose:before":
            ready.wait(timeout=10)

    world.rollouts.on_step = wait_for_the_other

    def write(what: Any) -> None:
        try:
            what(ORG, rollout.id, reason="x", by=BOB, now=world.now)
            outcomes.append("won")
        except RolloutChanged:
            outcomes.append("look again")

    writers = [threading.Thread(target=write, args=(what,)) for what in (world.service.pause, world.service.abort)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=20)
    assert sorted(outcomes) == ["look again", "won"]
    assert world.get(rollout).revision == rollout.revision + 1
    assert world.decisions.documents == documents(world.get(rollout))


def test_one_broken_rollout_does_not_hold_up_the_others() -> None:
    world = World()
    first = world.submitted(waves=(WavePlan(group="fleet"),))
    second = world.submitted("2.0", waves=(WavePlan(group="canary"),))

    faults_left = [OSError("disk full")]

    def break_once(step: str) -> None:
        if step == "propose:before" and faults_left:
            raise faults_left.pop()

    world.rollouts.on_step = break_once
    with pytest.raises(ExceptionGroup, match="1 rollouts of acme could not be moved") as faults:
        world.tick()
    assert [str(fault) for fault in faults.value.exceptions] == ["disk full"]
    assert (world.get(first).state, world.get(second).state) == (State.WAITING, State.RUNNING)
    world.tick()
    assert (world.get(first).state, world.get(second).state) == (State.RUNNING, State.RUNNING)


def test_expected_devices_are_counted_once_and_exactly() -> None:
    world = World()
    world.groups.devices["both"] = ["dev_c1", "dev_f31", "dev_x"]
    waves = (
        WavePlan(group="canary"),
        WavePlan(group="fleet", percent=10),
        WavePlan(group="fleet", percent=50),
        WavePlan(group="both"),
    )
    rollout = world.submitted(waves=waves)
    assert audience.expected_all(rollout, world.groups) == {1: 3, 2: 6, 3: 14, 4: 1}
    assert [world.service.expected(rollout, wave, world.now) for wave in (1, 2, 3, 4)] == [3, 6, 14, 1]


def test_a_large_group_is_size_times_share() -> None:
    world = World()
    world.groups.devices["large"] = [f"dev_{number}" for number in range(20_000)]
    rollout = world.submitted(waves=(WavePlan(group="large", percent=1), WavePlan(group="large", percent=10)))
    assert audience.expected_all(rollout, world.groups) == {1: 200, 2: 1800}


def test_why_tells_what_holds_an_open_gate_shut() -> None:
    world = World()
    beta = world.service.create(ORG, request("2.1", channel="beta"), by=CREATOR, now=world.now)
    stable = world.service.create(ORG, request(), by=CREATOR, now=world.now)
    overlapping, world.rollouts.overlapping = world.rollouts.overlapping, lambda *_: []  # type: ignore[method-assign]
    world.service.submit(ORG, beta.id, by=CREATOR, now=world.now)
    world.wait()
    waiting = world.service.submit(ORG, stable.id, by=CREATOR, now=world.now)  # Neither saw the other.
    world.rollouts.overlapping = overlapping  # type: ignore[method-assign]
    assert world.service.why(waiting, world.now) == f"wave 1 waits: {beta.id} of channel 'beta' holds a group"
    world.tick()
    assert (world.get(beta).state, world.get(stable).state) == (State.RUNNING, State.WAITING)
    world.releases.yanked["art_1.0_linux-amd64"] = "bad"
    assert world.service.why(waiting, world.now) == "artifact art_1.0_linux-amd64 is yanked: bad"
