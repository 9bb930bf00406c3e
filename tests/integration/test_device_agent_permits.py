"""What a real agent does about permits: it asks before it installs, waits, and is harmed by no lie but waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CallRefused
from agent.identity import load_credentials
from agent.link import PermitAnswer
from agent.report import status_in_words
from agent.state import Step
from rollout.budget import Budget
from rollout.decision import Stance
from rollout.model import RetryPolicy
from rollout.windows import Window
from tests.simulators.agents import DeviceBench, Power, PowerCut, device_bench

BUDGET = Budget(label="site", max_updating=1)
NO = PermitAnswer(granted=False, reason="1 of at most 1 devices with site=berlin are updating", ask_again_seconds=300)
WAITS = f"runs nothing yet; 1.0 is here and waits for a permit: {NO.reason}"
YES = PermitAnswer(granted=True)
INSTALLED = [("install", "1.0"), ("health", "1.0")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def test_a_device_asks_before_it_installs_and_the_result_says_that_it_is_done(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", budget=BUDGET)

    state = bench.poll()

    assert bench.server.permits_asked == [("rol_1", 1)]
    assert bench.commands.ran == INSTALLED
    assert bench.server.results == [("rol_1", 1, "succeeded", "")]
    assert (bench.server.permits_back, state.permits_back) == ([], ())


def test_without_a_budget_nobody_is_asked(bench: DeviceBench) -> None:
    bench.server.permit_answer = NO
    bench.offer("1.0", "rol_1")
    bench.poll()
    assert bench.commands.ran == INSTALLED
    assert bench.server.permits_asked == []


def test_without_a_permit_the_download_is_kept_and_the_server_asked_at_its_own_pace(bench: DeviceBench) -> None:
    bench.server.permit_answer = NO
    decision = bench.offer("1.0", "rol_1", budget=BUDGET)
    artifact = decision.artifacts["linux-x86_64"]

    state = bench.poll()

    assert (bench.commands.ran, state.step, state.words["app"]) == ([], Step.IDLE, WAITS)
    assert bench.home.artifact(artifact.sha256).exists()
    lines = status_in_words(bench.identity, load_credentials(bench.home), bench.config, state, now=bench.clock.now)
    assert f"  app: {WAITS}" in lines
    for _ in range(4):
        bench.clock.now += timedelta(seconds=60)
        state = bench.poll()
    assert len(bench.server.permits_asked) == 1
    assert state.words["app"] == WAITS
    bench.clock.now += timedelta(seconds=60)
    bench.poll()
    assert len(bench.server.permits_asked) == 2

    bench.server.permit_answer = YES
    bench.clock.now += timedelta(seconds=300)
    state = bench.poll()

    assert bench.commands.ran == INSTALLED
    assert sum(artifact.sha256 in path for path in bench.mirror.requests) == 1
    assert [report[2] for report in bench.server.reports] == ["downloading", "installing", "succeeded"]
    assert (dict(state.fetched), dict(state.permit_waits)) == ({}, {})


def test_a_device_that_waits_lets_its_other_products_go_on(bench: DeviceBench) -> None:
    bench.config = replace(bench.config, products=("app", "base"))
    bench.server.permit_answer = NO
    offered = bench.offer("1.0", "rol_1", budget=BUDGET)
    target = bench.tree.add_artifact("base/2.0/linux-x86_64/base.bin", b"base")
    artifact = replace(
        offered.artifacts["linux-x86_64"], path=target.path, length=target.length, sha256=target.hashes["sha256"]
    )
    bench.put(
        replace(
            offered, product="base", version="2.0", rollout="rol_2", artifacts={"linux-x86_64": artifact}, budget=None
        )
    )

    state = bench.poll()

    assert state.running["base"].version == "2.0"
    assert state.words["app"] == WAITS


def test_while_the_server_is_away_a_device_waits_and_installs_when_it_is_back(bench: DeviceBench) -> None:
    bench.poll()
    bench.server.away = True
    bench.offer("1.0", "rol_1", budget=BUDGET)

    state = bench.poll()

    assert bench.commands.ran == []
    assert state.words["app"] == ("runs nothing yet; 1.0 is here and waits for a permit: the server does not answer")
    bench.server.away = False
    bench.clock.now += timedelta(seconds=60)
    bench.poll()
    assert bench.commands.ran == INSTALLED


def test_a_server_that_knows_no_permits_only_holds_the_device_up(
    bench: DeviceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unimplemented(rollout: str, attempt: int) -> PermitAnswer:
        raise CallRefused("Method not found!")

    monkeypatch.setattr(bench.server, "permit", unimplemented)
    bench.offer("1.0", "rol_1", budget=BUDGET)
    state = bench.poll()
    assert bench.commands.ran == []
    assert state.words["app"].endswith("waits for a permit: the server refuses: Method not found!")


@pytest.mark.parametrize("lie", ["cohort", "brake", "bytes", "window", "pin", "decision"])
def test_a_server_that_gives_everybody_a_permit_has_nothing_installed_that_was_not_signed_for_it(
    bench: DeviceBench, lie: str
) -> None:
    signed: dict[str, dict[str, Any]] = {
        "cohort": {"cohort_to": 10},
        "window": {"window": Window(days=("sun",), start="22:00", minutes=60, zone="UTC")},
    }
    if lie == "pin":
        bench.config = replace(bench.config, pins=("app=0.9",))
    decision = bench.offer("1.0", "rol_1", budget=BUDGET, **signed.get(lie, {}))
    if lie == "brake":
        bench.brake(decision, Stance.HALTED)
    if lie == "bytes":
        wrong = replace(decision.artifacts["linux-x86_64"], sha256="ab" * 32)
        bench.put(replace(decision, artifacts={"linux-x86_64": wrong}))
    if lie == "decision":
        bench.put(replace(decision, org="rival"))

    for _ in range(4):
        bench.poll()
        bench.clock.now += timedelta(seconds=60)

    assert bench.commands.ran == []
    assert bench.server.permits_asked == []


def test_a_permit_does_not_open_a_window_that_closed_while_it_was_waited_for(bench: DeviceBench) -> None:
    bench.server.permit_answer = NO
    bench.clock.now = datetime(2026, 11, 21, 23, 55, tzinfo=UTC)
    bench.offer("1.0", "rol_1", budget=BUDGET, window=Window(days=("sat",), start="22:00", minutes=120, zone="UTC"))
    bench.poll()
    bench.server.permit_answer = YES
    bench.clock.now += timedelta(minutes=5)

    state = bench.poll()

    assert bench.commands.ran == []
    assert state.words["app"] == "runs nothing yet; 1.0 may start at 2026-11-28T22:00:00+00:00"
    assert len(bench.server.permits_asked) == 1


def test_after_a_failure_the_permit_goes_back_once_the_device_has_returned(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.commands.ill = {"2.0"}
    bench.offer("2.0", "rol_2", minutes=1, budget=BUDGET)
    ran_before: list[tuple[str, str]] = []
    give_back = bench.server.give_permit_back

    def noting(rollout: str) -> None:
        ran_before.extend(bench.commands.ran)
        give_back(rollout)

    bench.server.give_permit_back = noting  # type: ignore[method-assign]
    state = bench.poll()

    assert bench.server.results[-1] == ("rol_2", 1, "failed", "health_failed")
    assert bench.server.permits_back == ["rol_2"]
    assert ran_before[-1] == ("rollback", "1.0")
    assert state.permits_back == ()


def test_a_permit_that_could_not_be_given_back_is_given_back_later(bench: DeviceBench) -> None:
    bench.commands.refuse = {"1.0"}
    bench.offer("1.0", "rol_1", budget=BUDGET, retry=RetryPolicy(count=1, backoff_seconds=600))

    def go_away(rollout: str, attempt: int) -> PermitAnswer:
        bench.server.away = True
        return YES

    bench.server.permit = go_away  # type: ignore[method-assign]
    assert bench.poll().permits_back == ("rol_1",)
    bench.server.away = False
    assert bench.poll().permits_back == ()
    assert bench.server.permits_back == ["rol_1"]


def test_a_stop_while_it_waits_is_heard_and_what_was_fetched_is_dropped(bench: DeviceBench) -> None:
    bench.server.permit_answer = NO
    decision = bench.offer("1.0", "rol_1", budget=BUDGET)
    bench.poll()
    bench.brake(decision, Stance.HALTED)

    state = bench.poll()

    assert (dict(state.fetched), dict(state.permit_waits)) == ({}, {})
    assert state.words["app"] == "runs nothing yet; 1.0 is stopped: stopped by Ada"


def test_wherever_the_power_fails_no_command_runs_before_a_permit_was_given(bench: DeviceBench, tmp_path: Path) -> None:
    bench.offer("1.0", "rol_1", budget=BUDGET)
    whole = bench.copy_to(tmp_path / "whole")
    power = Power()
    whole.poll(power)
    asked = []
    for cut in range(1, power.moments + 1):
        device = bench.copy_to(tmp_path / f"cut-{cut}")
        device.server.permits_asked = []
        with pytest.raises(PowerCut):
            device.poll(Power(cut))
        assert device.server.permits_asked or device.commands.ran == [], cut
        # Who was given one before the lights went out is given it again.
        was_given = bool(device.server.permits_asked)
        device.server.permit_answer = YES if was_given else NO
        device.poll()
        assert was_given or device.commands.ran == [], cut
        device.server.permit_answer = YES
        device.clock.now += timedelta(seconds=300)
        state = device.poll()
        assert state.running["app"].version == "1.0", cut
        asked.append(len(device.server.permits_asked))
    assert max(asked) > min(asked), "somewhere the power failed between the permit and the command"
