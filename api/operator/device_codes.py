"""Devices that are known before they come, and the codes that let exactly one device in each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from flask import Response
from pydantic import Field, StringConstraints

from api.auth.permissions import Permission
from api.codes import READS
from api.operator.artifacts import Labels
from api.operator.devices import Device, device
from api.operator.routes import Body, IdPath, Routes, caller, now, reply, services
from fleet import provision

api = Routes("device_codes", "Devices")

GroupName = Annotated[str, StringConstraints(max_length=100)]


class DeviceWithCode(Device):
    """A device, and the code that enrols as it: good once, until `code_expires_at`, and shown this once."""

    code: str | None = None
    code_expires_at: datetime


class NewDevice(Body):
    """A device to make. Without a `platform` it has the one that its agent tells when it enrols."""

    name: str = Field(min_length=1, max_length=100)
    platform: str = Field("", max_length=100)
    groups: list[GroupName] = Field(default_factory=list, max_length=50)
    labels: Labels = Field(default_factory=dict)

    def wanted(self) -> provision.Wanted:
        """The same as the fleet's value."""
        return provision.Wanted(name=self.name, platform=self.platform, groups=self.groups, labels=self.labels)


@api.on(
    "POST",
    "/devices",
    DeviceWithCode,
    permission=Permission.DEVICES_ENROLL,
    status=201,
    shown_once="code",
    errors=(*READS, "device_exists", "group_not_found", "invalid_fleet_input", "wrong_group_kind"),
)
def create_device(body: NewDevice) -> Response:
    """Make a device that is pending until it enrols, with a code that is good once"""
    root, by = services().repository.root_sha256(), caller().actor
    made = provision.create_device(services().fleet, services().org, body.wanted(), root_sha256=root, by=by, now=now())
    return reply(_shown(made), 201)


@api.on(
    "POST",
    "/devices/{id}/enroll-code",
    DeviceWithCode,
    permission=Permission.DEVICES_ENROLL,
    status=201,
    shown_once="code",
    errors=(*READS, "device_not_found"),
)
def create_enroll_code(path: IdPath) -> Response:
    """Make a code for a device that is there; its earlier code ends now, its certificates when the new one is used"""
    root, by = services().repository.root_sha256(), caller().actor
    made = provision.renew_code(services().fleet, services().org, path.id, root_sha256=root, by=by, now=now())
    return reply(_shown(made), 201)


def _shown(made: provision.Provisioned) -> DeviceWithCode:
    return DeviceWithCode(**dict(device(made.device)), code=made.code, code_expires_at=made.expires_at)
