"""What stock python-tuf clients see, given only the root."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError, LengthOrHashMismatchError, RepositoryError

from repo_signing.errors import ClientWouldRefuse, PathTaken, RepositoryDamaged, UnknownTarget
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish, sbom_upload, staged

PATH = "app/1.0/linux/app.bin"


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    return RepositoryHome.create(tmp_path / "home")


def client(home: RepositoryHome, name: str = "client") -> StockClient:
    return StockClient(home.open(), home.folder / name, home.root)


def test_a_client_given_only_the_root_fetches_artifact_and_sbom(home: RepositoryHome) -> None:
    record, created = publish(home.open(), "1.0", home.now, sboms=(b"{}", b"<bom/>"))
    assert created
    assert record.path == PATH
    assert [sbom.path for sbom in record.sboms] == [f"{PATH}.sbom.0.cyclonedx-json", f"{PATH}.sbom.1.cyclonedx-json"]
    device = client(home)
    assert device.fetch(PATH) == b"app 1.0"
    assert device.fetch(f"{PATH}.sbom.0.cyclonedx-json") == b"{}"
    assert device.fetch(f"{PATH}.sbom.1.cyclonedx-json") == b"<bom/>"
    assert device.fetch("app/9.9/linux/app.bin") is None


def test_a_client_that_saw_an_earlier_state_follows_every_kind_of_change(home: RepositoryHome) -> None:
    repository = home.open()
    device = client(home)
    device.refresh()
    publish(repository, "1.0", home.now)
    assert device.fetch(PATH) == b"app 1.0"
    repository.attach_sbom(PATH, sbom_upload(repository, b"{}"), by=ANN, now=home.now)
    assert device.fetch(f"{PATH}.sbom.0.cyclonedx-json") == b"{}"
    repository.commit_documents({"decisions/app/pilot.json": b"open", "brakes/app/pilot.json": b"halted"}, now=home.now)
    assert device.fetch("decisions/app/pilot.json") == b"open"
    assert device.fetch("brakes/app/pilot.json") == b"halted"
    repository.commit_documents({"decisions/app/pilot.json": b"wider", "brakes/app/pilot.json": None}, now=home.now)
    assert device.fetch("decisions/app/pilot.json") == b"wider"
    assert device.fetch("brakes/app/pilot.json") is None
    repository.yank(PATH, reason="broken", by=ANN, now=home.now)
    target = device.updater().get_targetinfo(PATH)
    assert target is not None
    assert target.unrecognized_fields["custom"]["yanked"]["reason"] == "broken"
    assert repository.refresh(now=home.later(hours=7), force=True) == ["snapshot", "timestamp"]
    device.refresh()


def test_a_poll_with_nothing_new_is_two_requests_and_at_most_400_bytes(home: RepositoryHome) -> None:
    repository = home.open()
    for number in range(5):
        publish(repository, f"1.{number}", home.now)
    device = client(home)
    device.fetch("app/1.4/linux/app.bin")
    device.fetcher.answers.clear()
    device.refresh()
    assert [(name, status) for name, status, _ in device.fetcher.answers] == [
        ("2.root.json", 404),
        ("timestamp.json", 200),
    ]
    assert sum(length for _, _, length in device.fetcher.answers) <= 400


def test_the_same_bytes_again_are_no_second_artifact_and_other_bytes_are_refused(home: RepositoryHome) -> None:
    repository = home.open()
    first, _ = publish(repository, "1.0", home.now, sboms=(b"{}",))
    again, created = publish(repository, "1.0", home.now, sboms=(b"{}",))
    assert (again, created) == (first, False)
    assert repository.serial() == 2
    with pytest.raises(PathTaken, match=f"{PATH} is signed with sha256 {first.sha256}"):
        publish(repository, "1.0", home.now, content=b"other")
    assert client(home).fetch(PATH) == b"app 1.0"


def test_publishing_again_with_an_sbom_that_was_missing_adds_it(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now)
    record, created = publish(repository, "1.0", home.now, sboms=(b"{}",))
    assert created is False
    assert [sbom.path for sbom in record.sboms] == [f"{PATH}.sbom.0.cyclonedx-json"]
    assert home.projection.rows[PATH] == record


def test_notes_labels_and_yank_are_signed_and_change_nothing_when_repeated(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now, notes="one\r\ntwo\tthree")
    assert home.projection.rows[PATH].notes == "one\ntwo three"
    amended = repository.amend(PATH, notes="four", labels={"site": "Köln"}, by=ANN, now=home.now)
    assert (amended.notes, dict(amended.labels), amended.serial) == ("four", {"site": "Köln"}, 3)
    assert repository.amend(PATH, notes="four", by=ANN, now=home.now) == amended
    yanked = repository.yank(PATH, reason="bad\nbuild", by=ANN, now=home.now)
    assert yanked.yanked is not None
    assert (yanked.yanked.reason, yanked.yanked.by) == ("bad build", ANN)
    assert repository.yank(PATH, reason="other", by=ANN, now=home.now) == yanked
    assert repository.serial() == 4
    assert [event.tag for event in home.projection.events] == [
        "artifact.published",
        "artifact.amended",
        "artifact.yanked",
    ]
    assert list(home.open().artifacts()) == [yanked]
    with pytest.raises(UnknownTarget):
        repository.yank("app/2.0/linux/app.bin", reason="bad", by=ANN, now=home.now)


def test_everything_is_renewed_before_it_expires_and_after_the_server_slept(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now)
    assert repository.refresh(now=home.later(hours=5)) == []
    assert repository.refresh(now=home.later(hours=6)) == ["timestamp"]
    halfway = ["brakes", "decisions", "revocations", "snapshot", "timestamp"]
    assert repository.refresh(now=home.later(days=4)) == halfway
    asleep = home.later(days=89)
    renewed = repository.refresh(now=asleep)
    assert len(renewed) == 70  # 64 bins, releases, decisions, brakes, revocations, snapshot, timestamp
    assert all(role.expires > asleep for role in repository.status(now=asleep).roles)
    device = client(home).updater()
    device._trusted_set.reference_time = asleep
    assert device.get_targetinfo(PATH) is not None


def test_a_server_that_slept_past_every_expiry_can_publish_before_its_first_refresh(home: RepositoryHome) -> None:
    asleep = home.later(days=89)
    repository = home.open()
    publish(repository, "1.0", asleep)
    device = client(home).updater()
    device._trusted_set.reference_time = asleep
    target = device.get_targetinfo(PATH)
    assert target is not None


def test_nothing_is_signed_once_the_offline_roles_have_expired(home: RepositoryHome) -> None:
    repository = home.open()
    repository.refresh(now=home.later(days=300), accept_clock=True)
    with pytest.raises(ClientWouldRefuse, match=r"Final root\.json is expired"):
        publish(repository, "1.0", home.later(days=366))
    assert repository.serial() == 2
    kinds = {(found.kind, found.what.split(" ")[0]) for found in repository.check(now=home.later(days=366))}
    assert {("expired_role", "root"), ("expired_role", "targets"), ("expired_role", "timestamp")} <= kinds


def test_bins_do_not_all_come_due_at_once(home: RepositoryHome) -> None:
    repository = home.open()
    counts = [len(repository.refresh(now=home.later(days=day))) for day in (55, 56, 57, 58, 59, 60)]
    assert all(count < 25 for count in counts)


def test_status_tells_every_role(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now, sboms=(b"{}",))
    status = repository.status(now=home.now)
    assert (status.serial, status.projected_serial, status.root_version, status.artifacts) == (2, 2, 1, 1)
    assert status.root_sha256 == repository.root_sha256()
    assert repository.root_with_sha256(status.root_sha256) == home.root
    assert repository.root_with_sha256("0" * 64) is None
    assert [role.name for role in status.roles[:7]] == [
        "root",
        "timestamp",
        "snapshot",
        "targets",
        "brakes",
        "decisions",
        "releases",
    ]
    assert len(status.roles) == 72
    assert sum(role.targets or 0 for role in status.roles) == 2


def bin_file(home: RepositoryHome) -> Path:
    """The newest bin file that holds the artifact."""
    return next(path for path in home.metadata.glob("2.releases-*.json") if PATH.encode() + b'":' in path.read_bytes())


def overwrite(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_a_tampered_bin_is_refused_by_clients_found_by_a_check_and_never_signed_over(home: RepositoryHome) -> None:
    publish(home.open(), "1.0", home.now, sboms=(b"{}",))
    path = bin_file(home)
    overwrite(path, path.read_bytes().replace(b'"length":7', b'"length":8'))
    with pytest.raises(RepositoryError):
        client(home).fetch(PATH)
    assert [found.kind for found in home.open().check(now=home.now, repair=True)] == ["damaged_metadata"]
    with pytest.raises(RepositoryDamaged, match="is not what was signed"):
        home.open().yank(PATH, reason="broken", by=ANN, now=home.now)


def test_tampered_bytes_of_an_artifact_are_refused_by_clients_and_found_by_a_check(home: RepositoryHome) -> None:
    record, _ = publish(home.open(), "1.0", home.now)
    blob = home.open().blob_path(record.sha256)
    overwrite(blob, b"APP 1.0")
    with pytest.raises(LengthOrHashMismatchError):
        client(home).fetch(PATH)
    assert [found.kind for found in home.open().check(now=home.now)] == ["damaged_blob"]
    assert home.open().check(now=home.now, deep=False) == []
    blob.unlink()
    assert [found.kind for found in home.open().check(now=home.now)] == ["missing_blob"]


def test_a_tampered_document_is_not_handed_out(home: RepositoryHome) -> None:
    repository = home.open()
    repository.commit_documents({"decisions/app/pilot.json": b"open"}, now=home.now)
    assert repository.served("decisions/app/pilot.json") == b"open"
    assert repository.served("decisions/app/other.json") is None
    name = next((home.repository_folder / "blobs").glob("*/*"))
    overwrite(name, b"shut")
    with pytest.raises(RepositoryDamaged, match="holds other bytes"):
        repository.served("decisions/app/pilot.json")


def test_rollback_an_older_timestamp_is_refused_by_who_saw_the_newer_and_found_by_a_check(
    home: RepositoryHome,
) -> None:
    older = (home.metadata / "timestamp.json").read_bytes()
    publish(home.open(), "1.0", home.now)
    device = client(home)
    device.refresh()
    overwrite(home.metadata / "timestamp.json", older)
    with pytest.raises(RepositoryError):
        device.refresh()
    assert "index_ahead" in [found.kind for found in home.open().check(now=home.now)]


def test_freeze_an_expired_timestamp_is_refused(home: RepositoryHome) -> None:
    updater = client(home).updater()
    updater._trusted_set.reference_time = home.later(hours=49)
    with pytest.raises(ExpiredMetadataError):
        updater.refresh()


def test_mix_and_match_a_snapshot_of_another_state_is_refused(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now)
    publish(repository, "2.0", home.now)
    overwrite(home.metadata / "3.snapshot.json", (home.metadata / "2.snapshot.json").read_bytes())
    with pytest.raises(RepositoryError):
        client(home).refresh()
    assert [found.kind for found in home.open().check(now=home.now)] == ["damaged_metadata"]


def test_only_names_of_the_grammar_are_served(home: RepositoryHome) -> None:
    repository = home.open()
    record, _ = publish(repository, "1.0", home.now)
    assert repository.metadata_file("timestamp.json") is not None
    assert repository.metadata_file("1.root.json") is not None
    assert repository.target_file(f"app/1.0/linux/{record.sha256}.app.bin") is not None
    for name in (
        "../keys/keyring.json",
        "/etc/passwd",
        "timestamp.json/..",
        "1.root.json\n",
        ".tmp-1",
        "",
        "9.root.json",
    ):
        assert repository.metadata_file(name) is None
    for name in (
        f"../../blobs/{record.sha256}.x",
        f"app/../linux/{record.sha256}.app.bin",
        f"app/1.0/linux/{record.sha256}",
        f"{record.sha256}.app.bin",
        f"app/1.0/linux/{'0' * 64}.app.bin",
        f"app/1.0/linux/{record.sha256}.app.bin\n",
    ):
        assert repository.target_file(name) is None


def test_uploads_are_taken_by_id_once_and_swept_after_a_day(home: RepositoryHome) -> None:
    repository = home.open()
    first, second = staged(repository, b"one"), staged(repository, b"two")
    assert home.open().staged(first.upload_id) == first
    with home.open().open_staged(first) as stream:
        assert stream.read() == b"one"
    assert repository.check(now=datetime.now(UTC) + timedelta(hours=23), repair=True) == []
    found = repository.check(now=datetime.now(UTC) + timedelta(hours=25), repair=True)
    swept = sorted(one.what.split(".")[0] for one in found if one.kind == "stale_upload")
    assert swept == sorted([first.upload_id, second.upload_id])
    assert list((home.repository_folder / "staging").iterdir()) == []
