"""Metric gates end to end: a real Prometheus server, a check over HTTP, and answers that mean harm."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from api import metrics
from api.metrics import Measurer, NotMeasured, fetch, pointed, prometheus_samples
from api.settings import InvalidSettings, MetricSource, read_settings
from rollout.model import State
from tests.integration.api.conftest import Home
from tests.simulators.debian import NotToBeHad
from tests.simulators.prometheus import ask, prometheus

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A local HTTP server that answers as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = says(b"{}")
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("Authorization")))
                with suppress(OSError):  # the other side hangs up, as it should
                    site.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.source = MetricSource(url=f"http://{self.address}/status")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


def says(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drips(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def floods(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1_000):
        handler.wfile.write(b" " * 65_536)


def never(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (drips, "its answer took longer than 0.5 s"),
        (floods, "its answer is longer than 1048576 bytes"),
        (never, "no answer (ReadTimeoutError)"),
        (says(b"", 302, Location="http://127.0.0.1:1/inner"), "it answers with status 302"),
        (says(b'{"errors": 0}', 500), "it answers with status 500"),
        (says(b"<html>"), "its answer is no JSON"),
        (says(b"[" * 100_000), "its answer is no JSON"),
        (says(b"\xff\xfe"), "its answer is no JSON"),
    ],
)
def test_an_answer_that_means_harm_is_no_reading(
    site: Site, monkeypatch: pytest.MonkeyPatch, answer: Answer, why: str
) -> None:
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 0.5)
    site.answer = answer
    with pytest.raises(NotMeasured) as refused:
        fetch(site.source, site.source.url)
    assert str(refused.value) == why
    assert len(site.asked) == 1, "nothing is followed, nothing asked twice"


def test_a_server_that_is_not_there_is_no_reading() -> None:
    with pytest.raises(NotMeasured, match="no answer"):
        fetch(MetricSource(url="http://127.0.0.1:1/"), "http://127.0.0.1:1/")


def test_the_token_is_sent_and_never_told(site: Site, tmp_path: Path) -> None:
    token = tmp_path / "token"
    source = MetricSource(url=site.source.url, bearer_token_file=token)
    with pytest.raises(NotMeasured, match="its token file cannot be read"):
        fetch(source, source.url)
    token.write_text("s3cret\n")
    site.answer = says(b"", 403)
    with pytest.raises(NotMeasured) as refused:
        fetch(source, source.url)
    assert site.asked == [("/status", "Bearer s3cret")]
    assert "s3cret" not in str(refused.value)


def vector(*values: object) -> dict[str, Any]:
    result = [{"metric": {}, "value": [1.5, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("told", "samples"),
    [
        (vector("1", "2.5e3"), [1, 2500]),
        (vector(), []),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, "7"]}}, [7]),
    ],
)
def test_samples_of_prometheus(told: object, samples: list[float]) -> None:
    assert prometheus_samples(told) == samples


@pytest.mark.parametrize(
    "told",
    [
        vector("NaN"),
        vector("0", "+Inf"),
        vector("many"),
        vector(1),
        vector(*["1"] * 1_001),
        {"status": "error", "data": vector("1")["data"]},
        {"status": "success", "data": {"resultType": "matrix", "result": []}},
        {"status": "success", "data": {"resultType": "vector", "result": [None]}},
        {"status": "success", "data": {"resultType": "scalar", "result": 1}},
        {"status": "success"},
        [],
        None,
    ],
)
def test_what_is_no_answer_of_prometheus_is_no_reading(told: object) -> None:
    with pytest.raises(NotMeasured):
        prometheus_samples(told)


@pytest.mark.parametrize(("pointer", "number"), [("/a/1/b~1c", 5), ("/ok", 1), ("/a/0", 0.5), ("/~0", 2)])
def test_a_pointer_names_a_number(pointer: str, number: float) -> None:
    assert pointed({"a": [0.5, {"b/c": 5}], "ok": True, "~": 2}, pointer) == number


@pytest.mark.parametrize("pointer", ["", "/a", "/b", "/a/9", "/a/-1", "/a/x", "/nan", "/huge", "/text"])
def test_a_pointer_to_no_number_is_no_reading(pointer: str) -> None:
    told = json.loads('{"a": [1], "nan": NaN, "huge": 1' + "0" * 400 + ', "text": "1"}')
    with pytest.raises(NotMeasured):
        pointed(told, pointer)


def test_sources_are_settings(tmp_path: Path) -> None:
    config = tmp_path / "wavegate.toml"
    config.write_text('[metric_sources.prod]\nurl = "https://prom.example.com"\nbearer_token_file = "/run/token"\n')
    assert read_settings({}, config).metric_sources == {
        "prod": MetricSource(url="https://prom.example.com", bearer_token_file=Path("/run/token"))
    }
    told = {"WAVEGATE_METRIC_SOURCES": '{"shop": {"url": "http://127.0.0.1:9/health"}}'}
    assert read_settings(told).metric_sources == {"shop": MetricSource(url="http://127.0.0.1:9/health")}


@pytest.mark.parametrize(
    "told",
    [
        "[]",
        "{",
        '{"Prod": {"url": "http://h"}}',
        '{"p": "http://h"}',
        '{"p": {}}',
        '{"p": {"url": "file:///etc/passwd"}}',
        '{"p": {"url": "http://user:pw@h"}}',
        '{"p": {"url": "http://h", "token": "x"}}',
        '{"p": {"url": "http://h", "bearer_token_file": "token"}}',
    ],
)
def test_sources_that_cannot_be_keep_the_server_from_starting(told: str) -> None:
    with pytest.raises(InvalidSettings, match="metric_sources"):
        read_settings({"WAVEGATE_METRIC_SOURCES": told})


def gate(**metric: object) -> dict[str, object]:
    return {"metrics": [{"name": "errors", "source": "prod", "op": "<", "threshold": 1, **metric}]}


class Watched:
    """A home whose plans may measure at one source; a rollout to an empty group, and a clock that the test moves."""

    def __init__(self, home: Home, source: MetricSource) -> None:
        self.home = home
        home.wiring.settings.metric_sources["prod"] = source  # type: ignore[index]
        self.measurer = Measurer(home.wiring.settings.metric_sources, home.wiring.rollout_store, home.wiring.readings)
        self.now = datetime.now(UTC)
        home.publish()

    def start(self, told: dict[str, object], group: str = "all") -> str:
        self.home.call("POST", "/groups", {"name": group})
        body = {"product": "fw", "version": "1.0.0", "waves": [{"group": group, "gate": told}]}
        made = self.home.call("POST", "/rollouts", body)
        assert made.status_code == 201, made.text
        self.tick()
        rollout_id: str = made.get_json()["id"]
        return rollout_id

    def tick(self, seconds: float = 1) -> None:
        self.now += timedelta(seconds=seconds)
        self.home.wiring.rollouts.tick("acme", self.now)

    def measure(self, seconds: float = 10) -> int:
        self.now += timedelta(seconds=seconds)
        return self.measurer.turn("acme", self.now)

    def stands(self, rollout_id: str) -> tuple[State, str]:
        shown = self.home.wiring.rollouts.show("acme", rollout_id, self.now)
        return shown.rollout.state, shown.why


def test_a_plan_names_only_sources_that_the_operator_configured(home: Home) -> None:
    home.publish()
    home.call("POST", "/groups", {"name": "all"})
    body = {"product": "fw", "version": "1.0.0", "waves": [{"group": "all", "gate": gate(query="up")}]}
    answer = home.call("POST", "/rollouts", body)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "invalid_plan")
    assert "expected one that this server has (it has none), found 'prod'" in answer.text


def test_a_wave_passes_when_a_check_says_so_and_pauses_when_it_was_missed_for_its_time(home: Home, site: Site) -> None:
    watched = Watched(home, site.source)
    site.answer = says(b'{"errors": 3}')
    good = watched.start(gate(path="/errors"))
    assert watched.stands(good) == (
        State.RUNNING,
        "wave 1: no device is in it; metric errors was not measured yet",
    )
    assert watched.measure() == 1
    watched.tick()
    assert watched.stands(good)[1].endswith("metric errors is 3, < 1 needed")
    assert watched.measure(seconds=5) == 0, "not again within ten seconds"
    site.answer = says(b"", 503)
    watched.measure()
    watched.tick()
    assert watched.stands(good)[1].endswith("metric errors is not known: prod: it answers with status 503")
    site.answer = says(b'{"errors": 0}')
    watched.measure()
    watched.tick()
    assert watched.stands(good)[0] is State.COMPLETED

    strict = watched.start(gate(path="/errors", on="fail", for_seconds=20))
    site.answer = says(b'{"errors": 2}')
    for _ in range(3):
        assert watched.stands(strict)[0] is State.RUNNING
        watched.measure()
        watched.tick(seconds=0)
    assert watched.stands(strict) == (
        State.PAUSED,
        "paused: wave 1: metric errors is 2, < 1 was missed for 20 s (an approver must resume)",
    )


def test_a_wave_is_judged_by_a_real_prometheus_server(home: Home, site: Site, tmp_path: Path) -> None:
    site.answer = says(b'errors{shop="a"} 0\nerrors{shop="b"} 4\n')
    try:
        with prometheus(tmp_path, site.address) as url:
            judged_by(home, site, url)
    except NotToBeHad as why:
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(str(why))
        pytest.skip(str(why))


def judged_by(home: Home, site: Site, url: str) -> None:
    watched = Watched(home, MetricSource(url=url))
    wait_until(lambda: sorted(ask(url, "errors")) == ["0", "4"])
    one, none, every, wrong = (
        watched.start({"metrics": [{**metric(query), "name": "errors"}]}, group)
        for group, query in (("a", "sum(errors)"), ("b", "absent_by_name"), ("c", "errors"), ("d", "sum("))
    )
    watched.measure()
    watched.tick()
    told = [watched.stands(rollout)[1].rpartition("; ")[2] for rollout in (one, none, every, wrong)]
    assert told == [
        "metric errors is 4, < 1 needed",
        "metric errors is not known: there are no samples",
        "metric errors is 4 (1 of 2 samples), < 1 needed",
        "metric errors is not known: prod: it answers with status 400",
    ]
    site.answer = says(b'errors{shop="a"} 0\nerrors{shop="b"} 0.5\n')
    wait_until(lambda: sorted(ask(url, "errors")) == ["0", "0.5"])
    watched.measure()
    watched.tick()
    assert [watched.stands(rollout)[0] for rollout in (one, none, every, wrong)] == [
        State.COMPLETED,
        State.RUNNING,
        State.COMPLETED,
        State.RUNNING,
    ]


def metric(query: str) -> dict[str, object]:
    return {"source": "prod", "op": "<", "threshold": 1, "query": query}


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
