"""Rollouts: create, watch, and the words of people that move them."""

from __future__ import annotations

from datetime import timedelta

from flask import Response

from api.auth.permissions import Permission
from api.codes import MOVES, PLANS, READS
from api.errors import ApiError, from_domain
from api.operator.approvals import take_signature, to_be_signed, waits_for_signatures
from api.operator.artifacts import Reason
from api.operator.audit import Event, event
from api.operator.rollout_schemas import (
    Abort,
    Approve,
    CreateRollout,
    DecisionQuery,
    NewRollout,
    Retry,
    Rollout,
    RolloutQuery,
    WavePath,
    plan_request,
    rollout,
)
from api.operator.routes import (
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    check_match,
    decode_cursor,
    decode_seq,
    now,
    page,
    reply,
    reply_page,
    services,
)
from rollout.decision import MalformedDocument, decision_path, decode_decision
from rollout.errors import InvalidPlan, RolloutError
from rollout.plan import PlanRequest
from store.audit import EventFilter
from store.rollout_lists import RolloutFilter, place

api = Routes("rollouts", "Rollouts")


@api.on("POST", "/rollouts", Rollout, permission=Permission.ROLLOUTS_CREATE, status=201, errors=(*PLANS, *MOVES))
def create_rollout(body: CreateRollout) -> Response:
    """Make a rollout and submit it"""
    made = services().rollouts.create(services().org, request_of(body), by=caller().actor, now=now())
    if not body.draft:
        submit_or_keep(made.id)
    return reply(_shown(made.id), 201)


@api.on("GET", "/rollouts", Page[Rollout], permission=Permission.ROLLOUTS_READ)
def list_rollouts(query: RolloutQuery) -> Response:
    """List rollouts, newest first unless sorted otherwise"""
    org, stored = services().org, services().rollout_store
    wanted = RolloutFilter(state=query.state, product=query.product, channel=query.channel, group=query.group)
    after = decode_cursor(query.cursor)
    found = stored.list(org, wanted, sort=query.sort, after=after, limit=query.limit + 1)
    total = stored.count(org, wanted) if query.total else None
    places = {one.id: place(one, query.sort) for one in found}
    shown = [rollout(one) for one in services().rollouts.glance(found, now())]
    return reply_page(page(shown, query.limit, lambda item: places[item.id], total))


@api.on("GET", "/rollouts/{id}", Rollout, permission=Permission.ROLLOUTS_READ, errors=(*READS, "rollout_not_found"))
def get_rollout(path: IdPath) -> Response:
    """Show one rollout, and why it does not move"""
    return reply(_shown(path.id))


@api.on(
    "PATCH",
    "/rollouts/{id}",
    Rollout,
    permission=Permission.ROLLOUTS_CREATE,
    tagged=True,
    errors=(*PLANS, *MOVES),
)
def edit_rollout(path: IdPath, body: NewRollout) -> Response:
    """Replace the plan of a rollout that has not started; approvals are cleared"""
    check_match(_shown(path.id))
    is_admin = Permission.USERS_ADMIN in caller().permissions
    services().rollouts.edit(services().org, path.id, request_of(body), by=caller().actor, now=now(), as_admin=is_admin)
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/submit", Rollout, permission=Permission.ROLLOUTS_CREATE, errors=(*PLANS, *MOVES))
def submit_rollout(path: IdPath) -> Response:
    """Submit a draft"""
    services().rollouts.submit(services().org, path.id, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on(
    "POST",
    "/rollouts/{id}/approve",
    Rollout,
    permission=Permission.ROLLOUTS_APPROVE,
    errors=(*MOVES, "approval_refused", "draft_moved", "draft_not_found", "invalid_draft", "signature_refused"),
)
def approve_rollout(path: IdPath, body: Approve) -> Response:
    """Say yes to one wave of exactly this plan"""
    found = services().rollout_store.get(services().org, path.id)
    plan_hash = body.plan_hash or found.plan_hash
    if body.signature is not None:
        take_signature(found, body.wave, body.signature, plan_hash)
        return reply(_shown(path.id))
    services().rollouts.approve(
        services().org, path.id, wave=body.wave, plan_hash=plan_hash, by=caller().actor, now=now()
    )
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/advance", Rollout, permission=Permission.ROLLOUTS_RESUME, errors=MOVES)
def advance_rollout(path: IdPath) -> Response:
    """Open the wave that waits for an operator's word"""
    services().rollouts.advance(services().org, path.id, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on(
    "POST",
    "/rollouts/{id}/refuse",
    Rollout,
    permission=Permission.ROLLOUTS_APPROVE,
    errors=(*MOVES, "approval_refused"),
)
def refuse_rollout(path: IdPath, body: Reason) -> Response:
    """Say no to the plan: it becomes a draft again"""
    services().rollouts.refuse(services().org, path.id, reason=body.reason, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/pause", Rollout, permission=Permission.ROLLOUTS_PAUSE, errors=MOVES)
def pause_rollout(path: IdPath, body: Reason) -> Response:
    """Pause: devices that have started may finish, nobody new starts"""
    services().rollouts.pause(services().org, path.id, reason=body.reason, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/resume", Rollout, permission=Permission.ROLLOUTS_RESUME, errors=MOVES)
def resume_rollout(path: IdPath, body: Reason) -> Response:
    """Go on where it was; after a failed wave this takes an approver"""
    approver = Permission.ROLLOUTS_APPROVE in caller().permissions
    services().rollouts.resume(
        services().org, path.id, reason=body.reason, by=caller().actor, as_approver=approver, now=now()
    )
    return reply(_shown(path.id))


@api.on(
    "POST", "/rollouts/{id}/retry", Rollout, permission=Permission.ROLLOUTS_RETRY, errors=(*MOVES, "device_not_found")
)
def retry_rollout(path: IdPath, body: Retry) -> Response:
    """Offer the release again to devices that failed, now or later"""
    devices = [services().fleet.device(services().org, name).id for name in body.devices or ()]
    after = None if body.after_seconds is None else timedelta(seconds=body.after_seconds)
    services().rollouts.retry(services().org, path.id, devices=devices, by=caller().actor, now=now(), after=after)
    return reply(_shown(path.id))


@api.on("POST", "/rollouts/{id}/abort", Rollout, permission=Permission.ROLLOUTS_ABORT, errors=MOVES)
def abort_rollout(path: IdPath, body: Abort) -> Response:
    """End a rollout: stop, or take devices back to what they ran"""
    services().rollouts.abort(services().org, path.id, reason=body.reason, mode=body.mode, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on("GET", "/rollouts/{id}/events", Page[Event], permission=Permission.ROLLOUTS_READ, errors=("rollout_not_found",))
def list_rollout_events(path: IdPath, query: PageQuery) -> Response:
    """List what happened to a rollout, oldest first"""
    org, audit, where = services().org, services().audit, EventFilter(subject=path.id)
    services().rollout_store.get(org, path.id)
    found = audit.events(org, where, after_seq=decode_seq(query.cursor) or 0, limit=query.limit + 1)
    total = audit.count(org, where) if query.total else None
    return reply_page(page([event(one) for one in found], query.limit, lambda item: str(item.seq), total))


@api.on(
    "GET",
    "/rollouts/{id}/waves/{number}/decision",
    None,
    permission=Permission.ROLLOUTS_READ,
    media_types=("application/json",),
    errors=(*MOVES, "decision_not_found", "invalid_draft"),
)
def get_decision(path: WavePath, query: DecisionQuery) -> Response:
    """Download the decision of a wave's group byte for byte; before it opens, what approvers have to sign"""
    found = services().rollout_store.get(services().org, path.id)
    if waits_for_signatures(found, path.number):
        return reply(to_be_signed(found, path.number, query.through or path.number))
    document = None
    if path.number <= len(found.plan.waves):
        wave = found.plan.waves[path.number - 1]
        document = services().repository.served(decision_path(found.plan.product, wave.group))
    if document is None or not _is_of(document, found.id):
        message = f"wave {path.number} of {path.id} has no decision of this rollout now"
        raise ApiError(404, "decision_not_found", message)
    return Response(document, mimetype="application/json")


def request_of(body: NewRollout) -> PlanRequest:
    """A body as the engine takes it, with the organisation's own templates."""
    request = plan_request(body, lambda name: services().templates.get(services().org, name))
    _refuse_unknown_sources(request)
    refuse_ignoring_freezes(request)
    return request


def _refuse_unknown_sources(request: PlanRequest) -> None:
    known = services().settings.metric_sources
    faults = [
        (
            f"waves.{number}.gate.metrics.{place}.source",
            f"expected one that this server has ({', '.join(sorted(known)) or 'it has none'}), found {metric.source!r}",
        )
        for number, wave in enumerate(request.waves, start=1)
        for place, metric in enumerate(wave.gate.metrics, start=1)
        if metric.source not in known
    ]
    if faults:
        raise InvalidPlan(faults)


def refuse_ignoring_freezes(request: PlanRequest) -> None:
    """Only an approver plans over freeze windows, unless every wave needs an approver anyway."""
    approved = all(wave.gate.approvals for wave in request.waves)
    if request.ignores_freeze and not approved and Permission.ROLLOUTS_APPROVE not in caller().permissions:
        message = (
            "only who may approve rollouts may ignore freeze windows, or a plan whose every wave asks for approvals"
        )
        raise ApiError(403, "permission_denied", message, permission=Permission.ROLLOUTS_APPROVE.value)


def submit_or_keep(rollout_id: str) -> None:
    """Submit a rollout just made; a refusal says under which id the draft is kept."""
    try:
        services().rollouts.submit(services().org, rollout_id, by=caller().actor, now=now())
    except RolloutError as error:
        refused = from_domain(error)
        if refused is None:
            raise
        raise ApiError(refused.status, refused.code, f"{error}; it is kept as the draft {rollout_id}") from error


def _shown(rollout_id: str) -> Rollout:
    return rollout(services().rollouts.show(services().org, rollout_id, now()))


def _is_of(document: bytes, rollout_id: str) -> bool:
    try:
        return decode_decision(document).rollout == rollout_id
    except MalformedDocument:
        return False
