"""Devices from a roster: who is not there is made, with a code, and the others are brought to what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from evidence.model import Actor, AuditEvent
from fleet.errors import UnknownGroup, WrongGroupKind
from fleet.model import Device, DeviceCode, DeviceEdit
from fleet.ports import Fleet
from fleet.provision import Wanted, planned_device
from fleet.roster import Faults, Row
from fleet.service import static_groups


class Outcome(StrEnum):
    """What became of a line; of a trial, what would."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One line and its device; ``device`` is None where a trial made none. The code's text is told this once."""

    line: int
    name: str
    outcome: Outcome
    device: str | None
    code: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Imported(line={self.line}, name={self.name!r}, outcome={self.outcome.value})"


def import_devices(
    fleet: Fleet,
    org: str,
    rows: tuple[Row, ...],
    *,
    update: bool,
    dry_run: bool,
    root_sha256: str,
    by: Actor,
    now: datetime,
) -> tuple[Imported, ...]:
    """Bring in a roster, all of it or nothing, in one transaction; the answer is in its order.

    ``update``: a device that is there gets the groups and labels of its line; else it is a fault. A cell that is empty
    takes all away, a column that is missing leaves them; groups made by selectors are none of its business. Its
    platform stays: a line that names another is a fault. Writes ``device.created`` or ``device.imported`` for each
    device that changes. A ``dry_run`` only looks.

    Raises:
        InvalidDeviceList: A device is there already, or a line names a group or a platform that cannot be.
        DeviceExists, UnknownDevice: Somebody made or deleted one of them just now.
    """
    there = fleet.devices_named(org, [row.name for row in rows])
    faults = Faults()
    _check_groups(fleet, org, rows, faults)
    for row in rows:
        if row.name in there:
            _check_known(row, there[row.name], update, faults)
    faults.refuse()
    selector_groups = fleet.selector_groups(org)
    made: list[tuple[Device, DeviceCode]] = []
    edits: list[DeviceEdit] = []
    events: list[AuditEvent] = []
    told: list[Imported] = []
    for row in rows:
        if row.name in there:
            known = there[row.name]
            edit = _edit(row, known, selector_groups)
            if edit is not None:
                edits.append(edit)
                events.append(_event(edit, known, by, now))
            outcome = Outcome.UNCHANGED if edit is None else Outcome.UPDATED
            told.append(Imported(line=row.line, name=row.name, outcome=outcome, device=known.id))
            continue
        plan = planned_device(org, _wanted(row), root_sha256=root_sha256, by=by, now=now)
        made.append((plan.device, plan.code))
        events.append(plan.event)
        told.append(
            Imported(
                line=row.line,
                name=row.name,
                outcome=Outcome.CREATED,
                device=None if dry_run else plan.device.id,
                code=None if dry_run else plan.text,
                expires_at=plan.code.expires_at,
            )
        )
    if not dry_run:
        fleet.add_devices(org, made, events, edits=edits)
    return tuple(told)


def _check_groups(fleet: Fleet, org: str, rows: tuple[Row, ...], faults: Faults) -> None:
    refused: dict[str, str | None] = {}
    for row in rows:
        for name in row.groups or ():
            if name not in refused:
                refused[name] = _why_not(fleet, org, name)
            if (why := refused[name]) is not None:
                faults.add(row.line, "groups", why)


def _why_not(fleet: Fleet, org: str, name: str) -> str | None:
    try:
        (found,) = static_groups(fleet, org, [name])
    except (UnknownGroup, WrongGroupKind) as error:
        return str(error)
    # By name alone: what a line says is compared with names, and an id would look like a change for ever.
    return None if found == name else f"{name} is the id of the group {found}; name it {found}"


def _check_known(row: Row, known: Device, update: bool, faults: Faults) -> None:
    if not update:
        faults.add(row.line, "name", f"the device {row.name} is there already; ask for an update of those that are")
    if row.platform and row.platform != known.platform:
        faults.add(
            row.line,
            "platform",
            f"the device {row.name} has the platform {known.platform!r}, not {row.platform!r}, and an import does not "
            "change it",
        )


def _edit(row: Row, known: Device, selector_groups: frozenset[str]) -> DeviceEdit | None:
    has = [name for name in known.groups if name not in selector_groups]
    wanted = has if row.groups is None else row.groups
    edit = DeviceEdit(
        device=known.id,
        labels=None if row.labels is None or dict(row.labels) == dict(known.labels) else row.labels,
        joins=tuple(name for name in wanted if name not in has),
        leaves=tuple(name for name in has if name not in wanted),
    )
    return None if edit == DeviceEdit(device=known.id) else edit


def _event(edit: DeviceEdit, known: Device, by: Actor, now: datetime) -> AuditEvent:
    told: dict[str, object] = {"name": known.name, "joined": list(edit.joins), "left": list(edit.leaves)}
    if edit.labels is not None:
        told["labels"] = dict(edit.labels)
    return AuditEvent("device.imported", known.id, by, now, told)


def _wanted(row: Row) -> Wanted:
    labels: Mapping[str, str] = row.labels or {}
    return Wanted(name=row.name, platform=row.platform or "", groups=row.groups or (), labels=labels)
