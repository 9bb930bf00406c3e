"""Why devices of a rollout failed: grouped by code, with one device to look at for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from rollout.model import DeviceProgress, Progress
from store.models import rollout_devices
from store.progress import to_progress

_FAILED = (Progress.FAILED.value, Progress.ROLLED_BACK.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Devices that stand failed, or rolled back, with one code: how many, since when, until when, and one of them."""

    code: str
    progress: Progress
    devices: int
    first_at: datetime
    last_at: datetime
    example: DeviceProgress


def failures_of(connection: Connection, rollout_id: str, *, wave: int | None, limit: int) -> Sequence[FailureGroup]:
    """At most ``limit`` groups, the largest first: devices choose their codes, so there may be as many as devices."""
    rows = rollout_devices.c
    devices = func.count().label("devices")
    query = (
        select(
            rows.code,
            rows.progress,
            devices,
            func.min(rows.at).label("first_at"),
            func.max(rows.at).label("last_at"),
            func.min(rows.device).label("example"),
        )
        .where(rows.rollout == rollout_id, rows.progress.in_(_FAILED))
        .group_by(rows.code, rows.progress)
        .order_by(devices.desc(), rows.code, rows.progress)
        .limit(limit)
    )
    if wave is not None:
        query = query.where(rows.wave == wave)
    groups = connection.execute(query).all()
    wanted = select(rollout_devices).where(
        rows.rollout == rollout_id, rows.device.in_([group.example for group in groups])
    )
    examples = {row.device: to_progress(row) for row in connection.execute(wanted)}
    return [
        FailureGroup(
            code=group.code,
            progress=Progress(group.progress),
            devices=group.devices,
            first_at=group.first_at,
            last_at=group.last_at,
            example=examples[group.example],
        )
        for group in groups
    ]
