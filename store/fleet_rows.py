"""Rows of the fleet's tables to values and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, Update, bindparam, delete, insert, select, update

from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Group, Running
from fleet.rules import is_back
from fleet.version_order import order_key
from store.columns import AnyRow, among, among_given, given, is_sqlite, upsert
from store.held import HELD
from store.models import device_labels, device_running, devices, group_devices, groups
from store.returns import write_returns

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
            select(group_devices.c.device, groups.c.name, HELD.label("held"))
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
    return [to_device(row, tuple(names[row.id]), tuple(back[row.id]), running[row.id]) for row in rows]


def write_labels(connection: Connection, org: str, device: str, labels: Mapping[str, str]) -> None:
    """Put these labels in place of the device's, in its row and one a row."""
    write_labels_of(connection, org, {device: labels})


def write_labels_of(connection: Connection, org: str, labels: Mapping[str, Mapping[str, str]]) -> None:
    """As :func:`write_labels`, of many devices by id."""
    if not labels:
        return
    own = update(devices).where(devices.c.id == bindparam("of")).values(labels=bindparam("told"))
    connection.execute(own, [{"of": device, "told": dict(told)} for device, told in labels.items()])
    connection.execute(delete(device_labels).where(among(connection, device_labels.c.device, [*labels])))
    add_labels(connection, org, labels)


def add_labels(connection: Connection, org: str, labels: Mapping[str, Mapping[str, str]]) -> None:
    """One row for each label of new devices, by id, whose own rows have them already."""
    rows = [
        {"device": device, "name": name, "org": org, "value": value}
        for device, told in labels.items()
        for name, value in told.items()
    ]
    if rows:
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
        "reboot_pending": device.reboot_pending,
        "has_commands": device.has_commands,
    }


def write_check_ins(
    connection: Connection, org: str, said: Mapping[str, CheckIn], *, online_within: timedelta
) -> tuple[frozenset[str], int]:
    """Store the check-ins of devices that exist; answers whose platform or programs changed, and how many there were.

    Only what changed is written, and what a fleet says is nearly always the same: those devices get the time they said
    it, one statement for each time. An empty platform leaves the one the device enrolled with. Whoever was silent for
    longer than ``online_within`` is back, which is kept.
    """
    there = _present(connection, org, list(said))
    # In order of id, so that two batches on PostgreSQL that share devices cannot lock each other out.
    kept = {device: said[device] for device in sorted(said) if device in there}
    back = {device: what.at for device, what in kept.items() if is_back(there[device][0], what.at, online_within)}
    write_returns(connection, org, back, online_within=online_within)
    seen: dict[str, datetime] = {}
    told: list[dict[str, object]] = []
    put: list[dict[str, object]] = []
    gone: list[dict[str, object]] = []
    moved: set[str] = set()
    for device, what in kept.items():
        _, facts, programs = there[device]
        platform = what.platform or facts[0]
        if (platform, *_facts(what)) == facts:
            seen[device] = what.at
        else:
            new = dict(zip(_SAID, _facts(what), strict=True))
            told.append(
                {"device_id": device, "new_last_seen_at": what.at, "new_platform": platform}
                | {f"new_{name}": value for name, value in new.items()}
            )
        runs = {one.product: (one.version, one.path, one.sha256, one.rollout) for one in what.running}
        if platform != facts[0] or runs != programs:
            moved.add(device)
        if runs != programs:
            put += [
                _running_row(org, device, one) for one in what.running if programs.get(one.product) != runs[one.product]
            ]
            gone += [{"gone_device": device, "gone_product": product} for product in programs if product not in runs]
    write_seen(connection, org, seen)
    if told:
        columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in (*_SAID, "platform", "last_seen_at")}
        connection.execute(update(devices).where(devices.c.id == bindparam("device_id")).values(columns), told)
    _write_programs(connection, put, gone)
    return frozenset(moved), len(kept)


def write_seen(connection: Connection, org: str, seen: Mapping[str, datetime]) -> int:
    """Store when devices that exist last called, one statement for each time; how many there were."""
    at_once: dict[datetime, list[str]] = {}
    # In order of id, as above; on SQLite neighbours also share a page.
    for device in sorted(seen):
        at_once.setdefault(seen[device], []).append(device)
    written = 0
    for at, ids in sorted(at_once.items()):
        these = {"ids": given(connection, ids), "owner": org, "seen": at}
        written += connection.execute(_statements(is_sqlite(connection)).seen, these).rowcount
    return written


_SAID: Final = ("agent_version", "hostname", "os_family", "os_name", "state", "reboot_pending")


def _facts(what: CheckIn) -> tuple[str, ...]:
    return (what.agent_version, what.hostname, what.os_family, what.os_name, what.state, what.reboot_pending)


def _write_programs(
    connection: Connection, changed: Sequence[Mapping[str, object]], gone: Sequence[Mapping[str, object]]
) -> None:
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


class _Statements(NamedTuple):
    """Over devices whose ids are given; putting them together anew takes longer than running them."""

    facts: Select[Any]
    programs: Select[Any]
    seen: Update


@cache
def _statements(is_sqlite: bool) -> _Statements:
    own, running = devices.c, device_running.c
    runs = select(running.device, running.product, running.version, running.path, running.sha256, running.rollout)
    return _Statements(
        # By the primary key alone: given the organisation too, SQLite reads all of its devices through another index.
        facts=select(own.id, own.org, own.last_seen_at, own.platform, *(own[name] for name in _SAID)).where(
            among_given(is_sqlite, own.id)
        ),
        programs=runs.where(among_given(is_sqlite, running.device)),
        # For the same reason the organisation is compared as what has no index.
        seen=update(devices)
        .where(among_given(is_sqlite, own.id), own.org + "" == bindparam("owner"))
        .values(last_seen_at=bindparam("seen")),
    )


_Present = tuple[datetime | None, tuple[str, ...], dict[str, tuple[str, str, str, str]]]


def _present(connection: Connection, org: str, ids: Sequence[str]) -> dict[str, _Present]:
    """Of the devices that are the organisation's: the last call; platform and what it says of itself; and by product
    what it runs."""
    present: dict[str, _Present] = {}
    made = _statements(is_sqlite(connection))
    for start in range(0, len(ids), _BATCH):
        these = {"ids": given(connection, ids[start : start + _BATCH])}
        for device, owner, last_seen_at, *facts in connection.execute(made.facts, these).all():
            if owner == org:
                present[device] = (last_seen_at, tuple(facts), {})
        for device, product, *release in connection.execute(made.programs, these):
            if device in present:
                present[device][2][product] = tuple(release)
    return present


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


def to_device(
    row: AnyRow, in_groups: tuple[str, ...], held_back: tuple[str, ...], running: Mapping[str, Running]
) -> Device:
    """A row of ``devices``, with names of groups in order."""
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
        reboot_pending=row.reboot_pending,
        has_commands=row.has_commands,
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
