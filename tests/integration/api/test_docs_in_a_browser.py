"""The page at /docs in a real browser: it shows every operation, and asks nobody but this server for anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from werkzeug.serving import make_server

from tests.integration.api.conftest import made_home

WITHIN_SECONDS = 180
RENDERED_AFTER_MS = 60_000  # of the page's own clock, which runs ahead while nothing happens


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium; Debian: apt-get install chromium"
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.mark.nightly
def test_the_reference_is_shown_and_fetches_nothing_foreign(chromium: str, tmp_path: Path) -> None:
    log = tmp_path / "net.json"

    def shown(page: str) -> tuple[str, str]:
        command = [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"),
            *(f"--log-net-log={log}", f"--virtual-time-budget={RENDERED_AFTER_MS}"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr"),
            *("--dump-dom", f"http://127.0.0.1:{server.server_port}{page}"),
        ]
        environ = {**os.environ, "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_SECONDS, env=environ)
        assert asked_of_the_page(log) == {"127.0.0.1"}
        return done.stdout, done.stderr

    with made_home(tmp_path) as home:
        document = home.client.get("/openapi.json").get_json()
        server = make_server("127.0.0.1", 0, home.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            overview, said = shown("/docs")
            topic, said_of_topic = shown("/docs#/webhooks")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    for tag in document["tags"]:
        assert f">{tag['name']}<" in overview, tag
    operations = [one for item in document["paths"].values() for one in item.values() if one["tags"] == ["Webhooks"]]
    for operation in operations:
        assert operation["summary"] in topic
    assert len(operations) == 9
    # What the policy of the page would have kept out.
    assert "Refused to" not in said + said_of_topic


def asked_of_the_page(log: Path) -> set[str]:
    """Hosts that the page's own requests went to, the browser's own housekeeping aside."""
    told = json.loads(log.read_text("utf-8"))
    hosts = set()
    for event in told["events"]:
        parameters = event.get("params") or {}
        page = parameters.get("initiator", "")
        if "url" in parameters and (page.startswith("http://127.0.0.1") or "127.0.0.1" in parameters["url"]):
            hosts.add(urlsplit(parameters["url"]).hostname or "")
    return hosts - {""}
