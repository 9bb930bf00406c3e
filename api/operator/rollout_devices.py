"""What the devices of a rollout did: each with its last step as JSON pages or one CSV, and failures by their reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    decode_cursor,
    page,
    reply,
    reply_page,
    services,
)
from api.operator.sheets import CHUNK, CSV, cell, lines, sheet, wants_csv
from api.wiring import Wavegate
from rollout import model
from rollout.aftermath import Aftermath
from store.progress import DeviceFilter

api = Routes("rollout_devices", "Rollouts")

_REASONS: Final = 50  # groups of failures that are told; the rest is a number


class DeviceStep(BaseModel):
    """How far one device is with this rollout."""

    device_id: str
    device_name: str
    wave: int
    attempt: int
    progress: model.Progress
    code: str
    detail: str
    at: datetime
    superseded_by: str | None = Field(description="the rollout of the product that the device follows instead")


class StepQuery(PageQuery):
    """Filters of a rollout's devices; all given must hold. `format=csv`, or `Accept: text/csv`, gives one CSV."""

    wave: int | None = Field(None, ge=1, le=500, description="of this wave")
    progress: model.Progress | None = Field(None, description="that came so far")
    code: str | None = Field(None, pattern=r"^[a-z0-9_]{0,64}$", description="failure code as the device told it")
    format: Literal["json", "csv"] | None = Field(None, description="`csv`: all that the filters leave, as `text/csv`")


class FailureQuery(Body):
    """Of one wave only."""

    wave: int | None = Field(None, ge=1, le=500, description="of this wave")


class FailureReason(BaseModel):
    """Devices that stand failed, or rolled back, with one code; `example` is one of them, with what it told."""

    code: str
    progress: model.Progress
    devices: int
    first_at: datetime
    last_at: datetime
    example: DeviceStep


class Failures(BaseModel):
    """Reasons, the most frequent first, 50 at most; `devices` stand failed in all, `more` of them for other reasons."""

    devices: int
    reasons: list[FailureReason]
    more: int


@api.on(
    "GET",
    "/rollouts/{id}/devices",
    Page[DeviceStep],
    media_types=(CSV,),
    permission=Permission.ROLLOUTS_READ,
    errors=("rollout_not_found",),
)
def list_rollout_devices(path: IdPath, query: StepQuery) -> Response:
    """List the devices that reported, each with its last step"""
    org, stored = services().org, services().rollout_store
    wanted = DeviceFilter(wave=query.wave, progress=query.progress, code=query.code)
    after = decode_cursor(query.cursor)
    if wants_csv(query.format):
        stored.get(org, path.id)  # a rollout that is not there is refused before the first byte
        return sheet(_csv(services(), path.id, wanted, after), f"{path.id}-devices.csv")
    found = stored.devices(org, path.id, wanted, after=after, limit=query.limit + 1)
    total = stored.count_devices(org, path.id, wanted) if query.total else None
    return reply_page(page(_steps(services(), path.id, found), query.limit, lambda item: item.device_id, total))


@api.on("GET", "/rollouts/{id}/failures", Failures, permission=Permission.ROLLOUTS_READ, errors=("rollout_not_found",))
def list_rollout_failures(path: IdPath, query: FailureQuery) -> Response:
    """Group the devices that failed by why"""
    org, stored = services().org, services().rollout_store
    counters = stored.counters(stored.get(org, path.id).id)
    devices = sum(one.failed + one.rolled_back for number, one in counters.items() if query.wave in {None, number})
    groups = stored.failures(org, path.id, wave=query.wave, limit=_REASONS)
    examples = _steps(services(), path.id, [group.example for group in groups])
    reasons = [
        FailureReason(
            code=group.code,
            progress=group.progress,
            devices=group.devices,
            first_at=group.first_at,
            last_at=group.last_at,
            example=example,
        )
        for group, example in zip(groups, examples, strict=True)
    ]
    told = sum(reason.devices for reason in reasons)
    return reply(Failures(devices=devices, reasons=reasons, more=max(0, devices - told)))


def _steps(wiring: Wavegate, rollout_id: str, found: Sequence[model.DeviceProgress]) -> list[DeviceStep]:
    named = [one.device for one in found]
    names = wiring.fleet.names(wiring.org, named)
    this = wiring.rollout_store.get(wiring.org, rollout_id)
    others = Aftermath(wiring.rollouts).overtaken_by(this, wiring.rollout_store.reported_elsewhere(this, named))
    return [
        DeviceStep(
            device_id=one.device,
            device_name=names.get(one.device, ""),
            wave=one.wave,
            attempt=one.attempt,
            progress=one.progress,
            code=one.code,
            detail=one.detail,
            at=one.at,
            superseded_by=others[one.device].id if one.device in others else None,
        )
        for one in found
    ]


def _csv(wiring: Wavegate, rollout_id: str, wanted: DeviceFilter, after: str | None) -> Iterator[bytes]:
    """The lines in order of device id; each chunk is read when the one before has been sent."""
    yield lines([list(DeviceStep.model_fields)])
    while True:
        found = wiring.rollout_store.devices(wiring.org, rollout_id, wanted, after=after, limit=CHUNK)
        if not found:
            return
        yield lines([[cell(value) for _, value in step] for step in _steps(wiring, rollout_id, found)])
        after = found[-1].device
