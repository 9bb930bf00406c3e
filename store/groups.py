"""Groups at rest: who is in them, and what needs them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.sql import Select

from evidence.model import AuditEvent
from fleet.errors import GroupChanged, GroupExists, GroupInUse, UnknownDevice, UnknownGroup, WrongGroupKind
from fleet.model import DeviceStatus, Group, Preview
from fleet.selector import Fact, Selector, parse
from rollout.model import FINAL_STATES
from store import membership
from store.audit import append
from store.columns import AnyRow, Key, insert_if_absent
from store.database import Database
from store.fleet_rows import to_devices, to_group
from store.held import HELD, SIZE, TOLD
from store.lookup import Lookup
from store.models import devices, enroll_tokens, group_devices, group_sizes, groups, rollout_groups, rollouts
from store.selectors import selected

_NAMED: Final = 5  # of each kind of what needs a group, told when it may not go


class SqlGroups:
    """Fulfils ``rollout.ports.Groups`` and the groups' part of ``fleet.ports.Fleet``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_group(self, group: Group, event: AuditEvent) -> None:
        """Store it with the devices its selector finds. Raises GroupExists, or as :meth:`edit_group` for a selector."""
        row = {
            "id": group.id,
            "org": group.org,
            "name": group.name,
            "description": group.description,
            "created_at": group.created_at,
            "selector": group.selector or None,
            "revision": group.revision,
        }
        with self._database.write() as connection:
            if not insert_if_absent(connection, groups, row):
                raise GroupExists(f"a group {group.name} exists already")
            size = {"group_id": group.id, "org": group.org, "devices": 0, "active": 0}
            connection.execute(insert(group_sizes), size)
            if group.selector:
                _select_anew(connection, group.org, group.id, group.selector, event.at)
            append(connection, group.org, [event])

    def group(self, org: str, id_or_name: str) -> Group:
        """Raises UnknownGroup."""
        found: Group | None = self._database.look_up(_named(), org, id_or_name)
        if found is None:
            raise UnknownGroup(f"no group {id_or_name}")
        return found

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

    def edit_group(self, after: Group, event: AuditEvent, *, seen: int) -> None:
        """Put description and selector of ``after`` in place; the revision becomes ``seen + 1``.

        With another selector the members change in the same transaction; those who join are held back from waves that
        are open. Raises UnknownGroup, GroupChanged (the stored revision is not ``seen``), WrongGroupKind (it would
        turn from static to selector or back; or its selector names a group that is one) and, for a group that the
        selector names and that is not there, UnknownGroup.
        """
        with self._database.write() as connection:
            before = _lock_group(connection, after.org, after.id, seen)
            if (before.selector is None) != (after.selector == ""):
                kind = "static" if before.selector is None else "made by a selector"
                raise WrongGroupKind(f"the group {before.name} is {kind} and stays so; make another group")
            change = {"description": after.description, "selector": after.selector or None, "revision": seen + 1}
            connection.execute(update(groups).where(groups.c.id == after.id).values(change))
            if after.selector and after.selector != before.selector:
                _select_anew(connection, after.org, after.id, after.selector, event.at)
            append(connection, after.org, [event])

    def delete_group(self, org: str, group_id: str, event: AuditEvent, *, seen: int | None = None) -> None:
        """Raises UnknownGroup, GroupChanged (``seen`` is given and not the revision) and GroupInUse.

        In use: by a draft, waiting, running or paused rollout, an enrolment token that still lets devices in at the
        event's time, or another group's selector; the message names them.
        """
        with self._database.write() as connection:
            name = str(_lock_group(connection, org, group_id, seen).name)
            users = _users(connection, org, name, event.at)
            if users:
                raise GroupInUse(f"the group {name} is in use by {'; '.join(users)}; end or change that first")
            connection.execute(delete(groups).where(groups.c.id == group_id))
            append(connection, org, [event])

    def join(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        """Put a device into a static group; False (and no event) when it was in.

        It is held back from waves that are open. Raises UnknownGroup, UnknownDevice, WrongGroupKind.
        """
        with self._database.write() as connection:
            _require_static(connection, org, group_id)
            require_device(connection, org, device_id)
            joined = bool(membership.put_in(connection, org, group_id, [device_id], event.at))
            if joined:
                _membership_edited(connection, org, group_id, device_id, event)
            return joined

    def leave(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        """Take a device out of a group; False (and no event) when it was not in. Raises as :meth:`join` does."""
        with self._database.write() as connection:
            _require_static(connection, org, group_id)
            require_device(connection, org, device_id)
            left = bool(membership.take_out(connection, group_id, [device_id]))
            if left:
                _membership_edited(connection, org, group_id, device_id, event)
            return left

    def preview(self, org: str, selector: Selector, *, now: datetime, limit: int) -> Preview:
        """Who the selector finds now, the first ``limit`` of them as values; raises as :meth:`edit_group` does."""
        with self._database.read() as connection:
            _check_named(connection, org, selector, lock=False)
            met = selected(org, selector, now)
            by_status = select(devices.c.status, func.count().label("devices")).where(met).group_by(devices.c.status)
            counted = {row.status: int(row.devices) for row in connection.execute(by_status)}
            some = [*connection.execute(select(devices).where(met).order_by(devices.c.id).limit(limit))]
            return Preview(
                devices=sum(counted.values()),
                active=counted.get(DeviceStatus.ACTIVE.value, 0),
                sample=tuple(to_devices(connection, some)),
            )

    def sweep(self, org: str, *, now: datetime) -> int:
        """Evaluate every selector over all devices: what time alone changes (``last_seen``). Answers how many groups
        moved. Who joins so is not held back: nobody edited anything."""
        with self._database.read() as connection:
            selecting = membership.selector_groups(connection, org)
            stale = [
                group_id
                for group_id, selector in selecting.items()
                if membership.is_stale(connection, org, group_id, selector, now=now)
            ]
        moved = 0
        for group_id in stale:
            with self._database.write() as connection:
                query = select(groups.c.selector).where(groups.c.id == group_id).with_for_update()
                text = connection.execute(query).scalar_one_or_none()
                if text is not None:  # It may have been deleted since, or edited.
                    moved += membership.reselect(connection, org, group_id, parse(text), now=now, edited_at=None)
        return moved

    # What a rollout asks

    def missing(self, org: str, names: Sequence[str]) -> Sequence[str]:
        """Those of the names that are no group of the organisation, in the order given."""
        query = select(groups.c.name).where(groups.c.org == org, groups.c.name.in_(names))
        with self._database.read() as connection:
            there = set(connection.execute(query).scalars())
        return [name for name in names if name not in there]

    def size(self, org: str, name: str) -> int:
        """How many active devices an open wave on the group counts; 0 for a group that does not exist.

        A kept number less those held back, so that it costs the same however large the group is.
        """
        with self._database.read() as connection:
            counted: int | None = connection.execute(SIZE, {"org": org, "name": name}).scalar_one_or_none()
            return counted or 0

    def members(self, org: str, name: str) -> Sequence[str]:
        """Ids of the devices that :meth:`size` counts, ascending."""
        query = (
            select(devices.c.id)
            .select_from(groups)
            .join(group_devices, group_devices.c.group_id == groups.c.id)
            .join(devices, devices.c.id == group_devices.c.device)
            .where(groups.c.org == org, groups.c.name == name, devices.c.status == DeviceStatus.ACTIVE.value, ~HELD)
            .order_by(devices.c.id)
        )
        with self._database.read() as connection:
            return [*connection.execute(query).scalars()]

    def of_device(self, org: str, device: str) -> frozenset[str]:
        """Names of the groups the device is told it is in, whatever its status: all but those it is held back from."""
        with self._database.read() as connection:
            return frozenset(connection.execute(TOLD, {"org": org, "device": device}).scalars())


def require_device(connection: Connection, org: str, device_id: str) -> None:
    """Lock the device until the transaction ends; raises UnknownDevice."""
    query = select(devices.c.id).where(devices.c.org == org, devices.c.id == device_id)
    if connection.execute(query.with_for_update(key_share=True)).first() is None:
        raise UnknownDevice(f"no device {device_id}")


def _lock_group(connection: Connection, org: str, group_id: str, seen: int | None) -> AnyRow:
    query = select(groups).where(groups.c.org == org, groups.c.id == group_id).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise UnknownGroup(f"no group {group_id}")
    if seen is not None and row.revision != seen:
        raise GroupChanged(f"the group {row.name} is at revision {row.revision}, you saw {seen}; look again")
    return row


def _require_static(connection: Connection, org: str, group_id: str) -> None:
    query = select(groups.c.name, groups.c.selector).where(groups.c.org == org, groups.c.id == group_id)
    row = connection.execute(query).first()
    if row is None:
        raise UnknownGroup(f"no group {group_id}")
    if row.selector is not None:
        raise WrongGroupKind(
            f"the group {row.name} is made by the selector {row.selector!r}; change that or the device"
        )


def _membership_edited(connection: Connection, org: str, group_id: str, device_id: str, event: AuditEvent) -> None:
    connection.execute(update(groups).where(groups.c.id == group_id).values(revision=groups.c.revision + 1))
    looking = frozenset({Fact.GROUP})
    membership.place(connection, org, [device_id], now=event.at, facts=looking, edited_at=event.at)
    append(connection, org, [event])


def _select_anew(connection: Connection, org: str, group_id: str, text: str, at: datetime) -> None:
    selector = parse(text)
    _check_named(connection, org, selector, lock=True)
    membership.reselect(connection, org, group_id, selector, now=at, edited_at=at)


def _check_named(connection: Connection, org: str, selector: Selector, *, lock: bool) -> None:
    """``lock``: nobody deletes the groups named until the transaction ends."""
    if not selector.groups:
        return
    query = select(groups.c.name, groups.c.selector).where(groups.c.org == org, groups.c.name.in_(selector.groups))
    found = connection.execute(query.with_for_update(read=True) if lock else query)
    there = {row.name: row.selector for row in found}
    for name in selector.groups:
        if name not in there:
            raise UnknownGroup(f"the selector names the group {name}, which is not there")
        if there[name] is not None:
            raise WrongGroupKind(f"the selector names the group {name}, which has a selector itself; repeat its terms")


def _users(connection: Connection, org: str, name: str, now: datetime) -> list[str]:
    """What still needs a group of this name, in words."""
    live = (
        select(rollouts.c.id)
        .join_from(rollouts, rollout_groups, rollout_groups.c.rollout == rollouts.c.id)
        .where(rollouts.c.org == org, rollouts.c.state.not_in(FINAL_STATES), rollout_groups.c.name == name)
        .order_by(rollouts.c.id)
    )
    usable = (
        select(enroll_tokens)
        .where(
            enroll_tokens.c.org == org,
            enroll_tokens.c.expires_at > now,
            enroll_tokens.c.uses < enroll_tokens.c.max_uses,
        )
        .order_by(enroll_tokens.c.id)
    )
    selecting = select(groups.c.name, groups.c.selector).where(groups.c.org == org, groups.c.selector.is_not(None))
    tokens = [f"{row.id} ({row.name})" for row in connection.execute(usable) if name in row.group_names]
    others = connection.execute(selecting.order_by(groups.c.name))
    selectors = [row.name for row in others if name in parse(row.selector).groups]
    kinds = (
        ("", [*connection.execute(live).scalars()]),
        ("enrolment token ", tokens),
        ("the selector of group ", selectors),
    )
    return [
        before + ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
        for before, found in kinds
        if found
    ]


@cache
def _named() -> Lookup:
    org: BindParameter[str] = bindparam("org", type_=Key)
    named: BindParameter[str] = bindparam("named", type_=Key)
    either = or_(groups.c.id == named, groups.c.name == named)
    query = _sized_groups(org).where(either).order_by((groups.c.id == named).desc()).limit(1)
    return Lookup(query, "org", "named", made=to_group)


def _sized_groups(org: str | BindParameter[str]) -> Select[Any]:
    return (
        select(groups, group_sizes.c.devices)
        .join_from(groups, group_sizes, group_sizes.c.group_id == groups.c.id)
        .where(groups.c.org == org)
    )
