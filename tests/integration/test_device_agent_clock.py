"""Devices that were away for weeks, and devices whose clock is years behind or ahead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.identity import load_credentials
from agent.link import PermitAnswer
from agent.report import status_in_words
from rollout.budget import Budget
from rollout.decision import Stance
from rollout.model import RetryPolicy
from tests.simulators.agents import NOON, DeviceBench, device_bench

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS_AHEAD = NOON + timedelta(days=5 * 365)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        bench.server.clock = lambda: NOON + timedelta(hours=1)  # the server's clock is right
        yield bench


def running(bench: DeviceBench) -> str:
    return bench.poll().running["app"].version


def test_with_a_clock_of_1970_nothing_is_begun_until_it_is_set(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.clock.now = EPOCH

    state = bench.poll()

    assert (state.running, bench.commands.ran) == ({}, [])
    assert not [path for path in bench.mirror.requests if path.startswith("targets/app")]
    bench.clock.now = NOON + timedelta(hours=1)
    assert running(bench) == "1.0"


@pytest.mark.parametrize(("behind", "is_held_up"), [(timedelta(hours=23), False), (timedelta(hours=26), True)])
def test_a_clock_in_another_zone_holds_nothing_up(bench: DeviceBench, behind: timedelta, is_held_up: bool) -> None:
    bench.offer("1.0", "rol_1")
    bench.clock.now = NOON - behind

    assert (bench.poll().running == {}) is is_held_up


def test_the_device_s_own_certificate_says_that_a_clock_is_behind_when_no_decision_does(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", submitted_at=NOON - timedelta(days=400))
    bench.clock.now = NOON - timedelta(days=390)

    words = bench.poll().words["app"]

    assert words.startswith(
        "runs nothing yet; the clock shows 2025-10-27, before 2026-11-21, when something was signed"
    )


def test_a_device_without_a_clock_still_hears_that_it_is_called_back(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.clock.now = EPOCH
    bench.brake(decision, Stance.ROLL_BACK)

    assert running(bench) == "1.0"
    assert bench.commands.installed == b"1.0" * 1000


def test_after_a_clock_that_was_ahead_is_set_back_the_device_checks_in_again(bench: DeviceBench) -> None:
    agent = bench.agent()
    bench.clock.now = YEARS_AHEAD
    agent.poll()
    bench.clock.now = NOON + timedelta(hours=1)
    spoken = len(bench.server.check_ins)
    agent.poll()
    agent.poll()
    agent.close()

    assert len(bench.server.check_ins) == spoken + 1  # at once, and then at the server's pace again
    assert agent.state.refreshed_at == "2026-11-21T13:00:00Z"


def test_a_permit_asked_for_by_a_clock_that_was_ahead_is_asked_for_again(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", budget=Budget(label="site", max_updating=1))
    bench.server.permit_answer = PermitAnswer(granted=False, reason="full", ask_again_seconds=300)
    bench.clock.now = YEARS_AHEAD
    bench.poll()
    bench.server.permit_answer = PermitAnswer(granted=True)
    bench.clock.now = NOON + timedelta(hours=1)

    assert running(bench) == "1.0"


def test_a_failure_noted_by_a_clock_that_was_ahead_is_tried_again(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", retry=RetryPolicy(count=1, backoff_seconds=600, codes=()))
    bench.commands.ill = {"1.0"}
    bench.clock.now = YEARS_AHEAD
    bench.poll()
    bench.commands.ill = set()
    bench.clock.now = NOON + timedelta(hours=1)

    assert running(bench) == "1.0"


def test_away_for_weeks_and_back_it_takes_what_is_new_although_its_certificate_is_over(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    files, bench.mirror.files = bench.mirror.files, {}
    bench.server.away = True
    for _ in range(6):
        bench.clock.now += timedelta(days=7)
        state = bench.poll()
    assert state.running["app"].version == "1.0"
    assert state.repository_trouble.startswith("repository_away: metadata is not there: HTTP status 404")
    assert state.server_trouble == (
        "server_away: no answer from the device port; by this device's clock its certificate expired at "
        "2026-12-21 13:00 UTC: signed releases are followed all the same, and reports wait; set the clock if it is "
        "wrong, else enrol it anew (--again)"
    )

    bench.mirror.files, bench.server.away, bench.server.unknown = files, False, True
    bench.offer("2.0", "rol_2", minutes=60 * 24 * 40)
    state = bench.poll()

    assert (state.running["app"].version, bench.commands.installed) == ("2.0", b"2.0" * 1000)
    assert state.server_trouble.startswith("not_recognised: ")
    assert [report.progress for report in state.outbox] == ["downloading", "installing", "succeeded"]
    config = AgentConfig(platform="linux-x86_64", products=("app",))
    said = status_in_words(bench.identity, load_credentials(bench.home), config, state, now=bench.clock.now)
    assert (
        "Its certificate expired at 2026-12-21 13:00 UTC: unless the clock is wrong it must be enrolled again "
        "(wavegate-agent enroll --again). It goes on following signed releases for the groups that it knows."
    ) in said


def test_metadata_that_expired_in_the_cache_is_replaced_and_from_the_network_it_is_refused(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    roles = ("decisions", "brakes", "revocations", "releases", "targets", *bench.tree.bins.get_roles())
    today = datetime.now(UTC).replace(microsecond=0)
    bench.tree.expires = today - timedelta(days=1)
    bench.tree.commit(*roles)
    (bench.home.metadata / "timestamp.json").write_bytes(bench.tree.files["metadata/timestamp.json"])
    for role in ("snapshot", *roles):
        content = bench.tree.files[f"metadata/{bench.tree.version}.{role}.json"]
        (bench.home.metadata / f"{role}.json").write_bytes(content)

    state = bench.poll()

    assert state.repository_trouble.startswith("repository_refused: metadata does not verify: ")
    assert re.search(
        r"and this device's clock shows \d{4}-\d\d-\d\d \(UTC\): the clock is wrong", state.repository_trouble
    )
    assert state.running["app"].version == "1.0"

    bench.tree.expires = today + timedelta(days=30)
    bench.tree.commit(*roles)
    bench.offer("2.0", "rol_2", minutes=1)

    state = bench.poll()

    assert (state.repository_trouble, state.running["app"].version) == ("", "2.0")
