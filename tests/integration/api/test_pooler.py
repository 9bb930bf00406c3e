"""Two servers behind a real PgBouncer that has fewer connections than they have requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from api.app import create_app
from api.setup import initialise
from api.wiring import open_wavegate
from tests.databases import Databases
from tests.integration.api.conftest import Home, opened, settings_of
from tests.simulators.pgbouncer import running_pgbouncer


@pytest.fixture
def home(postgresql_url: str, tmp_path: Path) -> Iterator[Home]:
    with ExitStack() as stack:
        pooler = stack.enter_context(running_pgbouncer(postgresql_url, connections=2))
        databases = Databases(postgresql_url, pooler=pooler)
        stack.callback(databases.close)
        settings = settings_of(databases, tmp_path / "home")
        made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
        yield stack.enter_context(opened(databases, made, settings))


def test_sixteen_at_once_lose_nothing_and_leave_nothing_of_theirs_on_the_pooler_s_connections(home: Home) -> None:
    other = open_wavegate(home.wiring.settings)
    apps, start = [home.app, create_app(other)], threading.Barrier(16)

    def make(number: int) -> int:
        client, headers = apps[number % 2].test_client(), {"Authorization": f"Bearer {home.made.api_key}"}
        start.wait(60)
        for turn in range(5):
            body = {"name": f"press-{number}-{turn}"}
            sent = client.post("/api/v1/devices", json=body, headers={**headers, "Idempotency-Key": f"{number}-{turn}"})
            assert sent.status_code == 201, sent.text
            read = client.get(f"/api/v1/devices/{sent.get_json()['id']}", headers=headers)
            assert read.get_json()["name"] == body["name"]
        return turn + 1

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(make, range(16))) == 80
    other.close()
    assert home.call("GET", "/devices?total=true").get_json()["total"] == 80

    # Whoever gets the pooler's connections next is held to none of our limits and finds nothing prepared.
    engine = create_engine(make_url(home.wiring.settings.database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
        assert connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
    engine.dispose()
