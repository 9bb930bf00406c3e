"""Large files in pieces: what a cut connection costs, and how a later call goes on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from cli.config import Credential
from cli.errors import Unreachable, UsageFault
from cli.resume import FAILURES, Resumable
from tests.simulators.api_server import CUT, ApiServerSimulator, Reply, refusal

CONTENT = bytes(range(250)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PLACE = "/api/v1/artifacts/uploads/upl_1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(CONTENT)
    return path


def at(offset: int) -> Reply:
    return Reply(200, {"upload_id": "upl_1", "offset": offset})


def send(server: ApiServerSimulator, file: Path, upload_id: str | None = None) -> tuple[dict[str, Any], list[int]]:
    shown: list[int] = []
    client = Client(server.url, Credential("wgk_test", "a test"), sleep=lambda _: None)
    sender = Resumable(client, notice=lambda _: None, sleep=lambda _: None, piece=400)
    with file.open("rb") as stream:
        return sender.send(stream, shown.append, upload_id), shown


def complete(server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/artifacts/uploads", Reply(201, {"upload_id": "upl_1", "offset": 0}))
    server.on("POST", f"{PLACE}/complete", Reply(200, {"upload_id": "upl_1", "sha256": SHA256, "length": 1000}))


def test_a_file_goes_in_pieces_and_its_digest_closes_it(server: ApiServerSimulator, file: Path) -> None:
    complete(server)
    server.on("GET", PLACE, at(0))
    server.on("PATCH", PLACE, at(400), at(800), at(1000))
    told, shown = send(server, file)
    assert told["sha256"] == SHA256
    pieces = server.asked("PATCH", PLACE)
    assert [one.headers["content-range"] for one in pieces] == [
        "bytes 0-399/*",
        "bytes 400-799/*",
        "bytes 800-999/*",
    ]
    assert b"".join(one.body for one in pieces) == CONTENT
    (closing,) = server.asked("POST", f"{PLACE}/complete")
    assert closing.json == {"sha256": SHA256}
    assert sum(shown) == 1000


def test_after_a_cut_connection_it_goes_on_where_the_server_stands(server: ApiServerSimulator, file: Path) -> None:
    complete(server)
    server.on("GET", PLACE, at(0), at(150))
    server.on("PATCH", PLACE, CUT, at(550), at(950), at(1000))
    _, shown = send(server, file)
    assert [one.headers["content-range"] for one in server.asked("PATCH", PLACE)] == [
        "bytes 0-399/*",
        "bytes 150-549/*",
        "bytes 550-949/*",
        "bytes 950-999/*",
    ]
    assert server.asked("POST", f"{PLACE}/complete")[0].json == {"sha256": SHA256}
    assert sum(shown) == 1000


def test_a_later_call_goes_on_with_the_upload_of_an_earlier_one(server: ApiServerSimulator, file: Path) -> None:
    complete(server)
    server.on("GET", PLACE, at(800))
    server.on("PATCH", PLACE, at(1000))
    send(server, file, "upl_1")
    assert server.asked("POST", "/api/v1/artifacts/uploads") == []
    (piece,) = server.asked("PATCH", PLACE)
    assert piece.body == CONTENT[800:]
    assert server.asked("POST", f"{PLACE}/complete")[0].json == {"sha256": SHA256}


def test_without_progress_it_ends_and_says_how_to_go_on(server: ApiServerSimulator, file: Path) -> None:
    complete(server)
    server.on("GET", PLACE, at(0))
    server.on("PATCH", PLACE, CUT)
    with pytest.raises(Unreachable, match="stands at 0 of 1000 bytes") as caught:
        send(server, file)
    assert "--resume upl_1" in caught.value.hint
    assert len(server.asked("PATCH", PLACE)) == FAILURES


def test_a_session_that_another_request_still_holds_is_waited_for(server: ApiServerSimulator, file: Path) -> None:
    complete(server)
    server.on("GET", PLACE, at(0))
    server.on("PATCH", PLACE, refusal(409, "upload_busy"), at(1000))
    send(server, file)
    assert len(server.asked("PATCH", PLACE)) == 2


def test_an_upload_of_another_file_is_not_completed(server: ApiServerSimulator, file: Path) -> None:
    complete(server)
    server.on("GET", PLACE, at(5000))
    with pytest.raises(UsageFault, match="of another file"):
        send(server, file, "upl_1")
