"""What the rollout routes speak: bodies in, rollouts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, field_serializer

from api.operator.artifacts import By, Reason, Segment
from api.operator.plan_schemas import (
    Budget,
    DeviceRequirement,
    Gate,
    RetryPolicy,
    TemplateCall,
    WavePlan,
    Window,
    template_call,
    wave_plan,
    window,
)
from api.operator.routes import Body, IdPath, PageQuery
from rollout import budget as budgets
from rollout import model, templates
from rollout.errors import InvalidPlan
from rollout.outlook import Outlook
from rollout.plan import PlanRequest
from rollout.views import RolloutView

NAME = r"^[a-z0-9._+-]{1,100}$"  # of a group or channel, as a filter


class NewRollout(Body):
    """A release and how it reaches the fleet: either `waves`, or a `template` that makes them."""

    product: Segment
    version: Segment
    channel: Segment = "stable"
    waves: list[WavePlan] = Field(default=[], max_length=500)
    template: TemplateCall | None = None
    keep_open: bool = Field(True, description="after completion, serve devices that come later")
    allow_downgrade: bool = False
    note: str = Field("", max_length=1000)
    from_versions: list[str] = Field(
        default=[], max_length=100, description="versions, or bounds as `>=1.2,<2`, that a device must come from"
    )
    requires: list[DeviceRequirement] = Field(default=[], max_length=100, description="what else a device must run")
    after: list[str] = Field(default=[], max_length=100, description="rollouts that must be completed first, by id")
    window: Window | None = Field(None, description="when devices may start to install")
    spread_seconds: int = Field(0, ge=0, le=31_536_000, description="devices of a wave start over so long")
    retry: RetryPolicy | None = None
    ignores_freeze: bool = Field(False, description="opens waves in freeze windows; for approvers, or with approvals")
    priority: model.Priority = Field(
        model.Priority.NORMAL, description="`security`: goes before normal ones, also newer ones"
    )
    budget: Budget | None = Field(None, description="devices ask for a permit before they install")


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
    from_versions: list[str] = []
    requires: list[DeviceRequirement] = []
    after: list[str] = []
    window: Window | None = None
    spread_seconds: int = 0
    retry: RetryPolicy | None = None
    ignores_freeze: bool = False
    priority: model.Priority = model.Priority.NORMAL
    budget: Budget | None = None


class ApprovalShown(BaseModel):
    """A person's yes; `keyid` is the approver's own key that signed it, null where the login is the yes."""

    by: By
    at: datetime
    keyid: str | None = None


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
    percent: int | float
    count: int | None
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
    cloned_from: str | None
    rolled_back_because: str | None
    retry_at: datetime | None

    @field_serializer("plan")
    def _as_hashed(self, plan: PlanShown) -> dict[str, Any]:
        # What a plan does not say is absent from what is hashed; whoever checks the hash needs it so.
        return plan.model_dump(mode="json", exclude_unset=True)


class RolloutQuery(PageQuery):
    """Filters of the list; all given must hold. `group` is one that a wave of the rollout is for."""

    state: model.State | None = Field(None, description="in this state")
    product: str | None = Field(None, max_length=100, description="of this product")
    channel: str | None = Field(None, pattern=NAME, description="in this channel")
    group: str | None = Field(None, pattern=NAME, description="with a wave for this group")
    sort: Literal["-created_at", "created_at", "product", "-product"] = Field(
        "-created_at", description="the order; `-` turns it round"
    )


class ApproverSignature(Body):
    """One key's signatures (hex) over what `GET …/decision` gave to sign, by wave."""

    keyid: str = Field(min_length=1, max_length=128)
    waves: dict[int, Annotated[str, StringConstraints(min_length=1, max_length=3900)]] = Field(
        min_length=1, max_length=100
    )


class Approve(Body):
    """A yes to one wave. `plan_hash` is the hash of the plan that was read; another one is refused.

    Where approvers sign with their own keys, `signature` is what opens the wave, and those of its schedule.
    """

    wave: int = Field(ge=1, le=500)
    plan_hash: str | None = Field(None, max_length=64)
    signature: ApproverSignature | None = None


class Retry(Body):
    """Devices to offer the release again, by id; all that failed when left out."""

    devices: list[str] | None = Field(None, min_length=1, max_length=1000)
    after_seconds: int | None = Field(None, ge=1, le=31_536_000, description="not now, but so long from now")


class Abort(Reason):
    """Why, and whether devices return to what they ran."""

    mode: model.AbortMode = model.AbortMode.STOP


class WavePath(IdPath):
    """A wave of a rollout, counted from 1."""

    number: int = Field(ge=1, le=500, description="place of the wave in the plan, from 1")


class DecisionQuery(Body):
    """How far a schedule reaches that is to be signed at once."""

    through: int | None = Field(None, ge=1, le=500, description="last wave to sign, the wave itself by default")


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
        mode="signed" if shown.signed else "managed",
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
        count=plan.count,
        gate=Gate.model_validate(model.gate_to_dict(plan.gate)),
        state=wave.state,
        opened_at=wave.opened_at,
        ended_at=wave.ended_at,
        note=wave.note,
        approvals=[
            ApprovalShown(
                by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name),
                at=one.at,
                keyid=None if one.signature is None else one.signature.partition(":")[0],
            )
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


def plan_request(body: NewRollout, stored: Callable[[str], templates.Template]) -> PlanRequest:
    """A body as the engine takes it, a template of it expanded; ``stored`` answers the organisation's own.

    Raises InvalidPlan (waves and a template, or neither), UnknownTemplate, InvalidTemplate.
    """
    if bool(body.waves) == (body.template is not None):
        found = "both" if body.waves else "neither"
        raise InvalidPlan([("waves", f"expected either waves or a template, found {found}")])
    if body.template is None:
        waves = tuple(wave_plan(wave) for wave in body.waves)
    else:
        waves = templates.expand(template_call(body.template), body.template.name, stored)
    retry = body.retry
    return PlanRequest(
        product=body.product,
        version=body.version,
        channel=body.channel,
        waves=waves,
        keep_open=body.keep_open,
        allow_downgrade=body.allow_downgrade,
        note=body.note,
        from_versions=tuple(body.from_versions),
        requires=tuple(model.Requirement(product=one.product, at_least=one.at_least) for one in body.requires),
        after=tuple(body.after),
        window=None if body.window is None else window(body.window),
        spread_seconds=body.spread_seconds,
        retry=None
        if retry is None
        else model.RetryPolicy(count=retry.count, backoff_seconds=retry.backoff_seconds, codes=tuple(retry.codes)),
        ignores_freeze=body.ignores_freeze,
        budget=None if body.budget is None else budgets.Budget(**body.budget.model_dump()),
        priority=body.priority,
    )
