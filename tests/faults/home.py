"""A small real home to be hit by faults, and what must hold of it afterwards, whoever comes next."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from api.settings import read_settings
from api.setup import initialise
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Group
from repo_signing.storage import LocalStorage
from rollout.documents import documents
from rollout.model import Gate, State, WavePlan
from rollout.plan import PlanRequest
from store.artifacts import EVERYTHING
from store.audit import AuditLog
from tests.faults.one_shot import ANN, COMMANDS, ORG, Opened, Order, publish
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


# Whether what a command was to reach stands, as everybody sees it. Refreshing reaches nothing that was not there.
REACHED: dict[str, Callable[[Opened], bool]] = {
    "publish": is_published,
    "refresh": lambda opened: True,
    "decide": is_decided,
    "yank": is_yanked,
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
    def metadata(self) -> Path:
        return self.home / "orgs" / ORG / "repository" / "metadata"

    def order(self, command: str, torn_at: int | None = None) -> Order:
        return Order(str(self.home), command, (self.now + timedelta(seconds=1)).isoformat(), torn_at)

    def check_survived(self, command: str, *, acknowledged: bool, recover_first: bool) -> None:
        """Clients, index, the next publisher and a second try, after whatever happened to the first."""
        soon, later = self.now + timedelta(seconds=2), self.now + timedelta(seconds=3)
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

    def check_versioned_files(self) -> None:
        for name, digest in versioned_files(self.metadata).items():
            assert self.versioned.setdefault(name, digest) == digest, f"{name} was rewritten"

    def check_clients(self, opened: Opened, expected: dict[str, bytes]) -> None:
        root = (self.home / "root.json").read_bytes()
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
        settings = read_settings({"WAVEGATE_HOME": str(home), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"})
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
        StockClient(opened.repository, home.parent / "old-client", (home / "root.json").read_bytes()).fetch(OLD)
        opened.close()
        self.case = Case(home.parent, self.now, {})
        self.case.check_versioned_files()
        self._digests = file_digests(home.parent)

    def copy(self) -> Case:
        """A fresh case. What never changes is linked, so that a write in place anywhere shows in the template."""
        self._cases += 1
        folder = self.folder / str(self._cases)
        shutil.copytree(self.case.folder, folder, copy_function=_link_or_copy, symlinks=True)
        return Case(folder, self.now, dict(self.case.versioned))

    def check_untouched(self) -> None:
        assert file_digests(self.case.folder) == self._digests, "a case wrote into a file in place"


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
    told = Counter(recorded.event.subject for recorded in log.events(ORG, tag="artifact.published", limit=100))
    assert told == Counter({record.id: 1 for record in opened.repository.artifacts()})
    assert log.count(ORG, tag="artifact.yanked") <= 1
