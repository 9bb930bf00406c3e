"""Reports move a device forward only, and counters equal a recount."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.errors import ReportRefused, RolloutChanged, UnknownRollout
from rollout.model import AbortMode, Counters, Progress, Report, Rollout, WavePlan
from rollout.progress import counted, moved
from tests.unit.rollout.world import BOB, NOW, ORG, World, artifact

DOWNLOADING, INSTALLING, SUCCEEDED, FAILED, ROLLED_BACK = Progress


def world_with_one_open_wave() -> tuple[World, Rollout]:
    world = World()
    return world, world.running()


def test_a_device_of_an_open_wave_counts() -> None:
    world, rollout = world_with_one_open_wave()
    assert world.report(rollout, "dev_c1", DOWNLOADING)
    assert world.rollouts.counters(rollout.id) == {1: Counters(acting=1)}
    assert world.report(rollout, "dev_c1", SUCCEEDED)
    assert world.rollouts.counters(rollout.id) == {1: Counters(acting=1, succeeded=1, finishes=1)}


@pytest.mark.parametrize(
    ("device", "why"),
    [("dev_f31", "wave 2 is not open"), ("dev_unknown", "no such device"), ("dev_f00", "outside the share as well")],
)
def test_a_device_that_no_open_wave_reaches_is_refused(device: str, why: str) -> None:
    world, rollout = world_with_one_open_wave()
    with pytest.raises(ReportRefused, match="no opened wave of rol_0001 reaches"):
        world.report(rollout, device, SUCCEEDED)
    assert world.rollouts.counters(rollout.id) == {}, why


def test_a_device_outside_the_share_is_refused_once_the_wave_is_open() -> None:
    world = World()
    rollout = world.running(waves=(WavePlan(group="fleet", percent=50),))
    assert world.report(rollout, "dev_f31", SUCCEEDED)
    with pytest.raises(ReportRefused):
        world.report(rollout, "dev_f00", SUCCEEDED)


def test_an_attempt_that_was_not_offered_is_refused() -> None:
    world, rollout = world_with_one_open_wave()
    for attempt in (0, 2):
        with pytest.raises(ReportRefused, match="was not offered"):
            world.report(rollout, "dev_c1", FAILED, attempt)


def test_another_organisation_sees_no_rollout_to_report_on() -> None:
    world, rollout = world_with_one_open_wave()
    report = Report(id="rep_1", rollout=rollout.id, attempt=1, progress=FAILED, at=NOW)
    with pytest.raises(UnknownRollout):
        world.service.record_report("other", "dev_c1", report)


@pytest.mark.parametrize("report_id", ["", "r" * 101, "a\x00b"])
def test_a_report_has_a_printable_id(report_id: str) -> None:
    world, rollout = world_with_one_open_wave()
    report = Report(id=report_id, rollout=rollout.id, attempt=1, progress=FAILED, at=NOW)
    with pytest.raises(ReportRefused, match="report id"):
        world.service.record_report(ORG, "dev_c1", report)


def test_the_same_report_again_changes_nothing() -> None:
    world, rollout = world_with_one_open_wave()
    report = Report(id="rep_1", rollout=rollout.id, attempt=1, progress=FAILED, at=NOW)
    assert world.service.record_report(ORG, "dev_c1", report) is True
    assert world.service.record_report(ORG, "dev_c1", report) is False
    assert world.rollouts.counters(rollout.id)[1].failures == 1


@pytest.mark.parametrize("late", [DOWNLOADING, INSTALLING, SUCCEEDED, FAILED])
def test_a_late_report_moves_nobody_back(late: Progress) -> None:
    world, rollout = world_with_one_open_wave()
    assert world.report(rollout, "dev_c1", FAILED)
    assert world.report(rollout, "dev_c1", late) is False
    assert world.rollouts.counters(rollout.id)[1] == Counters(acting=1, failed=1, failures=1, finishes=1)


def test_words_that_cannot_be_stored_are_made_plain() -> None:
    world, rollout = world_with_one_open_wave()
    report = Report(
        id="r",
        rollout=rollout.id,
        attempt=1,
        progress=FAILED,
        at=NOW,
        code="c" * 65,
        detail="a\x00b\ud800" + "d" * 1000,
    )
    world.service.record_report(ORG, "dev_c1", report)
    row = world.rollouts.rows[rollout.id, "dev_c1"]
    assert (row.code, row.detail) == ("c" * 64, "a b " + "d" * 996)


def test_a_retry_begins_anew_and_the_old_attempt_is_over() -> None:
    world, rollout = world_with_one_open_wave()
    world.report(rollout, "dev_c1", FAILED)
    world.service.retry(ORG, rollout.id, by=BOB, now=world.now, devices=["dev_c1"])
    assert world.report(rollout, "dev_c1", DOWNLOADING, attempt=2)
    assert world.report(rollout, "dev_c1", ROLLED_BACK, attempt=1) is False
    assert world.rollouts.counters(rollout.id)[1] == Counters(acting=1, failures=1, finishes=1)
    world.report(rollout, "dev_c1", SUCCEEDED, attempt=2)
    assert world.rollouts.counters(rollout.id)[1] == Counters(acting=1, succeeded=1, failures=1, finishes=2)


def test_rolling_back_by_itself_is_a_failure_and_by_a_brake_is_not() -> None:
    world, rollout = world_with_one_open_wave()
    world.report(rollout, "dev_c1", ROLLED_BACK)
    assert world.rollouts.counters(rollout.id)[1] == Counters(acting=1, rolled_back=1, failures=1, finishes=1)
    world.report(rollout, "dev_c2", SUCCEEDED)
    world.service.abort(ORG, rollout.id, reason="bad", by=BOB, now=world.now, mode=AbortMode.ROLL_BACK)
    world.report(rollout, "dev_c2", ROLLED_BACK)
    assert world.rollouts.counters(rollout.id)[1] == Counters(acting=2, rolled_back=2, failures=1, finishes=2)


def test_failing_and_then_rolling_back_is_one_failure() -> None:
    world, rollout = world_with_one_open_wave()
    for progress in (INSTALLING, FAILED, ROLLED_BACK):
        world.report(rollout, "dev_c1", progress)
    assert world.rollouts.counters(rollout.id)[1] == Counters(acting=1, rolled_back=1, failures=1, finishes=1)


def test_a_report_after_the_end_counts_and_changes_no_state() -> None:
    world, rollout = world_with_one_open_wave()
    ended = world.service.abort(ORG, rollout.id, reason="bad", by=BOB, now=world.now)
    assert world.report(rollout, "dev_c1", FAILED)
    assert world.get(rollout) == ended
    assert world.rollouts.counters(rollout.id)[1].failed == 1


def test_a_device_stays_in_the_wave_it_reported_in_first() -> None:
    world = World()
    rollout = world.running(waves=(WavePlan(group="fleet", percent=10), WavePlan(group="fleet", percent=50)))
    world.report(rollout, "dev_f31", INSTALLING)
    for device in ("dev_f03", "dev_f14", "dev_f17", "dev_f19", "dev_f34", "dev_f31"):
        world.report(rollout, device, SUCCEEDED)
    world.tick()
    world.tick()
    world.groups.devices["fleet"].remove("dev_f31")
    assert world.report(rollout, "dev_f31", FAILED)
    assert world.report(rollout, "dev_f02", SUCCEEDED)
    assert world.rollouts.counters(rollout.id)[1].failed == 1
    assert world.rollouts.counters(rollout.id)[2] == Counters(acting=1, succeeded=1, finishes=1)


def test_no_report_counts_for_two_rollouts() -> None:
    world = World()
    world.releases.signed[ORG, "other", "1.0", "stable"] = {"any": artifact("1.0", "any")}
    first = world.running()
    world.service.abort(ORG, first.id, reason="bad", by=BOB, now=world.now)
    second = world.running("2.0")
    world.report(second, "dev_c1", SUCCEEDED)
    assert world.rollouts.counters(first.id) == {}
    assert world.rollouts.counters(second.id) == {1: Counters(acting=1, succeeded=1, finishes=1)}


def test_a_report_that_comes_before_the_state_is_settled_is_asked_for_again() -> None:
    world = World()
    rollout = world.submitted()

    def stop_before_settling(step: str) -> None:
        if step == "settle:before":
            raise KeyboardInterrupt

    world.rollouts.on_step = stop_before_settling
    with pytest.raises(KeyboardInterrupt):
        world.tick()
    with pytest.raises(RolloutChanged, match="report again"):
        world.report(rollout, "dev_c1", DOWNLOADING)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["dev_c1", "dev_c2"]), st.sampled_from(Progress), st.integers(1, 3)), max_size=25
    )
)
def test_counters_equal_a_recount_whatever_the_order(reports: Sequence[tuple[str, Progress, int]]) -> None:
    world, rollout = world_with_one_open_wave()
    for _ in range(2):
        world.service.retry(ORG, rollout.id, by=BOB, now=world.now)
    best: dict[tuple[str, int], int] = {}
    for device, progress, attempt in reports:
        ahead = attempt < max((a for d, a in best if d == device), default=0)
        further = list(Progress).index(progress) > best.get((device, attempt), -1)
        assert world.report(rollout, device, progress, attempt) is (further and not ahead)
        if further and not ahead:
            best[device, attempt] = list(Progress).index(progress)
    recount = Counters()
    for row in world.rollouts.rows.values():
        recount = moved(recount, None, row)
    assert world.rollouts.counters(rollout.id).get(1, Counters()) == recount
    finished = [key for key, place in best.items() if place >= 2]
    assert recount.finishes == len(finished)


def test_a_row_that_is_not_counts_nothing() -> None:
    assert dataclasses.astuple(counted(None)) == (0, 0, 0, 0, 0, 0)
