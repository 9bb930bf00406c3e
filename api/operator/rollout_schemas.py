"""What the rollout routes speak: bodies in, rollouts out."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, Field

from api.operator.artifacts import By, Reason, Segment
from api.operator.routes import Body, IdPath, PageQuery
from rollout import model
from rollout.plan import PlanRequest
from rollout.service import RolloutView


class Gate(Body):
    """What must hold before a wave opens, passes, or pauses the rollout; `null` switches a rule off."""

    approvals: int = Field(0, ge=0, le=20, description="distinct people, the creator excluded")
    not_before: AwareDatetime | None = None
    soak_seconds: int = Field(0, ge=0, le=31_536_000, description="least time the wave runs before it may pass")
    success_percent: int = Field(90, ge=1, le=100, description="of the wave's acting devices")
    min_reports: int = Field(1, ge=1, le=1_000_000, description="results needed before judging")
    max_failures: int | None = Field(None, ge=1, le=1_000_000, description="pauses at this many failures")
    max_failure_rate_percent: int | None = Field(10, ge=0, le=100, description="pauses above this rate")
    deadline_seconds: int | None = Field(None, ge=1, le=31_536_000, description="pauses when not passed by then")


class WavePlan(Body):
    """One group's turn. `percent` is the share of the group reached once this wave is open."""

    group: Segment
    percent: int = Field(100, ge=1, le=100)
    gate: Gate = Field(default_factory=Gate)


class NewRollout(Body):
    """A release and how it reaches the fleet."""

    product: Segment
    version: Segment
    channel: Segment = "stable"
    waves: list[WavePlan] = Field(min_length=1, max_length=500)
    keep_open: bool = Field(True, description="after completion, serve devices that come later")
    allow_downgrade: bool = False
    note: str = Field("", max_length=1000)
    priority: model.Priority = Field(
        model.Priority.NORMAL, description="`security`: goes before normal ones, also newer ones"
    )


class CreateRollout(NewRollout):
    """A rollout to make; it is submitted at once unless it is a draft."""

    draft: bool = False


class ArtifactOf(BaseModel):
    """What one platform gets."""

    id: str
    path: str
    length: int
    sha256: str


class PlanShown(BaseModel):
    """The plan as it is hashed."""

    product: str
    version: str
    channel: str
    artifacts: dict[str, ArtifactOf]
    waves: list[WavePlan]
    keep_open: bool
    allow_downgrade: bool
    note: str
    priority: model.Priority = model.Priority.NORMAL


class ApprovalShown(BaseModel):
    """A person's yes."""

    by: By
    at: datetime


class CountersShown(BaseModel):
    """What the devices of a wave have reported; `expected` is how many are in it, about, in a large group."""

    expected: int
    acting: int
    succeeded: int
    failed: int
    rolled_back: int


class WaveShown(BaseModel):
    """One wave and how far it has come."""

    number: int
    group: str
    percent: int
    gate: Gate
    state: model.WaveState
    opened_at: datetime | None
    ended_at: datetime | None
    note: str
    approvals: list[ApprovalShown]
    approvals_needed: int
    counters: CountersShown


class Rollout(BaseModel):
    """A rollout. `why` says in one line what it waits for, or why it is blocked."""

    id: str
    product: str
    version: str
    channel: str
    state: model.State
    revision: int
    mode: str
    why: str
    plan_hash: str
    plan: PlanShown
    wave: int
    waves: list[WaveShown]
    attempt: int
    created_by: By
    created_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    paused_because: str | None
    abort_mode: model.AbortMode | None
    abort_reason: str | None
    superseded_by: str | None
    cloned_from: str | None
    rolled_back_because: str | None
    retry_at: datetime | None


class RolloutQuery(PageQuery):
    """Filters of the list."""

    state: model.State | None = None
    product: str | None = Field(None, max_length=100)


class Approve(Body):
    """A yes to one wave. `plan_hash` is the hash of the plan that was read; another one is refused."""

    wave: int = Field(ge=1, le=500)
    plan_hash: str | None = Field(None, max_length=64)


class Retry(Body):
    """Devices to offer the release again, by id; all that failed when left out."""

    devices: list[str] | None = Field(None, min_length=1, max_length=1000)
    after_seconds: int | None = Field(None, ge=1, le=31_536_000, description="not now, but so long from now")


class Abort(Reason):
    """Why, and whether devices return to what they ran."""

    mode: model.AbortMode = model.AbortMode.STOP


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
    """Filters of a rollout's devices."""

    wave: int | None = Field(None, ge=1, le=500)
    progress: model.Progress | None = None


class WavePath(IdPath):
    """A wave of a rollout, counted from 1."""

    number: int = Field(ge=1, le=500)


def rollout(shown: RolloutView) -> Rollout:
    """A rollout as the API shows it."""
    found = shown.rollout
    return Rollout(
        id=found.id,
        product=found.plan.product,
        version=found.plan.version,
        channel=found.plan.channel,
        state=found.state,
        revision=found.revision,
        mode="managed",
        why=shown.why,
        plan_hash=found.plan_hash,
        plan=PlanShown.model_validate(model.plan_to_dict(found.plan)),
        wave=found.wave,
        waves=[_wave(shown, number) for number in range(1, len(found.plan.waves) + 1)],
        attempt=found.attempt,
        created_by=By(kind=found.created_by.kind.value, id=found.created_by.id, name=found.created_by.name),
        created_at=found.created_at,
        submitted_at=found.submitted_at,
        ended_at=found.ended_at,
        paused_because=found.paused_because,
        abort_mode=found.abort_mode,
        abort_reason=found.abort_reason,
        superseded_by=found.superseded_by,
        cloned_from=found.origin,
        rolled_back_because=found.rolled_back_because,
        retry_at=found.retry_at,
    )


def _wave(shown: RolloutView, number: int) -> WaveShown:
    found = shown.rollout
    plan, wave = found.plan.waves[number - 1], found.waves[number - 1]
    counters = shown.counters.get(number, model.Counters())
    return WaveShown(
        number=number,
        group=plan.group,
        percent=plan.percent,
        gate=Gate.model_validate(model.gate_to_dict(plan.gate)),
        state=wave.state,
        opened_at=wave.opened_at,
        ended_at=wave.ended_at,
        note=wave.note,
        approvals=[
            ApprovalShown(by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name), at=one.at)
            for one in found.approvals
            if one.wave == number
        ],
        approvals_needed=plan.gate.approvals,
        counters=CountersShown(
            expected=shown.expected.get(number, 0),
            acting=counters.acting,
            succeeded=counters.succeeded,
            failed=counters.failed,
            rolled_back=counters.rolled_back,
        ),
    )


def plan_request(body: NewRollout) -> PlanRequest:
    """A body as the engine takes it."""
    return PlanRequest(
        product=body.product,
        version=body.version,
        channel=body.channel,
        waves=tuple(
            model.WavePlan(group=wave.group, percent=wave.percent, gate=_gate(wave.gate)) for wave in body.waves
        ),
        keep_open=body.keep_open,
        allow_downgrade=body.allow_downgrade,
        note=body.note,
        priority=body.priority,
    )


def _gate(gate: Gate) -> model.Gate:
    not_before = None if gate.not_before is None else gate.not_before.astimezone(UTC)
    return model.Gate(**{**gate.model_dump(), "not_before": not_before})
