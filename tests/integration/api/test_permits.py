"""Disruption budgets over HTTP: what a plan may say, and who holds a permit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.model import Device, DeviceStatus
from store.fleet_rows import device_row, write_labels
from store.models import devices, group_devices
from tests.integration.api.conftest import Home

pytestmark = pytest.mark.postgresql

BUDGET = {"label": "site", "max_updating": 1}


def make(home: Home, **more: object) -> Any:
    home.publish()
    home.call("POST", "/groups", {"name": "all"})
    body = {"product": "fw", "version": "1.0.0", "waves": [{"group": "all"}], **more}
    return home.call("POST", "/rollouts", body)


def test_the_budget_is_part_of_the_plan_and_of_its_hash(home: Home) -> None:
    made = make(home, budget=BUDGET)
    assert made.status_code == 201, made.text
    told = made.get_json()
    assert told["plan"]["budget"] == {**BUDGET, "min_available": None, "lease_seconds": 3600}
    assert told["plan_hash"] == home.wiring.rollout_store.get("acme", told["id"]).plan.hash()
    cloned = home.call("POST", f"/rollouts/{told['id']}/clone", {}).get_json()
    assert cloned["plan"]["budget"] == told["plan"]["budget"]
    without = home.call("POST", f"/rollouts/{told['id']}/clone", {"budget": None}).get_json()
    assert "budget" not in without["plan"]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"label": "site"}, "expected either max_updating or min_available, found neither"),
        ({"label": "site", "max_updating": 1, "min_available": 1}, "found both"),
        ({"label": "Site", "max_updating": 1}, "budget.label"),
        ({"label": "site", "max_updating": 0}, "budget.max_updating"),
        ({"label": "site", "max_updating": 1, "lease_seconds": 1}, "budget.lease_seconds"),
        ({"label": "site", "max_updating": 1, "lease": "1h"}, "budget.lease"),
        ("site", "budget"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_by_name(home: Home, budget: object, said: str) -> None:
    answer = make(home, budget=budget)
    assert answer.status_code == 400, answer.text
    assert said in answer.text


def test_who_holds_a_permit_is_listed_by_value_in_pages(home: Home) -> None:
    rollout_id = make(home, budget={"label": "site", "max_updating": 2}).get_json()["id"]
    now = datetime.now(UTC)
    wiring = home.wiring
    group = wiring.fleet.group("acme", "all")
    with wiring.db.write() as connection:
        for number, site in enumerate(["oslo", "berlin", "berlin", "Zürich"]):
            device = Device(
                id=f"dev_{number}",
                org="acme",
                name=f"press-{number}",
                status=DeviceStatus.ACTIVE,
                platform="any",
                created_at=now,
            )
            connection.execute(devices.insert(), device_row(device, {"site": site}))
            write_labels(connection, "acme", device.id, {"site": site})
            connection.execute(group_devices.insert(), {"group_id": group.id, "device": device.id, "org": "acme"})
    wiring.rollouts.tick("acme", now)
    for number in range(4):
        assert wiring.permits.ask("acme", f"dev_{number}", rollout_id, 1, now=now).granted

    first = home.call("GET", f"/rollouts/{rollout_id}/permits?limit=3&total=true").get_json()
    assert [(one["value"], one["device_name"], one["attempt"]) for one in first["items"]] == [
        ("Zürich", "press-3", 1),
        ("berlin", "press-1", 1),
        ("berlin", "press-2", 1),
    ]
    assert first["total"] == 4
    rest = home.call("GET", f"/rollouts/{rollout_id}/permits?cursor={first['next_cursor']}").get_json()
    assert [one["value"] for one in rest["items"]] == ["oslo"]
    shown = home.call("GET", f"/rollouts/{rollout_id}").get_json()
    assert shown["why"].endswith("; hold a permit: 2 at site=berlin, 1 at site=Zürich, 1 at site=oslo")


def test_without_a_budget_the_list_is_empty_and_without_a_rollout_there_is_none(home: Home) -> None:
    rollout_id = make(home).get_json()["id"]
    answer = home.call("GET", f"/rollouts/{rollout_id}/permits?total=true").get_json()
    assert (answer["items"], answer["total"]) == ([], 0)
    assert home.call("GET", "/rollouts/rol_none/permits").status_code == 404
    assert home.call("GET", f"/rollouts/{rollout_id}/permits", token="").status_code == 401
    bad = home.call("GET", f"/rollouts/{rollout_id}/permits?cursor=ImEi")
    assert (bad.status_code, bad.get_json()["error"]["code"]) == (400, "invalid_cursor")
