"""Taking artifacts out: what clients, index and disk have of them afterwards, whatever moment the power fails."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from repo_signing.errors import ArtifactWithdrawn, UnknownTarget
from repo_signing.repository import SignedRepository
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish, sbom_upload
from tests.simulators.repository_faults import every_crash

BAD = "app/2.0/linux/app.bin"
GOOD = "app/1.0/linux/app.bin"
LIST = "revocations/app/all.json"
BAD_SHA256 = hashlib.sha256(b"app 2.0").hexdigest()


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    made = RepositoryHome.create(tmp_path / "home")
    publish(made.open(), "1.0", made.now)
    publish(made.open(), "2.0", made.now, sboms=(b"sbom of 2.0",))
    return made


def client(home: RepositoryHome, name: str = "client") -> StockClient:
    return StockClient(home.open(), home.folder / name, home.root)


def served_blob(home: RepositoryHome) -> Path | None:
    return home.open().target_file(f"app/2.0/linux/{BAD_SHA256}.app.bin")


def test_a_withdrawn_artifact_is_neither_signed_nor_served_and_its_record_stays(home: RepositoryHome) -> None:
    device = client(home)
    assert device.fetch(BAD) == b"app 2.0"
    record = home.open().withdraw(BAD, reason="wrong\n build", by=ANN, now=home.now)
    assert record.withdrawn is not None
    assert (record.withdrawn.reason, record.withdrawn.revoked) == ("wrong build", False)
    assert device.fetch(BAD) is None
    assert device.fetch(GOOD) == b"app 1.0"
    assert device.fetch(f"{BAD}.sbom.0.cyclonedx-json") == b"sbom of 2.0"
    assert served_blob(home) is None
    assert (home.repository_folder / "quarantine" / BAD_SHA256).read_bytes() == b"app 2.0"
    assert home.projection.rows[BAD] == record
    assert home.projection.events[-1].tag == "artifact.withdrawn"
    assert home.open().find(BAD) is None
    assert home.open().check(now=home.now) == []


def test_the_path_of_a_withdrawn_artifact_is_closed_for_any_bytes(home: RepositoryHome) -> None:
    home.open().withdraw(BAD, reason="wrong", by=ANN, now=home.now)
    repository = home.open()
    for content in (b"other bytes", b"app 2.0"):
        with pytest.raises(ArtifactWithdrawn, match=r"was withdrawn by Ann \(wrong\) and its path is never used again"):
            publish(repository, "2.0", home.now, content=content)
    with pytest.raises(ArtifactWithdrawn):
        repository.yank(BAD, reason="x", by=ANN, now=home.now)
    with pytest.raises(ArtifactWithdrawn):
        repository.attach_sbom(BAD, sbom_upload(repository, b"late"), by=ANN, now=home.now)
    with pytest.raises(UnknownTarget):
        repository.withdraw("app/9/linux/app.bin", reason="x", by=ANN, now=home.now)


def test_a_revoked_artifact_is_listed_for_devices_and_the_list_grows(home: RepositoryHome) -> None:
    repository = home.open()
    repository.withdraw(BAD, reason="bricks", by=ANN, now=home.now, revoke=True)
    repository.withdraw(GOOD, reason="leaks", by=ANN, now=home.now)
    repository.withdraw(GOOD, reason="leaks keys", by=ANN, now=home.now, revoke=True)
    again = repository.withdraw(GOOD, reason="another reason", by=ANN, now=home.now)
    assert again.withdrawn is not None
    assert again.withdrawn.reason == "leaks keys"
    listed = json.loads(client(home).fetch(LIST) or b"")
    assert (listed["_type"], listed["format"], listed["product"]) == ("wavegate-revocations", 1, "app")
    assert [(one["path"], one["sha256"], one["reason"]) for one in listed["revoked"]] == [
        (GOOD, hashlib.sha256(b"app 1.0").hexdigest(), "leaks keys"),
        (BAD, BAD_SHA256, "bricks"),
    ]
    tags = [event.tag for event in home.projection.events if event.tag != "artifact.published"]
    assert tags == ["artifact.revoked", "artifact.withdrawn", "artifact.revoked"]


def test_bytes_that_another_path_has_go_on_being_served(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "2.0.1", home.now, content=b"app 2.0")
    repository.withdraw(BAD, reason="wrong name", by=ANN, now=home.now)
    assert client(home).fetch("app/2.0.1/linux/app.bin") == b"app 2.0"
    assert not (home.repository_folder / "quarantine" / BAD_SHA256).exists()


def test_an_index_made_anew_has_the_withdrawn_rows_too(home: RepositoryHome) -> None:
    repository = home.open()
    repository.withdraw(BAD, reason="wrong", by=ANN, now=home.now)
    before = dict(home.projection.rows)
    assert repository.rebuild() == 2
    assert home.projection.rows == before
    assert repository.status(now=home.now).artifacts == 1


@pytest.mark.parametrize("revoke", [False, True], ids=["withdraw", "revoke"])
def test_a_crash_at_any_step_leaves_it_served_or_withdrawn_and_never_between(
    home: RepositoryHome, tmp_path: Path, revoke: bool
) -> None:
    client(home).fetch(BAD)

    def action(repository: SignedRepository) -> None:
        repository.withdraw(BAD, reason="wrong", by=ANN, now=home.later(seconds=1), revoke=revoke)

    outcomes = set()
    for case in every_crash(home, tmp_path / "cases", action):
        repository = case.open()
        repository.recover(now=case.later(seconds=2))
        is_signed = repository.find(BAD) is not None
        outcomes.add(is_signed)
        assert (served_blob(case) is not None) == is_signed
        for name in ("client", "new-client"):
            assert client(case, name).fetch(BAD) == (b"app 2.0" if is_signed else None)
            assert (client(case, name).fetch(LIST) is not None) == (revoke and not is_signed)
        assert case.projection.rows == {record.path: record for record in repository.artifacts()}
        action(repository)
        assert served_blob(case) is None
        assert client(case).fetch(GOOD) == b"app 1.0"
        tag = "artifact.revoked" if revoke else "artifact.withdrawn"
        assert [event.tag for event in case.projection.events].count(tag) == 1
        assert repository.check(now=case.later(seconds=3)) == []
    assert outcomes == {True, False}
