"""Another number of bins: clients that came before, in the middle and after never fail, whatever happens on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from repo_signing import roles
from repo_signing.errors import InvalidRecord, RepositoryError
from repo_signing.repository import SignedRepository
from tests.simulators.repository import ANN, RepositoryFetcher, RepositoryHome, StockClient, publish
from tests.simulators.repository_faults import Crash, Faults, FaultyProjection, FaultyStorage

VERSIONS = [f"{number}.0" for number in range(1, 13)]


def path_of(version: str) -> str:
    return f"app/{version}/linux/app.bin"


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    made = RepositoryHome.create(tmp_path / "home")
    repository = made.open()
    for version in VERSIONS:
        publish(repository, version, made.now, sboms=(f"sbom of {version}".encode(),))
    return made


def client(home: RepositoryHome, name: str) -> StockClient:
    return StockClient(home.open(), home.folder / name, home.root)


def check_all(device: StockClient) -> None:
    for version in VERSIONS:
        assert device.fetch(path_of(version)) == f"app {version}".encode()
        sbom = f"{path_of(version)}.sbom.0.cyclonedx-json"
        assert device.fetch(sbom) == f"sbom of {version}".encode()
    assert device.fetch("app/99.0/linux/app.bin") is None


@pytest.mark.parametrize("bits", [7, 8, 11])
def test_old_and_new_clients_find_everything_in_more_and_in_fewer_bins(home: RepositoryHome, bits: int) -> None:
    repository = home.open()
    old = client(home, "old")
    check_all(old)
    serial = repository.rebin(bits=bits, by=ANN, now=home.now)
    assert serial == 14
    status = repository.status(now=home.now)
    assert sum(role.name.startswith("r2-") for role in status.roles) == 2**bits
    assert not any(role.name.startswith("releases-") for role in status.roles)
    assert status.artifacts == 12
    check_all(old)
    check_all(client(home, "new"))
    record, _ = publish(repository, "13.0", home.now)
    assert record.serial == 15
    assert old.fetch(path_of("13.0")) == b"app 13.0"
    assert repository.rebin(bits=6, by=ANN, now=home.now) == 16
    check_all(old)
    check_all(client(home, "newest"))
    assert old.fetch(path_of("13.0")) == b"app 13.0"
    assert home.open().check(now=home.now) == []
    assert {record.path for record in home.open().artifacts()} == set(home.projection.rows)


def test_names_that_once_stood_in_the_snapshot_never_leave_it_nor_come_again(home: RepositoryHome) -> None:
    repository = home.open()
    for bits in (7, 6, 7):
        repository.rebin(bits=bits, by=ANN, now=home.now)
    names = repository._committer.view().versions
    for prefix, bits in (("releases", 6), ("r2", 7), ("r3", 6), ("r4", 7)):
        assert set(roles.bin_names(prefix, bits)) <= names.keys()
    assert names["releases-00"] < names["r2-00"] < names["r3-00"] < names["r4-00"]


def test_bins_that_were_left_are_never_signed_again(home: RepositoryHome) -> None:
    repository = home.open()
    repository.rebin(bits=7, by=ANN, now=home.now)
    renewed = repository.refresh(now=home.later(days=89))
    assert sum(name.startswith("r2-") for name in renewed) == 128
    assert not any(name.startswith("releases-") for name in renewed)
    assert not any(found.kind == "expired_role" for found in repository.check(now=home.later(days=90)))


def test_a_client_that_is_halfway_through_the_old_state_finishes_it(home: RepositoryHome) -> None:
    repository = home.open()
    halfway = client(home, "halfway").updater()
    halfway.refresh()  # it has the snapshot before, and has asked for no bin yet
    repository.rebin(bits=8, by=ANN, now=home.now)
    target = halfway.get_targetinfo(path_of("7.0"))
    assert target is not None
    assert Path(halfway.download_target(target)).read_bytes() == b"app 7.0"


class Poller(threading.Thread):
    """A device that asks all the time, each time as after a restart."""

    def __init__(self, home: RepositoryHome) -> None:
        super().__init__()
        self._device = client(home, "poller")
        self._ended = threading.Event()
        self.polls = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        while not self._ended.is_set() or self.polls < 3:
            try:
                assert self._device.fetch(path_of("5.0")) == b"app 5.0"
            except Exception as error:  # noqa: BLE001 - told by the test's own thread
                self.failure = error
                return
            self.polls += 1

    def stop(self) -> None:
        self._ended.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def test_publishing_goes_on_while_bins_change_and_a_polling_client_never_fails(home: RepositoryHome) -> None:
    repository = home.open()
    poller = Poller(home)
    poller.start()
    publishers = [threading.Thread(target=publish, args=(home.open(), f"2{number}.0", home.now)) for number in range(6)]
    for publisher in publishers:
        publisher.start()
    for bits in (8, 6):
        repository.rebin(bits=bits, by=ANN, now=home.now)
    for publisher in publishers:
        publisher.join()
    poller.stop()
    device = client(home, "after")
    for number in range(6):
        assert device.fetch(path_of(f"2{number}.0")) == f"app 2{number}.0".encode()
    check_all(device)


class SmallHome:
    """A home with few steps to a re-binning; every case gets one anew."""

    def __init__(self, folder: Path) -> None:
        self.home = RepositoryHome.create(folder)
        repository = self.home.open()
        publish(repository, "1.0", self.home.now)
        self.device = client(self.home, "old")
        assert self.device.fetch(path_of("1.0")) == b"app 1.0"

    def run(self, faults: Faults) -> tuple[SignedRepository, FaultyStorage]:
        storage = FaultyStorage(faults)
        return self.home.open(storage, FaultyProjection(self.home.projection, faults)), storage

    def check(self, name: str) -> None:
        for device in (self.device, client(self.home, name)):
            assert device.fetch(path_of("1.0")) == b"app 1.0"


def points(steps: list[str]) -> Iterator[int]:
    """All steps from the writing of the last files on, and of the many bins before one now and then."""
    commit = len(steps) - 1 - steps[::-1].index("sync_file_system")
    yield from range(0, commit, 149)
    yield from range(commit, len(steps))


@pytest.mark.parametrize("how", ["before", "torn"])
def test_a_crash_at_any_point_leaves_the_old_bins_or_the_new_and_can_be_gone_on_from(tmp_path: Path, how: str) -> None:
    counted = Faults()
    repository, _ = SmallHome(tmp_path / "counted").run(counted)
    repository.rebin(bits=7, by=ANN, now=repository_now(repository))
    assert counted.steps[-1] == "project"
    chosen = [at for at in points(counted.steps) if how == "before" or counted.steps[at] == "write"]
    assert len(chosen) >= (15 if how == "before" else 2)
    for at in chosen:
        case = SmallHome(tmp_path / f"{how}-{at}")
        repository, _ = case.run(Faults(at, how))
        with pytest.raises(Crash):
            repository.rebin(bits=7, by=ANN, now=case.home.later(seconds=1))
        case.check("crashed")
        publish(case.home.open(), "2.0", case.home.later(seconds=2))
        case.home.open().recover(now=case.home.later(seconds=2))
        case.check("recovered")
        again = case.home.open()
        if again.bins().bits == 6:
            again.rebin(bits=7, by=ANN, now=case.home.later(seconds=3))
        assert again.bins().bits == 7
        case.check("again")
        assert case.device.fetch(path_of("2.0")) == b"app 2.0"
        assert again.check(now=case.home.later(seconds=4), repair=True) == []


def test_a_disk_error_fails_it_and_the_same_process_goes_on(tmp_path: Path) -> None:
    counted = Faults()
    repository, _ = SmallHome(tmp_path / "counted").run(counted)
    repository.rebin(bits=7, by=ANN, now=repository_now(repository))
    for at in points(counted.steps):
        case = SmallHome(tmp_path / str(at))
        repository, storage = case.run(Faults(at, OSError(28, "No space left on device")))
        if counted.steps[at] == "remove":
            repository.rebin(bits=7, by=ANN, now=case.home.later(seconds=1))
        else:
            with pytest.raises(RepositoryError):
                repository.rebin(bits=7, by=ANN, now=case.home.later(seconds=1))
        assert not storage.synced_twice
        case.check("failed")
        publish(repository, "2.0", case.home.later(seconds=2))
        if repository.bins().bits == 6:
            repository.rebin(bits=7, by=ANN, now=case.home.later(seconds=3))
        case.check("again")
        assert case.device.fetch(path_of("2.0")) == b"app 2.0"


def repository_now(repository: SignedRepository) -> datetime:
    return repository._committer.view().committed_at


def test_the_event_tells_who_and_what(home: RepositoryHome) -> None:
    home.open().rebin(bits=8, by=ANN, now=home.now)
    event = home.projection.events[-1]
    assert (event.tag, event.by) == ("repository.rebinned", ANN)
    assert event.data == {"bins": 256, "before": 64, "targets": 24, "serial": 14}


def test_only_what_is_two_powers_off_is_changed_without_being_asked(home: RepositoryHome) -> None:
    repository = home.open()
    assert repository.rebin(now=home.now) is None
    assert repository.rebin(bits=6, now=home.now) is None
    repository.rebin(bits=7, now=home.now)
    assert repository.rebin(now=home.now) is None  # one power is not worth it
    repository.rebin(bits=8, now=home.now)
    assert repository.rebin(now=home.now) is not None
    assert repository.bins().bits == 6
    for bits in (5, 15):
        with pytest.raises(InvalidRecord, match="expected 6 to 14"):
            repository.rebin(bits=bits, now=home.now)


def test_the_fetcher_is_asked_for_one_bin_only(home: RepositoryHome) -> None:
    repository = home.open()
    repository.rebin(bits=8, by=ANN, now=home.now)
    device = client(home, "device")
    device.fetch(path_of("3.0"))
    assert isinstance(device.fetcher, RepositoryFetcher)
    bins = [name for name, status, _ in device.fetcher.answers if status == 200 and ".r2-" in name]
    assert len(bins) == 1
