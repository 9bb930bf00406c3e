"""The ceremony: a repository whose root and targets were signed by people elsewhere, in any order."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keys.errors import UnknownKey
from keys.keyring import Keyring, create_keyring
from repo_signing.errors import DraftExpired, InvalidDraft, RepositoryExists, SignatureRefused, UnknownDraft
from repo_signing.first_drafts import Ceremony
from repo_signing.repository import SignedRepository
from tests.simulators.key_holders import Holder
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import ANN, StockClient, publish
from tests.simulators.repository_faults import Crash, Faults, FaultyStorage


class Begun:
    """A home with online keys only, three holders, and the draft that two of them must sign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        create_keyring(folder / "keys", None)
        self.holders = [Holder(), Holder(), Holder()]
        public = [one.public for one in self.holders]
        self.draft = self.ceremony().begin(
            {"root": public, "targets": public}, {"root": 2, "targets": 2}, by=ANN, now=self.now
        )

    def ceremony(self, faults: Faults | None = None, folder: Path | None = None) -> Ceremony:
        place = self.folder if folder is None else folder
        storage = None if faults is None else FaultyStorage(faults)
        return Ceremony(place / "repository", Keyring(place / "keys"), storage=storage)

    def sign(self, *numbers: int, ceremony: Ceremony | None = None) -> int | None:
        serial = None
        for number in numbers:
            signatures = self.holders[number].signatures(self.draft)
            box = self.ceremony() if ceremony is None else ceremony
            _, serial = box.sign(self.draft.id, signatures, now=self.now)
        return serial

    def check(self, folder: Path) -> None:
        repository = SignedRepository(folder / "repository", Keyring(folder / "keys"), ProjectionSimulator())
        root = (folder / "repository" / "metadata" / "1.root.json").read_bytes()
        repository.recover(now=self.now)
        publish(repository, "1.0", self.now)
        assert StockClient(repository, folder / "client", root).fetch("app/1.0/linux/app.bin") == b"app 1.0"
        assert repository.drafts.all() == []
        assert repository.check(now=self.now) == []


@pytest.fixture
def begun(tmp_path: Path) -> Begun:
    return Begun(tmp_path)


def test_the_home_has_no_key_of_root_and_targets(begun: Begun) -> None:
    ring = Keyring(begun.folder / "keys")
    assert ring.names() == ("decisions", "releases", "snapshot", "timestamp")
    with pytest.raises(UnknownKey):
        ring.signer("root")
    assert not (begun.folder / "offline-keys").exists()


@pytest.mark.parametrize("order", [(0, 1), (2, 0), (1, 2)])
def test_any_two_of_three_in_any_order_make_the_repository(begun: Begun, order: tuple[int, int]) -> None:
    assert begun.sign(order[0]) is None
    assert begun.sign(order[0]) is None, "the same key counts once"
    assert not (begun.folder / "repository" / "metadata" / "timestamp.json").exists()
    assert begun.sign(order[1]) == 1
    begun.check(begun.folder)
    with pytest.raises(UnknownDraft):
        begun.sign(2)
    with pytest.raises(RepositoryExists):
        begun.ceremony().begin(
            {"root": [Holder().public], "targets": [Holder().public]},
            {"root": 1, "targets": 1},
            by=ANN,
            now=begun.now,
        )


def test_signatures_that_do_not_count_are_refused_and_leave_no_trace(begun: Begun) -> None:
    ceremony = begun.ceremony()
    good = begun.holders[0].signatures(begun.draft)
    stranger = Holder()
    strange = {"root": {stranger.keyid: stranger.signer.sign(begun.draft.parts[0].payload).signature}}
    borrowed = {"root": {begun.holders[1].keyid: good["root"][begun.holders[0].keyid]}}
    swapped = {"root": good["targets"]}
    garbled = {"root": {begun.holders[0].keyid: "zz"}}
    mixed = {"root": good["root"], "targets": {begun.holders[0].keyid: "00"}}
    for refused in (strange, borrowed, swapped, garbled, mixed, {"snapshot": good["root"]}, {}):
        with pytest.raises(SignatureRefused):
            ceremony.sign(begun.draft.id, refused, now=begun.now)
    assert all(not part.signatures for part in ceremony.get(begun.draft.id).parts)


def test_after_the_deadline_nothing_is_taken_until_the_draft_is_rebased(begun: Begun) -> None:
    late = begun.now + timedelta(days=31)
    with pytest.raises(DraftExpired):
        begun.ceremony().sign(begun.draft.id, begun.holders[0].signatures(begun.draft), now=late)
    again = begun.ceremony().rebase(begun.draft.id, now=late)
    assert again.id == begun.draft.id
    with pytest.raises(SignatureRefused):
        begun.ceremony().sign(begun.draft.id, begun.holders[0].signatures(begun.draft), now=late)
    for holder in begun.holders[:2]:
        begun.ceremony().sign(again.id, holder.signatures(again), now=late)
    assert (begun.folder / "repository" / "metadata" / "timestamp.json").exists()


def test_keys_that_cannot_meet_the_threshold_begin_nothing(tmp_path: Path) -> None:
    create_keyring(tmp_path / "keys", None)
    one = [Holder().public]
    with pytest.raises(InvalidDraft, match="root would need 2 of 1 keys"):
        Ceremony(tmp_path / "repository", Keyring(tmp_path / "keys")).begin(
            {"root": one, "targets": one}, {"root": 2, "targets": 1}, by=ANN, now=datetime.now(UTC)
        )
    assert not (tmp_path / "repository").exists()


def test_a_crash_at_any_step_of_the_last_signature_is_made_up_for(begun: Begun, tmp_path: Path) -> None:
    begun.sign(0)
    counted = Faults()
    shutil.copytree(begun.folder / "repository", tmp_path / "twin" / "repository")
    shutil.copytree(begun.folder / "keys", tmp_path / "twin" / "keys")
    assert begun.sign(1, ceremony=begun.ceremony(counted, tmp_path / "twin")) == 1
    last = len(counted.steps) - 1
    # The 64 bins are written like the first roles; the steps around them are all taken.
    for at in [*range(30), *range(last - 12, last + 1)]:
        folder = tmp_path / f"at-{at}"
        shutil.copytree(begun.folder / "repository", folder / "repository")
        shutil.copytree(begun.folder / "keys", folder / "keys")
        with pytest.raises(Crash):
            begun.sign(1, ceremony=begun.ceremony(Faults(at), folder))
        if not (folder / "repository" / "metadata" / "timestamp.json").exists():
            assert begun.sign(1, ceremony=begun.ceremony(folder=folder)) == 1
        begun.check(folder)
        shutil.rmtree(folder)
