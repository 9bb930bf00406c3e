"""A crash or disk error at every step of every commit: clients, index and the next publisher never notice."""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from repo_signing.errors import IndexAhead, IndexFailed, RepositoryError
from repo_signing.model import NewArtifact
from repo_signing.repository import SignedRepository
from tests.simulators.repository import (
    ANN,
    RepositoryHome,
    StockClient,
    attestation_upload,
    publish,
    sbom_upload,
)
from tests.simulators.repository_faults import Crash, Faults, FaultyProjection, FaultyStorage

OLD = "app/1.0/linux/app.bin"
NEW = "app/2.0/linux/app.bin"
DECISION = "decisions/app/pilot.json"
BRAKE = "brakes/app/pilot.json"

Action = Callable[[SignedRepository, datetime], object]


def publish_new(repository: SignedRepository, now: datetime) -> None:
    publish(repository, "2.0", now, sboms=(b"sbom of 2.0",), attestations=(b"attestation of 2.0",))


def attach(repository: SignedRepository, now: datetime) -> None:
    repository.attach_sbom(OLD, sbom_upload(repository, b"sbom of 1.0"), by=ANN, now=now)


def attest(repository: SignedRepository, now: datetime) -> None:
    repository.attach_attestation(OLD, attestation_upload(repository, b"attestation of 1.0"), by=ANN, now=now)


def decide(repository: SignedRepository, now: datetime) -> None:
    repository.commit_documents({DECISION: b'{"open": 1}', BRAKE: None}, now=now)


def refresh(repository: SignedRepository, now: datetime) -> None:
    repository.refresh(now=now, force=True)


def yank(repository: SignedRepository, now: datetime) -> None:
    repository.yank(OLD, reason="broken", by=ANN, now=now)


def publish_many(repository: SignedRepository, now: datetime) -> None:
    blobs = repository.stage_all(io.BytesIO(f"part {number}".encode()) for number in range(3))
    items = [
        NewArtifact(
            staged=blob,
            product="app",
            version=f"2.{number}",
            platform="linux",
            channel="stable",
            file_name="app.bin",
            publisher=ANN,
        )
        for number, blob in enumerate(blobs)
    ]
    assert all(outcome.refused is None for outcome in repository.publish_batch(items, now=now))


def send_in_pieces(repository: SignedRepository, now: datetime) -> None:
    upload = repository.uploads.begin()
    repository.uploads.append(upload, io.BytesIO(b"app "), offset=0, limit=None)
    repository.uploads.append(upload, io.BytesIO(b"2.0"), offset=4, limit=None)
    staged = repository.uploads.complete(upload, sha256=hashlib.sha256(b"app 2.0").hexdigest())
    new = NewArtifact(
        staged=staged,
        product="app",
        version="2.0",
        platform="linux",
        channel="stable",
        file_name="app.bin",
        publisher=ANN,
    )
    repository.publish(new, now=now)


# What each change leaves for clients to fetch.
ACTIONS: dict[str, tuple[Action, dict[str, bytes | None]]] = {
    "publish": (
        publish_new,
        {
            NEW: b"app 2.0",
            f"{NEW}.sbom.0.cyclonedx-json": b"sbom of 2.0",
            f"{NEW}.att.0.dsse": b"attestation of 2.0",
        },
    ),
    "batch": (publish_many, {f"app/2.{number}/linux/app.bin": f"part {number}".encode() for number in range(3)}),
    "pieces": (send_in_pieces, {NEW: b"app 2.0"}),
    "attach": (attach, {f"{OLD}.sbom.0.cyclonedx-json": b"sbom of 1.0"}),
    "attest": (attest, {f"{OLD}.att.0.dsse": b"attestation of 1.0"}),
    "decide": (decide, {DECISION: b'{"open": 1}', BRAKE: None}),
    "refresh": (refresh, {OLD: b"app 1.0"}),
    "yank": (yank, {OLD: b"app 1.0"}),
}


class World:
    """One home with a repository at serial 3, and a client that has seen it; every case gets a copy."""

    def __init__(self, folder: Path) -> None:
        self.home = RepositoryHome.create(folder / "home")
        repository = self.home.open()
        publish(repository, "1.0", self.home.now)
        repository.commit_documents({BRAKE: b'{"halted": 1}'}, now=self.home.now)
        self.client = folder / "client"
        StockClient(repository, self.client, self.home.root).fetch(OLD)
        self.files = contents(self.home.metadata)

    def copy(self, folder: Path) -> Case:
        # Links, not copies: a write in place anywhere would show in every other case.
        shutil.copytree(self.home.folder, folder / "home", copy_function=os.link)
        shutil.copytree(self.client, folder / "client", symlinks=True)
        home = RepositoryHome(folder / "home", copy.deepcopy(self.home.projection), self.home.root, self.home.now)
        return Case(home, folder, dict(self.files))


class Case:
    def __init__(self, home: RepositoryHome, folder: Path, seen: dict[str, str]) -> None:
        self.home = home
        self.folder = folder
        self.seen = seen  # every versioned name that ever stood there, with its content's digest

    def run(self, action: Action, faults: Faults) -> SignedRepository:
        """Run the action on an instance of its own; returns it, for those cases in which the process lives on."""
        storage = FaultyStorage(faults)
        repository = self.home.open(storage, FaultyProjection(self.home.projection, faults))
        try:
            action(repository, self.home.later(seconds=1))
        finally:
            assert not storage.synced_twice
            self.check_names()
        return repository

    def check_names(self) -> None:
        for name, digest in contents(self.home.metadata).items():
            if name != "timestamp.json":
                assert self.seen.setdefault(name, digest) == digest, f"{name} was rewritten"

    def check_clients(self, expected: dict[str, bytes | None]) -> None:
        reader = self.home.open()
        for folder in (self.folder / "client", self.folder / "new-client"):
            client = StockClient(reader, folder, self.home.root)
            client.refresh()
            for path, content in expected.items():
                assert client.fetch(path) == content

    def check_no_row_without_signature(self) -> None:
        signed = {record.path: record.sha256 for record in self.home.open().artifacts()}
        for path, row in self.home.projection.rows.items():
            assert signed[path] == row.sha256

    def check_index_equals_signed(self) -> None:
        repository = self.home.open()
        assert self.home.projection.rows == {record.path: record for record in repository.artifacts()}
        assert self.home.projection.projected_serial() == repository.serial()

    def check_events_told_once(self) -> None:
        published = [
            str(event.data["path"]) for event in self.home.projection.events if event.tag == "artifact.published"
        ]
        assert sorted(published) == sorted(self.home.projection.rows)
        for tag in ("artifact.yanked", "artifact.sbom.attached", "artifact.attested"):
            assert [event.tag for event in self.home.projection.events].count(tag) <= 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def cases(world: World, tmp_path: Path) -> Iterator[Callable[[], Case]]:
    made: list[Path] = []

    def make() -> Case:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(folder)
        if len(made) > 1:
            shutil.rmtree(made[-2])
        return world.copy(folder)

    yield make
    assert contents(world.home.metadata) == world.files, "a case wrote into a file in place"


def contents(metadata: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in metadata.iterdir()
        if not path.name.startswith(".")
    }


def steps_of(case: Case, action: Action) -> list[str]:
    faults = Faults()
    case.run(action, faults)
    return faults.steps


def finish(case: Case, name: str, *, recover_first: bool) -> None:
    """What must hold after a crash, whoever comes next."""
    action, expected = ACTIONS[name]
    case.check_clients({OLD: b"app 1.0"})
    case.check_no_row_without_signature()
    if recover_first:
        case.home.open().recover(now=case.home.later(seconds=2))
        case.check_names()
        case.check_index_equals_signed()
    publish(case.home.open(), "3.0", case.home.later(seconds=2))  # somebody else's
    case.check_names()
    case.home.open().recover(now=case.home.later(seconds=2))
    case.check_index_equals_signed()
    action(case.home.open(), case.home.later(seconds=3))
    case.check_names()
    case.check_index_equals_signed()
    case.check_clients({OLD: b"app 1.0", "app/3.0/linux/app.bin": b"app 3.0", **expected})
    case.check_events_told_once()
    assert case.home.open().check(now=case.home.later(seconds=4), repair=True, deep=True) == []


@pytest.mark.parametrize("recover_first", [True, False], ids=["recovered", "unrecovered"])
@pytest.mark.parametrize("name", ACTIONS)
def test_a_crash_between_any_two_steps_is_healed(name: str, recover_first: bool, cases: Callable[[], Case]) -> None:
    # Dying after step n is dying before step n + 1: only the last step has an "after" of its own.
    steps = steps_of(cases(), ACTIONS[name][0])
    assert steps[-1] in ("project", "remove")
    for at in range(len(steps) + 1):
        case = cases()
        faults = Faults(at, "before") if at < len(steps) else Faults(at - 1, "after")
        with pytest.raises(Crash):
            case.run(ACTIONS[name][0], faults)
        finish(case, name, recover_first=recover_first)


@pytest.mark.parametrize("name", ACTIONS)
def test_a_crash_in_the_middle_of_any_write_is_healed(name: str, cases: Callable[[], Case]) -> None:
    steps = steps_of(cases(), ACTIONS[name][0])
    for at in [number for number, step in enumerate(steps) if step == "write"]:
        case = cases()
        with pytest.raises(Crash):
            case.run(ACTIONS[name][0], Faults(at, "torn"))
        finish(case, name, recover_first=True)


@pytest.mark.parametrize(("name", "code"), [*((name, errno.EIO) for name in ACTIONS), ("publish", errno.ENOSPC)])
def test_a_disk_error_at_any_step_fails_the_request_and_the_same_process_can_go_on(
    name: str, code: int, cases: Callable[[], Case]
) -> None:
    action, expected = ACTIONS[name]
    steps = steps_of(cases(), action)
    for at, step in enumerate(steps):
        case = cases()
        faults = Faults(at, OSError(code, os.strerror(code)))
        repository = case.home.open(FaultyStorage(faults), FaultyProjection(case.home.projection, faults))
        if step == "remove":
            action(repository, case.home.later(seconds=1))  # what is left over is no reason to fail
        else:
            with pytest.raises(RepositoryError):
                action(repository, case.home.later(seconds=1))
            case.check_clients({OLD: b"app 1.0"})
            case.check_no_row_without_signature()
            action(repository, case.home.later(seconds=2))
        case.check_names()
        case.check_index_equals_signed()
        case.check_clients(expected)
        case.check_events_told_once()


def test_a_failed_sync_of_the_commit_itself_is_not_answered_with_what_it_left_visible(
    cases: Callable[[], Case],
) -> None:
    steps = steps_of(cases(), publish_new)
    last_rename = len(steps) - 1 - steps[::-1].index("rename")
    assert steps[last_rename + 1] == "sync_folder"
    case = cases()
    faults = Faults(last_rename + 1, OSError(errno.EIO, "I/O error"))
    repository = case.home.open(FaultyStorage(faults), FaultyProjection(case.home.projection, faults))
    with pytest.raises(RepositoryError):
        publish_new(repository, case.home.later(seconds=1))
    visible = case.home.open().serial()
    publish_new(repository, case.home.later(seconds=1))
    assert repository.serial() == visible + 1, "the retry must make the commit durable by one of its own"


def test_an_index_that_fails_is_told_and_the_same_request_again_succeeds(cases: Callable[[], Case]) -> None:
    steps = steps_of(cases(), publish_new)
    case = cases()
    faults = Faults(steps.index("project"), RuntimeError("the database is away"))
    repository = case.home.open(FaultyStorage(faults), FaultyProjection(case.home.projection, faults))
    with pytest.raises(IndexFailed, match="serial 4 is signed"):
        publish_new(repository, case.home.later(seconds=1))
    assert faults.steps[-1] == "project"
    _, created = publish(repository, "2.0", case.home.later(seconds=1), sboms=(b"sbom of 2.0",))
    assert created is False
    case.check_index_equals_signed()
    case.check_events_told_once()


def test_the_events_of_a_change_that_the_index_missed_are_told_from_signed_metadata(
    cases: Callable[[], Case],
) -> None:
    steps = steps_of(cases(), yank)
    case = cases()
    faults = Faults(steps.index("project"), "before")
    with pytest.raises(Crash):
        case.run(yank, faults)
    assert faults.steps[-1] == "project"
    findings = case.home.open().recover(now=case.home.later(seconds=2))
    assert [finding.kind for finding in findings] == ["index_behind"]
    assert [(event.tag, event.by, event.data["reason"]) for event in case.home.projection.events[1:2]] == [
        ("artifact.yanked", ANN, "broken")
    ]
    assert case.home.projection.events[2].tag == "repository.repaired"


def test_orphans_are_removed_and_their_number_is_never_used_again(cases: Callable[[], Case]) -> None:
    steps = steps_of(cases(), publish_new)
    last_rename = len(steps) - 1 - steps[::-1].index("rename")
    case = cases()
    with pytest.raises(Crash):
        case.run(publish_new, Faults(last_rename, "before"))
    repository = case.home.open()
    findings = repository.recover(now=case.home.later(seconds=2))
    assert {finding.kind for finding in findings} == {"orphan_metadata", "temporary_file"}
    assert not list(case.home.metadata.glob("4.*.json"))
    record, _ = publish(repository, "3.0", case.home.later(seconds=2))
    assert record.serial == 5


def test_an_index_that_lost_rows_is_found_and_made_anew(cases: Callable[[], Case]) -> None:
    case = cases()
    case.home.projection.rows.clear()
    repository = case.home.open()
    found = repository.check(now=case.home.now)
    assert [(one.kind, one.what, one.repaired) for one in found] == [
        ("index_differs", "the index has 0 artifacts, signed are 1", False)
    ]
    assert [one.repaired for one in repository.check(repair=True, now=case.home.now)] == [True]
    case.check_index_equals_signed()


def test_numbers_that_only_the_index_knew_stay_burned_when_it_is_made_anew(cases: Callable[[], Case]) -> None:
    case = cases()
    case.home.projection.project(9, [], [])  # the folder was restored from an older copy
    with pytest.raises(IndexAhead, match="the index knows serial 9, the repository folder only 3"):
        publish(case.home.open(), "2.0", case.home.later(seconds=1))
    assert case.home.open().rebuild() == 1
    record, _ = publish(case.home.open(), "2.0", case.home.later(seconds=1))
    assert record.serial == 10
