"""Signing on the command line: without a network, and never more than what is shown."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signature, SSlibKey

from keys.holders import new_holder_key
from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT

EXPIRES = "2027-11-21T10:00:00Z"
PATH = str(ARTIFACT["target_path"])


def part(role: str, version: int, body: dict[str, Any], keyids: list[str], base: Any = None) -> dict[str, Any]:
    kind = role if role in ("root", "targets") else "targets"
    payload = json.dumps({"_type": kind, "version": version, "expires": EXPIRES, **body}).encode()
    file = None if base is None else json.dumps({"signatures": [], "signed": base}).encode()
    return {
        "role": role,
        "version": version,
        "base_version": version - 1,
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "difference": ["what the server says"],
        "requirements": [{"by": "root 1", "keyids": keyids, "threshold": 1, "signed": []}],
        "payload": base64.b64encode(payload).decode(),
        "base": None if file is None else base64.b64encode(file).decode(),
    }


def draft(key: SSlibKey, *parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "id": "drf_01",
        "title": "root 2",
        "state": "open",
        "created_by": {"kind": "user", "id": "usr_1", "name": "Ann", "credential": None},
        "created_at": "2026-11-21T10:00:00Z",
        "deadline": "2026-12-21T10:00:00Z",
        "parts": list(parts),
        "keys": {key.keyid: key.to_dict()},
    }


@pytest.fixture
def key(tmp_path: Path) -> SSlibKey:
    return new_holder_key(tmp_path / "ann", "ann")[1]


def test_an_exported_file_is_signed_without_a_server(publish: Publish, tmp_path: Path, key: SSlibKey,
                                                     server: ApiServerSimulator) -> None:  # fmt: skip
    one = part("root", 2, {"keys": {}, "roles": {}}, [key.keyid])
    (tmp_path / "draft.json").write_text(json.dumps(draft(key, one)))
    out = tmp_path / "signed.json"
    uri = str(tmp_path / "ann" / "ann.pem")
    done = publish("repo", "sign", "--offline-file", str(tmp_path / "draft.json"), "--key", uri, "--out", str(out))
    assert done.code == 0, done.err
    assert server.requests == []
    assert "root: version none -> 2" in done.err
    assert "what the server says" not in done.err
    signed = json.loads(out.read_text())
    assert signed["draft"] == "drf_01"
    signature = Signature(key.keyid, signed["signatures"]["root"][key.keyid])
    key.verify_signature(signature, base64.b64decode(one["payload"]))

    server.on("POST", "/api/v1/repository/drafts/drf_01/signatures", Reply(200, {"draft": draft(key), "serial": 4}))
    assert publish("repo", "draft", "upload", str(out)).json["serial"] == 4
    [seen] = server.asked("POST", "/api/v1/repository/drafts/drf_01/signatures")
    assert seen.json == {"signatures": signed["signatures"]}


@pytest.mark.parametrize("field", ["payload_sha256", "version", "role"])
def test_bytes_that_are_not_what_the_draft_says_are_not_signed(
    field: str, publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    one = part("root", 2, {}, [key.keyid])
    one[field] = {"payload_sha256": "0" * 64, "version": 3, "role": "targets"}[field]
    server.on("GET", "/api/v1/repository/drafts/drf_01", Reply(200, draft(key, one)))
    done = publish("repo", "sign", "drf_01", "--key", str(tmp_path / "ann" / "ann.pem"))
    assert done.code == 8
    assert [seen.method for seen in server.requests] == ["GET"]


def test_a_key_that_is_not_asked_for_is_told(publish: Publish, tmp_path: Path, key: SSlibKey,
                                             server: ApiServerSimulator) -> None:  # fmt: skip
    new_holder_key(tmp_path / "bob", "bob")
    server.on("GET", "/api/v1/repository/drafts/drf_01", Reply(200, draft(key, part("root", 2, {}, [key.keyid]))))
    done = publish("repo", "sign", "drf_01", "--key", str(tmp_path / "bob" / "bob.pem"))
    assert done.code == 2
    assert "none of the 1 keys" in done.err


def pushed(tmp_path: Path, key: SSlibKey, server: ApiServerSimulator, targets: dict[str, Any]) -> list[str]:
    """Set up a push of a claimed product for which the server wants ``targets`` signed."""
    (tmp_path / "app.bin").write_bytes(b"hello")
    one = part("product-app", 7, {"targets": targets}, [key.keyid], base={"version": 6, "targets": {}})
    server.on(
        "PUT", "/api/v1/artifacts/content", Reply(201, {"upload_id": "upl_file", "sha256": "a" * 64, "length": 5})
    )
    server.on("POST", "/api/v1/artifacts/drafts", Reply(201, {"artifact": ARTIFACT, "draft": draft(key, one)}))
    server.on("GET", f"/api/v1/artifacts/{ARTIFACT['id']}", Reply(200, ARTIFACT))
    uri = str(tmp_path / "ann" / "ann.pem")
    return ["push", str(tmp_path / "app.bin"), "--product", "app", "--version", "1.0.0", "--key", uri]


def hello(path: str = PATH) -> dict[str, Any]:
    return {path: {"hashes": {"sha256": hashlib.sha256(b"hello").hexdigest()}, "length": 5}}


SIGN = "/api/v1/repository/drafts/drf_01/signatures"


def test_a_push_with_a_key_signs_what_it_sent(
    publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    words = pushed(tmp_path, key, server, hello())
    server.on("POST", SIGN, Reply(200, {"draft": draft(key), "serial": 8}))
    done = publish(*words)
    assert done.code == 0, done.err
    assert done.json["target_path"] == PATH
    assert "draft" not in done.json
    assert server.asked("POST", "/api/v1/artifacts") == []


def test_a_push_that_waits_for_others_ends_with_7(
    publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    words = pushed(tmp_path, key, server, hello())
    server.on("POST", SIGN, Reply(200, {"draft": draft(key), "serial": None}))
    done = publish(*words)
    assert (done.code, done.json["draft"]) == (7, "drf_01")


def test_a_push_that_somebody_overtook_is_rebased_and_signed_again(
    publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    words = pushed(tmp_path, key, server, hello())
    again = part("product-app", 9, {"targets": hello()}, [key.keyid], base={"version": 8, "targets": {}})
    server.on("POST", SIGN, refusal(409, "draft_moved"), Reply(200, {"draft": draft(key), "serial": 10}))
    server.on("POST", "/api/v1/repository/drafts/drf_01/rebase", Reply(200, draft(key, again)))
    assert publish(*words).code == 0
    first, second = (seen.json["signatures"]["product-app"] for seen in server.asked("POST", SIGN))
    assert first != second


@pytest.mark.parametrize(
    "targets",
    [
        {PATH: {"hashes": {"sha256": "c" * 64}, "length": 5}},
        hello() | {"app/0.9/any/app.bin": {"hashes": {"sha256": "c" * 64}, "length": 5}},
        hello() | {f"{PATH}.sbom.0.cyclonedx-json": {"hashes": {"sha256": "c" * 64}, "length": 5}},
    ],
    ids=["other bytes", "another artifact", "an SBOM that was not sent"],
)
def test_a_server_that_asks_for_more_than_the_push_gets_no_signature(
    targets: dict[str, Any], publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    done = publish(*pushed(tmp_path, key, server, targets))
    assert done.code == 8
    assert "more than this file" in done.err
    assert server.asked("POST", SIGN) == []


def yanked(tmp_path: Path, key: SSlibKey, server: ApiServerSimulator, after: dict[str, Any]) -> list[str]:
    """Set up a yank of a claimed product's artifact for which the server wants ``after`` signed."""
    one = part("product-app", 7, {"targets": after}, [key.keyid], base={"version": 6, "targets": hello()})
    told = draft(key, one) | {"title": f"yank {PATH}"}
    server.on("GET", f"/api/v1/artifacts/{ARTIFACT['id']}", Reply(200, ARTIFACT))
    server.on("POST", f"/api/v1/artifacts/{ARTIFACT['id']}/yank", Reply(202, {"artifact": ARTIFACT, "draft": told}))
    return ["artifact", "yank", ARTIFACT["id"], "--reason", "bad"]


def said(path: str = PATH, **more: Any) -> dict[str, Any]:
    return {path: {**hello(path)[path], "custom": {"yanked": {"reason": "bad"}}, **more}}


def test_a_yank_of_a_claimed_product_is_signed_here_or_waits(
    publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    words = yanked(tmp_path, key, server, said())
    waits = publish(*words)
    assert (waits.code, waits.json["draft"]) == (7, "drf_01")
    assert server.asked("POST", SIGN) == []
    server.on("POST", SIGN, Reply(200, {"draft": draft(key), "serial": 8}))
    done = publish(*words, "--key", str(tmp_path / "ann" / "ann.pem"))
    assert done.code == 0, done.err
    assert done.json["id"] == ARTIFACT["id"]
    assert "draft" not in done.json


@pytest.mark.parametrize(
    "after",
    [
        {},
        said(hashes={"sha256": "c" * 64}),
        said() | {"app/0.9/any/app.bin": {"hashes": {"sha256": "c" * 64}, "length": 5}},
        said() | {f"{PATH}.sbom.0.cyclonedx-json": {"hashes": {"sha256": "c" * 64}, "length": 5}},
    ],
    ids=["the artifact is gone", "other bytes", "another artifact", "an SBOM that was not sent"],
)
def test_a_server_that_asks_for_more_than_the_change_gets_no_signature(
    after: dict[str, Any], publish: Publish, tmp_path: Path, key: SSlibKey, server: ApiServerSimulator
) -> None:
    done = publish(*yanked(tmp_path, key, server, after), "--key", str(tmp_path / "ann" / "ann.pem"))
    assert done.code == 8
    assert "more than this change" in done.err
    assert server.asked("POST", SIGN) == []


def test_production_without_keys_of_holders_is_a_usage_error(publish: Publish, tmp_path: Path) -> None:
    done = publish("init", "--production")
    assert done.code == 2
    assert "--root-key" in done.err
    assert publish("init", "--root-key", "x.pub").code == 2
