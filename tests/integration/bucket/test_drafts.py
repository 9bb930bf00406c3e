"""What waits for signatures waits in the bucket: whichever server is asked knows it, from the ceremony on."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.local_drafts import LocalDrafts
from api.organisations import Holders
from api.rebuild import rebuild_index
from api.settings import read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from tests.simulators.bucket_home import settings_of
from tests.simulators.key_holders import Holder
from tests.simulators.object_stores import S3Server
from tests.simulators.repository import ANN, StockClient, publish


def test_a_ceremony_a_rotation_and_a_new_index_by_two_servers_over_one_bucket(
    moto: S3Server, empty_postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repo_signing.shared_storage.FOLLOW_SECONDS", 0.0)
    address, folders = moto.new_bucket(), [tmp_path / "first", tmp_path / "second"]
    settings = [read_settings(settings_of(folder, empty_postgresql_url, address)) for folder in folders]
    people = [Holder(), Holder(), Holder()]
    public = [one.public for one in people]
    holders = Holders(keys={"root": public, "targets": public}, thresholds={"root": 2, "targets": 2})
    made = initialise(settings[0], org="acme", admin="a@example.com", now=datetime.now(UTC), holders=holders)
    shutil.copytree(folders[0], folders[1], ignore=shutil.ignore_patterns("repository"))

    # One holder signs at the one server, the other at the second, which never saw the draft on its own disk.
    for one, holder in zip(settings, people, strict=False):
        drafts = LocalDrafts(one)
        signed = drafts.sign(made.draft or "", holder.signatures(drafts._drafts.get(made.draft or "")))
        drafts.close()
    assert signed["serial"] == 1

    wirings = [open_wavegate(one) for one in settings]
    publish(wirings[1].repository, "1.0", datetime.now(UTC))
    [draft] = wirings[0].repository.drafts.rotate(
        ["timestamp"], compromised=False, past=0, by=ANN, now=datetime.now(UTC)
    )
    assert [one.id for one in wirings[0].repository.drafts.all()] == [draft.id]
    root = (folders[1] / "root.json").read_bytes()
    assert wirings[1].repository.serial() == 2
    client = StockClient(wirings[1].repository, tmp_path / "client", root)
    assert client.fetch("app/1.0/linux/app.bin") == b"app 1.0"

    # The index is made anew from the bucket alone, at a server that has no copy of it any more.
    wirings[1].close()
    shutil.rmtree(folders[1] / "orgs" / "acme" / "repository")
    again = open_wavegate(settings[1])
    done = rebuild_index(again, now=datetime.now(UTC))
    assert (done.artifacts, done.equal) == (1, True)
    for wiring in (wirings[0], again):
        wiring.close()
