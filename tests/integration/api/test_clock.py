"""The API under a wrong clock: 503 with a code of its own, and an operator's word that sets it right."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.api.conftest import Home, ShiftedClock


@pytest.mark.parametrize(("days", "code"), [(-2, "clock_behind"), (120, "clock_ahead")])
def test_a_wrong_clock_is_told_and_an_operator_can_vouch_for_it(
    home: Home, clock: type[ShiftedClock], days: int, code: str
) -> None:
    assert home.publish(version="1.0.0").status_code == 201
    clock.ahead = timedelta(days=days)
    refused = home.publish(b"other", version="2.0.0")
    error = refused.get_json()["error"]
    assert (refused.status_code, error["code"]) == (503, code)
    assert "publish repo refresh --accept-clock" in error["message"]
    assert home.call("POST", "/repository/refresh", {}).get_json()["error"]["code"] == code
    accepted = home.call("POST", "/repository/refresh", {"accept_clock": True})
    assert accepted.status_code == 200
    assert accepted.get_json()["serial"] == 3
    assert home.publish(b"other", version="2.0.0").status_code == 201


def test_a_refresh_without_a_body_stays_what_it_was(home: Home) -> None:
    assert home.call("POST", "/repository/refresh").status_code == 200
