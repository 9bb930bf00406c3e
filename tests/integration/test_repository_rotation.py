"""Every role's keys change, planned or after a compromise, and no stock client ever fails on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from securesystemslib.signer import Signer
from tuf.api.exceptions import BadVersionNumberError, DownloadHTTPError, RepositoryError

from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.canonical import encode
from repo_signing.errors import RotationNotDue
from repo_signing.offline import OfflineDraft
from repo_signing.repository import SignedRepository
from repo_signing.signing import envelope, signers_of
from repo_signing.storage import LocalStorage
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.repository import ANN, RepositoryFetcher, RepositoryHome, StockClient, publish
from tests.simulators.repository_faults import Crash, Faults, FaultyProjection, FaultyStorage

PATH = "app/1.0/linux/app.bin"
ONLINE = ["timestamp", "snapshot", "releases", "decisions"]
HUGE = 2**40


class Watched(LocalStorage):
    """The real storage; after every change of the disk somebody looks."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def link(self, source: Path, name: Path) -> None:
        super().link(source, name)
        if not name.name.partition(".")[2].startswith("releases-"):  # 64 bins that nobody sees before the timestamp
            self._look()

    def rename(self, source: Path, name: Path) -> None:
        super().rename(source, name)
        self._look()


class World:
    """A laptop's repository with an artifact, a client that follows, and one that last looked before it all."""

    def __init__(self, folder: Path) -> None:
        self.home = RepositoryHome.create(folder / "home")
        self.folder = folder
        self.looks = 0
        publish(self.home.open(), "1.0", self.home.now)
        self.home.open().commit_documents({"decisions/app/all.json": b"{}"}, now=self.home.now)
        self.root, self.targets = (Holder.of_laptop(self.home.folder, role) for role in ("root", "targets"))
        self.client("follower").fetch(PATH)
        shutil.copytree(folder / "follower", folder / "sleeper", symlinks=True)

    def client(self, name: str, repository: SignedRepository | None = None) -> StockClient:
        return StockClient(self.home.open() if repository is None else repository, self.folder / name, self.home.root)

    def look(self) -> None:
        """Poll as a client that follows, as one that slept since the beginning, and as a new one."""
        self.looks += 1
        reader = self.home.open()
        shutil.copytree(self.folder / "sleeper", self.folder / f"woken-{self.looks}", symlinks=True)
        for name in ("follower", f"woken-{self.looks}", f"new-{self.looks}"):
            client = self.client(name, reader)
            assert client.fetch(PATH) == b"app 1.0", name
            assert client.fetch("decisions/app/all.json") == b"{}", name

    def watched(self) -> SignedRepository:
        return self.home.open(Watched(self.look))

    def signers(self, draft: OfflineDraft) -> list[Holder]:
        return [one for one in (self.root, self.targets) if any(one.keyid in part.keyids for part in draft.parts)]

    def listed(self, role: str) -> set[str]:
        state = self.home.open()._committer.view()
        rule = state.rule(role)
        assert rule is not None
        return set(rule.keyids)

    def signed_by(self, role: str) -> set[str]:
        state = self.home.open()._committer.view()
        raw = {"timestamp": state.timestamp_bytes, "snapshot": state.snapshot_bytes}
        return set(signers_of(raw[role] if role in raw else state.raw(role)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("role", ONLINE)
def test_an_online_key_rotates_without_a_client_failing_at_any_step(world: World, role: str) -> None:
    repository, old = world.watched(), world.listed(role)
    [draft] = repository.drafts.rotate([role], compromised=False, past=0, by=ANN, now=world.home.now)
    assert world.listed(role) == old
    assert sign_all(repository.drafts, draft, world.signers(draft), world.home.now) is not None
    new = world.listed(role)
    assert len(new) == 1
    assert new.isdisjoint(old)
    if role in ("timestamp", "snapshot"):
        assert world.signed_by(role) == old | new, "the old key signs on until the overlap is over"
        with pytest.raises(RotationNotDue, match="the overlap lasts until"):
            repository.drafts.end_overlap(by=ANN, now=world.home.later(minutes=59))
    publish(repository, "2.0", world.home.later(minutes=1))
    _, gone = repository.drafts.end_overlap(by=ANN, now=world.home.later(minutes=61))
    assert gone == [role]
    assert world.signed_by(role) == new
    publish(repository, "3.0", world.home.later(minutes=62))
    assert world.client("sleeper").fetch("app/3.0/linux/app.bin") == b"app 3.0"
    assert repository.check(now=world.home.later(minutes=63)) == []
    assert repository.drafts.all() == []


@pytest.mark.parametrize("role", ["root", "targets"])
def test_an_offline_key_rotates_without_a_client_failing_at_any_step(world: World, role: str) -> None:
    repository, new = world.watched(), Holder()
    old = world.listed(role)
    draft = repository.drafts.draft_root(
        add={role: [new.public]}, remove={role: sorted(old)}, thresholds={}, by=ANN, now=world.home.now
    )
    assert [part.role for part in draft.parts] == (["root"] if role == "root" else ["root", "targets"])
    holders = [world.root, new, world.targets] if role == "targets" else [world.root, new]
    assert sign_all(repository.drafts, draft, holders, world.home.now) is not None
    assert world.listed(role) == {new.keyid}
    publish(repository, "2.0", world.home.later(minutes=1))
    assert world.client("sleeper").fetch("app/2.0/linux/app.bin") == b"app 2.0"
    assert repository.check(now=world.home.later(minutes=2)) == []


def test_root_goes_from_one_key_to_two_of_three(world: World) -> None:
    repository = world.watched()
    others = [Holder(), Holder()]
    draft = repository.drafts.draft_root(
        add={"root": [one.public for one in others]}, remove={}, thresholds={"root": 2}, by=ANN, now=world.home.now
    )
    assert [(one.by, one.threshold, len(one.keyids)) for one in draft.parts[0].requirements] == [
        ("root 1", 1, 1),
        ("root 2", 2, 3),
    ]
    # Two new keys meet the new threshold and not the old one.
    assert sign_all(repository.drafts, draft, others, world.home.now) is None
    assert repository.serial() == 3
    assert sign_all(repository.drafts, draft, [world.root], world.home.now) is not None
    following = repository.drafts.draft_root(add={}, remove={}, thresholds={}, by=ANN, now=world.home.later(days=1))
    assert sign_all(repository.drafts, following, [others[1]], world.home.later(days=1)) is None
    assert sign_all(repository.drafts, following, [others[0]], world.home.later(days=1)) is not None
    assert repository.status(now=world.home.now).root_version == 3


def forged(world: World, role: str, version: int, more: dict[str, Any], signer: Signer) -> bytes:
    """What a thief of a key signs: the role as it is, with a version beyond anything."""
    state = world.home.open()._committer.view()
    body = {**state.role(role).body, "version": version, **more}
    payload = encode(body)
    return envelope(payload, [signer.sign(payload).to_dict()])


class Mirror(RepositoryFetcher):
    """A mirror in the hands of a thief: some names have his content."""

    def __init__(self, repository: SignedRepository, names: dict[str, bytes]) -> None:
        super().__init__(repository)
        self.names = names

    def _fetch(self, url: str) -> Any:
        name = url.rpartition("/")[2]
        return iter([self.names[name]]) if name in self.names else super()._fetch(url)


@pytest.mark.parametrize("stolen", [["timestamp"], ["timestamp", "snapshot"], ["snapshot"]], ids=" and ".join)
def test_clients_that_a_thief_sent_far_ahead_come_back_after_the_keys_are_replaced(
    world: World, stolen: list[str]
) -> None:
    ring = Keyring(world.home.folder / "keys")
    state = world.home.open()._committer.view()
    names: dict[str, bytes] = {}
    length, number = len(state.snapshot_bytes), state.snapshot.version
    if "snapshot" in stolen:
        number = HUGE if "timestamp" in stolen else number
        meta = {name: {"version": 9_000_000} for name in state.snapshot.body["meta"]}
        if "timestamp" not in stolen:
            meta = json.loads(json.dumps(state.snapshot.body["meta"]))
            meta["brakes.json"]["version"] = 9  # the honest timestamp names a length: not one byte more
        names[f"{number}.snapshot.json"] = forged(world, "snapshot", number, {"meta": meta}, ring.signer("snapshot"))
        length = len(names[f"{number}.snapshot.json"])
    if "timestamp" in stolen:
        told = {"snapshot.json": {"length": length, "version": number}}
        names["timestamp.json"] = forged(world, "timestamp", HUGE, {"meta": told}, ring.signer("timestamp"))
    (world.folder / "victim").mkdir()
    victim = world.client("victim")
    victim.fetcher = Mirror(world.home.open(), names)
    # He who forged both names targets that do not exist: the victim keeps the forgeries all the same.
    with pytest.raises(DownloadHTTPError) if len(stolen) == 2 else nullcontext():
        victim.refresh()
    publish(world.home.open(), "2.0", world.home.later(seconds=1))
    with pytest.raises(BadVersionNumberError):
        world.client("victim").refresh()

    repository = world.watched()
    [draft] = repository.drafts.rotate(stolen, compromised=True, past=5000, by=ANN, now=world.home.later(seconds=2))
    old = {role: world.listed(role) for role in stolen}
    assert sign_all(repository.drafts, draft, [world.root], world.home.later(seconds=3)) is not None
    assert repository.serial() > 5000
    for role in stolen:
        assert world.signed_by(role) == world.listed(role)
        assert world.listed(role).isdisjoint(old[role])
    assert world.client("victim").fetch("app/2.0/linux/app.bin") == b"app 2.0"
    # What the thief signs now is worth nothing to those who came back.
    robbed = world.client("victim")
    robbed.fetcher = Mirror(world.home.open(), names)
    if "timestamp" in stolen:
        with pytest.raises(RepositoryError):
            robbed.refresh()


@pytest.mark.parametrize("role", ["releases", "decisions"])
def test_a_stolen_publish_or_decision_key_signs_nothing_after_one_commit(world: World, role: str) -> None:
    repository, old = world.watched(), world.listed(role)
    [draft] = repository.drafts.rotate([role], compromised=True, past=700, by=ANN, now=world.home.now)
    assert sign_all(repository.drafts, draft, [world.targets], world.home.now) == 701
    state = world.home.open()._committer.view()
    below = [one for one in state.standing() if roles.key_of(one) == role]
    assert len(below) == {"releases": 65, "decisions": 3}[role]
    for one in below:
        assert set(signers_of(state.raw(one))) == world.listed(role)
        assert old.isdisjoint(signers_of(state.raw(one)))


@pytest.mark.parametrize("kind", ["timestamp", "snapshot", "releases", "targets", "compromised"])
def test_a_crash_at_any_step_of_finishing_is_healed_and_no_client_fails(kind: str, tmp_path: Path) -> None:
    origin = World(tmp_path / "origin")
    repository, now = origin.home.open(), origin.home.now
    holders = [origin.root, origin.targets]
    if kind == "targets":
        new = Holder()
        draft = repository.drafts.draft_root(
            add={"targets": [new.public]}, remove={"targets": [origin.targets.keyid]}, thresholds={}, by=ANN, now=now
        )
        holders.append(new)
    else:
        wanted = ["timestamp", "snapshot"] if kind == "compromised" else [kind]
        [draft] = repository.drafts.rotate(wanted, compromised=kind == "compromised", past=0, by=ANN, now=now)
    signing = [one for one in holders if any(one.keyid in part.keyids for part in draft.parts)]
    sign_all(repository.drafts, draft, signing[:-1], now)
    last = signing[-1].signatures(draft)

    def case(number: int) -> World:
        copy = World.__new__(World)
        copy.folder, copy.looks = tmp_path / f"case-{number}", 0
        shutil.copytree(origin.folder, copy.folder, symlinks=True)
        copy.home = RepositoryHome(copy.folder / "home", origin.home.projection, origin.home.root, now)
        return copy

    def run(copy: World, faults: Faults) -> None:
        import copy as copying

        copy.home.projection = copying.deepcopy(origin.home.projection)
        opened = copy.home.open(FaultyStorage(faults), FaultyProjection(copy.home.projection, faults))
        opened.drafts.sign(draft.id, last, now=now + timedelta(seconds=1))

    counted = Faults()
    run(case(0), counted)
    # Writing the bins is 65 times the same three steps; every step that changes what clients see is taken.
    steps = [at for at, step in enumerate(counted.steps) if step in ("link", "rename", "remove", "project") or at < 8]
    assert len(steps) > 10
    for at in steps if kind != "releases" else [*steps[:6], *steps[-8:]]:
        copy = case(at + 1)
        with pytest.raises(Crash):
            run(copy, Faults(at, "before"))
        copy.look()
        healed = copy.home.open()
        healed.recover(now=now + timedelta(seconds=2))
        if healed.drafts.all():  # it died before the last signature was kept
            healed.drafts.sign(draft.id, last, now=now + timedelta(seconds=3))
        copy.look()
        assert healed.drafts.all() == []
        assert healed.check(now=now + timedelta(seconds=4)) == []
        publish(healed, "2.0", now + timedelta(seconds=5))
        assert copy.client("follower").fetch("app/2.0/linux/app.bin") == b"app 2.0"
        shutil.rmtree(copy.folder)


def test_times_in_the_future_and_foreign_processes_see_the_new_root(world: World) -> None:
    """A process that read the repository before goes on with the key that the new root names."""
    other = world.home.open()
    publish(other, "1.1", world.home.now)
    repository = world.home.open()
    [draft] = repository.drafts.rotate(["timestamp"], compromised=True, past=0, by=ANN, now=world.home.now)
    sign_all(repository.drafts, draft, [world.root], world.home.now)
    publish(other, "1.2", world.home.later(seconds=1))
    assert world.signed_by("timestamp") == world.listed("timestamp")
    world.look()
    assert orjson.loads((world.home.metadata / "2.root.json").read_bytes())["signed"]["version"] == 2


def test_the_moment_of_an_overlap_is_kept(world: World, tmp_path: Path) -> None:
    repository = world.home.open()
    [draft] = repository.drafts.rotate(["snapshot"], compromised=False, past=0, by=ANN, now=world.home.now)
    later: datetime = world.home.later(hours=5)
    sign_all(repository.drafts, draft, [world.root], later)
    with pytest.raises(RotationNotDue):
        repository.drafts.end_overlap(by=ANN, now=later + timedelta(minutes=30))
    repository.drafts.end_overlap(by=ANN, now=later + timedelta(hours=2))
    assert len(world.signed_by("snapshot")) == 1
