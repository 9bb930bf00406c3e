"""Drafts over HTTP: what is shown, who may do what, and that every step is audited."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from tests.integration.api.conftest import Home
from tests.simulators.key_holders import Holder


@pytest.fixture
def root(home: Home) -> Holder:
    return Holder.of_laptop(home.made.home / "orgs" / "acme", "root")


@pytest.fixture
def targets(home: Home) -> Holder:
    return Holder.of_laptop(home.made.home / "orgs" / "acme", "targets")


def signed(holder: Holder, draft: dict[str, Any]) -> dict[str, Any]:
    """The body with which a holder signs what asks for his key."""
    found = {}
    for part in draft["parts"]:
        if any(holder.keyid in one["keyids"] for one in part["requirements"]):
            payload = base64.b64decode(part["payload"])
            found[part["role"]] = {holder.keyid: holder.signer.sign(payload).signature}
    return {"signatures": found}


def tags(home: Home) -> list[str]:
    return [one["tag"] for one in home.call("GET", "/audit/events?limit=200").get_json()["items"]]


def test_a_draft_of_root_shows_exact_bytes_difference_and_who_must_sign(home: Home, root: Holder) -> None:
    ann = Holder()
    body = {"role": "root", "add": {"root": [ann.public]}, "thresholds": {"root": 2}, "deadline_days": 5}
    answer = home.call("POST", "/repository/drafts", body)
    assert answer.status_code == 201, answer.text
    draft = answer.get_json()
    [part] = draft["parts"]
    payload = home.call("GET", f"/repository/drafts/{draft['id']}/payloads/root").data
    assert base64.b64decode(part["payload"]) == payload
    assert part["payload_sha256"] == hashlib.sha256(payload).hexdigest()
    assert json.loads(payload)["version"] == 2
    assert (part["version"], part["base_version"]) == (2, 1)
    assert [(one["by"], one["threshold"], one["signed"]) for one in part["requirements"]] == [
        ("root 1", 1, []),
        ("root 2", 2, []),
    ]
    assert "! root: threshold 1 -> 2" in part["difference"]
    assert f"+ root: key {ann.keyid}" in part["difference"]
    [listed] = home.call("GET", "/repository/drafts").get_json()["items"]
    assert (listed["id"], listed["parts"][0]["payload"]) == (draft["id"], None)

    path = f"/repository/drafts/{draft['id']}/signatures"
    first = home.call("POST", path, signed(root, draft)).get_json()
    assert (first["serial"], first["draft"]["state"]) == (None, "open")
    last = home.call("POST", path, signed(ann, draft)).get_json()
    assert last["serial"] == 2
    assert home.call("GET", "/repository").get_json()["root_version"] == 2
    assert home.call("GET", "/repository/drafts").get_json()["items"] == []
    assert [tag for tag in tags(home) if tag.startswith("repository.draft")] == [
        "repository.draft.created",
        "repository.draft.signed",
        "repository.draft.finished",
        "repository.draft.signed",
    ]


def test_a_foreign_signature_is_400_and_an_unknown_draft_404(home: Home, root: Holder) -> None:
    draft = home.call("POST", "/repository/drafts", {"role": "root"}).get_json()
    stranger = Holder()
    payload = base64.b64decode(draft["parts"][0]["payload"])
    body = {"signatures": {"root": {stranger.keyid: stranger.signer.sign(payload).signature}}}
    answer = home.call("POST", f"/repository/drafts/{draft['id']}/signatures", body)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "signature_refused")
    for path in ("drf_nothing", "..", "%2e%2e%2fkeys"):
        answer = home.call("GET", f"/repository/drafts/{path}")
        assert answer.status_code == 404, path
    assert home.call("GET", f"/repository/drafts/{draft['id']}/payloads/targets").status_code == 404


def test_a_draft_whose_base_moved_is_409_until_it_is_rebased(home: Home, root: Holder) -> None:
    adding = {"role": "root", "add": {"root": [Holder().public]}}
    first = home.call("POST", "/repository/drafts", adding).get_json()
    second = home.call("POST", "/repository/drafts", {"role": "root"}).get_json()
    assert home.call("POST", f"/repository/drafts/{first['id']}/signatures", signed(root, first)).status_code == 200
    path = f"/repository/drafts/{second['id']}"
    answer = home.call("POST", f"{path}/signatures", signed(root, second))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "draft_moved")
    again = home.call("POST", f"{path}/rebase", {}).get_json()
    assert (again["parts"][0]["version"], again["parts"][0]["base_version"]) == (3, 2)
    assert home.call("POST", f"{path}/signatures", signed(root, again)).get_json()["serial"] is not None


@pytest.mark.parametrize(
    "body",
    [
        {"role": "timestamp"},
        {"role": "product-none"},
        {"role": "root", "remove": {"root": ["0" * 64]}},
        {"role": "root", "thresholds": {"root": 2}},
        {"role": "root", "thresholds": {"root": 0}},
        {"role": "root", "thresholds": {"releases": 1}},
        {"role": "root", "add": {"root": [{"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "xx"}}]}},
    ],
)
def test_drafts_that_make_no_sense_are_400(home: Home, body: dict[str, Any]) -> None:
    answer = home.call("POST", "/repository/drafts", body)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_draft")
    assert home.call("GET", "/repository/drafts").get_json()["items"] == []


def test_a_keyid_is_never_believed(home: Home, root: Holder) -> None:
    liar = Holder()
    key = {**liar.public, "keyid": root.keyid}
    draft = home.call("POST", "/repository/drafts", {"role": "root", "add": {"root": [key]}}).get_json()
    assert draft["keys"][root.keyid]["keyval"] == root.public["keyval"]
    assert draft["keys"][liar.keyid]["keyval"] == liar.public["keyval"]


def test_a_rotation_is_drafted_signed_and_its_overlap_lasts(home: Home, root: Holder, targets: Holder) -> None:
    assert home.call("GET", "/repository").get_json()["overlap"] is None
    answer = home.call("POST", "/repository/rotations", {"roles": ["timestamp", "releases"]})
    assert answer.status_code == 201, answer.text
    first, second = home.call("GET", "/repository").get_json()["drafts"]
    assert (first["title"], second["title"]) == ("rotate timestamp", "rotate releases")
    assert first["signatures"] == [{"role": "root", "by": "root 1", "have": 0, "need": 1}]
    assert first["deadline"] == answer.get_json()["items"][0]["deadline"]
    for draft in answer.get_json()["items"]:
        for holder in (root, targets):
            body = signed(holder, draft)
            if body["signatures"]:
                done = home.call("POST", f"/repository/drafts/{draft['id']}/signatures", body)
                assert done.get_json()["serial"] is not None, done.text
    told = home.call("GET", "/repository").get_json()
    assert told["drafts"] == []
    assert list(told["overlap"]["keyids"]) == ["timestamp"]
    assert told["overlap"]["ends_from"] > first["deadline"][:4]
    answer = home.call("POST", "/repository/rotations/end", {})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "rotation_not_due")
    unknown = {"roles": ["timestamp"], "keys": {"timestamp": "sealed:/etc/shadow"}}
    answer = home.call("POST", "/repository/rotations", unknown)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_draft")
    assert home.publish().status_code == 201
    assert home.call("POST", "/repository/check", {}).get_json() == {"ok": True, "findings": []}


def test_a_claimed_product_is_refused_unsigned_and_published_from_a_draft(home: Home, targets: Holder) -> None:
    dan = Holder()
    claim = home.call("POST", "/repository/products", {"product": "fw", "keys": [dan.public]}).get_json()
    for holder in (dan, targets):
        done = home.call("POST", f"/repository/drafts/{claim['id']}/signatures", signed(holder, claim))
    assert done.get_json()["serial"] is not None
    assert home.call("GET", "/repository/products").get_json() == {
        "items": [{"product": "fw", "keyids": [dan.keyid], "threshold": 1}]
    }
    answer = home.publish()
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (409, "product_claimed")
    wanted = {"upload_id": home.upload(b"signed"), "product": "fw", "version": "2.0", "file_name": "fw.bin"}
    told = home.call("POST", "/artifacts/drafts", wanted).get_json()
    assert home.call("GET", "/artifacts").get_json()["items"] == []
    home.call("POST", f"/repository/drafts/{told['draft']['id']}/signatures", signed(dan, told["draft"]))
    [artifact] = home.call("GET", "/artifacts").get_json()["items"]
    assert artifact["id"] == told["artifact"]["id"]
    again = home.call("POST", "/artifacts/drafts", {**wanted, "upload_id": home.upload(b"signed")})
    assert (again.status_code, again.get_json()["draft"]) == (200, None)


def test_changes_of_a_claimed_product_are_drafts_for_its_team(home: Home, targets: Holder) -> None:
    artifact = home.publish().get_json()
    at = f"/artifacts/{artifact['id']}"
    dan = Holder()
    claim = home.call("POST", "/repository/products", {"product": artifact["product"], "keys": [dan.public]}).get_json()
    for holder in (dan, targets):
        home.call("POST", f"/repository/drafts/{claim['id']}/signatures", signed(holder, claim))

    def sign(answer: Any) -> dict[str, Any]:
        assert answer.status_code == 202, answer.text
        told = answer.get_json()
        assert told["artifact"]["id"] == artifact["id"]
        done = home.call("POST", f"/repository/drafts/{told['draft']['id']}/signatures", signed(dan, told["draft"]))
        assert done.get_json()["serial"] is not None, done.text
        found: dict[str, Any] = home.call("GET", at).get_json()
        return found

    labelled = home.call("PATCH", at, {"labels": {"site": "b"}, "notes": "new"}, headers={"If-Match": "*"})
    assert home.call("GET", at).get_json()["notes"] == artifact["notes"], "it waits"
    assert sign(labelled)["labels"] == {"site": "b"}
    sbom = b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}'
    assert len(sign(home.call("PUT", f"{at}/sboms", data=sbom))["sboms"]) == len(artifact["sboms"]) + 1
    assert sign(home.call("POST", f"{at}/yank", {"reason": "bad"}))["yanked"]["reason"] == "bad"
    again = home.call("POST", f"{at}/yank", {"reason": "bad"})
    assert (again.status_code, again.get_json()["yanked"]["reason"]) == (200, "bad")
    viewer = home.person("vera@example.com", "viewer")
    assert home.call("POST", f"{at}/withdraw", {"reason": "bad"}, token=viewer).status_code == 403
    assert sign(home.call("POST", f"{at}/withdraw", {"reason": "bad"}))["withdrawn"]["revoked"] is False
    revoked = home.call("POST", f"{at}/revoke", {"reason": "worse"})
    assert (revoked.status_code, revoked.get_json()["withdrawn"]["revoked"]) == (200, True)
    assert home.call("POST", "/repository/check", {}).get_json() == {"ok": True, "findings": []}


def test_a_viewer_reads_drafts_and_changes_none(home: Home) -> None:
    draft = home.call("POST", "/repository/drafts", {"role": "root"}).get_json()
    viewer = home.person("vera@example.com", "viewer")
    assert home.call("GET", f"/repository/drafts/{draft['id']}", token=viewer).status_code == 200
    assert home.call("DELETE", f"/repository/drafts/{draft['id']}", token=viewer).status_code == 403
    assert home.call("DELETE", f"/repository/drafts/{draft['id']}", headers={"If-Match": "*"}).status_code == 204
    assert home.call("GET", f"/repository/drafts/{draft['id']}").status_code == 404
