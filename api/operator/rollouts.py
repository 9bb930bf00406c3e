"""Rollouts: create, watch, and the words of people that move them."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Response
from pydantic import AwareDatetime, BaseModel, Field

from api.auth.permissions import Permission
from api.errors import ApiError, from_domain
from api.operator.artifacts import By, Reason, Segment
from api.operator.audit import Event, event
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    check_match,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from rollout import model
from rollout.decision import MalformedDocument, decision_path, decode_decision
from rollout.errors import RolloutError
from rollout.plan import PlanRequest
from rollout.service import RolloutView

api = Routes("rollouts", "Rollouts")


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


class StepQuery(PageQuery):
    """Filters of a rollout's devices."""

    wave: int | None = Field(None, ge=1, le=500)
    progress: model.Progress | None = None


class WavePath(IdPath):
    """A wave of a rollout, counted from 1."""

    number: int = Field(ge=1, le=500)


@api.on("POST", "/rollouts", Rollout, permission=Permission.ROLLOUTS_CREATE, status=201)
def create_rollout(body: CreateRollout) -> Response:
    """Make a rollout and submit it"""
    engine, org, by = services().rollouts, services().org, caller().actor
    made = engine.create(org, _request(body), by=by, now=now())
    if not body.draft:
        try:
            engine.submit(org, made.id, by=by, now=now())
        except RolloutError as error:
            refused = from_domain(error)
            if refused is None:
                raise
            raise ApiError(refused.status, refused.code, f"{error}; it is kept as the draft {made.id}") from error
    return reply(_shown(made.id), 201)


@api.on("GET", "/rollouts", Page[Rollout], permission=Permission.ROLLOUTS_READ)
def list_rollouts(query: RolloutQuery) -> Response:
    """List rollouts, newest first"""
    org, stored = services().org, services().rollout_store
    found = stored.list(
        org, state=query.state, product=query.product, after=decode_cursor(query.cursor), limit=query.limit + 1
    )
    total = stored.count(org, state=query.state, product=query.product) if query.total else None
    shown = [rollout(services().rollouts.view(one, now())) for one in found]
    return reply_page(page(shown, query.limit, lambda item: item.id, total))


@api.on("GET", "/rollouts/{id}", Rollout, permission=Permission.ROLLOUTS_READ)
def get_rollout(path: IdPath) -> Response:
    """Show one rollout, and why it does not move"""
    return reply(_shown(path.id))


@api.on("PATCH", "/rollouts/{id}", Rollout, permission=Permission.ROLLOUTS_CREATE)
def edit_rollout(path: IdPath, body: NewRollout) -> Response:
    """Replace the plan of a rollout that has not started; approvals are cleared"""
    check_match(_shown(path.id))
    is_admin = Permission.USERS_ADMIN in caller().permissions
    services().rollouts.edit(services().org, path.id, _request(body), by=caller().actor, now=now(), as_admin=is_admin)
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/submit", Rollout, permission=Permission.ROLLOUTS_CREATE)
def submit_rollout(path: IdPath) -> Response:
    """Submit a draft"""
    services().rollouts.submit(services().org, path.id, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/approve", Rollout, permission=Permission.ROLLOUTS_APPROVE)
def approve_rollout(path: IdPath, body: Approve) -> Response:
    """Say yes to one wave of exactly this plan"""
    plan_hash = body.plan_hash or services().rollout_store.get(services().org, path.id).plan_hash
    services().rollouts.approve(
        services().org, path.id, wave=body.wave, plan_hash=plan_hash, by=caller().actor, now=now()
    )
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/refuse", Rollout, permission=Permission.ROLLOUTS_APPROVE)
def refuse_rollout(path: IdPath, body: Reason) -> Response:
    """Say no to the plan: it becomes a draft again"""
    services().rollouts.refuse(services().org, path.id, reason=body.reason, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/pause", Rollout, permission=Permission.ROLLOUTS_PAUSE)
def pause_rollout(path: IdPath, body: Reason) -> Response:
    """Pause: devices that have started may finish, nobody new starts"""
    services().rollouts.pause(services().org, path.id, reason=body.reason, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/resume", Rollout, permission=Permission.ROLLOUTS_RESUME)
def resume_rollout(path: IdPath, body: Reason) -> Response:
    """Go on where it was; after a failed wave this takes an approver"""
    approver = Permission.ROLLOUTS_APPROVE in caller().permissions
    services().rollouts.resume(
        services().org, path.id, reason=body.reason, by=caller().actor, as_approver=approver, now=now()
    )
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/retry", Rollout, permission=Permission.ROLLOUTS_RETRY)
def retry_rollout(path: IdPath, body: Retry) -> Response:
    """Offer the release again to devices that failed"""
    devices = [services().fleet.device(services().org, name).id for name in body.devices or ()]
    services().rollouts.retry(services().org, path.id, devices=devices, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/abort", Rollout, permission=Permission.ROLLOUTS_ABORT)
def abort_rollout(path: IdPath, body: Abort) -> Response:
    """End a rollout: stop, or take devices back to what they ran"""
    services().rollouts.abort(services().org, path.id, reason=body.reason, mode=body.mode, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("GET", "/rollouts/{id}/devices", Page[DeviceStep], permission=Permission.ROLLOUTS_READ)
def list_rollout_devices(path: IdPath, query: StepQuery) -> Response:
    """List the devices that reported, each with its last step"""
    org, stored = services().org, services().rollout_store
    found = stored.devices(
        org, path.id, wave=query.wave, progress=query.progress, after=decode_cursor(query.cursor), limit=query.limit + 1
    )
    names = services().fleet.names(org, [one.device for one in found])
    steps = [
        DeviceStep(
            device_id=one.device,
            device_name=names.get(one.device, ""),
            wave=one.wave,
            attempt=one.attempt,
            progress=one.progress,
            code=one.code,
            detail=one.detail,
            at=one.at,
        )
        for one in found
    ]
    return reply_page(page(steps, query.limit, lambda item: item.device_id, None))


@api.on("GET", "/rollouts/{id}/events", Page[Event], permission=Permission.ROLLOUTS_READ)
def list_rollout_events(path: IdPath, query: PageQuery) -> Response:
    """List what happened to a rollout, oldest first"""
    services().rollout_store.get(services().org, path.id)
    after = int(decode_cursor(query.cursor) or 0)
    found = services().audit.events(services().org, after_seq=after, limit=query.limit + 1, subject=path.id)
    return reply_page(page([event(one) for one in found], query.limit, lambda item: str(item.seq), None))


@api.on(
    "GET",
    "/rollouts/{id}/waves/{number}/decision",
    None,
    permission=Permission.ROLLOUTS_READ,
    media_types=("application/json",),
)
def get_decision(path: WavePath) -> Response:
    """Download the signed decision of a wave's group, byte for byte as devices read it"""
    found = services().rollout_store.get(services().org, path.id)
    document = None
    if path.number <= len(found.plan.waves):
        wave = found.plan.waves[path.number - 1]
        document = services().repository.served(decision_path(found.plan.product, wave.group))
    if document is None or not _is_of(document, found.id):
        message = f"wave {path.number} of {path.id} has no decision of this rollout now"
        raise ApiError(404, "decision_not_found", message)
    return Response(document, mimetype="application/json")


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
            expected=shown.expected.get(number, 0),
            acting=counters.acting,
            succeeded=counters.succeeded,
            failed=counters.failed,
            rolled_back=counters.rolled_back,
        ),
    )


def _shown(rollout_id: str) -> Rollout:
    return rollout(services().rollouts.show(services().org, rollout_id, now()))


def _is_of(document: bytes, rollout_id: str) -> bool:
    try:
        return decode_decision(document).rollout == rollout_id
    except MalformedDocument:
        return False


def _request(body: NewRollout) -> PlanRequest:
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
