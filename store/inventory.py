"""What the devices of a group are and run, for previews of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.sql import Select

from fleet.model import DeviceStatus
from rollout.ports import DeviceFacts, Kind
from store.database import Database
from store.held import HELD
from store.models import device_running, devices, group_devices, groups


class SqlInventory:
    """Fulfils ``rollout.ports.Inventory``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def facts(self, org: str, group: str, product: str, *, limit: int) -> Sequence[DeviceFacts]:
        """At most ``limit`` of the group's devices, by id."""
        what = (devices.c.id, devices.c.name, devices.c.platform, device_running.c.version)
        query = _active_in(org, group, product, *what).order_by(devices.c.id).limit(limit)
        with self._database.read() as connection:
            return [
                DeviceFacts(device=row.id, name=row.name, platform=row.platform, version=row.version)
                for row in connection.execute(query)
            ]

    def kinds(self, org: str, group: str, product: str) -> Sequence[Kind]:
        """All of the group's devices, counted by platform and version; costs with the group's size."""
        what = (devices.c.platform, device_running.c.version)
        query = _active_in(org, group, product, *what, func.count().label("devices")).group_by(*what).order_by(*what)
        with self._database.read() as connection:
            return [Kind(row.platform, row.version, int(row.devices)) for row in connection.execute(query)]

    def held_back(self, org: str, group: str) -> int:
        """How many active members are not in yet, because an edit put them there while a wave was open."""
        query = (
            select(func.count())
            .select_from(groups)
            .join(group_devices, group_devices.c.group_id == groups.c.id)
            .join(devices, devices.c.id == group_devices.c.device)
            .where(groups.c.org == org, groups.c.name == group, devices.c.status == DeviceStatus.ACTIVE.value, HELD)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def _active_in(org: str, group: str, product: str, *what: ColumnElement[Any]) -> Select[Any]:
    running = (device_running.c.device == devices.c.id) & (device_running.c.product == product)
    return (
        select(*what)
        .select_from(groups)
        .join(group_devices, group_devices.c.group_id == groups.c.id)
        .join(devices, devices.c.id == group_devices.c.device)
        .join(device_running, running, isouter=True)
        .where(groups.c.org == org, groups.c.name == group, devices.c.status == DeviceStatus.ACTIVE.value, ~HELD)
    )
