"""Collecting: what no client can ask for goes, and whoever was away comes back to a repository that is whole."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

import pytest

from repo_signing.errors import RepositoryDamaged
from repo_signing.repository import SignedRepository
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish, staged
from tests.simulators.repository_faults import Faults, FaultyStorage, every_crash

DECISION = "decisions/app/pilot.json"


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    return RepositoryHome.create(tmp_path / "home")


def quick(home: RepositoryHome) -> SignedRepository:
    """Without faults: it only spares the waiting for the disk."""
    return home.open(FaultyStorage(Faults()))


def decide(repository: SignedRepository, numbers: range, now: datetime) -> None:
    for number in numbers:
        repository.commit_documents({DECISION: b"decision %d" % number}, now=now)


def names(home: RepositoryHome, role: str) -> list[int]:
    return sorted(int(path.name.partition(".")[0]) for path in home.metadata.glob(f"*.{role}.json"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_ten_versions_stay_and_older_ones_go_after_a_week(home: RepositoryHome) -> None:
    repository = quick(home)
    publish(repository, "1.0", home.now)  # serial 2
    decide(repository, range(3, 21), home.now)
    nothing = repository.collect(now=home.later(days=6))
    assert nothing.is_empty()
    told = repository.collect(now=home.later(days=8), dry_run=True)
    assert repository.collect(now=home.later(days=8)).metadata == told.metadata
    assert names(home, "snapshot") == list(range(11, 21))
    assert names(home, "decisions") == list(range(11, 21))
    assert names(home, "root") == [1]
    assert names(home, "targets") == [1]
    assert told.metadata[:2] == ("1.snapshot.json", "2.snapshot.json"), "snapshots go before what they name"
    assert sorted(told.blobs) == sorted(sha256(b"decision %d" % number) for number in range(3, 11))
    assert StockClient(repository, home.folder / "new", home.root).fetch(DECISION) == b"decision 20"
    assert repository.check(now=home.now) == []
    assert home.projection.events[-1].tag == "repository.collected"
    assert home.projection.events[-1].data["blobs"] == 8


def test_a_snapshot_counts_from_when_it_was_replaced_not_from_when_it_was_signed(home: RepositoryHome) -> None:
    repository = quick(home)
    decide(repository, range(2, 4), home.now)
    decide(repository, range(4, 20), home.later(days=6))
    repository.collect(now=home.later(days=12))
    assert names(home, "snapshot")[0] == 3, "current until day 6, so clients may have taken it then"


def test_a_client_that_was_in_the_middle_of_a_poll_finishes_it(home: RepositoryHome) -> None:
    repository = quick(home)
    publish(repository, "1.0", home.now)
    updater = StockClient(repository, home.folder / "client", home.root).updater()
    updater.refresh()
    decide(repository, range(40), home.now)
    repository.collect(now=home.later(days=2))
    target = updater.get_targetinfo("app/1.0/linux/app.bin")
    assert target is not None
    assert Path(updater.download_target(target)).read_bytes() == b"app 1.0"


def test_blobs_that_a_rollout_names_or_that_wait_to_be_signed_stay(home: RepositoryHome) -> None:
    repository = quick(home)
    decide(repository, range(2, 20), home.now)
    repository._blobs.keep(staged(repository, b"about to be signed"))
    told = repository.collect(now=home.later(days=8), needed=[sha256(b"decision 3")], dry_run=True)
    assert sha256(b"decision 3") not in told.blobs
    assert sha256(b"decision 4") in told.blobs
    assert repository.collect(now=home.later(days=1)).blobs == ()


def test_a_blob_taken_away_before_its_commit_is_put_back_by_the_commit(home: RepositoryHome) -> None:
    repository = quick(home)
    kept = repository._blobs.keep

    def keep_and_lose(blob: object) -> None:
        repository._blobs.keep = kept  # type: ignore[method-assign]
        kept(blob)  # type: ignore[arg-type]
        repository._blobs.path(sha256(b"app 1.0")).unlink()

    repository._blobs.keep = keep_and_lose  # type: ignore[method-assign, assignment]
    publish(repository, "1.0", home.now)
    assert StockClient(repository, home.folder / "client", home.root).fetch("app/1.0/linux/app.bin") == b"app 1.0"


def test_withdrawn_bytes_go_after_thirty_days(home: RepositoryHome) -> None:
    repository = quick(home)
    publish(repository, "1.0", home.now)
    repository.withdraw("app/1.0/linux/app.bin", reason="wrong", by=ANN, now=home.now)
    assert repository.collect(now=home.later(days=29)).quarantined == ()
    assert repository.collect(now=home.later(days=31)).quarantined == (sha256(b"app 1.0"),)
    assert repository.check(now=home.now) == []


def test_metadata_that_cannot_be_read_stops_the_collection(home: RepositoryHome) -> None:
    repository = quick(home)
    decide(repository, range(2, 20), home.now)
    kept = home.metadata / "15.decisions.json"
    kept.write_bytes(b"{")
    with pytest.raises(RepositoryDamaged, match=r"15\.decisions\.json cannot be read .* nothing was collected"):
        home.open().collect(now=home.later(days=8))
    assert names(home, "snapshot")[0] == 1


def test_numbers_of_collected_versions_are_never_used_again(home: RepositoryHome) -> None:
    repository = quick(home)
    decide(repository, range(2, 20), home.now)
    repository.collect(now=home.later(days=8))
    assert publish(home.open(), "1.0", home.later(days=8))[0].serial == 20


def test_a_crash_at_any_step_leaves_a_whole_repository_and_the_next_goes_on(
    home: RepositoryHome, tmp_path: Path
) -> None:
    repository = quick(home)
    publish(repository, "1.0", home.now)
    StockClient(repository, home.folder / "client", home.root).refresh()
    decide(repository, range(3, 14), home.now)
    now = home.later(days=8)
    for case in every_crash(home, tmp_path / "cases", lambda one: one.collect(now=now)):
        for path in case.metadata.glob("*.snapshot.json"):
            meta = json.loads(path.read_bytes())["signed"]["meta"]
            named = [f"{one['version']}.{name}" for name, one in meta.items()]
            assert [name for name in named if not (case.metadata / name).exists()] == []
        reader = quick(case)
        for name in ("client", "new"):
            device = StockClient(reader, case.folder / name, case.root)
            assert device.fetch("app/1.0/linux/app.bin") == b"app 1.0"
            assert device.fetch(DECISION) == b"decision 13"
        reader.collect(now=now)
        assert names(case, "snapshot") == list(range(4, 14))
        assert reader.check(now=home.now) == []
