"""Revocations have a role of their own, named by hash in the snapshot; a repository from before gets it by a draft."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from repo_signing import roles
from repo_signing.mirror import Mirror
from repo_signing.outlook import advice
from repo_signing.view import View
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish

GOOD, BAD, WORSE = (f"app/{version}/linux/app.bin" for version in ("1.0", "2.0", "3.0"))
LIST = "revocations/app/all.json"
LAYOUTS = ("bins", "paths")


def filled(home: RepositoryHome) -> RepositoryHome:
    for version in ("1.0", "2.0", "3.0"):
        publish(home.open(), version, home.now)
    return home


def revoke(home: RepositoryHome, path: str) -> None:
    home.open().withdraw(path, reason="bricks", by=ANN, now=home.now, revoke=True)


def view(home: RepositoryHome) -> View:
    return home.open()._committer.view()


def client(home: RepositoryHome, name: str) -> StockClient:
    return StockClient(home.open(), home.folder / name, home.root)


def revoked(device: StockClient) -> list[str]:
    listed = device.fetch(LIST)
    return [] if listed is None else [one["path"] for one in json.loads(listed)["revoked"]]


def give_role(home: RepositoryHome) -> list[str]:
    """Draft and sign the next targets; returns what its signer was shown."""
    drafts = home.open().drafts
    draft = drafts.draft_renewal("targets", by=ANN, now=home.now)
    sign_all(drafts, draft, [Holder.of_laptop(home.folder, "targets")], home.now)
    return [line for part in draft.parts for line in part.difference]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_revocation_is_in_the_role_that_the_snapshot_names_by_its_hash(layout: str, tmp_path: Path) -> None:
    home = filled(RepositoryHome.create(tmp_path / "home", layout=layout))
    device = client(home, "device")
    assert revoked(device) == []
    revoke(home, BAD)
    assert revoked(device) == [BAD]
    state = view(home)
    assert list(state.role("revocations").body["targets"]) == [LIST]
    assert [role.name for role in state.bins() if LIST in role.body["targets"]] == []
    row = state.snapshot.body["meta"]["revocations.json"]
    assert row == {"version": 5, "hashes": {"sha256": hashlib.sha256(state.raw("revocations")).hexdigest()}}
    assert advice(home.open().status(now=home.now).roles) == []


def test_the_record_of_what_was_withdrawn_stays_in_the_bins_where_devices_need_not_read_it(tmp_path: Path) -> None:
    home = filled(RepositoryHome.create(tmp_path / "home"))
    revoke(home, BAD)
    record = f"revocations/app/{hashlib.sha256(BAD.encode()).hexdigest()}.json"
    assert roles.bin_prefix(view(home).holder(record)) == "releases"
    assert client(home, "auditor").fetch(record) is not None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_repository_from_before_revokes_as_ever_until_its_next_targets(layout: str, tmp_path: Path) -> None:
    home = filled(RepositoryHome.of_old(tmp_path / "home", layout=layout))
    follower = client(home, "follower")
    revoke(home, BAD)
    assert revoked(follower) == [BAD]
    assert "revocations" not in view(home).versions
    assert len(advice(home.open().status(now=home.now).roles)) == 1
    rows = dict(home.projection.rows)

    told = give_role(home)
    assert "+ revocations: 1 of 1 keys, paths revocations/*/all.json, terminating" in told
    state = view(home)
    assert list(state.role("revocations").body["targets"]) == [LIST]
    assert [role.name for role in state.bins() if LIST in role.body["targets"]] == []
    assert advice(home.open().status(now=home.now).roles) == []
    for name in ("follower", "new"):
        assert revoked(client(home, name)) == [BAD]
        assert client(home, name).fetch(GOOD) == b"app 1.0"
    revoke(home, WORSE)
    assert revoked(follower) == [BAD, WORSE]
    assert home.open().check(now=home.now, deep=True) == []
    assert home.projection.rows.keys() == rows.keys()
    assert home.open().rebuild() == 3


def test_targets_signed_anew_keep_the_role_as_it_is(tmp_path: Path) -> None:
    home = filled(RepositoryHome.create(tmp_path / "home"))
    revoke(home, BAD)
    before = view(home).raw("revocations")
    assert [line for line in give_role(home) if "revocations" in line] == []
    assert view(home).raw("revocations") == before
    assert revoked(client(home, "device")) == [BAD]


def test_a_mirror_has_the_revocations(tmp_path: Path) -> None:
    home = filled(RepositoryHome.of_old(tmp_path / "home"))
    revoke(home, BAD)
    Mirror(home.repository_folder, tmp_path / "mirror").sync()
    give_role(home)
    Mirror(home.repository_folder, tmp_path / "mirror").sync()
    state = view(home)
    name = f"{state.versions['revocations']}.revocations.json"
    assert (tmp_path / "mirror" / "metadata" / name).read_bytes() == state.raw("revocations")
