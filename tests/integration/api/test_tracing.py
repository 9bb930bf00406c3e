"""Traces as a collector receives them, over real OTLP on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.app import create_app
from api.installation import Installation
from api.jobs import Jobs
from api.settings import InvalidSettings, Settings, read_settings
from api.setup import initialise
from api.tallies import Tallies
from api.tracing import begin_request, is_on, span, start_tracing, statement
from api.wiring import open_wavegate
from tests.integration.api.conftest import Home
from tests.simulators.otlp_receiver import OtlpReceiver, otlp_receiver

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-00"
PASSWORD = "canary-Pq7 of a trace"


def settings_of(folder: Path, **more: str) -> Settings:
    environ = {"WAVEGATE_HOME": str(folder / "home"), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"}
    return read_settings({**environ, **{f"WAVEGATE_{name.upper()}": value for name, value in more.items()}})


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Home, OtlpReceiver]]:
    """A home whose traces go to a receiver; all of them are there when the block of the test has called ``stop``."""
    with otlp_receiver() as receiver:
        settings = settings_of(tmp_path, otlp_endpoint=receiver.url)
        made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
        stop = start_tracing(settings, "api")
        wiring = open_wavegate(settings)
        app = create_app(wiring)
        try:
            home = Home(made, wiring, app, app.test_client())
            home.app.extensions["stop"] = stop
            yield home, receiver
        finally:
            stop()
            wiring.close()


def test_a_publish_is_one_trace_with_its_signatures_its_record_and_the_statements(
    traced: tuple[Home, OtlpReceiver],
) -> None:
    home, receiver = traced
    upload = home.upload(b"firmware")
    body = {"upload_id": upload, "product": "fw", "version": "1", "platform": "any", "file_name": "fw.bin"}
    answer = home.call("POST", "/artifacts", body, headers={"traceparent": CALLER})
    assert answer.status_code == 201
    home.call("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}, token="")
    home.call("GET", "/artifacts/art_unknown")
    jobs = Jobs(Installation(home.wiring, home.wiring), Tallies())
    jobs.start()
    jobs.stop()
    home.app.extensions["stop"]()
    assert receiver.paths == {"/v1/traces"}
    assert {one.service for one in receiver.spans} == {"wavegate-api"}
    (publish,) = receiver.named("POST /api/v1/artifacts")
    assert publish.trace == TRACE
    assert publish.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/v1/artifacts",
        "http.response.status_code": "201",
        "wavegate.request_id": answer.headers["X-Request-Id"],
    }
    steps = receiver.below(publish)
    assert {"sign releases", "sign snapshot", "sign timestamp", "record", "database INSERT"} <= steps
    (record,) = [one for one in receiver.named("record") if one.trace == TRACE]
    assert record.attributes == {"repository.serial": "2", "repository.artifacts": "1"}
    (missing,) = receiver.named("GET /api/v1/artifacts/<id>")
    assert (missing.failed, missing.parent_id) == (False, "")
    assert {"job scheduler", "job refresh"} <= {one.name for one in receiver.spans}
    told = bytes(receiver.raw)
    assert [secret for secret in (PASSWORD, home.made.api_key, "ann@example.com") if secret.encode() in told] == []
    assert not is_on()


def test_a_failure_is_noted_by_its_class_and_goes_on(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        stop = start_tracing(settings_of(tmp_path, otlp_endpoint=receiver.url), "jobs")
        with pytest.raises(ValueError, match="a secret"), span("sign nothing"):
            raise ValueError("a secret")
        stop()
    (failed,) = receiver.spans
    assert (failed.service, failed.name, failed.failed) == ("wavegate-jobs", "sign nothing", True)
    assert b"a secret" not in receiver.raw


def test_nobody_waits_for_a_collector_that_does_not_answer(tmp_path: Path) -> None:
    stop = start_tracing(settings_of(tmp_path, otlp_endpoint="http://127.0.0.1:1"), "api")
    try:
        for _ in range(600):  # more than one batch
            with span("sign timestamp"):
                pass
    finally:
        stop()
    assert not is_on()


def test_without_the_setting_nothing_is_started_and_with_a_share_of_none_nothing_is_sent(tmp_path: Path) -> None:
    threads = threading.active_count()
    start_tracing(settings_of(tmp_path), "api")()
    with span("sign timestamp"):
        statement("SELECT 1", 0.1)
    assert (is_on(), begin_request([]), threading.active_count()) == (False, None, threads)
    with otlp_receiver() as receiver:
        stop = start_tracing(settings_of(tmp_path, otlp_endpoint=receiver.url, otlp_percent="0"), "api")
        with span("sign timestamp"):
            statement("SELECT 1", 0.1)
        stop()
        assert receiver.spans == []


@pytest.mark.parametrize("url", ["nonsense", "https://user:a-password@collector", "http://x/?token=a-password"])
def test_an_endpoint_that_cannot_work_is_refused_without_being_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="otlp_endpoint is no http") as refused:
        settings_of(tmp_path, otlp_endpoint=url)
    assert "a-password" not in str(refused.value)


def test_without_the_extra_the_server_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    start_tracing(settings_of(tmp_path, otlp_endpoint="http://127.0.0.1:1"), "api")()
    assert "pip install 'wavegate[otel]'" in caplog.text
    assert not is_on()
