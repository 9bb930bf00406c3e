"""Permits at rest: decided one after the other for each value of a label, whoever asks.

Order of locks on PostgreSQL: the device's row in ``rollout_devices`` (a report holds it) before a row of ``permits``;
who decides holds a row of ``permit_places`` and takes no other lock but on the asking device's own permit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, select, tuple_

from fleet.model import DeviceStatus
from rollout.budget import Budget
from rollout.model import DeviceProgress, Rollout
from rollout.permits import Census, Permit
from store.columns import AnyRow, insert_if_absent, upsert
from store.database import Database
from store.models import (
    device_labels,
    devices,
    group_devices,
    groups,
    permit_places,
    permits,
    rollout_devices,
)
from store.progress import to_progress

_ACTIVE = DeviceStatus.ACTIVE.value


class SqlPermits:
    """Fulfils ``rollout.permits.PermitRows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(
        self,
        rollout: Rollout,
        budget: Budget,
        device: str,
        choose: Callable[[Census], Permit | None],
        *,
        now: datetime,
    ) -> Permit | None:
        """Ask ``choose`` while nobody else decides for the device's value, and keep the permit it answers.

        Permits that are over by ``now``, and those of devices that are not active, do not count; the former are
        forgotten here.
        """
        with self._database.write() as connection:
            mine = _permit_of(connection, rollout.id, device)
            value = _value_of(connection, device, budget.label) if mine is None else mine.value
            _take_turn(connection, rollout.org, budget.label, value)
            connection.execute(
                delete(permits).where(_at(rollout.org, budget.label, value), permits.c.expires_at <= now)
            )
            # Looked at again: it may have been among those.
            mine = _permit_of(connection, rollout.id, device)
            permit = choose(
                Census(
                    value=value,
                    updating=_updating(connection, rollout.org, budget.label, value, besides=device),
                    devices=0
                    if budget.min_available is None
                    else _devices_with(connection, rollout, budget.label, value),
                    mine=mine,
                    row=_row_of(connection, rollout.id, device),
                )
            )
            if permit is not None:
                _keep(connection, rollout.org, permit)
            return permit

    def give_back(self, org: str, rollout_id: str, device: str) -> bool:
        """End a permit; False when there was none."""
        gone = delete(permits).where(permits.c.org == org, permits.c.rollout == rollout_id, permits.c.device == device)
        with self._database.write() as connection:
            return connection.execute(gone).rowcount == 1

    def updating(self, org: str, label: str, *, now: datetime) -> Mapping[str, int]:
        """How many devices hold a permit, by value of the label; values where none does are absent."""
        query = (
            select(permits.c.value, func.count(permits.c.device.distinct()).label("devices"))
            .join(devices, devices.c.id == permits.c.device)
            .where(_held(org, label, now))
            .group_by(permits.c.value)
        )
        with self._database.read() as connection:
            return {row.value: row.devices for row in connection.execute(query)}

    def held(
        self, org: str, label: str, *, now: datetime, after: tuple[str, str, str] | None, limit: int
    ) -> Sequence[Permit]:
        """Permits in order of (value, device, rollout), beginning behind ``after``."""
        place = (permits.c.value, permits.c.device, permits.c.rollout)
        query = select(permits).join(devices, devices.c.id == permits.c.device).where(_held(org, label, now))
        if after is not None:
            query = query.where(tuple_(*place) > tuple_(*after))
        with self._database.read() as connection:
            return [_to_permit(row) for row in connection.execute(query.order_by(*place).limit(limit))]


def _take_turn(connection: Connection, org: str, label: str, value: str) -> None:
    """Let nobody else decide for the value until the transaction ends. On SQLite nobody else writes at all."""
    place = {"org": org, "label": label, "value": value}
    insert_if_absent(connection, permit_places, place)
    named = [permit_places.c[name] == told for name, told in place.items()]
    connection.execute(select(permit_places).where(*named).with_for_update()).one()


def _at(org: str, label: str, value: str) -> ColumnElement[bool]:
    return and_(permits.c.org == org, permits.c.label == label, permits.c.value == value)


def _held(org: str, label: str, now: datetime) -> ColumnElement[bool]:
    return and_(permits.c.org == org, permits.c.label == label, permits.c.expires_at > now, devices.c.status == _ACTIVE)


def _updating(connection: Connection, org: str, label: str, value: str, *, besides: str) -> int:
    query = (
        select(func.count(permits.c.device.distinct()))
        .join(devices, devices.c.id == permits.c.device)
        .where(_at(org, label, value), permits.c.device != besides, devices.c.status == _ACTIVE)
    )
    return int(connection.execute(query).scalar_one())


def _devices_with(connection: Connection, rollout: Rollout, label: str, value: str) -> int:
    """Active devices of the plan's groups that have the value; costs with how many of the organisation have it."""
    names = sorted({wave.group for wave in rollout.plan.waves})
    is_member = exists().where(
        group_devices.c.device == devices.c.id,
        group_devices.c.group_id == groups.c.id,
        groups.c.org == rollout.org,
        groups.c.name.in_(names),
    )
    labelled = select(device_labels.c.device).where(device_labels.c.org == rollout.org, device_labels.c.name == label)
    has_value = (
        devices.c.id.in_(labelled.where(device_labels.c.value == value))
        if value
        else devices.c.id.not_in(labelled.where(device_labels.c.value != ""))
    )
    query = (
        select(func.count())
        .select_from(devices)
        .where(devices.c.org == rollout.org, devices.c.status == _ACTIVE, has_value, is_member)
    )
    return int(connection.execute(query).scalar_one())


def _value_of(connection: Connection, device: str, label: str) -> str:
    query = select(device_labels.c.value).where(device_labels.c.device == device, device_labels.c.name == label)
    return connection.execute(query).scalar_one_or_none() or ""


def _permit_of(connection: Connection, rollout_id: str, device: str) -> Permit | None:
    query = select(permits).where(permits.c.rollout == rollout_id, permits.c.device == device)
    row = connection.execute(query).first()
    return None if row is None else _to_permit(row)


def _row_of(connection: Connection, rollout_id: str, device: str) -> DeviceProgress | None:
    query = select(rollout_devices).where(rollout_devices.c.rollout == rollout_id, rollout_devices.c.device == device)
    row = connection.execute(query).first()
    return None if row is None else to_progress(row)


def _keep(connection: Connection, org: str, permit: Permit) -> None:
    row = {
        "rollout": permit.rollout,
        "device": permit.device,
        "org": org,
        "label": permit.label,
        "value": permit.value,
        "attempt": permit.attempt,
        "granted_at": permit.granted_at,
        "expires_at": permit.expires_at,
    }
    put = upsert(connection, permits)
    changed = {name: put.excluded[name] for name in row if name not in ("rollout", "device")}
    connection.execute(put.on_conflict_do_update(index_elements=["rollout", "device"], set_=changed), row)


def _to_permit(row: AnyRow) -> Permit:
    return Permit(
        rollout=row.rollout,
        device=row.device,
        label=row.label,
        value=row.value,
        attempt=row.attempt,
        granted_at=row.granted_at,
        expires_at=row.expires_at,
    )
