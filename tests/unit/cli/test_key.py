"""`publish key`: what is sent to narrow and to rotate, and what is shown once."""

from __future__ import annotations

from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish

MADE = {
    "id": "key_02",
    "name": "ci",
    "key": "wgk_secret",
    "permissions": ["artifacts:read"],
    "expires_at": "2027-02-19T10:00:00Z",
}


def test_a_key_is_narrowed_to_what_is_named(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/api-keys", Reply(201, MADE))
    done = publish("key", "create", "ci", "--permission", "artifacts:read", "--permission", "artifacts:publish")
    assert done.json == MADE
    assert server.requests[-1].json == {
        "name": "ci",
        "expires_in_days": 90,
        "permissions": ["artifacts:read", "artifacts:publish"],
    }


def test_a_rotation_overlaps_by_a_day_unless_told_otherwise(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/api-keys/key_01/rotate", Reply(201, MADE))
    assert publish("key", "rotate", "key_01").json == MADE
    assert server.requests[-1].json == {"overlap_hours": 24}
    lines = publish(
        "key", "rotate", "key_01", "--overlap", "0", "--expires-in-days", "30", "-o", "table"
    ).out.splitlines()
    assert server.requests[-1].json == {"overlap_hours": 0, "expires_in_days": 30}
    assert lines[-2:] == ["key      wgk_secret", "The key is shown this once."]


def test_an_overlap_of_more_than_a_month_is_a_usage_error(publish: Publish, server: ApiServerSimulator) -> None:
    assert publish("key", "rotate", "key_01", "--overlap", "721").code == 2
    assert server.requests == []
