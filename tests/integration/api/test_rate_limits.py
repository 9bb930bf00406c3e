"""Limits at the door: who is over is told so and when to come back, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.settings import InvalidSettings, read_settings
from store.database import Database
from tests.integration.api.conftest import Home, ShiftedClock, made_home
from tests.simulators.redis_server import RedisServer, running_redis


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with made_home(tmp_path_factory.mktemp("rates")) as home:
        yield home


@pytest.fixture
def server(shared: Home, clock: type[ShiftedClock], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Home]:
    """Makes a server over the home with other settings; their clock stands still at 20 seconds past the minute."""
    moment = datetime.now(UTC).replace(second=20)
    monkeypatch.setattr(clock, "now", lambda tz=None: moment)

    def make(db: Database | None = None, **settings: Any) -> Home:
        wiring = shared.wiring
        wiring = replace(wiring, settings=replace(wiring.settings, **settings), db=db or wiring.db)
        app = create_app(wiring)
        return Home(shared.made, wiring, app, app.test_client())

    return make


def test_one_request_too_many_is_answered_429_with_when_to_come_back(server: Callable[..., Home]) -> None:
    home = server(rate_limit_reads=2)
    answers = [home.call("GET", "/artifacts") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit"] for answer in answers] == [f'"reads";r={left};t=40' for left in (1, 0, 0)]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"reads";q=2;w=60'}
    refused = answers[2]
    assert refused.headers["Retry-After"] == "40"
    error = refused.get_json()["error"]
    assert error["code"] == "rate_limited"
    assert error["message"].startswith("more than 2 reads in a minute; wait 40 s")
    assert error["request_id"] == refused.headers["X-Request-Id"]


def test_writes_uploads_and_reads_of_one_key_have_a_limit_each(server: Callable[..., Home]) -> None:
    home = server(rate_limit_reads=1, rate_limit_writes=1, rate_limit_uploads=1)
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/artifacts", {}),
        ("POST", "/groups", {}),
        ("PUT", "/artifacts/content", {"data": b"x"}),
    ]
    first = [home.call(method, path, **more).status_code for method, path, more in calls]
    again = [home.call(method, path, **more).status_code for method, path, more in calls]
    assert (first, again) == ([200, 400, 201], [429, 429, 429])


def test_another_credential_of_the_same_person_is_not_held_up(server: Callable[..., Home]) -> None:
    home = server(rate_limit_reads=1)
    token = home.admin()
    assert [home.call("GET", "/artifacts").status_code for _ in range(2)] == [200, 429]
    assert home.call("GET", "/artifacts", token=token).status_code == 200


def test_strangers_are_counted_by_their_address_behind_a_trusted_proxy(server: Callable[..., Home]) -> None:
    home = server(rate_limit_anonymous=1, rate_limit_logins=1, trusted_proxies=(IPv4Network("127.0.0.1/32"),))

    def ask(path: str, address: str) -> int:
        method, body = ("GET", None) if path == "/artifacts" else ("POST", {"email": "a@b.c", "password": "x"})
        return home.call(method, path, body, token="", headers={"X-Forwarded-For": address}).status_code

    for path in ("/artifacts", "/auth/token"):
        asked = [ask(path, "198.51.100.1"), ask(path, "198.51.100.1"), ask(path, "198.51.100.2")]
        assert asked == [401, 429, 401]


def test_a_credential_that_counts_is_not_held_up_by_strangers_of_its_address(server: Callable[..., Home]) -> None:
    home = server(rate_limit_anonymous=1)
    assert [home.call("GET", "/artifacts", token="").status_code for _ in range(2)] == [401, 429]
    assert home.call("GET", "/artifacts").status_code == 200


def test_without_a_limit_nothing_is_told_and_outside_of_the_api_nothing_is_counted(server: Callable[..., Home]) -> None:
    home = server(rate_limit_reads=0, rate_limit_anonymous=1)
    assert "RateLimit" not in home.call("GET", "/artifacts").headers
    assert [home.client.get("/healthz").status_code for _ in range(3)] == [200, 200, 200]


def test_a_refusal_is_metered(server: Callable[..., Home]) -> None:
    home = server(rate_limit_reads=1)
    for _ in range(3):
        home.call("GET", "/artifacts")
    assert 'wavegate_rate_limited_total{policy="reads"} 2.0' in home.client.get("/metrics").text


@pytest.mark.parametrize("store", ["redis", "postgresql"])
def test_two_servers_share_a_limit(store: str, server: Callable[..., Home], request: pytest.FixtureRequest) -> None:
    if store == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        pair = [server(rate_limit_store=redis.url, rate_limit_reads=3) for _ in range(2)]
        databases = []
    else:
        url = request.getfixturevalue("postgresql_database_url")
        databases = [Database(url), Database(url)]
        pair = [server(db, rate_limit_store="database", rate_limit_reads=3) for db in databases]
    statuses = [pair[number % 2].call("GET", "/artifacts").status_code for number in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    for database in databases:
        database.close()


def test_when_redis_dies_requests_go_on_counted_by_each_server_and_it_is_metered(
    server: Callable[..., Home], redis_server: RedisServer, tmp_path: Path
) -> None:
    with running_redis(tmp_path / "redis") as redis:
        home = server(rate_limit_store=redis.url, rate_limit_reads=2)
        assert [home.call("GET", "/artifacts").status_code for _ in range(3)] == [200, 200, 429]
        redis.end()
        assert [home.call("GET", "/artifacts").status_code for _ in range(3)] == [200, 200, 429]
        assert "wavegate_rate_limit_store_failures_total 1.0" in home.client.get("/metrics").text


def test_settings_that_cannot_work_are_refused_without_telling_a_password() -> None:
    with pytest.raises(InvalidSettings, match="needs PostgreSQL"):
        read_settings({"WAVEGATE_RATE_LIMIT_STORE": "database"})
    with pytest.raises(InvalidSettings) as refused:
        read_settings({"WAVEGATE_RATE_LIMIT_STORE": "memcached://user:hunter2@host"})
    assert str(refused.value) == "rate_limit_store is neither memory, database, redis://… nor rediss://…"
    with pytest.raises(InvalidSettings, match=r"rate_limit_reads is '-1', expected 0 to 1e\+09"):
        read_settings({"WAVEGATE_RATE_LIMIT_READS": "-1"})
    given = {"WAVEGATE_RATE_LIMIT_STORE": "database", "WAVEGATE_DATABASE_URL": "postgresql://db/wavegate"}
    assert read_settings(given).rate_limit_store == "database"
