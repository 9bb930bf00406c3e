"""What the server tells of its work: a line of the log for each request, and series that callers cannot multiply."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.installation import Installation
from api.jobs import Jobs
from api.logs import fields_of, keep_fields
from api.tallies import Tallies, TallyPort, tallies_at
from store.errors import DatabaseUnreachable
from tests.integration.api.conftest import Home, made_home

HOSTILE_METHODS = [f"BREW{number}" for number in range(40)] + ["get", "PROPFIND", "A" * 500]
HOSTILE_PATHS = [f"/tuf/acme/metadata/{number}.root.json" for number in range(5, 45)] + [
    f"/{'x' * number}" for number in range(1, 40)
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One for all tests here: what they count, they count from where they begin."""
    with made_home(tmp_path_factory.mktemp("told")) as made:
        yield made


def samples(text: str) -> dict[str, float]:
    """Series by name and labels; what is no Prometheus text is an error."""
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_a_request_is_one_line_with_id_organisation_caller_route_status_and_duration(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wavegate.access")
    caplog.handler.addFilter(keep_fields)
    answer = home.call("GET", "/artifacts/art_unknown?secret=1")
    (record,) = [one for one in caplog.records if one.name == "wavegate.access"]
    told = fields_of(record)
    assert str(told.pop("caller")).startswith("usr_")
    assert str(told.pop("credential")).startswith("key_")
    assert isinstance(told.pop("duration_ms"), float)
    assert told == {
        "request_id": answer.headers["X-Request-Id"],
        "org": "acme",
        "method": "GET",
        "route": "/api/v1/artifacts/<id>",
        "status": 404,
        "code": "artifact_not_found",
    }
    home.client.get("/healthz")
    home.call("GET", "/auth/me", token="")
    last = [one for one in caplog.records if one.name == "wavegate.access"]
    assert len(last) == 2, "a probe that is well is not told"
    assert fields_of(last[1]).keys() & {"org", "caller"} == set(), "of nobody who was here before"


def test_hostile_requests_add_no_series_beyond_those_of_one_such_request(home: Home) -> None:
    def series() -> set[str]:
        return set(samples(home.client.get("/metrics").text))

    home.client.open("/x", method="BREW")
    home.client.open("/api/v1/artifacts/1", method="BREW")
    home.client.get("/x")
    home.client.get("/tuf/acme/metadata/4.root.json")
    for role in ("viewer", "nobody"):
        home.call("GET", f"/artifacts/{role}", token=role)
    series()
    before = series()
    for method in HOSTILE_METHODS:
        home.client.open("/x", method=method)
        home.client.open("/api/v1/artifacts/1", method=method)
    for path in HOSTILE_PATHS:
        home.client.get(path)
    for number in range(20):
        home.call("GET", f"/artifacts/{number}", token=f"wgk_{number}", headers={"Host": f"h{number}"})
    assert series() - before == set()
    assert any("('method', 'other')" in one for one in before)


def test_the_gauges_count_devices_rollouts_and_what_waits_and_survive_without_the_database(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = samples(home.client.get("/metrics").text)
    assert told["wavegate_devices[('org', 'acme'), ('status', 'active')]"] == 0
    assert told["wavegate_rollouts[('org', 'acme'), ('state', 'paused')]"] == 0
    assert told["wavegate_webhook_deliveries_waiting[('org', 'acme')]"] == 0
    assert told["wavegate_drafts_waiting[('org', 'acme')]"] == 0
    assert told["wavegate_database_up[]"] == 1
    assert told["wavegate_device_ca_expiry_seconds[]"] > 86_400 * 3000
    assert 40 * 3600 < told["wavegate_role_expiry_seconds[('org', 'acme'), ('role', 'timestamp')]"] <= 48 * 3600
    assert [name for name in told if name.startswith("wavegate_build_info")] != []

    def away(*_: object) -> int:
        raise DatabaseUnreachable("the database does not answer")

    monkeypatch.setattr(type(home.wiring.fleet), "count_by_status", away)
    without = samples(home.client.get("/metrics").text)
    assert without["wavegate_database_up[]"] == 0
    assert "wavegate_role_expiry_seconds[('org', 'acme'), ('role', 'timestamp')]" in without
    assert "wavegate_devices[('org', 'acme'), ('status', 'active')]" not in without


def test_where_the_database_is_stands_in_the_log_and_in_no_answer(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnreachable("the database postgresql://db.inside/wavegate does not answer")

    monkeypatch.setattr(type(home.wiring.accounts), "key_by_sha256", away)
    answer = home.client.get("/api/v1/groups", headers={"Authorization": f"Bearer {home.made.api_key}"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    told = answer.get_json()["error"]
    assert (told["code"], told["message"]) == (
        "database_unreachable",
        "the database does not answer; try again in a few seconds",
    )
    assert "postgresql://db.inside/wavegate does not answer" in caplog.text


def test_one_scrape_has_the_jobs_and_device_calls_of_the_first_process_too(home: Home, tmp_path: Path) -> None:
    tallies = Tallies()
    jobs = Jobs(Installation(home.wiring, home.wiring), tallies)
    jobs.start()
    jobs.stop()
    tallies.call("CheckIn", "OK", 0.002)
    tallies.call("Report", "UNAUTHENTICATED", 0.001)
    port = TallyPort(tallies)
    try:
        home.app.extensions["wavegate.tallies"] = port.path
        told = samples(home.client.get("/metrics").text)
    finally:
        port.close()
    assert told["wavegate_first_process_up[]"] == 1
    assert told["wavegate_job_seconds_count[('job', 'refresh')]"] >= 1
    assert told["wavegate_job_last_success_timestamp_seconds[('job', 'scheduler')]"] > 1.7e9
    assert told["wavegate_device_calls_total[('method', 'Report'), ('status', 'UNAUTHENTICATED')]"] == 1
    gone = samples(home.client.get("/metrics").text)
    assert gone["wavegate_first_process_up[]"] == 0
    assert not port.path.parent.exists()
    assert tallies_at(tmp_path / "nothing").endswith(b"wavegate_first_process_up 0\n")
