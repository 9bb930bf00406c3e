"""The timeline of one device, merged from the audit log, what is kept of its calls, and its steps in rollouts.

Each of the three is read along an index that begins with the device and goes on with the time, as far as one page, so
a page costs the same for ten entries and for a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, literal, or_, select, tuple_

from evidence.times import rfc3339
from fleet.history import PERIOD, STEP, Entry, Place, Wanted, is_step
from rollout.model import ANY_PLATFORM, ArtifactRef, Plan, Progress
from rollout.stored import rollout_from_dict
from store.audit import decode_body
from store.columns import UtcDateTime
from store.database import Database
from store.models import artifacts, audit_events, device_returns, device_steps, devices, rollouts

_LATER: Final = device_returns.alias("later")


class SqlHistories:
    """Fulfils ``fleet.history.Histories``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def history(self, org: str, device: str, wanted: Wanted, *, before: Place | None, limit: int) -> Sequence[Entry]:
        """At most ``limit`` entries of a device, by its id, the newest first; those before a place."""
        with self._database.read() as connection:
            sources = [
                _events(connection, org, device, wanted, before, limit),
                _periods(connection, org, device, wanted, before, limit) if wanted.takes(PERIOD) else [],
                _steps(connection, org, device, wanted, before, limit) if _progresses(wanted) else [],
            ]
            merged = merge(*sources, key=lambda entry: (entry.at, entry.id), reverse=True)
            return _with_releases(connection, org, [*islice(merged, limit)])

    def count_history(self, org: str, device: str, wanted: Wanted) -> int:
        """How many entries there are."""
        with self._database.read() as connection:
            found = _count(connection, audit_events, *_of_events(org, device, wanted))
            if wanted.takes(PERIOD):
                found += _count(connection, device_returns, *_of(device_returns, org, device, wanted))
            if progresses := _progresses(wanted):
                asked = device_steps.c.progress.in_(progresses)
                found += _count(connection, device_steps, asked, *_of(device_steps, org, device, wanted))
            return found


def _count(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())


def _of(table: Table, org: str, device: str, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions = [table.c.org == org, table.c.device == device]
    if wanted.since is not None:
        conditions.append(table.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(table.c.at < wanted.until)
    return conditions


def _of_events(org: str, device: str, wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions, tag = _of(audit_events, org, device, wanted), audit_events.c.tag
    if wanted.kind is not None:
        conditions.append(or_(tag == wanted.kind, tag.startswith(f"{wanted.kind}.", autoescape=True)))
    return conditions


def _progresses(wanted: Wanted) -> list[str]:
    return [
        one.value for one in Progress if wanted.kind is None or wanted.kind in {"device", STEP, f"{STEP}.{one.value}"}
    ]


def _page(query: Select[Any], table: Table, before: Place | None, limit: int) -> Select[Any]:
    at, key = table.c.at, table.c.id
    if before is not None:
        query = query.where(tuple_(at, key) < tuple_(literal(before.at, UtcDateTime), literal(before.id)))
    return query.order_by(at.desc(), key.desc()).limit(limit)


def _events(
    connection: Connection, org: str, device: str, wanted: Wanted, before: Place | None, limit: int
) -> list[Entry]:
    query = select(audit_events.c.id, audit_events.c.body).where(*_of_events(org, device, wanted))
    found = []
    for row in connection.execute(_page(query, audit_events, before, limit)):
        event = decode_body(row.body)
        found.append(Entry(id=row.id, at=event.at, kind=event.tag, by=event.by, details=dict(event.data)))
    return found


def _periods(
    connection: Connection, org: str, device: str, wanted: Wanted, before: Place | None, limit: int
) -> list[Entry]:
    """A period ends with the call before the next return; the last one with the device's last call."""
    own = device_returns.c
    following = (
        select(func.min(_LATER.c.at)).where(_LATER.c.device == own.device, _LATER.c.at > own.at).scalar_subquery()
    )
    nearest = device_returns.alias("nearest")
    query = (
        select(
            own.id,
            own.at,
            own.silent_since,
            func.coalesce(nearest.c.silent_since, devices.c.last_seen_at).label("last_at"),
        )
        .join_from(device_returns, devices, devices.c.id == own.device)
        .join(nearest, and_(nearest.c.device == own.device, nearest.c.at == following), isouter=True)
        .where(*_of(device_returns, org, device, wanted))
    )
    found = []
    for row in connection.execute(_page(query, device_returns, before, limit)):
        told = {
            "first_at": rfc3339(row.at),
            "last_at": rfc3339(max(row.at, row.last_at or row.at)),
            "silent_since": None if row.silent_since is None else rfc3339(row.silent_since),
        }
        found.append(Entry(id=row.id, at=row.at, kind=PERIOD, details=told))
    return found


def _steps(
    connection: Connection, org: str, device: str, wanted: Wanted, before: Place | None, limit: int
) -> list[Entry]:
    asked = device_steps.c.progress.in_(_progresses(wanted))
    query = select(device_steps).where(asked, *_of(device_steps, org, device, wanted))
    found = []
    for row in connection.execute(_page(query, device_steps, before, limit)):
        told = {
            "rollout_id": row.rollout,
            "wave": row.wave,
            "attempt": row.attempt,
            "code": row.code,
            "detail": row.detail,
            "platform": row.platform,
        }
        found.append(Entry(id=row.id, at=row.at, kind=f"{STEP}.{row.progress}", details=told))
    return found


def _with_releases(connection: Connection, org: str, entries: Sequence[Entry]) -> list[Entry]:
    """Steps with what their rollouts carry: a plan does not change, so it is read now and not kept with each step."""
    named = sorted({entry.details["rollout_id"] for entry in entries if is_step(entry)})
    if not named:
        return [*entries]
    query = select(rollouts.c.id, rollouts.c.document).where(rollouts.c.org == org, rollouts.c.id.in_(named))
    plans = {row.id: rollout_from_dict(row.document).plan for row in connection.execute(query)}
    every = {one.id for plan in plans.values() for one in plan.artifacts.values()}
    published = select(artifacts.c.id, artifacts.c.serial).where(artifacts.c.org == org, artifacts.c.id.in_(every))
    serials = {row.id: int(row.serial) for row in connection.execute(published)}
    return [
        Entry(id=one.id, at=one.at, kind=one.kind, details=_release(plans[one.details["rollout_id"]], serials, one))
        if is_step(one)
        else one
        for one in entries
    ]


def _release(plan: Plan, serials: Mapping[str, int], entry: Entry) -> dict[str, Any]:
    told = dict(entry.details)
    platform = told.pop("platform")
    carried: ArtifactRef | None = plan.artifacts.get(platform) or plan.artifacts.get(ANY_PLATFORM)
    return told | {
        "product": plan.product,
        "version": plan.version,
        "artifact_id": None if carried is None else carried.id,
        "target_path": None if carried is None else carried.path,
        "sha256": None if carried is None else carried.sha256,
        "serial": None if carried is None else serials.get(carried.id),
    }
