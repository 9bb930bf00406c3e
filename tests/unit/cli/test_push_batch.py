"""`publish push-batch`: manifests, what is sent, and what is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.errors import UsageFault
from cli.manifest import read_manifest
from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish

CREATED = {
    "status": "created",
    "artifact": {
        "id": "art_1", "target_path": "app/1/any/a.bin", "sha256": "a" * 64, "length": 1, "serial": 3, "sboms": [],
    },
    "error": None,
}  # fmt: skip
REFUSED = {"status": "refused", "artifact": None, "error": {"code": "path_taken", "message": "other bytes"}}


def answer(*items: dict[str, Any]) -> dict[str, Any]:
    count = {status: sum(one["status"] == status for one in items) for status in ("created", "existing", "refused")}
    return {"serial": 3, **count, "items": list(items)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.bin", "b.bin", "bom.json"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "large.bin").write_bytes(b"x" * 300_000)
    return tmp_path


def manifest(folder: Path, content: object, name: str = "release.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


ONE = {"file": "a.bin", "product": "app", "version": "1"}


def test_small_files_travel_together_and_one_request_signs_all(
    publish: Publish, server: ApiServerSimulator, folder: Path
) -> None:
    taken = [{"upload_id": f"upl_{n}", "sha256": f"{n}" * 64, "length": 5} for n in range(3)]
    server.on("PUT", "/api/v1/artifacts/contents", Reply(201, {"items": taken}))
    server.on(
        "PUT", "/api/v1/artifacts/content", Reply(201, {"upload_id": "upl_l", "sha256": "f" * 64, "length": 300_000})
    )
    server.on("POST", "/api/v1/artifacts/batch", Reply(200, answer(CREATED, CREATED, CREATED)))
    listed = {
        "defaults": {"product": "app", "version": "1", "channel": "beta"},
        "artifacts": [
            {"file": "a.bin", "sboms": ["bom.json"]},
            {"file": "b.bin", "platform": "arm64", "labels": {"team": "edge"}, "security": True},
            {"file": "large.bin"},
        ],
    }
    done = publish("push-batch", str(manifest(folder, listed)), "-o", "json")
    assert done.code == 0, done.err
    assert done.json["created"] == 3
    assert [Path(one["file"]).name for one in done.json["items"]] == ["a.bin", "b.bin", "large.bin"]
    (together,) = server.asked("PUT", "/api/v1/artifacts/contents")
    assert together.body == b"".join(len(name).to_bytes(8, "big") + name for name in (b"a.bin", b"bom.json", b"b.bin"))
    (post,) = server.asked("POST", "/api/v1/artifacts/batch")
    assert post.json["partial"] is False
    assert [one["upload_id"] for one in post.json["items"]] == ["upl_0", "upl_2", "upl_l"]
    assert post.json["items"][0]["sboms"] == ["upl_1"]
    assert post.json["items"][1] == {
        "upload_id": "upl_2", "product": "app", "version": "1", "platform": "arm64", "channel": "beta",
        "file_name": "b.bin", "sboms": [], "attestations": [],
        "notes": "", "labels": {"team": "edge"}, "security": True,
    }  # fmt: skip


def test_yaml_and_csv_say_the_same(folder: Path) -> None:
    yaml = manifest(
        folder, "- {file: a.bin, product: app, version: '1', sboms: [bom.json], security: true}\n", "m.yaml"
    )
    csv = manifest(folder, "file,product,version,sboms,security,labels\na.bin,app,1,bom.json,yes,\n", "m.csv")
    assert read_manifest(yaml) == read_manifest(csv)
    labels = manifest(folder, "file,product,version,labels\na.bin,app,1,a=b;c=d\n", "l.csv")
    assert read_manifest(labels)[0].labels == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"file": "a.bin", "product": "app"}], "artifact 1 has no version"),
        ([ONE | {"surprise": 1}], "has the field 'surprise'"),
        ([ONE | {"version": 1.1}], "version is 1.1, expected a text; put it into quotes"),
        ([ONE | {"file": "none.bin"}], "there is no file"),
        ([ONE | {"sboms": "bom.json"}], "sboms is no list"),
        ([ONE | {"attestations": [5]}], "attestations is no list"),
        ([ONE | {"labels": {"a": 1}}], "labels is no object of texts"),
        ([ONE | {"security": "yes"}], "security is 'yes'"),
        ([], "lists 0 artifacts"),
        ([ONE] * 10_001, "lists 10001 artifacts"),
        ({"items": []}, "has the field 'items'"),
        ("{", "is no JSON"),
        ("null", "holds no list"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_said_before_anything_is_sent(folder: Path, content: object, told: str) -> None:
    with pytest.raises(UsageFault, match=told):
        read_manifest(manifest(folder, content))


def test_a_refused_batch_names_the_items(publish: Publish, server: ApiServerSimulator, folder: Path) -> None:
    taken = {"items": [{"upload_id": "u", "sha256": "a" * 64, "length": 5}]}
    server.on("PUT", "/api/v1/artifacts/contents", Reply(201, taken))
    details = [{"loc": "items.0", "message": "path_taken: other bytes"}]
    server.on("POST", "/api/v1/artifacts/batch", refusal(409, "batch_refused", "1 of 1", details=details))
    done = publish("push-batch", str(manifest(folder, [ONE])))
    assert done.code == 5
    assert "  items.0: path_taken: other bytes" in done.err.splitlines()


def test_a_partial_batch_ends_with_5_when_something_was_refused(
    publish: Publish, server: ApiServerSimulator, folder: Path
) -> None:
    taken = {"items": [{"upload_id": "u", "sha256": "a" * 64, "length": 5}]}
    server.on("PUT", "/api/v1/artifacts/contents", Reply(201, taken))
    server.on("POST", "/api/v1/artifacts/batch", Reply(200, answer(REFUSED)))
    done = publish("push-batch", str(manifest(folder, [ONE])), "--partial", "-o", "table")
    assert done.code == 5
    assert "path_taken" in done.out


def test_bytes_other_than_the_manifest_says_are_not_signed(
    publish: Publish, server: ApiServerSimulator, folder: Path
) -> None:
    taken = {"items": [{"upload_id": "u", "sha256": "a" * 64, "length": 5}]}
    server.on("PUT", "/api/v1/artifacts/contents", Reply(201, taken))
    done = publish("push-batch", str(manifest(folder, [ONE | {"sha256": "b" * 64}])))
    assert done.code == 8
    assert server.asked("POST", "/api/v1/artifacts/batch") == []
