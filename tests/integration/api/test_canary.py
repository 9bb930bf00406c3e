"""The canary, the look-ahead, and what `/readyz` and `/metrics` make of both."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from werkzeug.serving import make_server

from api.canary import CanaryJob, Reading, canary_folder, last_reading
from api.life import Alarm, canary_job
from api.settings import InvalidSettings, read_settings
from tests.integration.api.conftest import Home


@pytest.fixture
def url(home: Home) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, home.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def job(home: Home, url: str) -> CanaryJob:
    object.__setattr__(home.wiring.settings, "canary_url", url)
    made = canary_job(home.wiring, datetime.now(UTC) - timedelta(hours=1))
    assert made is not None
    return made


def reading(home: Home) -> Reading | None:
    return last_reading(canary_folder(home.wiring.settings, "acme"))


def test_it_reads_after_a_commit_and_every_hour_and_not_in_between(home: Home, job: CanaryJob) -> None:
    now = datetime.now(UTC)
    assert home.client.get("/readyz").get_json()["checks"]["canary"] == "not yet"
    job.turn(now)
    first = reading(home)
    assert first is not None
    assert (first.ok, first.serial, first.sample) == (True, 1, "")
    job.turn(now + timedelta(minutes=59))
    assert reading(home) == first
    job.turn(now + timedelta(minutes=61))
    assert reading(home) != first
    home.publish(b"firmware")
    job.turn(now + timedelta(minutes=62))
    last = reading(home)
    assert last is not None
    assert (last.ok, last.serial, last.sample) == (True, 2, "fw/1.0.0/any/fw.bin")
    told = home.client.get("/readyz")
    assert (told.status_code, told.get_json()["status"]) == (200, "ready")
    assert told.get_json()["checks"]["canary"]["ok"] is True
    metrics = home.client.get("/metrics").get_data(as_text=True)
    assert 'wavegate_canary_ok{org="acme"} 1.0' in metrics
    assert 'wavegate_canary_serial{org="acme"} 2.0' in metrics


def test_what_clients_cannot_fetch_degrades_the_server_and_says_why(
    home: Home, job: CanaryJob, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    home.publish(b"firmware")
    blobs = home.made.home / "orgs" / "acme" / "repository" / "blobs"
    shutil.move(blobs, f"{blobs}-gone")
    job.turn(now)
    job.turn(now + timedelta(seconds=59))
    job.turn(now + timedelta(seconds=61))
    found = reading(home)
    assert found is not None
    assert (found.ok, found.failures) == (False, 2)
    assert found.error.startswith("a client that was here before fails: DownloadHTTPError")
    told = home.client.get("/readyz")
    assert (told.status_code, told.get_json()["status"]) == (200, "degraded")
    assert 'wavegate_canary_ok{org="acme"} 0.0' in home.client.get("/metrics").get_data(as_text=True)
    assert "the canary failed 2 times in a row at serial 2" in caplog.text
    shutil.move(f"{blobs}-gone", blobs)
    job.turn(now + timedelta(minutes=3))
    assert home.client.get("/readyz").get_json()["status"] == "ready"


def test_a_cache_that_serves_an_old_state_is_found(home: Home, job: CanaryJob) -> None:
    stale = CanaryJob(job._canary, lambda: (99, lambda: None), datetime.now(UTC) - timedelta(hours=1))
    stale.turn(datetime.now(UTC))
    found = reading(home)
    assert found is not None
    assert "serial 1 is served, 99 was published: is a cache in between?" in found.error


def test_a_server_that_has_only_just_started_is_not_accused(home: Home) -> None:
    object.__setattr__(home.wiring.settings, "canary_url", "http://127.0.0.1:1")
    now = datetime.now(UTC)
    job = canary_job(home.wiring, now)
    assert job is not None
    job.turn(now + timedelta(seconds=29))
    assert reading(home) is None
    job.turn(now + timedelta(seconds=31))
    found = reading(home)
    assert found is not None
    assert found.ok is False


def test_it_can_be_switched_off(home: Home) -> None:
    object.__setattr__(home.wiring.settings, "canary_url", "off")
    assert canary_job(home.wiring, datetime.now(UTC)) is None
    assert home.client.get("/readyz").get_json()["checks"]["canary"] == "off"
    with pytest.raises(InvalidSettings, match="canary_url is 'nonsense', expected"):
        read_settings({"WAVEGATE_CANARY_URL": "nonsense"})


def test_the_log_tells_of_roles_that_do_not_last_once_an_hour(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    alarm, now = Alarm(), datetime.now(UTC)
    alarm.look(home.wiring, now)
    assert caplog.records == []
    for minutes in (0, 30, 61):
        alarm.look(home.wiring, now + timedelta(hours=25, minutes=minutes))
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]
    assert "soon: timestamp expires in 2" in caplog.text
    alarm.look(home.wiring, now + timedelta(hours=43))
    assert caplog.records[-1].levelno == logging.ERROR
