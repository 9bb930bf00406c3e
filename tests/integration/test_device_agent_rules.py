"""What a real agent enforces by itself: exclusions, pins, windows, requirements, spread and retries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.state import Step
from rollout.cohort import starts_after
from rollout.decision import Stance
from rollout.exclusion import Entry, Kind, encode_exclusions, exclusions_path
from rollout.model import Requirement, RetryPolicy
from rollout.windows import Window
from tests.simulators.agents import DEVICE, NOON, SALT, DeviceBench, device_bench

# The bench's clock begins on Saturday, 2026-11-21, at 13:00 UTC.
TONIGHT = Window(days=("sat",), start="22:00", minutes=120, zone="UTC")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def entry(**changes: object) -> Entry:
    fields: dict[str, object] = {
        "id": "exc_1",
        "kind": Kind.EXCLUDE,
        "device": None,
        "group": None,
        "version": None,
        "sha256": None,
        "until": None,
        "reason": "overheats",
    }
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


def exclude(bench: DeviceBench, *entries: Entry) -> None:
    bench.tree.put_document(exclusions_path("app"), encode_exclusions("acme", "app", entries))


@pytest.mark.parametrize(
    ("no", "said"),
    [
        (entry(device=DEVICE), "excluded: overheats"),
        (entry(group="canary"), "excluded: overheats"),
        (entry(version="1.0"), "excluded: overheats"),
        (entry(device=DEVICE, until=NOON + timedelta(hours=2)), "excluded: overheats"),
        (entry(device=DEVICE, kind=Kind.PIN, version="0.9"), "pinned to 0.9: overheats"),
    ],
)
def test_an_excluded_device_fetches_and_installs_nothing(bench: DeviceBench, no: Entry, said: str) -> None:
    decision = bench.offer("1.0", "rol_1")
    exclude(bench, no)

    state = bench.poll()

    assert bench.commands.ran == []
    assert bench.server.reports == []
    assert not any(decision.artifacts["linux-x86_64"].sha256 in path for path in bench.mirror.requests)
    assert state.words["app"] == f"runs nothing yet; 1.0 is not for this device, {said}"


@pytest.mark.parametrize(
    "no",
    [
        entry(device="dev_01JD3ZQ5W8X9Y0A1B2C3D4E5F7"),
        entry(group="fleet"),
        entry(version="2.0"),
        entry(sha256=frozenset({"ab" * 32})),
        entry(device=DEVICE, until=NOON),
        entry(device=DEVICE, kind=Kind.PIN, version="1.0"),
    ],
)
def test_an_exclusion_of_something_else_holds_nothing_up(bench: DeviceBench, no: Entry) -> None:
    bench.offer("1.0", "rol_1")
    exclude(bench, no)

    bench.poll()

    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]


def test_an_exclusion_by_bytes_is_heard_and_a_lifted_one_is_forgotten(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1")
    exclude(bench, entry(sha256=frozenset({decision.artifacts["linux-x86_64"].sha256})))
    bench.poll()
    assert bench.commands.ran == []

    bench.tree.put_document(exclusions_path("app"), None)
    bench.poll()

    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]


def test_a_list_that_cannot_be_read_stops_the_device(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.tree.put_document(exclusions_path("app"), encode_exclusions("rival", "app", ()))

    state = bench.poll()

    assert bench.commands.ran == []
    assert "brakes/app/exclusions cannot be read" in state.repository_trouble


def test_an_idle_poll_of_an_excluded_device_is_two_requests(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    exclude(bench, entry(device=DEVICE))
    agent = bench.agent()
    agent.poll()
    before = len(bench.mirror.requests)

    agent.poll()

    assert bench.mirror.requests[before:] == ["metadata/2.root.json", "metadata/timestamp.json"]
    agent.close()


def test_a_pin_in_the_device_s_own_settings_is_kept(bench: DeviceBench) -> None:
    bench.config = replace(bench.config, pins=("app=1.0",))
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)

    state = bench.poll()

    assert state.running["app"].version == "1.0"
    assert state.words["app"] == "runs 1.0; 2.0 is not for this device, its settings pin 1.0"


def test_a_device_waits_for_the_window_of_its_decision(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", window=TONIGHT)

    state = bench.poll()
    assert bench.commands.ran == []
    assert state.words["app"] == "runs nothing yet; 1.0 may start at 2026-11-21T22:00:00+00:00"

    bench.clock.now = datetime(2026, 11, 21, 21, 59, 59, tzinfo=UTC)
    bench.poll()
    assert bench.commands.ran == []
    bench.clock.now += timedelta(seconds=1)
    bench.poll()
    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]


def test_both_windows_must_be_open(bench: DeviceBench) -> None:
    bench.config = replace(bench.config, maintenance_window="sat 23:00 1h UTC")
    bench.offer("1.0", "rol_1", window=TONIGHT)
    bench.clock.now = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)
    state = bench.poll()
    assert bench.commands.ran == []
    assert state.words["app"].endswith("1.0 may start at 2026-11-21T23:00:00+00:00")

    bench.clock.now = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
    bench.poll()

    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]


def test_what_was_fetched_too_late_is_kept_for_the_next_window(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1", window=TONIGHT)
    artifact = decision.artifacts["linux-x86_64"]
    bench.poll()
    bench.clock.now = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)
    agent = bench.agent()
    view = agent._repository.refresh()
    choice = agent.choose("app", view)
    assert choice.release is not None
    # The window closes while it is fetched.
    bench.clock.now += timedelta(minutes=2)
    agent._steps.begin(choice.release, view)
    assert bench.commands.ran == []
    assert (agent.state.step, agent.state.fetched) == (Step.IDLE, {"app": artifact.sha256})
    agent.poll()
    agent.close()
    assert bench.home.artifact(artifact.sha256).exists()

    fetched = sum(artifact.sha256 in path for path in bench.mirror.requests)
    bench.clock.now += timedelta(days=7, minutes=-2)
    state = bench.poll()

    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]
    assert sum(artifact.sha256 in path for path in bench.mirror.requests) == fetched == 1
    assert state.fetched == {}


def test_a_stopped_rollout_s_fetched_artifact_is_not_kept(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1", window=TONIGHT)
    artifact = decision.artifacts["linux-x86_64"]
    bench.poll()
    bench.clock.now = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)
    agent = bench.agent()
    view = agent._repository.refresh()
    choice = agent.choose("app", view)
    assert choice.release is not None
    bench.clock.now += timedelta(minutes=2)
    agent._steps.begin(choice.release, view)
    bench.brake(decision, Stance.HALTED)

    agent.poll()
    agent.close()

    assert not bench.home.artifact(artifact.sha256).exists()
    assert agent.state.fetched == {}


def test_what_else_must_run_is_asked_of_what_runs(bench: DeviceBench) -> None:
    bench.config = replace(bench.config, products=("app", "base"))
    bench.offer("1.0", "rol_1", requires=(Requirement(product="base", at_least="2.0"),))
    state = bench.poll()
    assert state.words["app"] == "runs nothing yet; 1.0 needs base 2.0 or later, none runs"

    for version, rollout, minutes in (("1.9", "rol_2", 1), ("2.0.0", "rol_3", 2)):
        path = f"base/{version}/linux-x86_64/base.bin"
        target = bench.tree.add_artifact(path, version.encode())
        offered = bench.offer("0.1", "rol_x", minutes=minutes)
        bench.offer("1.0", "rol_1", requires=(Requirement(product="base", at_least="2.0"),))
        artifact = replace(
            offered.artifacts["linux-x86_64"], path=path, length=target.length, sha256=target.hashes["sha256"]
        )
        bench.put(
            replace(offered, product="base", version=version, rollout=rollout, artifacts={"linux-x86_64": artifact})
        )
        state = bench.poll()
        if version == "1.9":
            assert "app" not in state.running
            assert state.words["app"].endswith("1.0 needs base 2.0 or later, none runs")
            state = bench.poll()
            assert state.words["app"].endswith("1.0 needs base 2.0 or later, 1.9 runs")
    bench.poll()

    assert bench.poll().running["app"].version == "1.0"


def test_a_device_starts_at_its_own_moment_of_the_spread(bench: DeviceBench) -> None:
    mine = starts_after(SALT, DEVICE, 3600)
    assert mine == 1749
    bench.offer("1.0", "rol_1", spread_from=bench.clock.now, spread_seconds=3600)

    bench.clock.now += timedelta(seconds=1748)
    bench.poll()
    assert bench.commands.ran == []
    bench.clock.now += timedelta(seconds=1)
    bench.poll()

    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]


def test_a_device_tries_again_by_itself_with_twice_the_pause_and_then_no_more(bench: DeviceBench) -> None:
    bench.commands.ill = {"1.0"}
    policy = RetryPolicy(count=2, backoff_seconds=600, codes=("health_failed",))
    bench.offer("1.0", "rol_1", retry=policy)
    tried = []
    for minutes in (0, 9, 1, 19, 1, 60, 600):
        bench.clock.now += timedelta(minutes=minutes)
        bench.poll()
        tried.append(bench.commands.ran.count(("install", "1.0")))

    assert tried == [1, 1, 2, 2, 3, 3, 3]
    assert bench.server.results == [
        ("rol_1", 1, "failed", "health_failed"),
        ("rol_1", 2, "failed", "health_failed"),
        ("rol_1", 3, "failed", "health_failed"),
    ]


def test_a_failure_with_another_code_is_not_tried_again(bench: DeviceBench) -> None:
    bench.commands.refuse = {"1.0"}
    bench.offer("1.0", "rol_1", retry=RetryPolicy(count=2, backoff_seconds=0, codes=("health_failed",)))
    bench.poll()
    bench.clock.now += timedelta(hours=1)
    bench.poll()

    assert bench.commands.ran.count(("install", "1.0")) == 1


def test_a_rule_over_versions_is_a_range_or_a_list(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1, from_versions=("0.9", ">=1.1,<2"))
    assert bench.poll().words["app"] == "runs 1.0; 2.0 may only follow 0.9 or >=1.1,<2"
    bench.offer("2.0", "rol_3", minutes=2, from_versions=(">=1.0.0,<2",))

    assert bench.poll().running["app"].version == "2.0"
