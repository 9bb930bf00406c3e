"""The agent and a server that is away, forgetful, or refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulators.agents import (
    NOON,
    DeviceBench,
    device_bench,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def test_while_the_server_is_away_a_device_goes_on_and_reports_later_in_order(bench: DeviceBench) -> None:
    bench.poll()
    bench.server.away = True
    bench.offer("1.0", "rol_1")

    state = bench.poll()

    assert state.running["app"].version == "1.0"
    assert len(state.outbox) == 3
    assert state.server_trouble == "server_away: no answer from the device port"

    bench.server.away = False
    state = bench.poll()

    assert [report[2] for report in bench.server.reports] == ["downloading", "installing", "succeeded"]
    assert (state.outbox, state.server_trouble) == ((), "")


def test_a_report_whose_answer_got_lost_is_sent_again_under_the_same_id(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.server.lose_answers = True
    bench.poll()
    bench.server.lose_answers = False
    bench.poll()

    assert len(bench.server.received) > 3
    assert [report[2] for report in bench.server.reports] == ["downloading", "installing", "succeeded"]


def test_a_report_that_the_server_refuses_does_not_hold_up_the_others(bench: DeviceBench) -> None:
    bench.server.refusing = {"rol_1"}
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)

    assert bench.poll().outbox == ()
    assert bench.server.results == [("rol_2", 1, "succeeded", "")]


def test_a_revoked_device_says_so_and_keeps_what_it_runs(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.server.unknown = True

    state = bench.poll()

    assert state.server_trouble.startswith("not_recognised: ")
    assert state.running["app"].version == "1.0"


def test_the_certificate_is_renewed_at_two_thirds_of_its_life(bench: DeviceBench) -> None:
    bench.poll()
    first = bench.certificate
    bench.clock.now = NOON + timedelta(days=19)
    bench.poll()
    assert bench.server.renewals == 0

    bench.clock.now = NOON + timedelta(days=21)
    bench.poll()

    assert (bench.server.renewals, bench.server.dials) == (1, 1)
    assert bench.certificate.public_key() != first.public_key()
    assert bench.certificate.not_valid_after_utc == NOON + timedelta(days=51)


def test_without_groups_a_device_asks_at_every_poll(bench: DeviceBench) -> None:
    bench.server.groups = ()
    agent = bench.agent()
    agent.poll()
    agent.poll()
    assert len(bench.server.check_ins) >= 2
    bench.offer("1.0", "rol_1")
    bench.server.groups = ("canary",)

    agent.poll()
    agent.close()

    assert agent.state.running["app"].version == "1.0"


def test_without_products_of_its_own_a_device_takes_the_servers_hint(bench: DeviceBench) -> None:
    bench.config = replace(bench.config, products=())
    bench.offer("1.0", "rol_1")

    assert bench.poll().running["app"].version == "1.0"
