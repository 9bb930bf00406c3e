"""Lists of devices name groups and devices; those of another organisation are nobody's."""

from __future__ import annotations

from typing import Any

from tests.integration.orgs.filled import Pair
from tests.integration.orgs.places import unknown


def send(pair: Pair, content: str) -> tuple[int, Any]:
    answer = pair.call("POST", "/devices/import?existing=update&dry_run=true", pair.acme.admin, data=content.encode())
    told = answer.get_json()
    return answer.status_code, told.get("items") or told["error"]["details"]


def test_a_group_of_another_organisation_is_an_unknown_one(pair: Pair) -> None:
    theirs = pair.beta.things["group_name"]
    status, details = send(pair, f"name,groups\nnew,{theirs}\n")
    assert (status, details[0]["message"]) == (400, f"no group {theirs}")
    nobodys = unknown(theirs)
    assert send(pair, f"name,groups\nnew,{nobodys}\n") == (400, [{**details[0], "message": f"no group {nobodys}"}])


def test_a_name_that_another_organisation_has_is_free(pair: Pair) -> None:
    name = pair.beta.things["device_name"]
    assert send(pair, f"name\n{name}\n") == (
        200,
        [{"line": 2, "name": name, "outcome": "created", "id": None}],
    )
