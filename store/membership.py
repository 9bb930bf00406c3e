"""Who is in which group, kept row by row: selectors are evaluated when a fact changes, so that reading asks none.

Order of locks on PostgreSQL, so that no two writers wait for each other: device (FOR NO KEY UPDATE, which new members
do not wait for), selector groups (shared), ``group_sizes`` in order of id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    update,
)

from fleet.model import DeviceStatus
from fleet.selector import Fact, Selector, parse
from store.columns import UtcDateTime, among, upsert
from store.fleet_rows import to_devices
from store.models import devices, group_devices, group_sizes, groups
from store.selectors import selected

SAID: Final = frozenset({Fact.PLATFORM, Fact.PRODUCT, Fact.VERSION, Fact.LAST_SEEN})  # what a check-in can change

_BATCH: Final = 500  # devices looked at together
_MEMBER: Final = group_devices.c


@dataclass(frozen=True, slots=True)
class _Selecting:
    id: str
    name: str
    selector: Selector


def put_in(
    connection: Connection, org: str, group_id: str, ids: Iterable[str], edited_at: datetime | None
) -> Sequence[str]:
    """Add members and count them; answers those that were not in."""
    rows = [{"group_id": group_id, "device": one, "org": org, "edited_at": edited_at} for one in sorted(ids)]
    if not rows:
        return []
    put = upsert(connection, group_devices).on_conflict_do_nothing().returning(_MEMBER.device)
    joined = [*connection.execute(put, rows).scalars()]
    _count(connection, group_id, joined, 1)
    return joined


def take_out(connection: Connection, group_id: str, ids: Iterable[str]) -> Sequence[str]:
    """Remove members and count them; answers those that were in."""
    named = among(connection, _MEMBER.device, sorted(ids))
    gone = delete(group_devices).where(_MEMBER.group_id == group_id, named)
    left = [*connection.execute(gone.returning(_MEMBER.device)).scalars()]
    _count(connection, group_id, left, -1)
    return left


def place(
    connection: Connection,
    org: str,
    ids: Sequence[str],
    *,
    now: datetime,
    facts: frozenset[Fact] = frozenset(Fact),
    edited_at: datetime | None = None,
) -> None:
    """Put devices into the groups whose selectors they meet now and take them out of the others.

    Only selectors that look at one of ``facts`` are asked. Call it behind the write that changed them, on devices whose
    rows this transaction has locked.
    """
    selecting = _selecting(connection, org, facts)
    for start in range(0, len(ids), _BATCH) if selecting else ():
        _place(connection, org, ids[start : start + _BATCH], selecting, now, edited_at)


def place_after_calls(
    connection: Connection, org: str, ids: Sequence[str], moved: frozenset[str], *, now: datetime
) -> None:
    """:func:`place` after check-in: devices that only called are asked for what looks at the time of the last call."""
    selecting = _selecting(connection, org, SAID)
    called = [one for one in selecting if any(term.fact is Fact.LAST_SEEN for term in one.selector.terms)]
    for some, asked in (([one for one in ids if one not in moved], called), (sorted(moved), selecting)):
        for start in range(0, len(some), _BATCH) if asked else ():
            _place(connection, org, some[start : start + _BATCH], asked, now, None)


def reselect(
    connection: Connection, org: str, group_id: str, selector: Selector, *, now: datetime, edited_at: datetime | None
) -> bool:
    """Evaluate a selector over all devices, in the database; whether that moved anybody."""
    connection.execute(select(group_sizes.c.group_id).where(group_sizes.c.group_id == group_id).with_for_update())
    joining, leaving = _differences(org, group_id, selector, now)
    source = joining.with_only_columns(
        literal(group_id),
        devices.c.id,
        literal(org),
        null() if edited_at is None else literal(edited_at, UtcDateTime),
    )
    put = insert(group_devices).from_select(["group_id", "device", "org", "edited_at"], source)
    joined = connection.execute(put).rowcount
    left = connection.execute(delete(group_devices).where(leaving)).rowcount
    if joined or left:
        recount(connection, group_id)
    return bool(joined or left)


def is_stale(connection: Connection, org: str, group_id: str, selector: Selector, *, now: datetime) -> bool:
    """Whether :func:`reselect` would move anybody."""
    joining, leaving = _differences(org, group_id, selector, now)
    if connection.execute(joining.with_only_columns(devices.c.id).limit(1)).first() is not None:
        return True
    return connection.execute(select(_MEMBER.device).where(leaving).limit(1)).first() is not None


def selector_groups(connection: Connection, org: str) -> Mapping[str, Selector]:
    """Selectors by group id."""
    query = select(groups.c.id, groups.c.selector).where(groups.c.org == org, groups.c.selector.is_not(None))
    return {row.id: parse(row.selector) for row in connection.execute(query.order_by(groups.c.id))}


def recount(connection: Connection, group_id: str) -> None:
    """Set a group's kept numbers from its rows."""
    active = func.sum(case((devices.c.status == DeviceStatus.ACTIVE.value, 1), else_=0))
    counted = (
        select(func.count().label("devices"), func.coalesce(active, 0).label("active"))
        .join_from(group_devices, devices, devices.c.id == _MEMBER.device)
        .where(_MEMBER.group_id == group_id)
    )
    row = connection.execute(counted).one()
    connection.execute(
        update(group_sizes)
        .where(group_sizes.c.group_id == group_id)
        .values(devices=int(row.devices), active=int(row.active))
    )


def step_down(connection: Connection, device: str, *, gone: bool) -> None:
    """Count an active device no more in its groups; ``gone``: it is about to be deleted, active or not."""
    locked = select(devices.c.status).where(devices.c.id == device).with_for_update(key_share=True)
    row = connection.execute(locked).first()
    if row is None:
        return
    was_active = int(row.status == DeviceStatus.ACTIVE.value)
    member = select(_MEMBER.group_id).where(_MEMBER.device == device).order_by(_MEMBER.group_id)
    changes = [
        {"group": group_id, "fewer": int(gone), "fewer_active": was_active}
        for group_id in connection.execute(member).scalars()
    ]
    if changes and (gone or was_active):
        connection.execute(
            update(group_sizes)
            .where(group_sizes.c.group_id == bindparam("group"))
            .values(
                devices=group_sizes.c.devices - bindparam("fewer"),
                active=group_sizes.c.active - bindparam("fewer_active"),
            ),
            changes,
        )


def step_up(connection: Connection, device: str) -> None:
    """Count a device in its groups that is about to become active; its row is locked."""
    member = select(_MEMBER.group_id).where(_MEMBER.device == device).order_by(_MEMBER.group_id)
    changes = [{"group": group_id} for group_id in connection.execute(member).scalars()]
    if changes:
        more = update(group_sizes).where(group_sizes.c.group_id == bindparam("group"))
        connection.execute(more.values(active=group_sizes.c.active + 1), changes)


def _selecting(connection: Connection, org: str, facts: frozenset[Fact]) -> list[_Selecting]:
    # The shared lock makes a check-in and an edit of the selector see each other's result, whoever comes first.
    query = (
        select(groups.c.id, groups.c.name, groups.c.selector)
        .where(groups.c.org == org, groups.c.selector.is_not(None))
        .order_by(groups.c.id)
        .with_for_update(read=True)
    )
    found = (_Selecting(row.id, row.name, parse(row.selector)) for row in connection.execute(query))
    return [one for one in found if any(term.fact in facts for term in one.selector.terms)]


def _place(
    connection: Connection,
    org: str,
    ids: Sequence[str],
    selecting: Sequence[_Selecting],
    now: datetime,
    edited_at: datetime | None,
) -> None:
    found = connection.execute(select(devices).where(among(connection, devices.c.id, ids)))
    rows = [row for row in found if row.org == org]
    joining: dict[str, list[str]] = defaultdict(list)
    leaving: dict[str, list[str]] = defaultdict(list)
    for device in to_devices(connection, rows):
        for one in selecting:
            is_in, belongs = one.name in device.groups, one.selector.holds(device, now)
            if belongs and not is_in:
                joining[one.id].append(device.id)
            elif is_in and not belongs:
                leaving[one.id].append(device.id)
    for group_id in sorted({*joining, *leaving}):
        put_in(connection, org, group_id, joining.get(group_id, ()), edited_at)
        if group_id in leaving:
            take_out(connection, group_id, leaving[group_id])


def _differences(org: str, group_id: str, selector: Selector, now: datetime) -> tuple[Select[Any], ColumnElement[bool]]:
    """Devices to put in, and the condition on members to take out."""
    met = selected(org, selector, now)
    is_in = exists().where(_MEMBER.group_id == group_id, _MEMBER.device == devices.c.id).correlate(devices)
    joining = select(devices.c.id).where(met, ~is_in)
    still = exists(select(devices.c.id).where(devices.c.id == _MEMBER.device, met).correlate(group_devices))
    return joining, and_(_MEMBER.group_id == group_id, ~still)


def _count(connection: Connection, group_id: str, moved: Sequence[str], sign: int) -> None:
    if not moved:
        return
    active = 0
    for start in range(0, len(moved), _BATCH):
        some = devices.c.id.in_(moved[start : start + _BATCH])
        query = select(func.count()).select_from(devices).where(some, devices.c.status == DeviceStatus.ACTIVE.value)
        active += int(connection.execute(query).scalar_one())
    connection.execute(
        update(group_sizes)
        .where(group_sizes.c.group_id == group_id)
        .values(
            devices=group_sizes.c.devices + sign * len(moved),
            active=group_sizes.c.active + sign * active,
        )
    )
