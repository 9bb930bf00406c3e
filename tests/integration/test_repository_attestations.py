"""Attestations beside artifacts: signed in the same commit, examined anew, and made anew from signed metadata."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_signing.errors import ArtifactWithdrawn, UnknownTarget
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import ANN, RepositoryHome, StockClient, attestation_upload, publish

PATH = "app/1.0/linux/app.bin"


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    return RepositoryHome.create(tmp_path / "home")


def test_an_attestation_is_signed_with_its_artifact_in_one_commit(home: RepositoryHome, tmp_path: Path) -> None:
    repository = home.open()
    before = repository.serial()
    record, created = publish(repository, "1.0", home.now, attestations=(b"one", b"two"))
    assert (created, repository.serial()) == (True, before + 1)
    assert [one.path for one in record.attestations] == [f"{PATH}.att.0.dsse", f"{PATH}.att.1.dsse"]
    client = StockClient(repository, tmp_path / "client", home.root)
    assert client.fetch(f"{PATH}.att.0.dsse") == b"one"
    assert client.fetch(f"{PATH}.att.1.dsse") == b"two"
    assert home.projection.rows[PATH] == record


def test_publishing_again_adds_only_what_is_missing(home: RepositoryHome) -> None:
    repository = home.open()
    first, _ = publish(repository, "1.0", home.now, attestations=(b"one",))
    serial = repository.serial()
    assert publish(repository, "1.0", home.now, attestations=(b"one",)) == (first, False)
    assert repository.serial() == serial
    more, created = publish(repository, "1.0", home.now, attestations=(b"one", b"two"))
    assert (created, len(more.attestations)) == (False, 2)
    assert more.attestations[0] == first.attestations[0]


def test_the_same_attestation_again_is_examined_anew(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now, attestations=(b"one",))
    upload = attestation_upload(repository, b"one", state="verified")
    (one,) = repository.attach_attestation(PATH, upload, by=ANN, now=home.now).attestations
    assert (one.path, one.state) == (f"{PATH}.att.0.dsse", "verified")
    told = [(event.tag, event.by) for event in home.projection.events]
    assert told[-1] == ("artifact.attested", ANN)


def test_an_index_made_anew_has_the_attestations(home: RepositoryHome) -> None:
    record, _ = publish(home.open(), "1.0", home.now, attestations=(b"one",))
    anew = ProjectionSimulator()
    home.open(projection=anew).rebuild()
    assert anew.rows == {PATH: record}


def test_attestations_of_a_withdrawn_artifact_stay_signed_and_none_is_added(
    home: RepositoryHome, tmp_path: Path
) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now, attestations=(b"one",))
    repository.withdraw(PATH, reason="leaks", by=ANN, now=home.now)
    client = StockClient(repository, tmp_path / "client", home.root)
    assert client.fetch(PATH) is None
    assert client.fetch(f"{PATH}.att.0.dsse") == b"one"
    with pytest.raises(ArtifactWithdrawn):
        repository.attach_attestation(PATH, attestation_upload(repository, b"two"), by=ANN, now=home.now)


def test_nothing_is_attached_to_what_is_not_signed(home: RepositoryHome) -> None:
    repository = home.open()
    with pytest.raises(UnknownTarget):
        repository.attach_attestation(PATH, attestation_upload(repository, b"one"), by=ANN, now=home.now)
