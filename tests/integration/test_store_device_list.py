"""The list of devices: searched, counted, and how many updates there are for each, in as few statements for many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from evidence.model import Actor, ActorKind
from fleet.errors import InvalidFleetInput
from fleet.model import Device, DeviceStatus, Running
from repo_signing.model import ArtifactRecord, Withdrawal, Yank
from store.artifacts import ArtifactIndex
from store.database import Database
from store.fleet import SqlFleet
from store.fleet_rows import device_row, write_labels
from store.models import devices
from tests.integration.contracts.fleet_samples import SAID

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CI = Actor(ActorKind.SERVICE, "usr_CI", "ci", "key_1")


@pytest.fixture
def fleet(database: Database) -> SqlFleet:
    """Four devices: ``gate-1`` (arm), ``gate-2`` (amd) in Berlin, ``lamp-3`` in Oslo, and ``x_4`` without a label."""
    with database.write() as connection:
        for number, (name, platform, labels) in enumerate(
            [
                ("gate-1", "linux-arm64", {"site": "berlin", "floor": "1"}),
                ("gate-2", "linux-amd64", {"site": "berlin"}),
                ("lamp-3", "linux-arm64", {"site": "oslo"}),
                ("x_4", "linux-arm64", {}),
            ],
            start=1,
        ):
            made = Device(
                id=f"dev_{number}",
                org="acme",
                name=name,
                status=DeviceStatus.ACTIVE,
                platform=platform,
                created_at=NOON,
            )
            connection.execute(devices.insert(), device_row(made, labels))
            write_labels(connection, "acme", made.id, labels)
    return SqlFleet(database)


def an_artifact(version: str, platform: str = "linux-arm64", channel: str = "stable", **more: Any) -> ArtifactRecord:
    path = f"app/{version}/{platform}/{channel}"
    return ArtifactRecord(
        id=f"art_{path.replace('/', '_')}",
        path=path,
        length=1,
        sha256="ab" * 32,
        product="app",
        version=version,
        platform=platform,
        channel=channel,
        file_name="app",
        publisher=CI,
        created_at=NOON,
        **more,
    )


def runs(fleet: SqlFleet, device: str, version: str, path: str = "", platform: str = "linux-arm64") -> None:
    one = Running(product="app", version=version, path=path or f"app/{version}/{platform}/stable", sha256="ab" * 32)
    fleet.check_in("acme", device, replace(SAID, platform=platform, running=(one,)))


def found(fleet: SqlFleet, **filters: str) -> list[str]:
    listed = fleet.devices("acme", after=None, limit=50, filters=filters)
    assert fleet.count_devices("acme", filters=filters) == len(listed)
    return [one.name for one in listed]


@pytest.mark.parametrize(
    ("newer", "counts"),
    [
        (an_artifact("1.10"), 1),
        (an_artifact("1.10", platform="any"), 1),
        (an_artifact("1.8"), 0),
        (an_artifact("1.9.0+b2", platform="any"), 0),
        (an_artifact("2.0-rc.1"), 1),
        (an_artifact("1.10", channel="beta"), 0),
        (an_artifact("1.10", platform="linux-amd64"), 0),
        (an_artifact("1.10", yanked=Yank(reason="r", by=CI, at=NOON)), 0),
        (an_artifact("1.10", withdrawn=Withdrawal(reason="r", by=CI, at=NOON)), 0),
    ],
)
def test_an_update_is_a_newer_artifact_of_its_channel_and_platform_that_may_be_installed(
    fleet: SqlFleet, database: Database, newer: ArtifactRecord, counts: int
) -> None:
    ArtifactIndex(database, "acme").project(1, [an_artifact("1.9"), newer], [])
    runs(fleet, "dev_1", "1.9")
    assert fleet.updates_available("acme", ["dev_1", "dev_3"]) == ({"dev_1": counts} if counts else {})


def test_products_are_counted_once_each_and_in_their_own_organisation(fleet: SqlFleet, database: Database) -> None:
    shell = replace(an_artifact("1"), product="shell", path="shell/1", id="art_s1")
    newer = [replace(shell, version=v, path=f"shell/{v}", id=f"art_s{v}") for v in ("2", "3")]
    ArtifactIndex(database, "acme").project(1, [an_artifact("1"), an_artifact("2"), shell, *newer], [])
    both = (
        Running(product="app", version="1", path="app/1/linux-arm64/stable", sha256="ab" * 32),
        Running(product="shell", version="1", path="shell/1", sha256="ab" * 32),
    )
    fleet.check_in("acme", "dev_1", replace(SAID, running=both))
    runs(fleet, "dev_3", "1", path="of/nobody")
    assert fleet.updates_available("acme", ["dev_1", "dev_2", "dev_3"]) == {"dev_1": 2}
    assert fleet.updates_available("rival", ["dev_1"]) == {}
    assert fleet.updates_available("acme", []) == {}


def test_a_search_finds_every_word_in_name_host_name_or_label(fleet: SqlFleet) -> None:
    fleet.check_in("acme", "dev_4", replace(SAID, platform="", hostname="Tower.example"))
    assert found(fleet, q="gate") == ["gate-1", "gate-2"]
    assert found(fleet, q="GATE  floor=1") == ["gate-1"]
    assert found(fleet, q="berlin") == ["gate-1", "gate-2"]
    assert found(fleet, q="site=oslo") == ["lamp-3"]
    assert found(fleet, q="tower") == ["x_4"]
    assert found(fleet, q="_") == ["x_4"]
    assert found(fleet, q="%") == []
    assert found(fleet, q="gate oslo") == []
    assert found(fleet, q=" ") == ["gate-1", "gate-2", "lamp-3", "x_4"]
    with pytest.raises(InvalidFleetInput, match="the search has 9 words, at most 8"):
        fleet.devices("acme", after=None, limit=1, filters={"q": "a b c d e f g h i"})


def test_who_called_lately_is_found_and_counted(fleet: SqlFleet) -> None:
    fleet.check_in("acme", "dev_1", replace(SAID, os_name="Yocto 5", at=NOON))
    fleet.check_in("acme", "dev_2", replace(SAID, os_family="windows", at=NOON - timedelta(hours=1)))
    edge = NOON - timedelta(minutes=15)
    assert found(fleet, seen_since=edge.isoformat()) == ["gate-1"]
    assert found(fleet, unseen_since=edge.isoformat()) == ["gate-2", "lamp-3", "x_4"]
    assert found(fleet, os_family="linux") == ["gate-1"]
    assert found(fleet, os_name="yocto") == ["gate-1"]
    assert fleet.count_online("acme", filters={}, since=edge) == (4, 1)
    assert fleet.count_online("acme", filters={"label": "site=berlin"}, since=edge) == (2, 1)
    assert fleet.count_online("acme", filters={"label": "site=none"}, since=edge) == (0, 0)
    assert fleet.count_online("rival", filters={}, since=edge) == (0, 0)


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the database meanwhile."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            sent.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database._engine, "before_cursor_execute", note)


def test_a_page_costs_as_many_statements_for_four_devices_as_for_one(fleet: SqlFleet, database: Database) -> None:
    ArtifactIndex(database, "acme").project(1, [an_artifact("1"), an_artifact("2")], [])
    for number in range(1, 5):
        runs(fleet, f"dev_{number}", "1")
    sent = []
    for limit in (1, 4):
        with statements(database) as noted:
            listed = fleet.devices("acme", after=None, limit=limit, filters={})
            assert fleet.updates_available("acme", [one.id for one in listed]) == {one.id: 1 for one in listed}
        sent.append(len(noted))
    assert sent == [4, 4]


def test_updates_are_looked_up_by_indexes(sqlite_database_url: str) -> None:
    """On SQLite, whose plan does not depend on how many rows there are."""
    database = Database(sqlite_database_url)
    fleet = SqlFleet(database)
    with statements(database) as noted:
        fleet.updates_available("acme", ["dev_1"])
    [(statement, parameters)] = noted
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    plan = [row.detail for row in rows]
    # The ids given are read from first to last, and nothing else is.
    assert [one for one in plan if one.startswith("SCAN") and "VIRTUAL TABLE" not in one] == []
    assert (
        sum("ix_artifacts_newest (org=? AND product=? AND channel=? AND platform=? AND order" in one for one in plan)
        == 2
    )
    database.close()
