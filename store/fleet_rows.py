"""Rows of the fleet's tables to values and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Group, Running
from fleet.version_order import order_key
from store.columns import AnyRow, upsert
from store.held import held
from store.models import device_labels, device_running, devices, group_devices, groups

_BATCH: Final = 500  # ids in one IN (…)


def to_devices(connection: Connection, rows: Sequence[AnyRow]) -> list[Device]:
    """The devices with their groups and what they run: two queries for each 500, however many devices."""
    ids = [row.id for row in rows]
    names: dict[str, list[str]] = {one: [] for one in ids}
    back: dict[str, list[str]] = {one: [] for one in ids}
    running: dict[str, dict[str, Running]] = {one: {} for one in ids}
    for start in range(0, len(ids), _BATCH):
        some = ids[start : start + _BATCH]
        in_groups = (
            select(group_devices.c.device, groups.c.name, held().label("held"))
            .join_from(group_devices, groups, groups.c.id == group_devices.c.group_id)
            .where(group_devices.c.device.in_(some))
            .order_by(groups.c.name)
        )
        for row in connection.execute(in_groups):
            names[row.device].append(row.name)
            if row.held:
                back[row.device].append(row.name)
        runs = select(device_running).where(device_running.c.device.in_(some)).order_by(device_running.c.product)
        for row in connection.execute(runs):
            running[row.device][row.product] = _to_running(row)
    return [_to_device(row, tuple(names[row.id]), tuple(back[row.id]), running[row.id]) for row in rows]


def write_labels(connection: Connection, org: str, device: str, labels: Mapping[str, str]) -> None:
    """Put these labels in place of the device's, in its row and one a row."""
    connection.execute(update(devices).where(devices.c.id == device).values(labels=dict(labels)))
    connection.execute(delete(device_labels).where(device_labels.c.device == device))
    if labels:
        rows = [{"device": device, "name": name, "org": org, "value": value} for name, value in labels.items()]
        connection.execute(insert(device_labels), rows)


def device_row(device: Device, labels: Mapping[str, str]) -> dict[str, object]:
    """``labels`` are laid over the device's own."""
    return {
        "id": device.id,
        "org": device.org,
        "name": device.name,
        "status": device.status.value,
        "platform": device.platform,
        "created_at": device.created_at,
        "hostname": device.hostname,
        "os_family": device.os_family,
        "os_name": device.os_name,
        "agent_version": device.agent_version,
        "labels": {**device.labels, **labels},
        "last_seen_at": device.last_seen_at,
        "state": device.state,
    }


def write_check_ins(connection: Connection, org: str, said: Mapping[str, CheckIn]) -> int:
    """Store the check-ins of devices that exist; what a device runs is written only where it changed.

    An empty platform leaves the one the device enrolled with.
    """
    there = _present(connection, org, list(said))
    # In order of id, so that two batches on PostgreSQL that share devices cannot lock each other out.
    kept = {device: said[device] for device in sorted(said) if device in there}
    if not kept:
        return 0
    connection.execute(
        update(devices)
        .where(devices.c.id == bindparam("device_id"))
        .values(
            {name: bindparam(f"new_{name}") for name in _SAID}
            | {
                "platform": func.coalesce(func.nullif(bindparam("new_platform"), ""), devices.c.platform),
                "last_seen_at": bindparam("new_last_seen_at"),
            }
        ),
        [
            {
                "device_id": device,
                "new_last_seen_at": what.at,
                "new_platform": what.platform,
                **{f"new_{name}": getattr(what, name) for name in _SAID},
            }
            for device, what in kept.items()
        ],
    )
    changed: list[dict[str, object]] = []
    gone: list[dict[str, object]] = []
    for device, what in kept.items():
        now = {one.product: one for one in what.running}
        changed += [_running_row(org, device, one) for one in now.values() if there[device].get(one.product) != one]
        gone += [{"gone_device": device, "gone_product": product} for product in there[device] if product not in now]
    if changed:
        put = upsert(connection, device_running)
        put = put.on_conflict_do_update(
            index_elements=["device", "product"],
            set_={name: put.excluded[name] for name in ("version", "path", "sha256", "rollout", "order_key")},
        )
        connection.execute(put, changed)
    if gone:
        connection.execute(
            delete(device_running).where(
                device_running.c.device == bindparam("gone_device"),
                device_running.c.product == bindparam("gone_product"),
            ),
            gone,
        )
    return len(kept)


_SAID: Final = ("agent_version", "hostname", "os_family", "os_name", "state")


def _present(connection: Connection, org: str, ids: Sequence[str]) -> dict[str, dict[str, Running]]:
    present: dict[str, dict[str, Running]] = {}
    for start in range(0, len(ids), _BATCH):
        query = (
            select(devices.c.id, device_running)
            .join_from(devices, device_running, device_running.c.device == devices.c.id, isouter=True)
            .where(devices.c.org == org, devices.c.id.in_(ids[start : start + _BATCH]))
        )
        for row in connection.execute(query):
            runs = present.setdefault(row.id, {})
            if row.product is not None:
                runs[row.product] = _to_running(row)
    return present


def to_certificate(row: AnyRow) -> Certificate:
    """A row of ``device_certificates``."""
    return Certificate(
        fingerprint=row.fingerprint,
        serial=row.serial,
        device=row.device,
        not_before=row.not_before,
        not_after=row.not_after,
    )


def certificate_row(org: str, certificate: Certificate) -> dict[str, object]:
    """The columns of ``device_certificates``."""
    return {
        "fingerprint": certificate.fingerprint,
        "org": org,
        "device": certificate.device,
        "serial": certificate.serial,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
    }


def to_group(row: AnyRow) -> Group:
    """A row of ``groups`` with a column ``devices``, the number of devices in it."""
    return Group(
        id=row.id,
        org=row.org,
        name=row.name,
        description=row.description,
        created_at=row.created_at,
        devices=row.devices,
        selector=row.selector or "",
        revision=row.revision,
    )


def to_token(row: AnyRow) -> EnrolToken:
    """A row of ``enroll_tokens``."""
    return EnrolToken(
        id=row.id,
        org=row.org,
        name=row.name,
        sha256=row.sha256,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        max_uses=row.max_uses,
        uses=row.uses,
        groups=tuple(row.group_names),
        labels=row.labels,
    )


def token_row(token: EnrolToken) -> dict[str, object]:
    """The columns of ``enroll_tokens``."""
    return {
        "id": token.id,
        "org": token.org,
        "name": token.name,
        "sha256": token.sha256,
        "created_by": token.created_by,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "max_uses": token.max_uses,
        "uses": token.uses,
        "group_names": list(token.groups),
        "labels": dict(token.labels),
    }


def _to_device(
    row: AnyRow, in_groups: tuple[str, ...], held_back: tuple[str, ...], running: Mapping[str, Running]
) -> Device:
    return Device(
        id=row.id,
        org=row.org,
        name=row.name,
        status=DeviceStatus(row.status),
        platform=row.platform,
        created_at=row.created_at,
        hostname=row.hostname,
        os_family=row.os_family,
        os_name=row.os_name,
        agent_version=row.agent_version,
        labels=row.labels,
        groups=in_groups,
        held_back=held_back,
        last_seen_at=row.last_seen_at,
        running=running,
        state=row.state,
    )


def _to_running(row: AnyRow) -> Running:
    return Running(product=row.product, version=row.version, path=row.path, sha256=row.sha256, rollout=row.rollout)


def _running_row(org: str, device: str, one: Running) -> dict[str, object]:
    return {
        "device": device,
        "product": one.product,
        "org": org,
        "version": one.version,
        "path": one.path,
        "sha256": one.sha256,
        "rollout": one.rollout,
        "order_key": order_key(one.version),
    }
