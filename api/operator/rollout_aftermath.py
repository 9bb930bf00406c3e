"""Rollouts after they went their way: devices called back, another one made like it, the books checked."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import MOVES, PLANS, READS
from api.operator.artifacts import Reason, Segment
from api.operator.plan_schemas import Budget, DeviceRequirement, RetryPolicy, TemplateCall, WavePlan, Window
from api.operator.rollout_schemas import NewRollout, Rollout, rollout
from api.operator.rollouts import refuse_ignoring_freezes, request_of, submit_or_keep
from api.operator.routes import Body, IdPath, Routes, caller, now, reply, services
from rollout import aftermath, model
from rollout.aftermath import Aftermath

api = Routes("rollout_aftermath", "Rollouts")

_CLEARED_BY_NULL = frozenset({"window", "retry", "budget"})


class CloneRollout(Body):
    """What is to differ from the rollout cloned; what is left out stays. It is a draft unless submitted."""

    product: Segment | None = None
    version: Segment | None = None
    channel: Segment | None = None
    waves: list[WavePlan] | None = Field(None, min_length=1, max_length=500)
    keep_open: bool | None = None
    allow_downgrade: bool | None = None
    note: str | None = Field(None, max_length=1000)
    priority: model.Priority | None = None
    template: TemplateCall | None = Field(None, description="instead of waves")
    from_versions: list[str] | None = Field(None, max_length=100)
    requires: list[DeviceRequirement] | None = Field(None, max_length=100)
    after: list[str] | None = Field(None, max_length=100)
    window: Window | None = Field(None, description="null when named: no window")
    spread_seconds: int | None = Field(None, ge=0, le=31_536_000)
    retry: RetryPolicy | None = Field(None, description="null when named: no retries")
    budget: Budget | None = Field(None, description="null when named: no budget")
    ignores_freeze: bool | None = None
    submit: bool = False


class Rerun(Body):
    """The same plan once more; it is submitted at once unless it is a draft."""

    draft: bool = False


class Tally(BaseModel):
    """The counters of one wave, as kept or as counted anew."""

    acting: int
    succeeded: int
    failed: int
    rolled_back: int
    failures: int
    finishes: int


class WaveTally(BaseModel):
    """One wave: `kept` moves with every report, `counted` is from the devices' last steps. They must be equal."""

    wave: int
    kept: Tally
    counted: Tally


class Recounted(BaseModel):
    """A rollout checked; `faults` is empty when counters, history and signed documents are what they must be."""

    id: str
    state: model.State
    revision: int
    is_sound: bool
    faults: list[str]
    waves: list[WaveTally]


@api.on("POST", "/rollouts/{id}/roll-back", Rollout, permission=Permission.ROLLOUTS_ABORT, errors=MOVES)
def roll_back_rollout(path: IdPath, body: Reason) -> Response:
    """Call devices back from a rollout that has ended: each returns to what it ran before"""
    _aftermath().roll_back(services().org, path.id, reason=body.reason, by=caller().actor, now=now())
    return reply(_shown(path.id))


@api.on(
    "POST", "/rollouts/{id}/clone", Rollout, permission=Permission.ROLLOUTS_CREATE, status=201, errors=(*PLANS, *MOVES)
)
def clone_rollout(path: IdPath, body: CloneRollout) -> Response:
    """Make another rollout like this one, with changes"""
    source = services().rollout_store.get(services().org, path.id)
    wanted = {name: value for name, value in model.plan_to_dict(source.plan).items() if name != "artifacts"}
    told = body.model_dump(exclude_unset=True, exclude={"submit"})
    wanted |= {name: value for name, value in told.items() if value is not None or name in _CLEARED_BY_NULL}
    if body.template is not None and body.waves is None:
        del wanted["waves"]
    request = request_of(NewRollout.model_validate(wanted))
    made = _aftermath().clone(services().org, path.id, request, by=caller().actor, now=now())
    return _handed_in(made.id, submit=body.submit)


@api.on(
    "POST", "/rollouts/{id}/rerun", Rollout, permission=Permission.ROLLOUTS_CREATE, status=201, errors=(*PLANS, *MOVES)
)
def rerun_rollout(path: IdPath, body: Rerun) -> Response:
    """Run a rollout that has ended once more, for devices that failed or never got it"""
    refuse_ignoring_freezes(aftermath.request_of(services().rollout_store.get(services().org, path.id)))
    made = _aftermath().rerun(services().org, path.id, by=caller().actor, now=now())
    return _handed_in(made.id, submit=not body.draft)


@api.on(
    "GET",
    "/rollouts/{id}/recount",
    Recounted,
    permission=Permission.ROLLOUTS_READ,
    errors=(*READS, "rollout_not_found"),
)
def recount_rollout(path: IdPath) -> Response:
    """Check a rollout: counters against devices, history against state, state against what is served"""
    found = _aftermath().recount(services().org, path.id, services().rollout_store)
    return reply(
        Recounted(
            id=found.rollout.id,
            state=found.rollout.state,
            revision=found.rollout.revision,
            is_sound=not found.faults,
            faults=list(found.faults),
            waves=[
                WaveTally(wave=wave, kept=_tally(found.kept, wave), counted=_tally(found.counted, wave))
                for wave in sorted({*found.kept, *found.counted})
            ],
        )
    )


def _aftermath() -> Aftermath:
    return Aftermath(services().rollouts)


def _handed_in(rollout_id: str, *, submit: bool) -> Response:
    if submit:
        submit_or_keep(rollout_id)
    return reply(_shown(rollout_id), 201)


def _shown(rollout_id: str) -> Rollout:
    return rollout(services().rollouts.show(services().org, rollout_id, now()))


def _tally(counters: Mapping[int, model.Counters], wave: int) -> Tally:
    found = counters.get(wave, model.Counters())
    return Tally(
        acting=found.acting,
        succeeded=found.succeeded,
        failed=found.failed,
        rolled_back=found.rolled_back,
        failures=found.failures,
        finishes=found.finishes,
    )
