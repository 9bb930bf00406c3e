"""What a caller is answered while the database gives no connection."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from api.app import create_app
from api.settings import InvalidSettings, read_settings
from api.wiring import open_wavegate
from tests.integration.api.conftest import Home

pytestmark = pytest.mark.postgresql


def test_a_request_that_finds_the_pool_exhausted_is_answered_503_and_when_to_come_again(home: Home) -> None:
    small = replace(home.wiring.settings, database_pool=1, database_overflow=0, database_wait_seconds=0.2)
    wiring = open_wavegate(small)
    client = create_app(wiring).test_client()
    headers = {"Authorization": f"Bearer {home.made.api_key}"}
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with wiring.db.read():
            inside.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    refused = client.get("/api/v1/groups", headers=headers)
    assert client.get("/healthz").status_code == 200, "the process lives, and is not to be restarted for it"
    assert client.get("/readyz").status_code == 503
    leave.set()
    holder.join()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert refused.get_json()["error"]["code"] == "database_busy"
    assert refused.get_json()["error"]["message"] == "no database connection became free in 0.2 s; try again"
    assert client.get("/api/v1/groups", headers=headers).status_code == 200
    wiring.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("POOL", "0"), ("OVERFLOW", "-1"), ("WAIT_SECONDS", "0"), ("STATEMENT_SECONDS", "a"), ("POOLER", "?")],
)
def test_a_limit_that_cannot_work_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=f"database_{name.lower()} is {value!r}".replace("?", r"\?")):
        read_settings({f"WAVEGATE_DATABASE_{name}": value})
