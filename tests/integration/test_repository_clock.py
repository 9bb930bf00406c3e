"""A server whose clock is wrong signs nothing, says so, and finds its way back when somebody vouches for the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from repo_signing.errors import ClockAhead, ClockBehind
from repo_signing.repository import SignedRepository
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish

OLD = "app/1.0/linux/app.bin"

Action = Callable[[SignedRepository, datetime], object]

ACTIONS: dict[str, Action] = {
    "publish": lambda repository, now: publish(repository, "2.0", now),
    "decide": lambda repository, now: repository.commit_documents({"decisions/app/pilot.json": b"{}"}, now=now),
    "yank": lambda repository, now: repository.yank(OLD, reason="bad", by=ANN, now=now),
    "refresh": lambda repository, now: repository.refresh(now=now, force=True),
}


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    home = RepositoryHome.create(tmp_path / "home")
    publish(home.open(), "1.0", home.now)
    return home


def signed_files(home: RepositoryHome) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.metadata.iterdir()}


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("days", [-1, -400])
def test_a_clock_that_was_set_back_signs_nothing_and_the_message_says_what_to_do(
    name: str, days: int, home: RepositoryHome
) -> None:
    before = signed_files(home)
    with pytest.raises(ClockBehind, match=r"but the last commit was at 20.*set the clock.*--accept-clock"):
        ACTIONS[name](home.open(), home.later(days=days))
    assert signed_files(home) == before
    ACTIONS[name](home.open(), home.later(seconds=1))
    assert home.open().serial() == 3


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("days", [91, 400, 3650])
def test_a_clock_far_ahead_signs_nothing_and_the_message_says_what_to_do(
    name: str, days: int, home: RepositoryHome
) -> None:
    before = signed_files(home)
    with pytest.raises(ClockAhead, match=rf"{days} days after the last commit.*at most 90.*--accept-clock"):
        ACTIONS[name](home.open(), home.later(days=days))
    assert signed_files(home) == before
    ACTIONS[name](home.open(), home.later(seconds=1))
    assert home.open().serial() == 3


def test_a_step_of_a_minute_either_way_is_what_time_services_do(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "2.0", home.later(seconds=-59))
    publish(repository, "3.0", home.later(seconds=59))
    assert repository.serial() == 4


def test_a_server_that_was_off_for_most_of_a_year_goes_on_when_somebody_vouches_for_the_clock(
    home: RepositoryHome,
) -> None:
    later = home.later(days=300)
    repository = home.open()
    with pytest.raises(ClockAhead):
        repository.refresh(now=later)
    assert len(repository.refresh(now=later, accept_clock=True)) == 70
    publish(repository, "2.0", later)
    device = StockClient(repository, home.folder / "client", home.root).updater()
    device._trusted_set.reference_time = later
    assert device.get_targetinfo("app/2.0/linux/app.bin") is not None


def test_what_a_clock_ahead_has_signed_is_healed_once_the_clock_is_right(home: RepositoryHome) -> None:
    """89 days ahead is believed; put right, the repository must not wait 89 days, nor clients be held that long."""
    wrong, right = home.later(days=89), home.later(minutes=5)
    repository = home.open()
    client = StockClient(repository, home.folder / "client", home.root)
    repository.refresh(now=wrong)
    client.refresh()
    with pytest.raises(ClockBehind):
        publish(repository, "2.0", right)
    repository.refresh(now=right, accept_clock=True)
    publish(repository, "2.0", right)
    client.refresh()
    assert client.fetch("app/2.0/linux/app.bin") == b"app 2.0"
    longest = {
        "root": 365,
        "targets": 365,
        "timestamp": 2,
        "snapshot": 14,
        "decisions": 7,
        "brakes": 7,
        "revocations": 7,
    }
    for role in repository.status(now=right).roles:
        assert role.expires - right <= timedelta(days=longest.get(role.name, 90)), role.name


def test_vouching_for_the_clock_does_not_outlive_the_offline_roles(home: RepositoryHome) -> None:
    before = signed_files(home)
    with pytest.raises(Exception, match="is expired"):
        home.open().refresh(now=home.later(days=400), accept_clock=True)
    assert signed_files(home) == before
