"""A small real home to be hit by faults, and what must hold of it afterwards, whoever comes next."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from api.backup import back_up
from api.setup import initialise
from api.wiring import MARKER, NotInitialised, open_wavegate
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Group
from keys.keyring import ONLINE
from repo_signing.errors import BackupRefused
from repo_signing.offline_drafts import OVERLAP_FILE
from repo_signing.storage import LocalStorage
from rollout.documents import documents
from rollout.model import Gate, State, WavePlan
from rollout.plan import PlanRequest
from store.artifacts import EVERYTHING
from store.audit import AuditLog, EventFilter
from tests.faults.one_shot import (
    AFTER_ALL_GRACE,
    ANN,
    BACKUP,
    COMMANDS,
    MAKING,
    MORE_BITS,
    ORG,
    ROTATED,
    Opened,
    Order,
    is_rotated,
    publish,
    rotate,
    settings_of,
)
from tests.simulators.repository import StockClient

BEN = Actor(ActorKind.USER, "usr_ben", "Ben")
OLD = "fw/1/any/fw.bin"
NEW = "fw/2/any/fw.bin"
NEXT = "fw/3/any/fw.bin"
DOCUMENTS = ("decisions/fw/everyone.json", "brakes/fw/everyone.json")


class HurriedStorage(LocalStorage):
    """For whoever comes after the fault: no power is cut there, so nothing waits for the disk."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


def is_published(opened: Opened) -> bool:
    found = opened.repository.find(NEW)
    return found is not None and [sbom.path for sbom in found.sboms] == [f"{NEW}.sbom.0.cyclonedx-json"]


def is_decided(opened: Opened) -> bool:
    [rollout] = opened.rollouts.list(ORG, after=None, limit=10)
    wanted = documents(rollout)
    return rollout.state is State.RUNNING and all(
        opened.repository.served(path) == wanted.get(path) for path in DOCUMENTS
    )


def is_yanked(opened: Opened) -> bool:
    found = opened.repository.find(OLD)
    return found is not None and found.yanked is not None


def is_rotated_throughout(opened: Opened) -> bool:
    return all(is_rotated(opened, role) for role in ROTATED) and opened.repository.drafts.all() == []


def is_overlap_over(opened: Opened) -> bool:
    files = opened.key_folder.glob("*.pem")
    return all(len(opened.keys.keys(role).keys) == 1 for role in ROTATED) and len(list(files)) == len(ONLINE)


def is_collected(opened: Opened) -> bool:
    return opened.repository.collect(dry_run=True, now=datetime.now(UTC) + AFTER_ALL_GRACE).is_empty()


# Whether what a command was to reach stands, as everybody sees it. Refreshing reaches nothing that was not there.
REACHED: dict[str, Callable[[Opened], bool]] = {
    "publish": is_published,
    "refresh": lambda opened: True,
    "decide": is_decided,
    "yank": is_yanked,
    "rotate": is_rotated_throughout,
    "end-overlap": is_overlap_over,
    "re-bin": lambda opened: opened.repository.bins().bits == MORE_BITS,
    "collect": is_collected,
    "restore": lambda opened: opened.repository.serial() > 1000,  # the jump's least
}


def after_rotation(case: Case) -> None:
    """Rotated two hours ago."""
    opened = Opened(case.home)
    rotate(opened, case.now)
    (case.repository / OVERLAP_FILE).write_text((case.now - timedelta(hours=2)).isoformat())
    opened.close()


def with_leftovers(case: Case) -> None:
    """Old snapshots and roles, a blob that nobody signed, and one that was withdrawn."""
    opened = Opened(case.home, HurriedStorage())
    publish(opened, "0", case.now)
    opened.repository.withdraw("fw/0/any/fw.bin", reason="broken", by=ANN, now=case.now)
    for _ in range(12):
        opened.repository.refresh(now=case.now, force=True)
    unsigned = opened.repository.stage(BytesIO(b"never signed"))
    folder = case.repository / "blobs" / unsigned.sha256[:2]
    folder.mkdir(exist_ok=True)
    (folder / unsigned.sha256).write_bytes(b"never signed")
    found = opened.repository.collect(dry_run=True, now=case.now + AFTER_ALL_GRACE)
    opened.close()
    assert len(found.metadata) >= 4
    assert found.blobs == (unsigned.sha256,)
    assert len(found.quarantined) == 1


def lost(case: Case) -> None:
    """Backed up, gone on, seen by a client, and gone."""
    wiring = open_wavegate(settings_of(case.home))
    back_up(wiring, case.folder / BACKUP, keys=True, database=True, now=case.now)
    wiring.close()
    opened = Opened(case.home, HurriedStorage())
    publish(opened, "9", case.now)
    client = StockClient(opened.repository, case.folder / "old-client", case.root.read_bytes())
    assert client.fetch("fw/9/any/fw.bin") == b"firmware 9"
    opened.close()
    shutil.rmtree(case.home)


# What is done to the home before some of the commands.
PREPARED: dict[str, Callable[[Case], None]] = {
    "end-overlap": after_rotation,
    "collect": with_leftovers,
    "restore": lost,
}


@dataclass
class Case:
    """A copy of the home for one fault."""

    folder: Path
    now: datetime
    versioned: dict[str, str]  # every versioned file that ever stood there, with the digest of its content

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def root(self) -> Path:
        """The root that clients were given, wherever the home is."""
        return self.folder / "root.json"

    @property
    def repository(self) -> Path:
        return self.home / "orgs" / ORG / "repository"

    @property
    def metadata(self) -> Path:
        return self.repository / "metadata"

    def order(self, command: str, torn_at: int | None = None) -> Order:
        return Order(str(self.home), command, (self.now + timedelta(seconds=1)).isoformat(), torn_at)

    def check_survived(self, command: str, *, acknowledged: bool, recover_first: bool) -> None:
        """Clients, index, the next publisher and a second try, after whatever happened to the first."""
        soon, later = self.now + timedelta(seconds=2), self.now + timedelta(seconds=3)
        if command in MAKING and not (self.home / MARKER).exists():
            assert not acknowledged, "acknowledged and lost"
            self.make_again(command)
        opened = Opened(self.home, HurriedStorage())
        try:
            assert REACHED[command](opened) or not acknowledged, "acknowledged and lost"
            self.check_versioned_files()
            self.check_clients(opened, {OLD: b"firmware 1"})
            check_no_row_without_signature(opened)
            if recover_first:
                opened.repository.recover(now=soon)
                opened.service.recover(ORG, soon)
                self.check_versioned_files()
            publish(opened, "3", soon, with_sbom=False)
            self.check_versioned_files()
        finally:
            opened.close()
        again = Opened(self.home, HurriedStorage())
        try:
            again.repository.recover(now=later)
            again.service.recover(ORG, later)
            if not REACHED[command](again) or command == "refresh":
                COMMANDS[command](again, later)
            assert REACHED[command](again)
            self.check_versioned_files()
            check_no_row_without_signature(again)
            check_index_is_what_is_signed(again)
            check_events_are_told_once(again)
            expected = {OLD: b"firmware 1", NEXT: b"firmware 3"}
            if command == "publish":
                expected |= {NEW: b"firmware 2", f"{NEW}.sbom.0.cyclonedx-json": b"sbom of 2"}
            self.check_clients(again, expected)
            assert again.repository.check(now=later) == []
        finally:
            again.close()

    def make_again(self, command: str) -> None:
        """What was not finished is no home, is not written over, and is whole when it is begun anew."""
        settings, now = settings_of(self.home), self.now + timedelta(seconds=1)
        with pytest.raises(NotInitialised):
            open_wavegate(settings)
        if self.home.exists() and any(self.home.iterdir()):
            with pytest.raises(BackupRefused, match="is not empty"):
                MAKING[command](self.home, now, None)
            shutil.rmtree(self.home)
        MAKING[command](self.home, now, HurriedStorage())

    def check_versioned_files(self) -> None:
        for name, digest in versioned_files(self.metadata).items():
            assert self.versioned.setdefault(name, digest) == digest, f"{name} was rewritten"

    def check_clients(self, opened: Opened, expected: dict[str, bytes]) -> None:
        root = self.root.read_bytes()
        for folder in (self.folder / "old-client", self.folder / "new-client"):
            client = StockClient(opened.repository, folder, root)
            updater = client.updater()
            for path, content in expected.items():
                target = updater.get_targetinfo(path)
                assert target is not None, path
                assert Path(updater.download_target(target)).read_bytes() == content


class Template:
    """The home that every case is a copy of: one artifact, one rollout that may open, and a client that has seen it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        self._cases = 0
        home = folder / "template" / "home"
        home.parent.mkdir()
        settings = settings_of(home)
        initialise(settings, org=ORG, admin="a@example.com", now=self.now)
        opened = Opened(home)
        group = Group(id=new_id("grp"), org=ORG, name="everyone", description="", created_at=self.now)
        opened.fleet.add_group(group, AuditEvent("group.created", group.id, ANN, self.now))
        publish(opened, "1", self.now)
        waves = (
            WavePlan(group="everyone", percent=50, gate=Gate(approvals=1, soak_seconds=3600)),
            WavePlan(group="everyone"),
        )
        plan = PlanRequest(product="fw", version="1", waves=waves)
        made = opened.service.create(ORG, plan, by=ANN, now=self.now)
        opened.service.submit(ORG, made.id, by=ANN, now=self.now)
        opened.service.approve(ORG, made.id, wave=1, plan_hash=made.plan_hash, by=BEN, now=self.now)
        self._plain = Case(home.parent, self.now, {})
        shutil.copy2(home / "root.json", self._plain.root)
        StockClient(opened.repository, home.parent / "old-client", self._plain.root.read_bytes()).fetch(OLD)
        opened.close()
        self._plain.check_versioned_files()
        self._prepared: dict[str, Case] = {}
        self._digests = {home.parent: file_digests(home.parent)}

    def copy(self, command: str) -> Case:
        """A fresh case. What never changes is linked, so that a write in place anywhere shows in the template."""
        if command in PREPARED and command not in self._prepared:
            case = self._copied(self._plain, shutil.copy2)
            PREPARED[command](case)
            if case.home.exists():
                case.check_versioned_files()
            self._digests[case.folder] = file_digests(case.folder)
            self._prepared[command] = case
        return self._copied(self._prepared.get(command, self._plain), _link_or_copy)

    def check_untouched(self) -> None:
        for folder, digests in self._digests.items():
            assert file_digests(folder) == digests, "a case wrote into a file in place"

    def _copied(self, case: Case, copy: Callable[[str, str], object]) -> Case:
        self._cases += 1
        folder = self.folder / str(self._cases)
        shutil.copytree(case.folder, folder, copy_function=copy, symlinks=True)
        return Case(folder, self.now, dict(case.versioned))


def _link_or_copy(source: str, destination: str) -> None:
    if "wavegate.db" in source or "-client" in source:
        shutil.copy2(source, destination)
    else:
        os.link(source, destination)


def versioned_files(metadata: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in metadata.iterdir()
        if path.name[0].isdigit()
    }


def file_digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_no_row_without_signature(opened: Opened) -> None:
    signed = {record.path: record.sha256 for record in opened.repository.artifacts()}
    for row in opened.index.list(EVERYTHING, limit=100):
        assert signed.get(row.path) == row.sha256, f"{row.path} is recorded and not signed"


def check_index_is_what_is_signed(opened: Opened) -> None:
    rows = {row.path: row.id for row in opened.index.list(EVERYTHING, limit=100)}
    assert rows == {record.path: record.id for record in opened.repository.artifacts()}
    assert opened.index.projected_serial() == opened.repository.serial()


def check_events_are_told_once(opened: Opened) -> None:
    log = AuditLog(opened.db)
    found = log.events(ORG, EventFilter(tag="artifact.published"), limit=100)
    told = Counter(recorded.event.subject for recorded in found)
    assert told == Counter({record.id: 1 for record in opened.repository.artifacts()})
    assert log.count(ORG, EventFilter(tag="artifact.yanked")) <= 1
