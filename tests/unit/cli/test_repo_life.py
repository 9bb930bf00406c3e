"""`publish artifact withdraw|revoke` and `publish repo gc|bundle`: the calls they stand for, and what they write."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT
from tests.unit.cli.test_commands import REPOSITORY

ROOT = '{"signed": "ä"}'
BUNDLE: dict[str, Any] = {
    "org": "acme",
    "root_version": 1,
    "root_sha256": hashlib.sha256(ROOT.encode()).hexdigest(),
    "metadata_url": "http://w/tuf/acme/metadata",
    "targets_url": "http://w/tuf/acme/targets",
    "files": {"root.json": ROOT, "map.json": "{}\n", "fingerprint.txt": "text\n"},
}


def gone(*, revoked: bool) -> dict[str, Any]:
    by = {"kind": "user", "id": "usr_01", "name": "Ann"}
    withdrawn = {"reason": "leaks", "by": by, "at": "2026-11-21T10:00:00Z", "revoked": revoked}
    return {**ARTIFACT, "withdrawn": withdrawn}


@pytest.mark.parametrize(("verb", "state"), [("withdraw", "withdrawn"), ("revoke", "revoked")])
def test_taking_an_artifact_out_carries_its_reason(
    publish: Publish, server: ApiServerSimulator, verb: str, state: str
) -> None:
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, ARTIFACT))
    server.on("POST", f"/api/v1/artifacts/art_01/{verb}", Reply(200, gone(revoked=verb == "revoke")))
    done = publish("artifact", verb, "art_01", "--reason", "leaks", "-o", "table")
    assert (done.code, done.out) == (0, f"{state} app/1.0.0/any/app.bin (art_01)\n")
    assert server.asked("POST", f"/api/v1/artifacts/art_01/{verb}")[0].json == {"reason": "leaks"}
    server.on("GET", "/api/v1/artifacts/art_01", Reply(200, gone(revoked=verb == "revoke")))
    shown = publish("artifact", "show", "art_01", "-o", "table").out
    assert "2026-11-21 10:00:00Z by Ann: leaks" in shown


def test_status_puts_warnings_first(publish: Publish, server: ApiServerSimulator) -> None:
    server.on(
        "GET", "/api/v1/repository", Reply(200, {**REPOSITORY, "warnings": ["root expires in 9 d; bring it\x1b"]})
    )
    lines = publish("repo", "status", "-o", "table").out.splitlines()
    assert lines[0] == "warning: root expires in 9 d; bring it\\x1b"


def test_gc_says_what_it_would_take(publish: Publish, server: ApiServerSimulator) -> None:
    told = {"dry_run": True, "metadata": ["1.snapshot.json"], "blobs": [], "quarantined": [], "freed_bytes": 2048}
    server.on("POST", "/api/v1/repository/gc", Reply(200, told))
    done = publish("repo", "gc", "--dry-run", "-o", "table")
    assert done.out == "would take away 1 metadata files, 0 blobs and 0 withdrawn blobs: 2.0 KiB\n"
    assert server.requests[0].json == {"dry_run": True}


def test_a_bundle_is_written_byte_for_byte_into_a_new_folder(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/repository/bundle", Reply(200, BUNDLE))
    done = publish("repo", "bundle", str(tmp_path / "out"))
    assert done.json["root_sha256"] == BUNDLE["root_sha256"]
    assert (tmp_path / "out" / "root.json").read_bytes() == ROOT.encode()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fingerprint.txt", "map.json", "root.json"]
    assert publish("repo", "bundle", str(tmp_path / "out")).code == 2


def test_a_bundle_whose_root_is_not_the_one_it_names_is_not_written(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("GET", "/api/v1/repository/bundle", Reply(200, {**BUNDLE, "root_sha256": "a" * 64}))
    assert publish("repo", "bundle", str(tmp_path / "out")).code == 8
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["sync", "mirror"], ["backup", "b.tar"], ["rebuild-db"]])
def test_without_a_home_the_commands_of_the_home_say_so(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.delenv("WAVEGATE_URL")
    monkeypatch.delenv("WAVEGATE_API_KEY")
    monkeypatch.setenv("WAVEGATE_HOME", str(tmp_path / "none"))
    done = publish("repo", *command)
    assert done.code == 1
    assert "is no Wavegate home; make one with `publish init`" in done.err
