"""What selectors live on: the labels of devices, and a look at who a selector would find."""

from __future__ import annotations

from typing import Annotated

from flask import Response
from pydantic import BaseModel, Field, StringConstraints

from api.auth.permissions import Permission
from api.operator.device_views import Device, device, devices
from api.operator.routes import Body, IdPath, Routes, caller, check_match, now, reply, services
from fleet import service
from fleet.rules import MAX_FACT, MAX_LABELS
from fleet.selector import MAX_SELECTOR, parse
from rollout.cohort import bucket, reach

api = Routes("selectors", "Groups")

LabelKey = Annotated[str, StringConstraints(max_length=63)]
LabelValue = Annotated[str, StringConstraints(max_length=MAX_FACT)]
Percent = Annotated[int, Field(ge=1, le=100)]


class DeviceLabels(Body):
    """The labels a device shall have; those it has and that are not named go."""

    labels: dict[LabelKey, LabelValue] = Field(max_length=MAX_LABELS, examples=[{"site": "berlin", "ring": "2"}])


class LabelChange(Body):
    """Labels to set; null takes one away, and what is not named stays."""

    labels: dict[LabelKey, LabelValue | None] = Field(
        min_length=1, max_length=2 * MAX_LABELS, examples=[{"site": "munich", "ring": None}]
    )


class SelectorPreview(Body):
    """A selector to try. With a rollout's id its salt says in which share each device of the sample would be."""

    selector: str = Field(min_length=1, max_length=MAX_SELECTOR, examples=["labels.site = berlin"])
    percents: list[Percent] = Field(default=[1, 10, 50, 100], min_length=1, max_length=10)
    sample: int = Field(20, ge=0, le=200, description="devices shown")
    rollout_id: str | None = Field(None, max_length=100)


class Share(BaseModel):
    """About how many active devices a wave of this percent reaches; each share is inside every larger one."""

    percent: int
    devices: int


class Placed(BaseModel):
    """A device of the sample. `bucket` (0 to 9,999) and the smallest share that reaches it are the rollout's."""

    device: Device
    bucket: int | None
    percent: int | None


class Found(BaseModel):
    """Who a selector finds now; `selector` is its one written form."""

    selector: str
    devices: int
    active: int
    shares: list[Share]
    sample: list[Placed]


@api.on(
    "POST",
    "/groups/preview",
    Found,
    permission=Permission.GROUPS_READ,
    errors=("group_not_found", "invalid_selector", "rollout_not_found"),
)
def preview_selector(body: SelectorPreview) -> Response:
    """Try a selector: how many devices it finds, in which shares, and the first of them"""
    fleet, org = services().fleet, services().org
    salt = None if body.rollout_id is None else services().rollout_store.get(org, body.rollout_id).salt
    found = service.preview(fleet, org, body.selector, now=now(), limit=body.sample)
    percents = sorted(set(body.percents))
    shown = devices(services(), found.sample, now())
    placed = [(one, None if salt is None else bucket(salt, one.id)) for one in shown]
    answer = Found(
        selector=str(parse(body.selector)),
        devices=found.devices,
        active=found.active,
        shares=[Share(percent=percent, devices=found.active * percent // 100) for percent in percents],
        sample=[
            Placed(
                device=one,
                bucket=place,
                percent=None if place is None else next((p for p in percents if place < reach(p)), None),
            )
            for one, place in placed
        ],
    )
    return reply(answer)


@api.on(
    "PUT",
    "/devices/{id}/labels",
    Device,
    permission=Permission.GROUPS_WRITE,
    errors=("device_not_found", "invalid_fleet_input"),
)
def put_labels(path: IdPath, body: DeviceLabels) -> Response:
    """Replace a device's labels"""
    fleet, org, by = services().fleet, services().org, caller().actor
    return reply(device(service.label_device(fleet, org, path.id, dict(body.labels), keep=False, by=by, now=now())))


@api.on(
    "PATCH",
    "/devices/{id}/labels",
    Device,
    permission=Permission.GROUPS_WRITE,
    tagged=True,
    errors=("device_not_found", "invalid_fleet_input"),
)
def patch_labels(path: IdPath, body: LabelChange) -> Response:
    """Set some of a device's labels, take others away"""
    fleet, org, by = services().fleet, services().org, caller().actor
    check_match(device(fleet.device(org, path.id)))
    return reply(device(service.label_device(fleet, org, path.id, body.labels, by=by, now=now())))
