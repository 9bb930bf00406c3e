"""Many publishers at once, in threads and in processes: none lost, no version twice, readers never see a step back."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from evidence.model import AuditEvent
from repo_signing.errors import CommitFailed, CommitRefused, InvalidRecord, PathTaken
from repo_signing.model import ArtifactRecord
from repo_signing.repository import SignedRepository
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import RepositoryHome, StockClient, publish, publish_in_a_process
from tests.simulators.repository_faults import Faults, FaultyStorage


class Watcher(threading.Thread):
    """Polls like a client that never rests, and keeps what it saw of every versioned file."""

    def __init__(self, metadata: Path) -> None:
        super().__init__()
        self._metadata = metadata
        self.done = threading.Event()
        self.versions: list[int] = []
        self.digests: dict[str, set[str]] = {}

    def run(self) -> None:
        while not self.done.wait(0.002):
            self.versions.append(json.loads((self._metadata / "timestamp.json").read_bytes())["signed"]["version"])
            for path in self._metadata.glob("*.snapshot.json"):
                self.digests.setdefault(path.name, set()).add(hashlib.sha256(path.read_bytes()).hexdigest())

    def finish(self) -> None:
        self.done.set()
        self.join()
        assert self.versions == sorted(self.versions)
        assert all(len(seen) == 1 for seen in self.digests.values())


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    return RepositoryHome.create(tmp_path / "home")


def check_all_there(home: RepositoryHome, versions: list[str]) -> None:
    reader = home.open()
    assert sorted(record.version for record in reader.artifacts()) == sorted(versions)
    device = StockClient(reader, home.folder / "client", home.root)
    for version in versions:
        assert device.fetch(f"app/{version}/linux/app.bin") == f"app {version}".encode()


def test_eight_threads_lose_nothing_and_share_commits(home: RepositoryHome) -> None:
    repository = home.open()
    watcher = Watcher(home.metadata)
    watcher.start()
    versions = [f"{thread}.{number}" for thread in range(8) for number in range(5)]
    barrier = threading.Barrier(8)

    def run(thread: int) -> list[int]:
        barrier.wait()
        return [
            publish(repository, f"{thread}.{number}", home.now, sboms=(f"sbom {thread}.{number}".encode(),))[0].serial
            for number in range(5)
        ]

    with ThreadPoolExecutor(8) as pool:
        serials = list(pool.map(run, range(8)))
    watcher.finish()
    for mine in serials:
        assert mine == sorted(set(mine)), "serials grow for each publisher"
    assert repository.serial() == 1 + len({serial for mine in serials for serial in mine})
    check_all_there(home, versions)
    assert len(home.projection.rows) == 40


def test_two_processes_lose_nothing(home: RepositoryHome) -> None:
    watcher = Watcher(home.metadata)
    watcher.start()
    context = multiprocessing.get_context("spawn")
    batches = [[f"{process}.{number}" for number in range(6)] for process in range(2)]
    processes = [context.Process(target=publish_in_a_process, args=(home.folder, home.now, batch)) for batch in batches]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    watcher.finish()
    assert home.open().serial() == 13
    check_all_there(home, [*batches[0], *batches[1]])
    assert home.open().check(now=home.now, repair=True)[0].kind == "index_behind"
    assert home.open().check(now=home.now) == []


class SlowIndex(ProjectionSimulator):
    """Holds the first commit until told, so that others queue behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        if artifacts:
            self.entered.set()
            assert self.go_on.wait(30)
        super().project(serial, artifacts, events)


def queue_behind_a_slow_commit(
    home: RepositoryHome, requests: list[Callable[[SignedRepository, datetime], object]]
) -> tuple[SignedRepository, list[Future[object]]]:
    index = SlowIndex()
    repository = home.open(FaultyStorage(Faults()), index)  # without faults: it only spares the waiting for the disk
    with ThreadPoolExecutor(1 + len(requests)) as pool:
        first = pool.submit(publish, repository, "0.0", home.now)
        assert index.entered.wait(30)
        waiting = [pool.submit(request, repository, home.now) for request in requests]
        while len(repository._committer._waiting) < len(requests):
            threading.Event().wait(0.005)
        index.go_on.set()
        first.result()
    return repository, waiting


def test_what_waits_becomes_one_commit_and_a_refusal_harms_nobody_else(home: RepositoryHome) -> None:
    repository, waiting = queue_behind_a_slow_commit(
        home,
        [
            lambda repo, now: publish(repo, "1.0", now),
            lambda repo, now: repo.commit_documents({"decisions/app/a.json": b"a"}, only_if=lambda: False, now=now),
            lambda repo, now: publish(repo, "2.0", now, notes="\x07"),
            lambda repo, now: repo.commit_documents({"decisions/app/b.json": b"b"}, only_if=lambda: True, now=now),
        ],
    )
    errors = [type(future.exception()) for future in waiting]
    assert errors == [type(None), CommitRefused, InvalidRecord, type(None)]
    assert repository.serial() == 3
    assert repository.served("decisions/app/a.json") is None
    assert repository.served("decisions/app/b.json") == b"b"
    assert repository.find("app/1.0/linux/app.bin") is not None


def test_of_two_publishers_of_one_path_with_other_bytes_one_is_refused(home: RepositoryHome) -> None:
    _, waiting = queue_behind_a_slow_commit(
        home,
        [
            lambda repo, now: publish(repo, "1.0", now, content=b"mine"),
            lambda repo, now: publish(repo, "1.0", now, content=b"yours"),
        ],
    )
    assert {type(future.exception()) for future in waiting} == {type(None), PathTaken}


def test_a_request_that_would_break_a_limit_of_clients_is_refused_alone(home: RepositoryHome) -> None:
    # One document role of 4 MB is what stock clients read; 300 bytes each, 20,000 documents are beyond it.
    too_many: dict[str, bytes | None] = {f"decisions/app/{number:060}.json": b"x" for number in range(23_000)}
    repository, waiting = queue_behind_a_slow_commit(
        home,
        [
            lambda repo, now: publish(repo, "1.0", now),
            lambda repo, now: repo.commit_documents(too_many, now=now),
            lambda repo, now: publish(repo, "2.0", now),
        ],
    )
    error = waiting[1].exception()
    assert "more bins are needed" in str(error)
    assert [future.exception() for future in (waiting[0], waiting[2])] == [None, None]
    assert repository.served("decisions/app/" + "0" * 60 + ".json") is None


def test_only_if_is_asked_under_the_lock_and_nothing_differing_makes_no_commit(home: RepositoryHome) -> None:
    repository = home.open()
    serial = repository.commit_documents({"brakes/app/a.json": b"halted"}, now=home.now)
    assert serial == 2
    assert repository.commit_documents({"brakes/app/a.json": b"halted"}, now=home.now) == 2
    assert repository.commit_documents({"brakes/app/none.json": None}, now=home.now) == 2
    with pytest.raises(CommitRefused):
        repository.commit_documents({"brakes/app/a.json": b"halted"}, only_if=lambda: False, now=home.now)


def test_an_exclusive_action_holds_off_the_commits_of_others_and_may_commit_itself(home: RepositoryHome) -> None:
    repository, other = home.open(), home.open()
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:

        def action() -> None:
            blocked.append(pool.submit(publish, other, "1.0", home.now))
            threading.Event().wait(0.2)
            seen.append(repository.serial())
            seen.append(repository.commit_documents({"brakes/app/a.json": b"halted"}, now=home.now))

        blocked: list[Future[tuple[ArtifactRecord, bool]]] = []
        repository.exclusively(action)
        assert blocked[0].result()[0].serial == 3
    assert seen == [1, 2]


def test_a_change_that_commits_by_itself_is_refused_instead_of_hanging(home: RepositoryHome) -> None:
    repository = home.open()

    def nested() -> bool:
        publish(repository, "1.0", home.now)
        return True

    with pytest.raises(RuntimeError, match="a change must not commit by itself"):
        repository.commit_documents({"brakes/app/a.json": b"halted"}, only_if=nested, now=home.now)
    publish(repository, "2.0", home.now)
    assert [record.version for record in repository.artifacts()] == ["2.0"]


def test_who_writes_without_the_lock_is_found_before_anything_is_replaced(home: RepositoryHome) -> None:
    repository = home.open()
    foreign = b"{}"

    def intrude() -> bool:
        timestamp = home.metadata / "timestamp.json"
        timestamp.rename(home.folder / "kept")
        timestamp.write_bytes(foreign)
        return True

    with pytest.raises(Exception, match="replaced by somebody who does not hold the repository's lock"):
        repository.commit_documents({"brakes/app/a.json": b"halted"}, only_if=intrude, now=home.now)
    assert (home.metadata / "timestamp.json").read_bytes() == foreign


def test_an_interrupted_commit_is_told_to_those_who_waited_for_it(home: RepositoryHome) -> None:
    def interrupt(repo: SignedRepository, now: datetime) -> object:
        def stop() -> bool:
            raise KeyboardInterrupt

        return repo.commit_documents({"brakes/app/a.json": b"a"}, only_if=stop, now=now)

    repository, waiting = queue_behind_a_slow_commit(home, [interrupt, lambda repo, now: publish(repo, "1.0", now)])
    errors = {type(future.exception()) for future in waiting}
    assert errors <= {KeyboardInterrupt, CommitFailed}
    publish(repository, "1.0", home.now)
    assert repository.find("app/1.0/linux/app.bin") is not None
