"""A fleet as large as wished for in one database, made in seconds: devices are inserted as enrolment leaves them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import CheckIn, Group, Running
from fleet.version_order import order_key
from store.accounts import Accounts
from store.database import Database
from store.fleet import SqlFleet
from store.membership import recount
from store.models import device_labels, device_running, devices, group_devices

ORG: Final = "bench"
BORN: Final = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
ADA: Final = Actor(ActorKind.USER, "usr_01KAM6P5S0BENCHBENCHBENCH0", "Ada")
SITES: Final = ("berlin", "munich", "zurich", "vienna")
_BATCH: Final = 50_000  # rows held in memory


def a_million(url: str, count: int, *, group: str = "field") -> Database:
    """A migrated database with ``count`` devices, all in the static group; each runs one product and has one label."""
    database = Database(url)
    database.migrate()
    Accounts(database).add_org(ORG, "Bench", now=BORN)
    SqlFleet(database).add_group(a_group(group), an_event())
    for start in range(0, count, _BATCH):
        numbers = range(start, min(count, start + _BATCH))
        with database.write() as connection:
            for table, rows in (
                (devices, _devices(numbers)),
                (device_labels, _labels(numbers)),
                (device_running, _running(numbers)),
                (group_devices, _members(numbers, group)),
            ):
                connection.execute(insert(table), [*rows])
    with database.write() as connection:
        recount(connection, f"grp_{group}")
    return database


def sqlite_url(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'wavegate.db'}"


def device_id(number: int) -> str:
    return f"dev_01KAM6P5S0{number:016}"


def heartbeats(numbers: Sequence[int], at: datetime) -> dict[str, CheckIn]:
    """What these devices say when nothing has changed, within one second."""
    return {
        device_id(number): CheckIn(
            agent_version="0.1.0",
            hostname=f"gw-{number}",
            os_family="linux",
            os_name="Debian 12",
            platform="linux-amd64",
            running=(Running(product="app", version="1.2.0", path="app/1.2.0/any/app", sha256="ab" * 32),),
            state="runs 1.2.0; up to date",
            at=at.replace(microsecond=0),
        )
        for number in numbers
    }


def a_group(name: str, selector: str = "") -> Group:
    return Group(id=f"grp_{name}", org=ORG, name=name, description="", created_at=BORN, selector=selector)


def an_event() -> AuditEvent:
    return AuditEvent("bench.step", "bench", ADA, datetime.now(UTC))


def _devices(numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    for number in numbers:
        yield {
            "id": device_id(number),
            "org": ORG,
            "name": f"gw-{number}",
            "status": "active",
            "platform": "linux-amd64",
            "created_at": BORN,
            "hostname": f"gw-{number}",
            "os_family": "linux",
            "os_name": "Debian 12",
            "agent_version": "0.1.0",
            "labels": {"site": SITES[number % len(SITES)]},
            "last_seen_at": BORN,
            "state": "runs 1.2.0; up to date",
        }


def _labels(numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    for number in numbers:
        yield {"device": device_id(number), "name": "site", "org": ORG, "value": SITES[number % len(SITES)]}


def _running(numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    key = order_key("1.2.0")
    for number in numbers:
        yield {
            "device": device_id(number),
            "product": "app",
            "org": ORG,
            "version": "1.2.0",
            "path": "app/1.2.0/any/app",
            "sha256": "ab" * 32,
            "rollout": "",
            "order_key": key,
        }


def _members(numbers: Sequence[int], group: str) -> Iterator[dict[str, Any]]:
    for number in numbers:
        yield {"group_id": f"grp_{group}", "device": device_id(number), "org": ORG, "edited_at": None}
