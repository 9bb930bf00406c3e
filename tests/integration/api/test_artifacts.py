"""Artifacts over HTTP: signed first, recorded second, and the same answer for the same request."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from tests.integration.api.conftest import Home

SBOM = json.dumps(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [{"type": "library", "name": "zlib", "version": "1.3.1", "purl": "pkg:generic/zlib@1.3.1"}],
    }
).encode()


def test_an_artifact_is_published_with_its_sbom_and_both_are_signed(home: Home) -> None:
    answer = home.publish(b"firmware one", sboms=[home.upload(SBOM)], notes="first", labels={"line": "a"})
    assert answer.status_code == 201
    artifact = answer.get_json()
    assert artifact["target_path"] == "fw/1.0.0/any/fw.bin"
    assert artifact["sha256"] == hashlib.sha256(b"firmware one").hexdigest()
    assert artifact["length"] == 12
    assert artifact["labels"] == {"line": "a"}
    [sbom] = artifact["sboms"]
    assert sbom["format"] == "cyclonedx-json"
    assert sbom["components"] == 1
    signed = home.wiring.repository.find("fw/1.0.0/any/fw.bin")
    assert signed is not None
    assert signed.id == artifact["id"]
    assert signed.sboms[0].path == sbom["target_path"]


def test_an_sbom_comes_back_byte_for_byte_in_its_own_content_type(home: Home) -> None:
    artifact = home.publish(sboms=[home.upload(SBOM)]).get_json()
    answer = home.call("GET", f"/sboms/{artifact['sboms'][0]['id']}")
    assert answer.data == SBOM
    assert answer.content_type.startswith("application/vnd.cyclonedx+json")
    answer.close()


def test_publishing_the_same_bytes_again_answers_200_with_the_same_artifact(home: Home) -> None:
    first, second = home.publish(b"same"), home.publish(b"same")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.get_json()["id"] == second.get_json()["id"]
    assert home.call("GET", "/artifacts?total=true").get_json()["total"] == 1


def test_other_bytes_under_a_signed_path_are_a_conflict_and_change_nothing(home: Home) -> None:
    home.publish(b"first bytes")
    answer = home.publish(b"other bytes")
    assert answer.status_code == 409
    assert answer.get_json()["error"]["code"] == "path_taken"
    assert home.call("GET", "/artifacts").get_json()["items"][0]["length"] == 11


def test_an_invalid_sbom_is_refused_and_the_artifact_is_not_published(home: Home) -> None:
    broken = home.upload(b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": 5}')
    answer = home.publish(sboms=[broken])
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] == "invalid_sbom"
    assert home.call("GET", "/artifacts").get_json()["items"] == []
    assert home.wiring.repository.find("fw/1.0.0/any/fw.bin") is None


def test_an_sbom_can_be_attached_later_and_is_listed(home: Home) -> None:
    artifact = home.publish().get_json()
    attached = home.call("PUT", f"/artifacts/{artifact['id']}/sboms", data=SBOM)
    assert attached.status_code == 201
    listed = home.call("GET", f"/artifacts/{artifact['id']}/sboms").get_json()["items"]
    assert [one["id"] for one in listed] == [attached.get_json()["id"]]


def test_paths_outside_the_grammar_are_refused(home: Home) -> None:
    for bad in ("..", ".", "a/b", "UPPER", "x y", "é", "a\x00b", "-x", "decisions"):
        answer = home.publish(product=bad) if bad == "decisions" else home.publish(file_name=bad)
        assert answer.status_code == 400, bad
        assert answer.get_json()["error"]["code"] in {"invalid_target_path", "validation_failed"}


def test_a_list_pages_through_everything_once(home: Home) -> None:
    for number in range(5):
        home.publish(b"%d" % number, version=f"1.0.{number}")
    seen, cursor = [], ""
    for _ in range(3):
        answer = home.call("GET", f"/artifacts?limit=2{cursor}")
        seen += [one["version"] for one in answer.get_json()["items"]]
        following = answer.get_json()["next_cursor"]
        if following is None:
            break
        assert answer.headers["Link"].endswith('rel="next"')
        cursor = f"&cursor={following}"
    assert seen == ["1.0.4", "1.0.3", "1.0.2", "1.0.1", "1.0.0"]


def test_eight_requests_with_one_idempotency_key_have_one_effect(home: Home) -> None:
    upload_id = home.upload(b"raced")
    body = {"upload_id": upload_id, "product": "fw", "version": "9", "file_name": "fw.bin"}

    def post(_: int) -> tuple[int, str, bool]:
        client = home.app.test_client()
        headers = {"Authorization": f"Bearer {home.made.api_key}", "Idempotency-Key": "release-9"}
        answer = client.post("/api/v1/artifacts", json=body, headers=headers)
        return answer.status_code, answer.get_json()["id"], "Idempotency-Replayed" in answer.headers

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {status for status, _, _ in answers} == {201}
    assert len({artifact for _, artifact, _ in answers}) == 1
    assert sorted(replayed for _, _, replayed in answers) == [False] + [True] * 7


def test_an_idempotency_key_with_another_body_is_422(home: Home) -> None:
    key = {"Idempotency-Key": "one"}
    assert home.call("POST", "/groups", {"name": "first"}, headers=key).status_code == 201
    answer = home.call("POST", "/groups", {"name": "second"}, headers=key)
    assert answer.status_code == 422
    assert answer.get_json()["error"]["code"] == "idempotency_key_reused"


def test_a_patch_with_a_stale_etag_is_412(home: Home) -> None:
    artifact = home.publish().get_json()
    path = f"/artifacts/{artifact['id']}"
    etag = home.call("GET", path).headers["ETag"]
    assert home.call("PATCH", path, {"notes": "new"}, headers={"If-Match": etag}).status_code == 200
    answer = home.call("PATCH", path, {"notes": "newer"}, headers={"If-Match": etag})
    assert answer.status_code == 412
    assert home.call("GET", path).get_json()["notes"] == "new"


def test_a_yanked_artifact_says_why_and_who(home: Home) -> None:
    artifact = home.publish().get_json()
    answer = home.call("POST", f"/artifacts/{artifact['id']}/yank", {"reason": "bricks rev B boards"})
    assert answer.status_code == 200
    assert answer.get_json()["yanked"]["reason"] == "bricks rev B boards"
    assert answer.get_json()["serial"] > artifact["serial"]
    tags = [one["tag"] for one in home.call("GET", "/audit/events").get_json()["items"]]
    assert tags[-2:] == ["artifact.published", "artifact.yanked"]
