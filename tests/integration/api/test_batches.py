"""Many artifacts in one commit, uploads in pieces, and bins, over HTTP."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import Home
from tests.integration.api.test_artifacts import SBOM
from tests.simulators.repository import StockClient


def item(upload_id: str, version: str, **more: object) -> dict[str, object]:
    return {"upload_id": upload_id, "product": "fw", "version": version, "file_name": "fw.bin", **more}


def framed(*contents: bytes) -> bytes:
    return b"".join(len(content).to_bytes(8, "big") + content for content in contents)


def upload_all(home: Home, *contents: bytes) -> list[str]:
    answer = home.call("PUT", "/artifacts/contents", data=framed(*contents))
    assert answer.status_code == 201, answer.text
    told = answer.get_json()["items"]
    assert [one["sha256"] for one in told] == [hashlib.sha256(content).hexdigest() for content in contents]
    return [one["upload_id"] for one in told]


def device(home: Home, folder: Path) -> StockClient:
    return StockClient(home.wiring.repository, folder, home.made.root.read_bytes())


def test_a_batch_is_one_commit_and_every_item_can_be_fetched(home: Home, tmp_path: Path) -> None:
    contents = [f"firmware {number}".encode() for number in range(40)]
    uploads = upload_all(home, *contents, SBOM)
    items = [item(upload, f"{number}.0") for number, upload in enumerate(uploads[:-1])]
    items[3]["sboms"] = [uploads[-1]]
    before = home.wiring.repository.serial()
    answer = home.call("POST", "/artifacts/batch", {"items": items})
    assert answer.status_code == 200, answer.text
    told = answer.get_json()
    assert (told["serial"], told["created"], told["existing"], told["refused"]) == (before + 1, 40, 0, 0)
    assert {one["artifact"]["serial"] for one in told["items"]} == {before + 1}
    assert told["items"][3]["artifact"]["sboms"][0]["target_path"] == "fw/3.0/any/fw.bin.sbom.0.cyclonedx-json"
    client = device(home, tmp_path / "client")
    for number in (0, 3, 39):
        assert client.fetch(f"fw/{number}.0/any/fw.bin") == contents[number]
    assert client.fetch("fw/3.0/any/fw.bin.sbom.0.cyclonedx-json") == SBOM
    assert home.call("GET", "/artifacts?total=true").get_json()["total"] == 40


def test_the_same_batch_again_changes_nothing(home: Home) -> None:
    for status in ("created", "existing"):
        uploads = upload_all(home, b"one", b"two")
        items = [item(upload, f"{number}.0") for number, upload in enumerate(uploads)]
        told = home.call("POST", "/artifacts/batch", {"items": items}).get_json()
        assert [one["status"] for one in told["items"]] == [status, status]
    assert home.wiring.repository.serial() == told["serial"] == 2


def refusable(home: Home) -> list[dict[str, object]]:
    home.publish(b"standing", version="1.0.0")
    good, other, twice, no_sbom = upload_all(home, b"good", b"other", b"twice", b"no sbom")
    return [
        item(good, "2.0.0"),
        item(other, "1.0.0"),
        item("upl_01AAAAAAAAAAAAAAAAAAAAAAAA", "3.0.0"),
        item(good, "4.0.0", product="Capital"),
        item(twice, "2.0.0"),
        item(good, "5.0.0", sboms=[no_sbom]),
    ]


CODES = ["path_taken", "upload_not_found", "invalid_target_path", "path_taken", "unsupported_sbom"]


def test_one_refusal_refuses_the_batch_and_names_every_item(home: Home) -> None:
    items = refusable(home)
    answer = home.call("POST", "/artifacts/batch", {"items": items})
    assert answer.status_code == 409
    error = answer.get_json()["error"]
    assert error["code"] == "batch_refused"
    told = {one["loc"]: one["message"].partition(":")[0] for one in error["details"]}
    assert told.keys() <= {"items.1", "items.2", "items.3", "items.4", "items.5"}
    assert told["items.2"] == "upload_not_found"
    assert home.wiring.repository.serial() == 2
    assert home.call("POST", "/artifacts/batch", {"items": items[:1]}).get_json()["created"] == 1


def test_a_partial_batch_signs_the_others(home: Home) -> None:
    told = home.call("POST", "/artifacts/batch", {"items": refusable(home), "partial": True}).get_json()
    assert (told["created"], told["refused"]) == (1, 5)
    assert [one["status"] for one in told["items"]] == ["created"] + ["refused"] * 5
    codes = [one["error"]["code"] for one in told["items"][1:]]
    assert codes[:4] == CODES[:4]
    assert codes[4] in ("unsupported_sbom", "invalid_sbom")


@pytest.mark.parametrize("body", [{"items": []}, {"items": [{}] * 10_001}, {"items": {}}, {}])
def test_a_batch_has_1_to_10000_items(home: Home, body: Any) -> None:
    assert home.call("POST", "/artifacts/batch", body).status_code == 400


def test_ten_thousand_items_fit_into_one_request(home: Home) -> None:
    [upload] = upload_all(home, b"x")
    items = [item(upload, f"{number}.0", notes="n" * 200) for number in range(10_000)]
    assert len(json.dumps({"items": items})) > home.wiring.settings.max_body_bytes
    items[0]["product"] = "Capital"
    answer = home.call("POST", "/artifacts/batch", {"items": items})
    assert answer.get_json()["error"]["details"][0]["loc"] == "items.0"


def test_files_sent_together_come_whole_or_not_at_all(home: Home) -> None:
    for body, code in [
        (framed(b"one") + b"\x00\x00", "upload_cut_short"),
        (framed(b"one") + (9).to_bytes(8, "big") + b"short", "upload_cut_short"),
        ((2**40).to_bytes(8, "big"), "upload_too_large"),
    ]:
        answer = home.call("PUT", "/artifacts/contents", data=body)
        assert answer.get_json()["error"]["code"] == code


def piece(home: Home, upload: str, content: bytes, first: int) -> Any:
    headers = {"Content-Range": f"bytes {first}-{first + len(content) - 1}/*"}
    return home.call("PATCH", f"/artifacts/uploads/{upload}", data=content, headers=headers)


def test_an_upload_in_pieces_goes_on_where_it_stands_and_is_published(home: Home, tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    upload = home.call("POST", "/artifacts/uploads", {}).get_json()["upload_id"]
    assert piece(home, upload, content[:200_000], 0).get_json()["offset"] == 200_000
    wrong = piece(home, upload, content[100_000:], 100_000)
    assert (wrong.status_code, wrong.get_json()["error"]["code"]) == (409, "upload_offset_mismatch")
    assert home.call("GET", f"/artifacts/uploads/{upload}").get_json()["offset"] == 200_000
    home.wiring.repository.uploads._digests.clear()  # another process goes on
    assert piece(home, upload, content[200_000:], 200_000).get_json()["offset"] == 512_000
    sha256 = hashlib.sha256(content).hexdigest()
    told = home.call("POST", f"/artifacts/uploads/{upload}/complete", {"sha256": sha256}).get_json()
    assert told == {"upload_id": upload, "sha256": sha256, "length": 512_000}
    assert home.call("POST", "/artifacts", item(upload, "1.0")).status_code == 201
    assert device(home, tmp_path / "client").fetch("fw/1.0/any/fw.bin") == content
    assert home.call("GET", f"/artifacts/uploads/{upload}").status_code == 404


def test_an_upload_that_came_damaged_is_over(home: Home) -> None:
    upload = home.call("POST", "/artifacts/uploads", {}).get_json()["upload_id"]
    piece(home, upload, b"damaged", 0)
    answer = home.call("POST", f"/artifacts/uploads/{upload}/complete", {"sha256": "0" * 64})
    assert answer.get_json()["error"]["code"] == "upload_damaged"
    assert home.call("GET", f"/artifacts/uploads/{upload}").status_code == 404


def test_an_upload_under_way_cannot_be_signed(home: Home) -> None:
    upload = home.call("POST", "/artifacts/uploads", {}).get_json()["upload_id"]
    piece(home, upload, b"half", 0)
    assert home.call("POST", "/artifacts", item(upload, "1.0")).get_json()["error"]["code"] == "upload_not_found"


def test_a_piece_says_where_it_begins(home: Home) -> None:
    upload = home.call("POST", "/artifacts/uploads", {}).get_json()["upload_id"]
    answer = home.call("PATCH", f"/artifacts/uploads/{upload}", data=b"x")
    assert answer.get_json()["error"]["code"] == "content_range_missing"


def test_bins_are_changed_over_http(home: Home, tmp_path: Path) -> None:
    home.publish(b"firmware")
    client = device(home, tmp_path / "client")
    assert client.fetch("fw/1.0.0/any/fw.bin") == b"firmware"
    told = home.call("POST", "/repository/rebin", {"bits": 7}).get_json()
    assert told == {"serial": 3, "bits": 7, "wanted_bits": 6, "targets": 1}
    assert client.fetch("fw/1.0.0/any/fw.bin") == b"firmware"
    assert home.call("POST", "/repository/rebin", {}).get_json()["serial"] is None
    assert 'org="acme",role="releases-bins"' in home.client.get("/metrics").text
