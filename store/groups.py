"""Groups at rest: who is in them, and which rollouts need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update
from sqlalchemy.sql import Select

from evidence.model import AuditEvent
from fleet.errors import GroupExists, GroupInUse, UnknownDevice, UnknownGroup
from fleet.model import DeviceStatus, Group
from rollout.model import FINAL_STATES
from store.audit import append
from store.columns import insert_if_absent
from store.database import Database
from store.fleet_rows import to_group
from store.models import devices, group_devices, groups, rollout_groups, rollouts


class SqlGroups:
    """Fulfils ``rollout.ports.Groups`` and the groups' part of ``fleet.ports.Fleet``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_group(self, group: Group, event: AuditEvent) -> None:
        """Raises GroupExists."""
        row = {
            "id": group.id,
            "org": group.org,
            "name": group.name,
            "description": group.description,
            "created_at": group.created_at,
        }
        with self._database.write() as connection:
            if not insert_if_absent(connection, groups, row):
                raise GroupExists(f"a group {group.name} exists already")
            append(connection, group.org, [event])

    def group(self, org: str, id_or_name: str) -> Group:
        """Raises UnknownGroup."""
        named = or_(groups.c.id == id_or_name, groups.c.name == id_or_name)
        query = _sized_groups(org).where(named).order_by((groups.c.id == id_or_name).desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
            if row is None:
                raise UnknownGroup(f"no group {id_or_name}")
            return to_group(row)

    def groups(self, org: str, *, after: str | None, limit: int) -> Sequence[Group]:
        """Groups in order of id."""
        query = _sized_groups(org).order_by(groups.c.id).limit(limit)
        if after is not None:
            query = query.where(groups.c.id > after)
        with self._database.read() as connection:
            return [to_group(row) for row in connection.execute(query)]

    def count_groups(self, org: str) -> int:
        """How many groups there are."""
        query = select(func.count()).select_from(groups).where(groups.c.org == org)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def describe_group(self, org: str, group_id: str, description: str, event: AuditEvent) -> None:
        """Change the description; raises UnknownGroup."""
        change = update(groups).where(groups.c.org == org, groups.c.id == group_id).values(description=description)
        with self._database.write() as connection:
            if not connection.execute(change).rowcount:
                raise UnknownGroup(f"no group {group_id}")
            append(connection, org, [event])

    def delete_group(self, org: str, group_id: str, event: AuditEvent) -> None:
        """Raises UnknownGroup, GroupInUse (a draft, waiting, running or paused rollout names it)."""
        with self._database.write() as connection:
            name = _require_group(connection, org, group_id)
            named_by = (
                select(rollouts.c.id)
                .join_from(rollouts, rollout_groups, rollout_groups.c.rollout == rollouts.c.id)
                .where(rollouts.c.org == org, rollouts.c.state.not_in(FINAL_STATES), rollout_groups.c.name == name)
                .order_by(rollouts.c.id)
                .limit(1)
            )
            user = connection.execute(named_by).scalar_one_or_none()
            if user is not None:
                raise GroupInUse(f"the group {name} is in use by {user}; finish or abort that rollout first")
            connection.execute(delete(groups).where(groups.c.id == group_id))
            append(connection, org, [event])

    def join(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        """Put a device into a group; False (and no event) when it was in. Raises UnknownGroup, UnknownDevice."""
        with self._database.write() as connection:
            _require_group(connection, org, group_id)
            require_device(connection, org, device_id)
            row = {"group_id": group_id, "device": device_id, "org": org}
            joined = insert_if_absent(connection, group_devices, row)
            if joined:
                append(connection, org, [event])
            return joined

    def leave(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        """Take a device out of a group; False (and no event) when it was not in. Raises as :meth:`join` does."""
        with self._database.write() as connection:
            _require_group(connection, org, group_id)
            require_device(connection, org, device_id)
            place = (group_devices.c.group_id == group_id) & (group_devices.c.device == device_id)
            left = connection.execute(delete(group_devices).where(place)).rowcount == 1
            if left:
                append(connection, org, [event])
            return left

    # What a rollout asks

    def missing(self, org: str, names: Sequence[str]) -> Sequence[str]:
        """Those of the names that are no group of the organisation, in the order given."""
        query = select(groups.c.name).where(groups.c.org == org, groups.c.name.in_(names))
        with self._database.read() as connection:
            there = set(connection.execute(query).scalars())
        return [name for name in names if name not in there]

    def size(self, org: str, name: str) -> int:
        """How many active devices are in the group; 0 for a group that does not exist."""
        with self._database.read() as connection:
            return int(connection.execute(_active_in(org, name, func.count())).scalar_one())

    def members(self, org: str, name: str) -> Sequence[str]:
        """Ids of the group's active devices, ascending."""
        with self._database.read() as connection:
            return [*connection.execute(_active_in(org, name, devices.c.id).order_by(devices.c.id)).scalars()]

    def of_device(self, org: str, device: str) -> frozenset[str]:
        """Names of the groups the device is in, whatever its status."""
        query = (
            select(groups.c.name)
            .join_from(groups, group_devices, group_devices.c.group_id == groups.c.id)
            .where(groups.c.org == org, group_devices.c.device == device)
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())


def require_device(connection: Connection, org: str, device_id: str) -> None:
    """Raises UnknownDevice."""
    query = select(devices.c.id).where(devices.c.org == org, devices.c.id == device_id)
    if connection.execute(query).first() is None:
        raise UnknownDevice(f"no device {device_id}")


def _require_group(connection: Connection, org: str, group_id: str) -> str:
    query = select(groups.c.name).where(groups.c.org == org, groups.c.id == group_id)
    name = connection.execute(query).scalar_one_or_none()
    if name is None:
        raise UnknownGroup(f"no group {group_id}")
    return str(name)


def _sized_groups(org: str) -> Select[Any]:
    size = (
        select(func.count())
        .where(group_devices.c.group_id == groups.c.id)
        .correlate(groups)
        .scalar_subquery()
        .label("devices")
    )
    return select(groups, size).where(groups.c.org == org)


def _active_in(org: str, name: str, what: ColumnElement[Any]) -> Select[Any]:
    return (
        select(what)
        .select_from(groups)
        .join(group_devices, group_devices.c.group_id == groups.c.id)
        .join(devices, devices.c.id == group_devices.c.device)
        .where(groups.c.org == org, groups.c.name == name, devices.c.status == DeviceStatus.ACTIVE.value)
    )
