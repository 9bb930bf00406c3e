"""What the rollout routes speak: bodies in, rollouts out."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from api.operator.artifacts import By, Reason, Segment
from api.operator.routes import Body, IdPath, PageQuery
from rollout import model
from rollout.outlook import Outlook
from rollout.plan import PlanRequest
from rollout.service import RolloutView

NAME = r"^[a-z0-9._+-]{1,100}$"  # of a group or channel, as a filter


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
    report_timeout_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="a device without a result is silent after that long without a word"
    )
    silent: model.Silent = Field(model.Silent.FAIL, description="silent devices are failures, or left out")


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
    """The plan that is hashed; there, rules that came later are absent where they are the default."""

    product: str
    version: str
    channel: str
    artifacts: dict[str, ArtifactOf]
    waves: list[WavePlan]
    keep_open: bool
    allow_downgrade: bool
    note: str


class ApprovalShown(BaseModel):
    """A person's yes."""

    by: By
    at: datetime


class CountersShown(BaseModel):
    """What the devices of a wave have reported; `expected` is how many are in it, about, in a large group.

    In a list of rollouts `expected` is null: it is not counted there.
    """

    expected: int | None
    acting: int
    succeeded: int
    failed: int
    rolled_back: int


class RateShown(BaseModel):
    """`hits` of `results` in percent, with the 95 % Wilson interval that the true rate lies in: 8 of 8 may be 68 %."""

    hits: int
    results: int
    percent: float
    low: float
    high: float


class OutlookShown(BaseModel):
    """An opened wave's rates and clocks.

    `success` is of the devices with a result, `failure` of the results since the last resume, as the gate looks at
    them. `unheard` and `stalled` are silent past the report timeout: never heard of, and begun but not finished.
    """

    success: RateShown | None
    failure: RateShown | None
    unheard: int
    stalled: int
    soaks_until: datetime | None
    silent_from: datetime | None
    deadline_at: datetime | None


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
    outlook: OutlookShown | None = Field(None, description="null before the wave opened, and in lists")


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


class RolloutQuery(PageQuery):
    """Filters of the list; all given must hold. `group` is one that a wave of the rollout is for."""

    state: model.State | None = None
    product: str | None = Field(None, max_length=100)
    channel: str | None = Field(None, pattern=NAME)
    group: str | None = Field(None, pattern=NAME)
    sort: Literal["-created_at", "created_at", "product", "-product"] = "-created_at"


class Approve(Body):
    """A yes to one wave. `plan_hash` is the hash of the plan that was read; another one is refused."""

    wave: int = Field(ge=1, le=500)
    plan_hash: str | None = Field(None, max_length=64)


class Retry(Body):
    """Devices to offer the release again, by id; all that failed when left out."""

    devices: list[str] | None = Field(None, min_length=1, max_length=1000)


class Abort(Reason):
    """Why, and whether devices return to what they ran."""

    mode: model.AbortMode = model.AbortMode.STOP


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
            expected=shown.expected.get(number),
            acting=counters.acting,
            succeeded=counters.succeeded,
            failed=counters.failed,
            rolled_back=counters.rolled_back,
        ),
        outlook=_outlook(shown.outlooks.get(number)),
    )


def _outlook(found: Outlook | None) -> OutlookShown | None:
    if found is None:
        return None
    return OutlookShown(
        success=None if found.success is None else RateShown(**asdict(found.success)),
        failure=None if found.failure is None else RateShown(**asdict(found.failure)),
        unheard=found.silence.unheard,
        stalled=found.silence.stalled,
        soaks_until=found.soaks_until,
        silent_from=found.silent_from,
        deadline_at=found.deadline_at,
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
    )


def _gate(gate: Gate) -> model.Gate:
    not_before = None if gate.not_before is None else gate.not_before.astimezone(UTC)
    return model.Gate(**{**gate.model_dump(), "not_before": not_before})
