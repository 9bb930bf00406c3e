"""Records beside their bin: signed as before, out of the devices' way, and where everything that copies finds them."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import TargetFile

from repo_signing import roles
from repo_signing.backup import files_of
from repo_signing.commit import Prepared
from repo_signing.mirror import Mirror
from repo_signing.repository import SignedRepository
from repo_signing.role_cache import Role, RoleFacts
from repo_signing.view import View
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish, sbom_upload

OLD, NEW = "app/1.0/linux/app.bin", "app/2.0/linux/app.bin"


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    """Two artifacts in 128 bins, the first with notes and an SBOM."""
    made = RepositoryHome.create(tmp_path / "home")
    repository = made.open()
    publish(repository, "1.0", made.now, sboms=(b"sbom",), notes="first\nsecond")
    publish(repository, "2.0", made.now)
    repository.rebin(bits=7, now=made.now)
    return made


def role_of(home: RepositoryHome, path: str) -> tuple[str, int]:
    state = home.open()._committer.view()
    name = state.holder(path)
    return name, state.versions[name]


def signed(home: RepositoryHome, path: str) -> dict[str, Any]:
    """The signed part of the bin of a path, as clients fetch it."""
    name, version = role_of(home, path)
    body: dict[str, Any] = json.loads((home.metadata / f"{version}.{name}.json").read_bytes())["signed"]
    return body


def sheet(home: RepositoryHome, path: str) -> Path:
    name, version = role_of(home, path)
    return home.metadata / f"{version}.{name}.records.json"


def target(home: RepositoryHome, path: str) -> TargetFile:
    client = StockClient(home.open(), home.folder / "device", home.root)
    found = client.updater().get_targetinfo(path)
    assert found is not None
    assert [name for name, _, _ in client.fetcher.answers if "records" in name] == []
    return found


def test_a_bin_has_hash_and_length_only_and_names_the_file_with_the_records(home: RepositoryHome) -> None:
    body = signed(home, OLD)
    assert body["targets"][OLD] == {"hashes": {"sha256": hashlib.sha256(b"app 1.0").hexdigest()}, "length": 7}
    content = sheet(home, OLD).read_bytes()
    assert body["x-wavegate-records"] == {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    record = json.loads(content)[OLD]
    assert (record["product"], record["version"], record["platform"]) == ("app", "1.0", "linux")
    assert record["notes"] == ["first", "second"]
    name, version = role_of(home, OLD)
    assert home.open().metadata_file(f"{version}.{name}.records.json") == sheet(home, OLD)


def test_every_row_is_made_anew_from_what_is_signed(home: RepositoryHome) -> None:
    repository = home.open()
    repository.amend(OLD, notes="third", labels={"line": "a"}, by=ANN, now=home.now)
    repository.yank(NEW, reason="bad", by=ANN, now=home.now)
    repository.attach_sbom(NEW, sbom_upload(repository, b"late"), by=ANN, now=home.now)
    rows = dict(home.projection.rows)
    assert home.open().rebuild() == 2
    assert home.projection.rows == rows
    assert rows[OLD].labels == {"line": "a"}
    assert home.open().check(now=home.now, deep=True) == []


def test_devices_see_a_yank_and_fetch_no_records(home: RepositoryHome) -> None:
    assert target(home, NEW).unrecognized_fields == {}
    home.open().yank(NEW, reason="bad", by=ANN, now=home.now)
    custom = target(home, NEW).custom
    assert custom is not None
    assert list(custom) == ["yanked"]
    assert custom["yanked"]["reason"] == "bad"


def test_an_index_that_was_behind_is_told_what_happened(home: RepositoryHome) -> None:
    before = home.projection.projected_serial()
    home.open().yank(NEW, reason="bad", by=ANN, now=home.now)
    event = home.projection.events.pop()
    home.projection._serial = before
    home.open().recover(now=home.now)
    assert event in home.projection.events


@pytest.mark.parametrize("content", [None, b"{}", b"no json"], ids=["missing", "emptied", "garbled"])
def test_records_that_are_not_the_signed_ones_are_found_and_nothing_is_signed_over_them(
    home: RepositoryHome, content: bytes | None
) -> None:
    path = sheet(home, OLD)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (finding,) = home.open().check(now=home.now)
    assert finding.kind == "damaged_metadata"
    with pytest.raises(Exception, match=r"records"):
        home.open().yank(OLD, reason="bad", by=ANN, now=home.now)
    assert StockClient(home.open(), home.folder / "device", home.root).fetch(OLD) == b"app 1.0"


def test_a_mirror_and_a_backup_have_the_records_and_a_collection_leaves_them(
    home: RepositoryHome, tmp_path: Path
) -> None:
    home.open().yank(OLD, reason="bad", by=ANN, now=home.now)
    first = sheet(home, OLD)
    Mirror(home.repository_folder, tmp_path / "mirror").sync()
    assert (tmp_path / "mirror" / "metadata" / first.name).read_bytes() == first.read_bytes()
    names = [name for name, _ in files_of(home.repository_folder, home.open()._committer.view())]
    assert f"metadata/{first.name}" in names
    for number in range(12):
        home.open().amend(OLD, notes=f"note {number}", labels=None, by=ANN, now=home.later(days=1 + number))
    home.open().refresh(now=home.later(days=20))
    taken = home.open().collect(now=home.later(days=20))
    assert first.name in taken.metadata
    assert sheet(home, OLD).is_file()
    assert home.open().check(now=home.later(days=20)) == []


def test_the_next_spread_has_the_records_too(home: RepositoryHome) -> None:
    rows = {record.path: record for record in home.open().artifacts()}
    home.open().rebin(bits=6, now=home.now)
    assert role_of(home, OLD)[0].startswith("r3-")
    assert {record.path: record for record in home.open().artifacts()} == rows


def test_bins_that_an_earlier_version_spread_are_read_and_get_their_file_with_the_next_change(tmp_path: Path) -> None:
    home = RepositoryHome.create(tmp_path / "home")
    publish(home.open(), "1.0", home.now, notes="kept")
    spread_as_before(home.open(), home)
    assert signed(home, OLD)["targets"][OLD]["custom"]["notes"] == ["kept"]
    assert [record.notes for record in home.open().artifacts()] == ["kept"]
    publish(home.open(), "2.0", home.now)
    home.open().yank(OLD, reason="bad", by=ANN, now=home.now)
    assert list(signed(home, OLD)["targets"][OLD]["custom"]) == ["yanked"]
    assert home.open().check(now=home.now) == []
    assert [record.notes for record in home.open().artifacts() if record.path == OLD] == ["kept"]


def spread_as_before(repository: SignedRepository, home: RepositoryHome) -> None:
    """128 bins ``releases2-…`` with whole records, as they were made before there were files of records."""
    committer = repository._committer

    def prepare(view: View, serial: int, now: Any) -> Prepared:
        body = roles.rebinned_body(view.role("releases").body, serial, now, prefix="releases2", bits=7)
        spread: dict[str, dict[str, Any]] = {name: {} for name in roles.bin_names("releases2", 7)}
        for role in view.bins():
            for path, entry in role.body["targets"].items():
                spread[f"releases2-{roles.bin_number(path, 7):02x}"][path] = entry
        facts = {}
        for name, targets in spread.items():
            holder = roles.holder_body(name, targets, serial, now)
            content = committer.signed_file(name, holder, [roles.rule_of(body, name)])
            committer.storage.create_once(committer.metadata, {f"{serial}.{name}.json": content})
            facts[name] = RoleFacts.of(Role.of(name, holder))
        return Prepared({"releases": body}, facts, [])

    committer.install_alone(home.now + timedelta(seconds=1), prepare)
