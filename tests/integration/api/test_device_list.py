"""The list of devices through the API: what is searched, counted and told of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.model import Running
from tests.databases import Databases
from tests.integration.api.conftest import Home, copied_home
from tests.integration.contracts.fleet_samples import SAID
from tests.integration.test_store_device_list import statements

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def lab(databases: Databases, first_home: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """``gate-1`` called just now and runs 1.0.0 of ``fw``, ``gate-2`` an hour ago; ``lamp-3`` never did."""
    with copied_home(databases, first_home, tmp_path_factory.mktemp("lab") / "home") as home:
        first = home.publish().get_json()
        for name, site in (("gate-1", "berlin"), ("gate-2", "berlin"), ("lamp-3", "oslo")):
            home.call("POST", "/devices", {"name": name, "labels": {"site": site}})
        runs = Running(product="fw", version="1.0.0", path=first["target_path"], sha256=first["sha256"])
        for name, ago in (("gate-1", timedelta(0)), ("gate-2", timedelta(hours=1))):
            device = home.wiring.fleet.device("acme", name).id
            said = replace(SAID, hostname=f"{name}.example", running=(runs,), at=datetime.now(UTC) - ago)
            home.wiring.fleet.check_in("acme", device, said)
        yield home


def listed(home: Home, query: str) -> list[str]:
    answer = home.call("GET", f"/devices?{query}")
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.get_json()["items"]]


def test_devices_are_found_as_people_look_for_them(lab: Home) -> None:
    assert listed(lab, "q=berlin+gate-2") == ["gate-2"]
    assert listed(lab, "q=gate-1.example") == ["gate-1"]
    assert listed(lab, "online=true") == ["gate-1"]
    assert listed(lab, "online=false") == ["gate-2", "lamp-3"]
    assert listed(lab, "os_family=linux&os_name=debian") == ["gate-1", "gate-2"]
    assert listed(lab, "q=g+a+t+e+1+b+r+n") == ["gate-1"]
    for unknown in ("q=a+b+c+d+e+f+g+h+i", "online=maybe&format=csv"):
        answer = lab.call("GET", f"/devices?{unknown}")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "validation_failed")


def test_all_and_those_online_are_counted_when_that_is_asked(lab: Home) -> None:
    answer = lab.call("GET", "/devices?total=true&limit=1").get_json()
    assert (answer["total"], answer["online"], len(answer["items"])) == (3, 1, 1)
    assert {"total", "online"} & lab.call("GET", "/devices").get_json().keys() == set()


def test_a_publish_is_an_update_for_who_runs_something_older(lab: Home) -> None:
    def told() -> list[tuple[int, int | None]]:
        items = lab.call("GET", "/devices?sort=name").get_json()["items"]
        return [(one["updates_available"], one["critical_count"]) for one in items]

    assert told() == [(0, None), (0, None), (0, None)]
    newer = lab.publish(b"newer", version="1.1.0").get_json()
    assert told() == [(1, None), (1, None), (0, None)]
    assert lab.call("GET", "/devices/gate-1").get_json()["updates_available"] == 1
    lab.call("POST", f"/artifacts/{newer['id']}/yank", {"reason": "too hot"})
    assert told() == [(0, None), (0, None), (0, None)]


@pytest.mark.parametrize("path", ["/devices?", "/groups/berlin/devices?"])
def test_two_devices_cost_as_many_statements_as_one(lab: Home, path: str) -> None:
    lab.call("POST", "/groups", {"name": "berlin", "selector": "labels.site = berlin"})
    sent = []
    for limit in (1, 2):
        lab.call("GET", f"{path}limit={limit}")  # who asks was looked up, and so is the group
        with statements(lab.wiring.db) as noted:
            assert len(lab.call("GET", f"{path}limit={limit}").get_json()["items"]) == limit
        sent.append(len(noted))
    assert sent[0] == sent[1]
    with statements(lab.wiring.db) as noted:
        lab.call("POST", "/groups/preview", {"selector": "labels.site = berlin"})
    assert len([one for one, _ in noted if "artifacts" in one]) == 1
