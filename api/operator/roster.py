"""Devices as CSV: the export of the list, and the import that makes them and brings them to what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

from flask import Response, request
from pydantic import BaseModel, Field

from api.auth.gate import check_permission
from api.auth.permissions import Permission
from api.auth.rates import Policy
from api.codes import READS
from api.operator.device_views import Device, devices
from api.operator.routes import Body, Routes, caller, now, reply, services
from api.operator.sheets import CHUNK, CSV, cell, lines
from api.wiring import Wavegate
from fleet import importing, model
from fleet.roster import MAX_BYTES, SETTABLE, TOLD, join_list, read_roster, written
from store.order import Order

api = Routes("roster", "Devices")


class ImportQuery(Body):
    """How a list of devices is taken."""

    existing: Literal["refuse", "update"] = Field(
        "refuse",
        description="what to do with devices that are there; `update` gives them the groups and labels of their line, "
        "and needs `groups:write` too",
    )
    dry_run: bool = Field(False, description="only say what would be done")


class ImportedDevice(BaseModel):
    """One line of the list; `id` is null for a device that a trial did not make."""

    line: int
    name: str
    outcome: importing.Outcome
    id: str | None


class Imported(BaseModel):
    """What became of the list. `codes` are those of the devices made, by name: good once, and shown this once."""

    dry_run: bool
    created: int
    updated: int
    unchanged: int
    items: list[ImportedDevice]
    codes: dict[str, str] | None
    codes_expire_at: datetime | None


@api.on(
    "POST",
    "/devices/import",
    Imported,
    permission=Permission.DEVICES_ENROLL,
    raw_body=True,
    takes=(CSV,),
    body_limit=MAX_BYTES,
    policy=Policy.WRITES,
    shown_once="codes",
    errors=(*READS, "device_exists", "device_not_found", "invalid_device_list"),
)
def import_devices(query: ImportQuery) -> Response:
    """Make the devices of a CSV, each with a code, and update those that are there: all of them or none"""
    if query.existing == "update":
        check_permission(caller(), Permission.GROUPS_WRITE)
    told = importing.import_devices(
        services().fleet,
        services().org,
        read_roster(request.get_data(cache=True)),
        update=query.existing == "update",
        dry_run=query.dry_run,
        root_sha256=services().repository.root_sha256(),
        by=caller().actor,
        now=now(),
    )
    count = {outcome: sum(one.outcome is outcome for one in told) for outcome in importing.Outcome}
    answer = Imported(
        dry_run=query.dry_run,
        created=count[importing.Outcome.CREATED],
        updated=count[importing.Outcome.UPDATED],
        unchanged=count[importing.Outcome.UNCHANGED],
        items=[ImportedDevice(line=one.line, name=one.name, outcome=one.outcome, id=one.device) for one in told],
        codes={one.name: one.code for one in told if one.code is not None},
        codes_expire_at=max((one.expires_at for one in told if one.expires_at is not None), default=None),
    )
    return reply(answer)


def exported(
    wiring: Wavegate, filters: Mapping[str, str], sort: str, after: str | None, moment: datetime
) -> Iterator[bytes]:
    """Lines of all that the filters leave; each chunk is read when the one before has been sent.

    The first is read now: what cannot be looked for is refused before there is an answer.
    """
    order = Order.of(sort)

    def read(after: str | None) -> Sequence[model.Device]:
        return wiring.fleet.devices(wiring.org, after=after, limit=CHUNK, filters=filters, sort=sort)

    def chunks(found: Sequence[model.Device]) -> Iterator[bytes]:
        yield lines([[*SETTABLE, *TOLD]])
        selecting = wiring.fleet.selector_groups(wiring.org)
        while found:
            yield lines(_rows(found, devices(wiring, found, moment), selecting))
            found = read(order.place(found[-1].id, found[-1].name)) if len(found) == CHUNK else ()

    return chunks(read(after))


def _rows(found: Sequence[model.Device], shown: Sequence[Device], selecting: frozenset[str]) -> list[list[str]]:
    rows = []
    for one, view in zip(found, shown, strict=True):
        told: dict[str, object] = {
            **dict(view),
            "online": "true" if view.online else "false",
            "selector_groups": join_list(name for name in view.groups if name in selecting),
            "held_back": join_list(view.held_back),
            "running": join_list(f"{run.product} {run.version}" for run in view.running),
        }
        rows.append([cell(value) for value in (*written(one, selecting), *(told[column] for column in TOLD))])
    return rows
