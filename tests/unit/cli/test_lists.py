"""What `publish … list` is asked becomes parameters of the request."""

from __future__ import annotations

import pytest

from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish


@pytest.mark.parametrize(
    ("arguments", "path", "query"),
    [
        (
            ("artifact", "list", "--state", "yanked", "--sort", "product"),
            "/artifacts",
            {"state": "yanked", "sort": "product"},
        ),
        (
            ("device", "list", "--status", "active", "--label", "site=oslo", "--group", "g", "--sort", "-name"),
            "/devices",
            {"status": "active", "label": "site=oslo", "group": "g", "sort": "-name"},
        ),
        (
            ("audit", "list", "--actor", "usr_1", "--since", "2026-11-21T12:00:00Z", "--newest-first"),
            "/audit/events",
            {"actor": "usr_1", "since": "2026-11-21T12:00:00Z", "sort": "-seq"},
        ),
        (("user", "list", "--role", "admin", "--enabled"), "/users", {"role": "admin", "disabled": "false"}),
        (
            ("device", "history", "press 1", "--kind", "device.update", "--since", "2026-11-21T12:00:00Z"),
            "/devices/press%201/history",
            {"kind": "device.update", "since": "2026-11-21T12:00:00Z"},
        ),
        (("key", "list", "--user", "usr_1"), "/api-keys", {"user": "usr_1"}),
    ],
)
def test_what_is_asked_of_a_list_is_asked_of_the_server(
    publish: Publish, server: ApiServerSimulator, arguments: tuple[str, ...], path: str, query: dict[str, str]
) -> None:
    server.on("GET", f"/api/v1{path}", Reply(200, {"items": [], "next_cursor": None}))
    assert publish(*arguments, "--limit", "7").code == 0
    assert server.requests[0].query == {**query, "limit": "7"}
