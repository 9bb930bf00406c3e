"""How the client behaves on a bad line and with answers it did not hope for."""

from __future__ import annotations

import io
from typing import Any

import pytest

from cli.client import Client, Patience, Upload
from cli.config import Credential
from cli.errors import ApiRefusal, NotLoggedIn, UnexpectedAnswer, Unreachable, UsageFault
from tests.simulators.api_server import CUT, ApiServerSimulator, Reply, refusal

KEY = Credential("wgk_secret", "a test")


class Naps:
    """Stands for time.sleep and remembers how long it was asked to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def a_client(server: ApiServerSimulator, naps: Naps | None = None, **patience: Any) -> Client:
    return Client(server.url, KEY, sleep=naps or Naps(), patience=Patience(**patience))


def test_a_read_is_tried_again_after_a_cut_connection(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/repository", CUT, CUT, Reply(200, {"serial": 3}))
    assert a_client(server).get("/repository") == {"serial": 3}


def test_a_repeated_post_carries_the_same_idempotency_key(server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/groups", CUT, Reply(201, {"id": "grp_01"}))
    a_client(server).post("/groups", {"name": "canary"})
    first, second = server.asked("POST", "/api/v1/groups")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert second.json == {"name": "canary"}


def test_two_posts_carry_different_idempotency_keys(server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/groups", Reply(201, {}))
    client = a_client(server)
    client.post("/groups", {"name": "canary"})
    client.post("/groups", {"name": "canary"})
    first, second = server.asked("POST", "/api/v1/groups")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_a_patch_is_not_tried_twice(server: ApiServerSimulator) -> None:
    server.on("PATCH", "/api/v1/artifacts/art_01", CUT)
    with pytest.raises(Unreachable):
        a_client(server).patch("/artifacts/art_01", {"notes": "x"}, etag='"7"')
    (seen,) = server.asked("PATCH", "/api/v1/artifacts/art_01")
    assert seen.headers["if-match"] == '"7"'


def test_a_server_that_never_answers_is_unreachable_after_five_attempts(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/repository", CUT)
    naps = Naps()
    with pytest.raises(Unreachable, match="no answer from http://127"):
        a_client(server, naps).get("/repository")
    assert len(server.requests) == 5
    assert len(naps.seconds) == 4
    assert all(
        shortest <= nap <= 2 * shortest for nap, shortest in zip(naps.seconds, (0.125, 0.25, 0.5, 1), strict=True)
    )


def test_a_busy_server_is_asked_again_when_it_says(server: ApiServerSimulator) -> None:
    server.on(
        "POST",
        "/api/v1/artifacts",
        Reply(503, {"error": {"code": "busy"}}, {"Retry-After": "7"}),
        Reply(201, {"id": "art_01"}),
    )
    naps = Naps()
    assert a_client(server, naps).post("/artifacts", {}) == {"id": "art_01"}
    assert naps.seconds == [7.0]


def test_a_busy_server_that_names_no_time_is_not_asked_again(server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/artifacts", refusal(503, "starting", "not ready"))
    with pytest.raises(ApiRefusal, match="not ready"):
        a_client(server).post("/artifacts", {})
    assert len(server.requests) == 1


def test_a_wait_longer_than_our_patience_ends_the_call(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/groups", Reply(429, {"error": {"code": "rate_limited"}}, {"Retry-After": "3600"}))
    naps = Naps()
    with pytest.raises(ApiRefusal):
        a_client(server, naps).get("/groups")
    assert naps.seconds == []


def test_a_credential_does_not_follow_a_redirect(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/repository", Reply(302, {}, {"Location": "/elsewhere"}))
    with pytest.raises(UnexpectedAnswer, match=r"redirects to http://127\.0\.0\.1:\d+/elsewhere"):
        a_client(server).get("/repository")
    assert [seen.path for seen in server.requests] == ["/api/v1/repository"]


def test_a_refusal_tells_code_message_permission_and_request(server: ApiServerSimulator) -> None:
    server.on(
        "GET", "/api/v1/users", refusal(403, "permission_denied", "users:admin is missing", permission="users:admin")
    )
    with pytest.raises(ApiRefusal) as caught:
        a_client(server).get("/users")
    assert caught.value.exit_code == 4
    assert caught.value.to_dict() == {
        "code": "permission_denied",
        "message": "users:admin is missing",
        "request_id": "req_1",
        "permission": "users:admin",
        "hint": "`publish whoami` shows what you may do",
    }


def test_without_a_credential_401_asks_for_one(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/groups", refusal(401, "unauthenticated"))
    with pytest.raises(NotLoggedIn) as caught:
        Client(server.url, None).get("/groups")
    assert "authorization" not in server.requests[0].headers
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("body", [b"<html>502</html>", b'{"detail": "no"}', b'{"error": "no"}', b"[]", b""])
def test_an_error_in_another_form_is_no_answer_of_wavegate(server: ApiServerSimulator, body: bytes) -> None:
    server.on("GET", "/api/v1/groups", Reply(404, body))
    with pytest.raises(UnexpectedAnswer, match="answered 404"):
        a_client(server).get("/groups")


def test_an_answer_that_is_no_json_is_no_answer_of_wavegate(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/groups", Reply(200, b"<html>hello</html>"))
    with pytest.raises(UnexpectedAnswer, match="is no JSON"):
        a_client(server).get("/groups")


def test_a_list_is_walked_to_its_end(server: ApiServerSimulator) -> None:
    server.on(
        "GET",
        "/api/v1/groups",
        Reply(200, {"items": [{"id": "1"}, {"id": "2"}], "next_cursor": "abc/="}),
        Reply(200, {"items": [{"id": "3"}], "next_cursor": None}),
    )
    assert [item["id"] for item in a_client(server).items("/groups", limit=None, product="a&b", state=None)] == [
        "1",
        "2",
        "3",
    ]
    assert [seen.query for seen in server.requests] == [
        {"product": "a&b", "limit": "200"},
        {"product": "a&b", "cursor": "abc/=", "limit": "200"},
    ]


def test_a_list_with_a_limit_asks_for_no_more(server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/groups", Reply(200, {"items": [{"id": "1"}, {"id": "2"}], "next_cursor": "abc"}))
    assert len(list(a_client(server).items("/groups", limit=2))) == 2
    assert [seen.query for seen in server.requests] == [{"limit": "2"}]


def test_an_upload_starts_over_after_a_cut_connection(server: ApiServerSimulator) -> None:
    server.on("PUT", "/api/v1/artifacts/content", CUT, Reply(201, {"upload_id": "upl_01"}))
    moved: list[int] = []
    upload = Upload(io.BytesIO(b"x" * 300_000), 300_000, moved.append)
    assert a_client(server).upload("/artifacts/content", upload) == {"upload_id": "upl_01"}
    first, second = server.requests
    assert (first.length, second.length) == (300_000, 300_000)
    assert second.headers["content-length"] == "300000"
    assert "transfer-encoding" not in second.headers
    assert sum(moved) == 300_000


@pytest.mark.parametrize("told", [299_999, 300_001])
def test_a_file_that_changes_while_it_is_sent_is_not_published(server: ApiServerSimulator, told: int) -> None:
    server.on("PUT", "/api/v1/artifacts/content", Reply(201, {"upload_id": "upl_01"}))
    with pytest.raises(UsageFault, match="changed while it was sent"):
        a_client(server).upload("/artifacts/content", Upload(io.BytesIO(b"x" * 300_000), told))


def test_a_credential_on_an_open_line_is_warned_about() -> None:
    said: list[str] = []
    Client("http://wavegate.example", KEY, notice=said.append)
    assert said == ["warning: http://wavegate.example is not https, so your credential can be read on the way"]


def test_a_credential_does_not_show_its_secret() -> None:
    assert "wgk_secret" not in repr(KEY)
