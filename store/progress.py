"""One row for each device that reported in a rollout, and the counters that move with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Insert, bindparam, case, delete, func, insert, select, update
from sqlalchemy.sql.dml import ReturningInsert

from evidence.ids import new_id
from rollout.model import Counters, DeviceProgress, Progress, Rollout
from rollout.permits import RETURNED_BY
from rollout.ports import ProgressChange
from rollout.progress import moved
from store.columns import AnyRow, is_sqlite, upsert_for
from store.models import device_steps, devices, permits, rollout_counters, rollout_devices

_COUNTERS: Final = (
    select(rollout_counters).where(rollout_counters.c.rollout == bindparam("of")).order_by(rollout_counters.c.wave)
)

# Made once, as below: putting these together for each report takes longer than running them.
_PLACE: Final = (rollout_devices.c.rollout == bindparam("of")) & (rollout_devices.c.device == bindparam("on"))
_ROW: Final = select(rollout_devices).where(_PLACE).with_for_update()
_MOVING: Final = (
    *("wave", "attempt", "progress", "at", "code", "detail"),
    *("failures", "finishes", "last_report"),
)
_MOVE: Final = update(rollout_devices).where(_PLACE).values({name: bindparam(f"new_{name}") for name in _MOVING})

_STEP: Final = ("at", "id", "org", "rollout", "wave", "attempt", "progress", "code", "detail", "untold")
# From the device's own row: its platform now, and nothing of a device that was deleted meanwhile.
_KEEP: Final = insert(device_steps).from_select(
    ["device", "platform", *_STEP],
    select(
        devices.c.id,
        devices.c.platform,
        *(bindparam(f"kept_{name}", type_=device_steps.c[name].type) for name in _STEP),
    ).where(devices.c.id == bindparam("on")),
)


def step(connection: Connection, rollout: Rollout, device: str, change: ProgressChange) -> bool:
    """Move one device as ``change`` says, and its wave's counters by the difference; False when nothing moves.

    The step is kept for the device's history, a failure to be told of by an event.

    A device stays in the wave it first reported in.
    """
    made, place = _statements(is_sqlite(connection)), {"of": rollout.id, "on": device}
    while True:
        row = connection.execute(_ROW, place).first()
        before = None if row is None else to_progress(row)
        after = change(rollout, before)
        if after is None:
            return False
        columns = _columns(rollout, after)
        if before is not None:
            connection.execute(_MOVE, place | {f"new_{name}": columns[name] for name in _MOVING})
            break
        if connection.execute(made.begin, columns).first() is not None:
            break
        # PostgreSQL only: another report of the device was first; its row is visible now, so look at it and ask again.
    _move_counters(connection, rollout, before, after)
    failures = 0 if before is None else before.failures
    kept = columns | {"id": new_id("stp"), "untold": after.failures > failures}
    connection.execute(_KEEP, {"on": device} | {f"kept_{name}": kept[name] for name in _STEP})
    if rollout.plan.budget is not None and after.progress in RETURNED_BY:
        gone = delete(permits).where(permits.c.rollout == rollout.id, permits.c.device == device)
        connection.execute(gone)
    return True


def counters_of(connection: Connection, rollout_id: str) -> dict[int, Counters]:
    """The kept counters by wave: one primary-key range, whatever the number of devices."""
    return {row.wave: _to_counters(row) for row in connection.execute(_COUNTERS, {"of": rollout_id})}


def counters_of_all(connection: Connection, rollout_ids: Sequence[str]) -> dict[str, dict[int, Counters]]:
    """The kept counters of several rollouts, by rollout and wave."""
    query = select(rollout_counters).where(rollout_counters.c.rollout.in_(rollout_ids))
    found: dict[str, dict[int, Counters]] = {}
    for row in connection.execute(query):
        found.setdefault(row.rollout, {})[row.wave] = _to_counters(row)
    return found


def stalled_of(connection: Connection, rollout_id: str, wave: int, before: datetime) -> int:
    """Devices of the wave under way whose last step is of ``before`` or earlier: an index range for each step."""
    rows = rollout_devices.c
    query = select(func.count()).where(
        rows.rollout == rollout_id,
        rows.progress.in_([Progress.DOWNLOADING.value, Progress.INSTALLING.value]),
        rows.wave == wave,
        rows.at <= before,
    )
    return int(connection.execute(query).scalar_one())


def recounted(connection: Connection, rollout_id: str) -> dict[int, Counters]:
    """The counters anew, from the devices' rows."""
    rows = rollout_devices.c
    query = (
        select(
            rows.wave,
            func.count().label("acting"),
            _how_many(Progress.SUCCEEDED).label("succeeded"),
            _how_many(Progress.FAILED).label("failed"),
            _how_many(Progress.ROLLED_BACK).label("rolled_back"),
            func.sum(rows.failures).label("failures"),
            func.sum(rows.finishes).label("finishes"),
        )
        .where(rows.rollout == rollout_id)
        .group_by(rows.wave)
        .order_by(rows.wave)
    )
    return {row.wave: _to_counters(row) for row in connection.execute(query)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilter:
    """Which devices of a rollout are wanted; None asks for nothing."""

    wave: int | None = None
    progress: Progress | None = None
    code: str | None = None

    def conditions(self, rollout_id: str) -> list[ColumnElement[bool]]:
        """The filter on the table ``rollout_devices``."""
        rows = rollout_devices.c
        wanted = [rows.rollout == rollout_id]
        if self.wave is not None:
            wanted.append(rows.wave == self.wave)
        if self.progress is not None:
            wanted.append(rows.progress == self.progress.value)
        if self.code is not None:
            wanted.append(rows.code == self.code)
        return wanted


def count_devices_of(connection: Connection, rollout_id: str, wanted: DeviceFilter) -> int:
    """How many rows the filter leaves."""
    query = select(func.count()).select_from(rollout_devices).where(*wanted.conditions(rollout_id))
    return int(connection.execute(query).scalar_one())


def devices_of(
    connection: Connection, rollout_id: str, wanted: DeviceFilter, *, after: str | None, limit: int
) -> Sequence[DeviceProgress]:
    """Rows in order of device id, beginning behind ``after``."""
    rows = rollout_devices.c
    query = select(rollout_devices).where(*wanted.conditions(rollout_id)).order_by(rows.device).limit(limit)
    if after is not None:
        query = query.where(rows.device > after)
    return [to_progress(row) for row in connection.execute(query)]


def _move_counters(
    connection: Connection, rollout: Rollout, before: DeviceProgress | None, after: DeviceProgress
) -> None:
    # What is inserted for the first device of a wave is, for the others, what is added: one statement for both.
    difference = asdict(moved(Counters(), before, after))
    if any(difference.values()):
        add = _statements(is_sqlite(connection)).add
        connection.execute(add, {"rollout": rollout.id, "wave": after.wave, "org": rollout.org, **difference})


class _Statements(NamedTuple):
    """``begin`` answers a row unless another report of the device was first; ``add`` adds to a wave's counters."""

    begin: ReturningInsert[Any]
    add: Insert


@cache
def _statements(is_sqlite: bool) -> _Statements:
    first, counters = upsert_for(is_sqlite, rollout_devices), upsert_for(is_sqlite, rollout_counters)
    names = [field.name for field in fields(Counters)]
    return _Statements(
        begin=first.on_conflict_do_nothing().returning(rollout_devices.c.rollout),
        add=counters.on_conflict_do_update(
            index_elements=["rollout", "wave"],
            set_={name: rollout_counters.c[name] + counters.excluded[name] for name in names},
        ),
    )


def _how_many(progress: Progress) -> Any:
    return func.sum(case((rollout_devices.c.progress == progress.value, 1), else_=0))


def _to_counters(row: AnyRow) -> Counters:
    return Counters(
        acting=int(row.acting),
        succeeded=int(row.succeeded),
        failed=int(row.failed),
        rolled_back=int(row.rolled_back),
        failures=int(row.failures),
        finishes=int(row.finishes),
    )


def _columns(rollout: Rollout, progress: DeviceProgress) -> dict[str, object]:
    return {
        "rollout": rollout.id,
        "device": progress.device,
        "org": rollout.org,
        "wave": progress.wave,
        "attempt": progress.attempt,
        "progress": progress.progress.value,
        "at": progress.at,
        "code": progress.code,
        "detail": progress.detail,
        "failures": progress.failures,
        "finishes": progress.finishes,
        "last_report": progress.last_report,
    }


def to_progress(row: AnyRow) -> DeviceProgress:
    """A row of ``rollout_devices``."""
    return DeviceProgress(
        device=row.device,
        wave=row.wave,
        attempt=row.attempt,
        progress=Progress(row.progress),
        at=row.at,
        code=row.code,
        detail=row.detail,
        failures=row.failures,
        finishes=row.finishes,
        last_report=row.last_report,
    )
