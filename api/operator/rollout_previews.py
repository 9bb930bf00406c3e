"""A rollout before it happens: a dry run of a plan, or of the rest of a rollout. Nothing is stored."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from pydantic import BaseModel

from api.auth.permissions import Permission
from api.codes import PLANS
from api.operator.rollout_schemas import NewRollout, PlanShown
from api.operator.rollouts import request_of
from api.operator.routes import IdPath, Routes, caller, now, reply, services
from rollout.model import WaveState, plan_to_dict
from rollout.preview import Finding, Preview

api = Routes("rollout_previews", "Rollouts")


class SampleDevice(BaseModel):
    """One of the devices a wave reaches; `version` is what it runs of the product, null for nothing."""

    device_id: str
    device_name: str
    platform: str
    version: str | None


class WaveForecastShown(BaseModel):
    """What one wave would do.

    `devices` are those no wave before it reached, exact in groups of up to 10,000 and size times share in larger ones.
    `unfit` run a version that `from_versions` does not let in, `left_out` are excluded, `held_back` came into the group
    by an edit while a wave was open.
    `opens_at` and `passes_at` are the earliest moments; null when it never will.
    """

    number: int
    group: str
    percent: float
    count: int | None
    state: WaveState
    group_devices: int
    devices: int
    exact: bool
    sample: list[SampleDevice]
    platforms: dict[str, int]
    without_artifact: dict[str, int]
    already: int
    newer: int
    unfit: int
    left_out: int
    held_back: int
    approvals_needed: int
    approvals_given: int
    opens_at: datetime | None
    passes_at: datetime | None


class FindingShown(BaseModel):
    """Something to know before saying yes; `wave` is null where it is about the whole rollout."""

    code: str
    message: str
    wave: int | None


class PreviewShown(BaseModel):
    """Who, when, how many, and what blocks.

    `cohorts_known` is false for a plan with shares that is no rollout yet: which devices fall into a share is drawn
    when it is made. `blocks` keep a wave from opening, `notes` say what else follows.
    """

    plan: PlanShown
    plan_hash: str
    cohorts_known: bool
    devices: int
    waves: list[WaveForecastShown]
    blocks: list[FindingShown]
    notes: list[FindingShown]


@api.on("POST", "/rollouts/preview", PreviewShown, permission=Permission.ROLLOUTS_READ, errors=PLANS)
def preview_plan(body: NewRollout) -> Response:
    """Foresee a plan: who would get it, when, how many, and what blocks; nothing is stored"""
    found = services().previews.of_plan(services().org, request_of(body), by=caller().actor, now=now())
    return reply(_shown(found))


@api.on("GET", "/rollouts/{id}/preview", PreviewShown, permission=Permission.ROLLOUTS_READ, errors=PLANS)
def preview_rollout(path: IdPath) -> Response:
    """Foresee the rest of a rollout: who is next, when, how many, and what blocks"""
    return reply(_shown(services().previews.of_rollout(services().org, path.id, now())))


def _shown(found: Preview) -> PreviewShown:
    return PreviewShown(
        plan=PlanShown.model_validate(plan_to_dict(found.plan)),
        plan_hash=found.plan_hash,
        cohorts_known=found.cohorts_are_known,
        devices=found.devices,
        waves=[
            WaveForecastShown(
                number=wave.number,
                group=wave.group,
                percent=wave.percent,
                count=wave.count,
                state=wave.state,
                group_devices=wave.group_devices,
                devices=wave.devices,
                exact=wave.is_exact,
                sample=[
                    SampleDevice(device_id=one.device, device_name=one.name, platform=one.platform, version=one.version)
                    for one in wave.sample
                ],
                platforms=dict(wave.platforms),
                without_artifact=dict(wave.without_artifact),
                already=wave.already,
                newer=wave.newer,
                unfit=wave.unfit,
                left_out=wave.left_out,
                held_back=wave.held_back,
                approvals_needed=wave.approvals_needed,
                approvals_given=wave.approvals_given,
                opens_at=wave.opens_at,
                passes_at=wave.passes_at,
            )
            for wave in found.waves
        ],
        blocks=[_finding(one) for one in found.blocks],
        notes=[_finding(one) for one in found.notes],
    )


def _finding(one: Finding) -> FindingShown:
    return FindingShown(code=one.code, message=one.message, wave=one.wave)
