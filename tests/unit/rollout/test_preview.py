"""A preview says who, when, how many and what blocks, and is right about what then happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from rollout.errors import InvalidPlan, UnknownRollout
from rollout.model import AbortMode, Gate, Plan, Progress, WavePlan
from rollout.preview import Finding, Preview, Previews
from rollout.rules import NoRules
from tests.simulators.rollouts import InventorySimulator
from tests.unit.rollout.world import ANN, CANARY, CREATOR, FLEET, NOW, ORG, SALT, World, request, two_waves

HOUR = timedelta(hours=1)


def previews(world: World, **known: Any) -> Previews:
    return Previews(
        rollouts=world.rollouts,
        decisions=world.decisions,
        releases=world.releases,
        groups=world.groups,
        inventory=InventorySimulator(world.groups, **known),
        make_salt=lambda: SALT,
    )


def of_plan(world: World, waves: tuple[WavePlan, ...] | None = None, version: str = "1.0", **known: Any) -> Preview:
    return previews(world, **known).of_plan(ORG, request(version, waves), by=CREATOR, now=NOW)


def messages(found: tuple[Finding, ...] | list[Finding] | Any) -> list[tuple[str, str]]:
    return [(one.code, one.message) for one in found]


def test_a_plan_is_foreseen_and_nothing_of_it_is_stored() -> None:
    world = World()
    found = of_plan(world, two_waves(approvals=1, soak_seconds=3600))
    assert [(wave.devices, wave.group_devices, wave.is_exact) for wave in found.waves] == [(3, 3, True), (20, 40, True)]
    assert [wave.platforms for wave in found.waves] == [{"linux-amd64": 3}, {"linux-amd64": 20}]
    assert [one.device for one in found.waves[0].sample] == CANARY
    assert len(found.waves[1].sample) == 10
    assert (found.devices, found.cohorts_are_known) == (23, False)
    assert [(wave.opens_at, wave.passes_at) for wave in found.waves] == [
        (NOW, NOW + HOUR),
        (NOW + HOUR, NOW + 2 * HOUR),
    ]
    assert messages(found.blocks) == [
        ("approvals_missing", "wave 1 needs 1 approval, 0 given"),
        ("approvals_missing", "wave 2 needs 1 approval, 0 given"),
    ]
    assert found.notes == []
    assert world.rollouts.stored == {}
    assert world.rollouts.told == []


def test_the_devices_foreseen_for_a_rollout_are_those_that_its_waves_count() -> None:
    world = World()
    world.groups.devices["both"] = [*CANARY, *FLEET[:7]]
    waves = (WavePlan(group="canary"), WavePlan(group="both", percent=50), WavePlan(group="both"), *two_waves()[1:])
    rollout = world.submitted(waves=waves)
    found = previews(world).of_rollout(ORG, rollout.id, world.now)
    view = world.service.view(world.get(rollout), world.now)
    assert {wave.number: wave.devices for wave in found.waves} == view.expected
    assert found.cohorts_are_known


def test_a_wave_opens_no_earlier_than_its_time_and_the_next_follows() -> None:
    late = Gate(not_before=NOW + 5 * HOUR, soak_seconds=60)
    found = of_plan(World(), (WavePlan(group="canary", gate=late), WavePlan(group="fleet")))
    assert [wave.opens_at for wave in found.waves] == [NOW + 5 * HOUR, NOW + 5 * HOUR + timedelta(seconds=60)]


def test_devices_that_will_not_take_it_are_counted_and_named_by_reason() -> None:
    found = of_plan(
        World(),
        platforms={"dev_c1": "linux-arm64"},
        versions={"dev_c2": "1.0", "dev_c3": "1.10", "dev_f02": "0.9"},
    )
    first = found.waves[0]
    assert (first.without_artifact, first.already, first.newer) == ({"linux-arm64": 1}, 1, 1)
    assert messages(found.notes) == [
        (
            "platform_without_artifact",
            "wave 1: 1 device of platform 'linux-arm64' get nothing: the release is for linux-amd64",
        ),
        ("downgrade", "wave 1: 1 device run a later version and stay there: the plan allows no downgrade"),
        ("already_there", "wave 1: 1 device run this version already"),
    ]


def test_a_large_group_is_reckoned_by_its_share() -> None:
    world = World()
    world.groups.devices["world"] = [f"dev_{number:06}" for number in range(20_000)]
    waves = (WavePlan(group="world", percent=10), WavePlan(group="world", percent=50))
    found = of_plan(world, waves, platforms={f"dev_{number:06}": "mips" for number in range(10_000)})
    assert [(wave.devices, wave.is_exact) for wave in found.waves] == [(2_000, False), (8_000, False)]
    assert found.waves[1].without_artifact == {"mips": 4_000}
    assert len(found.waves[0].sample) == 10


def test_what_blocks_is_told_all_at_once() -> None:
    world = World()
    world.running("2.1", channel="beta")
    found = of_plan(world, (WavePlan(group="canary"), WavePlan(group="nobody")), version="9.9")
    assert messages(found.blocks) == [
        ("release_not_found", "no signed artifact of firmware 9.9 in channel 'stable'; publish one first"),
        ("group_unknown", "no group is named nobody; create it or name another"),
        ("group_busy", "a group is held by rol_0001 of channel 'beta'; wait for its end, or abort it"),
    ]


def test_a_yanked_release_blocks() -> None:
    world = World()
    world.releases.yanked["art_1.0_linux-amd64"] = "bricks"
    assert messages(of_plan(world).blocks) == [("release_blocked", "artifact art_1.0_linux-amd64 is yanked: bricks")]


def test_submitting_what_supersedes_says_whom() -> None:
    world = World()
    world.running("1.0")
    assert messages(of_plan(world, version="2.0").notes) == [
        ("supersedes", "submitting it ends rol_0001, firmware 1.0")
    ]


def test_an_empty_wave_is_noted() -> None:
    found = of_plan(World(), (WavePlan(group="empty"), WavePlan(group="canary")))
    assert messages(found.notes) == [
        ("empty_wave", "wave 1: reaches nobody that no wave before it reached; it passes at once")
    ]


def test_the_rest_of_a_rollout_is_foreseen_from_where_it_stands() -> None:
    world = World()
    rollout = world.running(waves=two_waves(soak_seconds=60))
    opened = world.now
    world.wait(10)
    found = previews(world).of_rollout(ORG, rollout.id, world.now)
    assert [(wave.opens_at, wave.passes_at) for wave in found.waves] == [
        (opened, opened + timedelta(seconds=60)),
        (opened + timedelta(seconds=60), opened + timedelta(seconds=120)),
    ]
    for device in CANARY:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.wait(60)
    world.tick()
    passed = world.now
    world.tick()
    found = previews(world).of_rollout(ORG, rollout.id, world.now)
    assert [(wave.opens_at, wave.passes_at) for wave in found.waves] == [
        (opened, passed),
        (world.now, world.now + timedelta(seconds=60)),
    ]


def test_a_paused_rollout_soaks_anew_from_now_and_says_that_it_is_paused() -> None:
    world = World()
    rollout = world.running(waves=two_waves(soak_seconds=60))
    world.service.pause(ORG, rollout.id, reason="look", by=ANN, now=world.now)
    world.wait(100)
    found = previews(world).of_rollout(ORG, rollout.id, world.now)
    assert messages(found.blocks) == [("paused", "paused: look; resume it")]
    assert found.waves[0].passes_at == world.now + timedelta(seconds=60)


def test_of_an_ended_rollout_nothing_opens_any_more() -> None:
    world = World()
    rollout = world.running()
    world.service.abort(ORG, rollout.id, reason="no", mode=AbortMode.STOP, by=ANN, now=world.now)
    found = previews(world).of_rollout(ORG, rollout.id, world.now)
    assert messages(found.blocks) == [("ended", "the rollout is aborted; nothing of it opens any more")]
    assert [wave.passes_at for wave in found.waves] == [None, None]


def test_a_draft_says_that_it_must_be_submitted() -> None:
    world = World()
    draft = world.service.create(ORG, request(), by=CREATOR, now=world.now)
    assert messages(previews(world).of_rollout(ORG, draft.id, world.now).blocks) == [
        ("draft", "the rollout is a draft; submit it")
    ]


def test_a_waiting_rollout_says_when_it_may_open() -> None:
    world = World()
    rollout = world.submitted(waves=(WavePlan(group="canary", gate=Gate(not_before=NOW + HOUR)),))
    assert messages(previews(world).of_rollout(ORG, rollout.id, world.now).blocks) == [
        ("not_before", "wave 1 opens not before 2026-11-21T13:00:00Z")
    ]


def test_a_plan_that_cannot_work_is_refused_with_every_fault() -> None:
    with pytest.raises(InvalidPlan) as caught:
        of_plan(World(), (WavePlan(group="G", percent=0),))
    assert [where for where, _ in caught.value.details] == ["waves.1.group", "waves.1.percent"]


def test_an_unknown_rollout_is_refused() -> None:
    with pytest.raises(UnknownRollout):
        previews(World()).of_rollout(ORG, "rol_none", NOW)


class LeavesOneOut(NoRules):
    """Leaves out one device of the canaries, in a freeze."""

    def left_out(self, org: str, plan: Plan, now: datetime) -> tuple[frozenset[str], frozenset[str]]:
        return frozenset({CANARY[0]}), frozenset()

    def frozen(self, org: str, plan: Plan, now: datetime) -> str:
        return "frozen until Monday"


def test_who_is_excluded_or_held_back_is_foreseen_and_a_freeze_blocks() -> None:
    world = World()
    inventory = InventorySimulator(world.groups, waiting={"canary": 2})
    asked = replace(previews(world), rules=LeavesOneOut(), inventory=inventory)
    found = asked.of_plan(ORG, request("1.0", (WavePlan(group="canary", count=2),)), by=CREATOR, now=NOW)
    wave = found.waves[0]
    assert (wave.count, wave.left_out, wave.held_back) == (2, 1, 2)
    assert CANARY[0] not in {one.device for one in wave.sample}
    assert messages(found.blocks) == [("frozen", "frozen until Monday")]
    assert [one.code for one in found.notes] == ["excluded", "held_back"]
    assert not found.cohorts_are_known


def test_devices_that_may_not_come_from_their_version_are_foreseen() -> None:
    world = World()
    asked = replace(request("2.0", (WavePlan(group="canary"),)), from_versions=(">=1.2",))
    versions = {CANARY[0]: "1.1", CANARY[1]: "1.10"}
    found = previews(world, versions=versions).of_plan(ORG, asked, by=CREATOR, now=NOW)
    assert found.waves[0].unfit == 2
    assert ("from_versions", "wave 1: 2 devices run no version of >=1.2 and stay there") in messages(found.notes)


def test_a_retry_to_come_is_told_by_why_and_by_the_preview() -> None:
    world = World()
    rollout = world.submitted(waves=(WavePlan(group="canary"),))
    world.tick()
    world.service.retry(ORG, rollout.id, by=ANN, now=world.now, after=HOUR)
    moment = (world.now + HOUR).isoformat(timespec="seconds")
    assert world.service.why(world.get(rollout), world.now).endswith(
        f"; a retry is planned for {moment.replace('+00:00', 'Z')}"
    )
    found = previews(world).of_rollout(ORG, rollout.id, world.now)
    assert ("retry_planned", f"all that failed will be retried at {moment}") in messages(found.notes)
