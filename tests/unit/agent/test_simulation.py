"""What the profiles of simulated devices mean, and how what they did is counted."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import BadConfig, CallRefused, NotRecognised, RepositoryAway, ServerAway
from agent.hooks import INSTALL, ROLLBACK
from agent.link import Facts
from agent.simulation.device import CountedLink, RememberedState
from agent.simulation.fleet import Fleet, Orders, kept
from agent.simulation.profiles import Nature, Network, Profile, assigned, nature_of
from agent.simulation.tally import Tally
from agent.state import PendingReport, Progress, Release, State, StateFile
from tests.simulators.agents import Server

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FACTS = Facts(agent_version="0", hostname="sim-1-00001", os_family="linux", os_name="", platform="linux-x86_64")
RELEASE = Release(
    product="app",
    version="1.0.0",
    path="app/1.0.0/any/app.bin",
    length=3,
    sha256="ab" * 32,
    rollout="rol_1",
    group="field",
    wave=1,
    attempt=1,
)


def nature(profile: Profile, seed: str = "1", waited: list[float] | None = None) -> Nature:
    wait = (waited if waited is not None else []).append
    return nature_of(profile, random.Random(seed), interval=60.0, wait=wait, clock=lambda: NOON)


def report(progress: Progress, code: str = "") -> PendingReport:
    return PendingReport(id="rep_1", rollout="rol_1", attempt=1, progress=progress, code=code)


def test_percents_become_devices_and_the_rest_is_ok() -> None:
    drawn = assigned(10, {"failing": 25, "slow": 25, "silent": 10}, random.Random(1))
    assert {profile.value: drawn.count(profile) for profile in Profile} == {
        "ok": 4,
        "failing": 2,
        "slow": 3,
        "silent": 1,
        "flapping": 0,
        "wrong-clock": 0,
    }


def test_a_hundred_percent_are_all_devices_however_they_are_rounded() -> None:
    drawn = assigned(7, {"failing": 33, "slow": 33, "flapping": 34}, random.Random(1))
    assert (len(drawn), drawn.count(Profile.OK)) == (7, 0)


def test_the_same_seed_draws_the_same_devices() -> None:
    drawn = [assigned(100, {"failing": 50}, random.Random(seed)) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("percents", [{"broken": 10}, {"slow": 60, "failing": 41}, {"slow": -1}])
def test_profiles_that_cannot_be_are_refused(percents: dict[str, int]) -> None:
    with pytest.raises(BadConfig):
        assigned(10, percents, random.Random(1))


def test_a_device_that_is_ok_installs_at_once_by_a_clock_that_is_right() -> None:
    waited: list[float] = []
    made = nature(Profile.OK, waited=waited)
    assert made.hooks.install(RELEASE, Path("file"), INSTALL).ok
    assert made.hooks.healthy(RELEASE, Path("file")).ok
    assert made.clock() == NOON
    assert sum(waited) == 0


def test_a_slow_device_takes_half_an_interval_to_two_for_an_install() -> None:
    for seed in range(20):
        waited: list[float] = []
        assert nature(Profile.SLOW, str(seed), waited).hooks.install(RELEASE, Path("file"), INSTALL).ok
        assert 30 <= waited[0] <= 120


def test_a_failing_device_fails_in_the_install_or_after_it_and_can_always_go_back() -> None:
    installs = []
    for seed in range(20):
        hooks = nature(Profile.FAILING, str(seed)).hooks
        installs.append(hooks.install(RELEASE, Path("file"), INSTALL).ok)
        assert not hooks.healthy(RELEASE, Path("file")).ok
        assert hooks.install(RELEASE, Path("file"), ROLLBACK).ok
    assert set(installs) == {True, False}


def test_a_wrong_clock_shows_1970_or_more_than_a_year_ahead() -> None:
    shown = {nature(Profile.WRONG_CLOCK, str(seed)).clock() for seed in range(20)}
    assert shown == {datetime(1970, 1, 1, tzinfo=UTC), NOON + timedelta(days=400)}


def test_a_flapping_network_is_away_in_some_polls_and_loses_answers_in_others() -> None:
    network, heard, answered = nature(Profile.FLAPPING).network, 0, 0
    for _ in range(200):
        network.turn()
        try:
            with network.calling():
                heard += 1
            answered += 1
        except ServerAway:
            pass
        if network.is_down:
            with pytest.raises(RepositoryAway):
                network.fetching()
    assert 100 < heard < 140  # of 200, 60 percent
    assert heard * 0.7 < answered < heard * 0.9


def test_what_the_server_took_is_counted_though_the_answer_gets_lost() -> None:
    tally = Tally()
    link = CountedLink(Server(), Network(random.Random(1), lambda _: None, lost_percent=100), tally)
    for call in (
        lambda: link.check_in(FACTS, [], ""),
        lambda: link.report(report(Progress.FAILED, "install_failed")),
    ):
        with pytest.raises(ServerAway, match="lost"):
            call()
    told = tally.summary()
    assert (told["check_ins"], told["reports"], told["failures"]) == (1, 1, {"install_failed": 1})
    assert told["errors"] == {}, "the profile made it happen"


def test_a_server_that_is_away_is_an_error_and_a_simulated_network_that_is_away_none() -> None:
    tally, network = Tally(), Network(random.Random(1), lambda _: None)
    for server, error in ((Server(away=True), ServerAway), (Server(unknown=True), NotRecognised)):
        with pytest.raises(error):
            CountedLink(server, network, tally).check_in(FACTS, [], "")
    network.is_down = True
    with pytest.raises(ServerAway):
        CountedLink(Server(), network, tally).check_in(FACTS, [], "")
    assert tally.summary()["errors"] == {"not_recognised": 1, "server_away": 1}


def test_a_report_that_the_server_refuses_is_no_error() -> None:
    tally = Tally()
    link = CountedLink(Server(refusing={"rol_1"}), Network(random.Random(1), lambda _: None), tally)
    with pytest.raises(CallRefused):
        link.report(report(Progress.SUCCEEDED))
    told = tally.summary()
    assert (told["reports_refused"], told["installs"]["succeeded"], told["errors"]) == (1, 0, {})


def test_percentiles_are_those_of_all_check_ins() -> None:
    tally = Tally()
    assert tally.summary()["check_in_ms"] == {"p50": None, "p99": None}
    for milliseconds in range(100, 0, -1):
        tally.check_in(milliseconds / 1000)
    assert tally.summary()["check_in_ms"] == {"p50": 51.0, "p99": 100.0}


def test_polls_and_check_ins_are_counted_from_when_the_time_begins() -> None:
    tally = Tally()
    for _ in range(2):
        tally.count("enrolled")
        tally.count("polls")
        tally.check_in(1.0)
        tally.error("server_away")
    tally.begin()
    tally.count("polls")
    tally.check_in(0.002)
    told = tally.summary()
    assert (told["enrolled"], told["polls"], told["check_ins"]) == (2, 1, 1)
    assert (told["check_in_ms"], told["errors"]) == ({"p50": 2.0, "p99": 2.0}, {"server_away": 2})
    assert (told["arrivals"], told["arrival_ms"]) == (2, {"p50": 1000.0, "p99": 1000.0})


@pytest.mark.parametrize(
    ("devices", "files", "channels", "connections"),
    [
        (24, 1_024, True, True),
        (500, 1_024, True, False),
        (900, 1_024, False, False),
        (1_000, 20_000, True, True),
        (10_000, 20_000, True, False),
        (10_000, 20_200, True, True),
        (20_000, 1_000_000, True, True),
        (20_001, 1_000_000, False, False),
    ],
)
def test_devices_stay_connected_as_far_as_files_and_memory_reach(
    devices: int, files: int, channels: bool, connections: bool
) -> None:
    assert kept(devices, files) == (channels, connections)


def test_the_state_is_on_disk_only_when_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    remembered = RememberedState(file)
    remembered.save(State(groups=("field",)))
    assert not file.exists()
    remembered.write()
    assert StateFile(file).load() == remembered.load() == State(groups=("field",))


def test_a_fleet_that_nobody_lets_in_says_why(tmp_path: Path) -> None:
    orders = Orders(
        url="http://127.0.0.1:9",
        token="no token",
        folder=tmp_path,
        devices=3,
        duration=1,
        interval=1,
        seed=1,
        platform="linux-x86_64",
        profiles={},
    )
    said: list[str] = []
    fleet = Fleet(orders, Tally(), threading.Event(), said.append)
    with pytest.raises(BadConfig, match="copy it whole"):
        fleet.enrol()
    assert "no token" not in repr(orders)
