"""Offline keys, claims and the signer process through the rest of a repository's life."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tuf.api.exceptions import BadVersionNumberError

from keys.keyring import Keyring
from keys.signerd.hand_over import hand_over
from repo_signing.backup import files_of
from repo_signing.errors import ProductClaimed
from repo_signing.model import NewArtifact
from repo_signing.offline import OfflineDraft
from repo_signing.repository import SignedRepository
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish, staged
from tests.simulators.signer_process import signer_process

OLD: Final = "app/1.0/linux/app.bin"
NEW: Final = "app/2.0/linux/app.bin"
OTHER: Final = "pump/1.0/linux/pump.bin"


class Claimed:
    """A repository with ``app``, claimed by one person, and ``pump``, which the server signs."""

    def __init__(self, folder: Path, layout: str) -> None:
        self.folder = folder
        self.home = RepositoryHome.create(folder / "home", layout=layout)
        self.dan, self.targets = Holder(), Holder.of_laptop(self.home.folder, "targets")
        repository = self.home.open()
        publish(repository, "1.0", self.home.now)
        repository.publish(new(repository, "pump", "1.0"), now=self.home.now)
        self.fetch("follower", OLD, OTHER)
        claim = repository.drafts.claim("app", [self.dan.public], 1, by=ANN, now=self.home.now)
        assert sign_all(repository.drafts, claim, [self.targets, self.dan], self.home.now) is not None

    def fetch(self, name: str, *paths: str) -> list[bytes | None]:
        client = StockClient(self.home.open(), self.folder / name, self.home.root)
        return [client.fetch(path) for path in paths]

    def draft(self) -> OfflineDraft:
        repository = self.home.open()
        _, draft = repository.drafts.draft_publish(new(repository, "app", "2.0"), now=self.home.now)
        assert draft is not None
        return draft

    def versions(self) -> dict[str, int]:
        return dict(self.home.open()._committer.view().versions)


def new(repository: SignedRepository, product: str, version: str) -> NewArtifact:
    return NewArtifact(
        staged=staged(repository, f"{product} {version}".encode()),
        product=product,
        version=version,
        platform="linux",
        channel="stable",
        file_name=f"{product}.bin",
        publisher=ANN,
    )


@pytest.fixture(params=["bins", "paths"])
def claimed(request: pytest.FixtureRequest, tmp_path: Path) -> Claimed:
    return Claimed(tmp_path, request.param)


def test_a_claim_and_its_end_move_artifacts_in_both_layouts(claimed: Claimed) -> None:
    repository = claimed.home.open()
    assert sign_all(repository.drafts, claimed.draft(), [claimed.dan], claimed.home.now) is not None
    for name in ("follower", "new"):
        assert claimed.fetch(name, OLD, NEW, OTHER) == [b"app 1.0", b"app 2.0", b"pump 1.0"]
    release = repository.drafts.release("app", by=ANN, now=claimed.home.now)
    assert sign_all(repository.drafts, release, [claimed.targets], claimed.home.now) is not None
    publish(repository, "3.0", claimed.home.now)
    for name in ("follower", "newer"):
        assert claimed.fetch(name, OLD, NEW, OTHER) == [b"app 1.0", b"app 2.0", b"pump 1.0"]
    assert "product-app" not in repository._committer.view().standing()
    assert repository.status(now=claimed.home.now).artifacts == 4
    assert repository.check(now=claimed.home.now) == []
    assert claimed.home.projection.rows == {record.path: record for record in repository.artifacts()}


def test_what_a_team_signs_is_refused_to_everybody_who_changes_records(claimed: Claimed) -> None:
    repository = claimed.home.open()
    with pytest.raises(ProductClaimed):
        repository.withdraw(OLD, reason="bad", by=ANN, now=claimed.home.now, revoke=True)
    with pytest.raises(ProductClaimed):
        repository.amend(OLD, notes="better", by=ANN, now=claimed.home.now)
    items = [new(repository, product, "2.0") for product in ("app", "pump")]
    refused, signed = repository.publish_batch(items, partial=True, now=claimed.home.now)
    assert refused.refused is not None
    assert (refused.refused.code, signed.is_new) == ("product_claimed", True)
    assert claimed.fetch("follower", OLD) == [b"app 1.0"]


def test_keys_of_releases_change_in_both_layouts(claimed: Claimed) -> None:
    repository, now = claimed.home.open(), claimed.home.now
    (draft,) = repository.drafts.rotate(["releases"], compromised=False, past=0, by=ANN, now=now)
    assert sign_all(repository.drafts, draft, [claimed.targets], now) is not None
    for name in ("follower", "new"):
        assert claimed.fetch(name, OLD, OTHER) == [b"app 1.0", b"pump 1.0"]
    assert repository.drafts.end_overlap(by=ANN, now=now)[1] == ["releases"]
    repository.publish(new(repository, "fan", "1.0"), now=now)  # with paths: the first of its product
    assert claimed.fetch("follower", "fan/1.0/linux/fan.bin") == [b"fan 1.0"]
    assert claimed.home.open().check(now=now) == []


def test_rebinning_a_rotation_after_it_and_a_jump_leave_claimed_products_alone(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path, "bins")
    repository, now = claimed.home.open(), claimed.home.now
    before = claimed.versions()["product-app"]
    repository.rebin(bits=8, by=ANN, now=now)
    (draft,) = repository.drafts.rotate(["releases"], compromised=True, past=0, by=ANN, now=now)
    assert sign_all(repository.drafts, draft, [claimed.targets], now) is not None
    repository.rebin(bits=7, by=ANN, now=now)
    serial = repository.jump(5000, now=now)
    assert serial == 5001
    assert claimed.versions()["product-app"] == before
    assert sign_all(repository.drafts, claimed.draft(), [claimed.dan], now) is not None
    for name in ("follower", "new"):
        assert claimed.fetch(name, OLD, NEW, OTHER) == [b"app 1.0", b"app 2.0", b"pump 1.0"]
    assert repository.check(now=now) == []


def test_a_collection_keeps_what_waits_for_signatures_and_what_a_late_index_needs(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path, "bins")
    draft = claimed.draft()
    repository = claimed.home.open()
    (entry,) = (one for path, one in draft.parts[0].body["targets"].items() if path == NEW)
    projected = repository.serial()
    for hour in range(1, 15):
        repository.refresh(now=claimed.home.later(hours=hour), force=True)
    claimed.home.projection.clear()
    claimed.home.projection.project(projected, [], [])
    late = claimed.home.later(days=60)
    blob = repository.blob_path(entry["hashes"]["sha256"])
    outcome = repository.collect(now=late)
    assert outcome.metadata
    assert blob.is_file()
    known = [
        path for path in claimed.home.metadata.glob("*.snapshot.json") if int(path.name.split(".")[0]) <= projected
    ]
    assert len(known) == 1


def test_a_backup_holds_drafts_their_bytes_and_the_overlap_and_can_be_collected(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path, "bins")
    repository, now = claimed.home.open(), claimed.home.now
    repository.rebin(bits=8, by=ANN, now=now)
    root = Holder.of_laptop(claimed.home.folder, "root")
    (rotation,) = repository.drafts.rotate(["timestamp"], compromised=False, past=0, by=ANN, now=now)
    assert sign_all(repository.drafts, rotation, [root], now) is not None
    draft = claimed.draft()
    copy = tmp_path / "copy"
    for name, content in files_of(claimed.home.repository_folder, repository._committer.view()):
        path = copy / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (copy / "repository" / "staging").mkdir()
    assert (copy / "repository" / "overlap").is_file()
    assert (copy / "repository" / "burned").is_file()
    restored = SignedRepository(copy / "repository", Keyring(claimed.home.folder / "keys"), claimed.home.projection)
    restored.jump(6000, now=now)
    restored.collect(now=claimed.home.later(days=60))
    assert sign_all(restored.drafts, draft, [claimed.dan], now) is not None
    client = StockClient(restored, tmp_path / "follower", claimed.home.root)
    assert client.fetch(NEW) == b"app 2.0"


def test_clients_that_saw_a_team_sign_later_come_back_when_the_restored_role_is_signed_anew(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path, "bins")
    now, folder = claimed.home.now, claimed.home.folder
    shutil.copytree(folder, tmp_path / "older")
    assert sign_all(claimed.home.open().drafts, claimed.draft(), [claimed.dan], now) is not None
    assert claimed.fetch("follower", NEW) == [b"app 2.0"]
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "older", folder)
    claimed.home.projection = ProjectionSimulator()
    repository = claimed.home.open()
    repository.recover(now=now)
    repository.jump(7000, now=now)
    with pytest.raises(BadVersionNumberError):
        claimed.fetch("follower", OLD)
    draft = repository.drafts.draft_renewal("product-app", by=ANN, now=now)
    assert sign_all(repository.drafts, draft, [claimed.dan], now) is not None
    assert claimed.fetch("follower", OLD) == [b"app 1.0"]


@pytest.fixture
def short() -> Iterator[Path]:
    # Not below pytest's folders: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="wg-signer-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("layout", ["bins", "paths"])
def test_a_server_whose_keys_a_signer_process_holds_publishes_and_rebins(short: Path, layout: str) -> None:
    home = RepositoryHome.create(short / "home", layout=layout)
    signer, socket = short / "signer", short / "run" / "s"
    hand_over(home.folder / "keys", signer, socket)
    with signer_process(signer, socket):
        repository = home.open()
        publish(repository, "1.0", home.now)
        repository.publish(new(repository, "pump", "1.0"), now=home.now)
        if layout == "bins":
            repository.rebin(bits=7, by=ANN, now=home.now)
        repository.refresh(now=home.now, force=True)
        client = StockClient(home.open(), short / "client", home.root)
        assert [client.fetch(path) for path in (OLD, OTHER)] == [b"app 1.0", b"pump 1.0"]
        drafts = repository.drafts.rotate(["timestamp"], compromised=False, past=0, by=ANN, now=home.now)
        assert [[part.role for part in draft.parts] for draft in drafts] == [["root"]]
        assert repository.check(now=home.now) == []


def test_a_number_that_a_signer_process_signed_before_a_crash_is_not_used_again(short: Path) -> None:
    home = RepositoryHome.create(short / "home")
    signer, socket = short / "signer", short / "run" / "s"
    hand_over(home.folder / "keys", signer, socket)
    with signer_process(signer, socket):
        repository = home.open()
        publish(repository, "1.0", home.now)
        lost = repository._committer.view()
        body = dict(lost.timestamp.body) | {"version": 40}
        repository._committer.signed_file("timestamp", body, [lost.rule("timestamp")])
        publish(repository, "2.0", home.now)
        assert repository.serial() == 41
    assert os.listdir(home.folder / "keys" / "online") == []
