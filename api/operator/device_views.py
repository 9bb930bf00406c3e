"""A device as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from api.operator.routes import now, services
from api.wiring import Wavegate
from fleet import model, rules


class RunningNow(BaseModel):
    """What a device says it runs of one product."""

    product: str
    version: str
    path: str
    sha256: str
    rollout_id: str


class Device(BaseModel):
    """One device. `state` is what its agent says of itself, in plain words; while pending it may have no `platform`.

    `held_back` are those of its groups that it is not told yet: somebody's edit put it there while a wave was open.
    """

    id: str
    name: str
    status: str
    platform: str
    hostname: str
    os_family: str
    os_name: str
    agent_version: str
    labels: dict[str, str]
    groups: list[str]
    held_back: list[str]
    online: bool
    last_seen_at: datetime | None
    created_at: datetime
    running: list[RunningNow]
    updates_available: int = Field(description="products it runs of which a newer artifact is published for it")
    critical_count: int | None = Field(description="open critical findings in what it runs; null: nobody looked")
    reboot_pending: str = Field(description="why it says it needs a reboot; empty: it needs none")
    state: str


def device(found: model.Device) -> Device:
    """One of this request's organisation, now."""
    return devices(services(), [found], now())[0]


def devices(wiring: Wavegate, found: Sequence[model.Device], moment: datetime) -> list[Device]:
    """Those of an organisation, in the order given."""
    updates = wiring.fleet.updates_available(wiring.org, [one.id for one in found if one.running])
    within = online_within(wiring)
    return [_shown(one, updates.get(one.id, 0), rules.online(one, moment, within=within)) for one in found]


def online_within(wiring: Wavegate) -> timedelta:
    """How long ago a device may have called to count as online."""
    return rules.online_within(timedelta(seconds=wiring.settings.check_in_seconds))


def _shown(found: model.Device, updates: int, is_online: bool) -> Device:
    return Device(
        id=found.id,
        name=found.name,
        status=found.status.value,
        platform=found.platform,
        hostname=found.hostname,
        os_family=found.os_family,
        os_name=found.os_name,
        agent_version=found.agent_version,
        labels=dict(found.labels),
        groups=list(found.groups),
        held_back=list(found.held_back),
        online=is_online,
        last_seen_at=found.last_seen_at,
        created_at=found.created_at,
        running=[
            RunningNow(
                product=one.product, version=one.version, path=one.path, sha256=one.sha256, rollout_id=one.rollout
            )
            for one in found.running.values()
        ],
        updates_available=updates,
        critical_count=None,
        reboot_pending=found.reboot_pending,
        state=found.state,
    )
