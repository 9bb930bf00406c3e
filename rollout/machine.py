"""The transition table and the pure functions that run it.

The diagram and the table in ``docs/rollouts.md``, and the exhaustive test, are made from ``TRANSITIONS``. Every pair
that is not in it is refused. History is complete: an event carries its whole command, so that :func:`replay` gives the
stored rollout back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from evidence.model import Actor, AuditEvent
from rollout import effects, guards
from rollout.commands import (
    COMMANDS,
    Abort,
    Approve,
    Command,
    Edit,
    FailWave,
    OpenWave,
    PassWave,
    Pause,
    Refuse,
    Resume,
    Retry,
    RetryLater,
    RollBack,
    Submit,
    Supersede,
    command_from_dict,
    command_to_dict,
)
from rollout.errors import BrokenHistory, RolloutError, TransitionNotAllowed
from rollout.model import Plan, Rollout, State, Wave, plan_to_dict
from rollout.plan import check_plan, plan_from_dict

Guard = Callable[[Rollout, Any, datetime], None]
Effect = Callable[[Rollout, Any, datetime], Rollout]

CREATED: Final = "rollout.created"
COMPLETED_TAG: Final = "rollout.completed"


@dataclass(frozen=True, slots=True)
class Arrow:
    """Where a command leads from one state.

    ``to`` names one state, or two where the effect chooses; ``when`` is the guard in words, for the documentation.
    """

    to: tuple[State, ...]
    effect: Effect
    tag: str
    guard: Guard
    when: str


_SUBMIT: Final = Arrow(
    (State.WAITING,),
    effects.submit,
    "rollout.submitted",
    guards.plan_is_valid,
    "the plan is valid, its groups exist, its artifacts are signed and not yanked",
)
_EDIT: Final = Arrow(
    (State.DRAFT,),
    effects.edit,
    "rollout.edited",
    guards.may_edit,
    "by the creator or an admin, no wave was opened; approvals are cleared",
)
_APPROVE: Final = Arrow(
    (State.WAITING,),
    effects.approve,
    "rollout.wave.approved",
    guards.may_approve,
    "a distinct person who neither wrote nor refused the plan; the hash matches; the wave is pending",
)
_REFUSE: Final = Arrow(
    (State.DRAFT, State.PAUSED),
    effects.refuse,
    "rollout.wave.refused",
    guards.may_refuse,
    "a person, with a reason; paused instead of draft once a wave was opened",
)
_OPEN: Final = Arrow(
    (State.RUNNING,),
    effects.open_wave,
    "rollout.wave.opened",
    guards.may_open,
    "the wave before passed, approvals are in, `not_before` is past, an operator said so where needed, nothing is "
    "frozen, excluded or yanked",
)
_PASS: Final = Arrow(
    (State.WAITING, State.COMPLETED),
    effects.pass_wave,
    "rollout.wave.passed",
    guards.has_passed,
    "the gate passed; completed after the last wave (`rollout.completed` follows)",
)
_FAIL: Final = Arrow(
    (State.PAUSED,),
    effects.fail_wave,
    "rollout.wave.failed",
    guards.has_failed,
    "a failure limit or the deadline was reached",
)
_PAUSE_WAITING: Final = Arrow(
    (State.PAUSED,), effects.pause_waiting, "rollout.paused", guards.has_reason, "with a reason; remembers where"
)
_PAUSE_RUNNING: Final = replace(_PAUSE_WAITING, effect=effects.pause_running)
_RESUME: Final = Arrow(
    (State.WAITING, State.RUNNING),
    effects.resume,
    "rollout.resumed",
    guards.may_resume,
    "with a reason, back where it was; an approver after a failed wave; no artifact is yanked",
)
_RETRY: Final = Arrow(
    (State.RUNNING,),
    effects.retry,
    "rollout.retried",
    guards.may_retry,
    "a wave was opened; no artifact is yanked; attempt + 1 for the devices named, or all that failed",
)
_RETRY_LATER: Final = Arrow(
    (State.RUNNING,),
    effects.retry_later,
    "rollout.retry_planned",
    guards.may_retry_later,
    "a wave was opened; within a year; the scheduler retries then, once the rollout is running",
)
_ABORT: Final = Arrow((State.ABORTED,), effects.abort, "rollout.aborted", guards.has_reason, "with a reason and a mode")
_ROLL_BACK: Final = Arrow(
    (State.COMPLETED,),
    effects.roll_back,
    "rollout.rolled_back",
    guards.may_roll_back,
    "with a reason; a wave was opened; not called back before; no other rollout has reached its groups since",
)
_SUPERSEDE: Final = Arrow(
    (State.SUPERSEDED,),
    effects.supersede,
    "rollout.superseded",
    guards.anything_goes,
    "a newer rollout of the product has one of the groups: of the channel and priority, or a security one",
)

TRANSITIONS: Final[dict[tuple[State, type[Command]], Arrow]] = {
    (State.DRAFT, Submit): _SUBMIT,
    (State.DRAFT, Edit): _EDIT,
    (State.WAITING, Edit): _EDIT,
    (State.WAITING, Approve): _APPROVE,
    (State.WAITING, Refuse): _REFUSE,
    (State.WAITING, OpenWave): _OPEN,
    (State.RUNNING, PassWave): _PASS,
    (State.RUNNING, FailWave): _FAIL,
    (State.WAITING, Pause): _PAUSE_WAITING,
    (State.RUNNING, Pause): _PAUSE_RUNNING,
    (State.PAUSED, Resume): _RESUME,
    (State.RUNNING, Retry): _RETRY,
    (State.PAUSED, Retry): replace(_RETRY, to=(State.PAUSED,)),
    (State.RUNNING, RetryLater): _RETRY_LATER,
    (State.PAUSED, RetryLater): replace(_RETRY_LATER, to=(State.PAUSED,)),
    (State.DRAFT, Abort): _ABORT,
    (State.WAITING, Abort): _ABORT,
    (State.RUNNING, Abort): _ABORT,
    (State.PAUSED, Abort): _ABORT,
    (State.COMPLETED, RollBack): _ROLL_BACK,
    (State.ABORTED, RollBack): replace(_ROLL_BACK, to=(State.ABORTED,)),
    (State.WAITING, Supersede): _SUPERSEDE,
    (State.RUNNING, Supersede): _SUPERSEDE,
    (State.PAUSED, Supersede): _SUPERSEDE,
}


def begin(
    *, rollout_id: str, org: str, plan: Plan, salt: str, by: Actor, now: datetime, origin: str | None = None
) -> tuple[Rollout, AuditEvent]:
    """Make a draft at revision 1 and the event that tells it; raises InvalidPlan."""
    check_plan(plan)
    rollout = Rollout(
        id=rollout_id,
        org=org,
        plan=plan,
        plan_hash=plan.hash(),
        created_by=by,
        created_at=now,
        salt=salt,
        waves=tuple(Wave() for _ in plan.waves),
        origin=origin,
    )
    data = {
        "revision": 1,
        "to": State.DRAFT.value,
        "plan_hash": rollout.plan_hash,
        "org": org,
        "salt": salt,
        "plan": plan_to_dict(plan),
        **({} if origin is None else {"origin": origin}),
    }
    return rollout, AuditEvent(CREATED, rollout_id, by, now, data)


def apply(rollout: Rollout, command: Command, *, now: datetime) -> tuple[Rollout, tuple[AuditEvent, ...]]:
    """Obey ``command``, purely: the rollout at its next revision, and what is to be told.

    Args:
        rollout: As stored.
        command: One of ``rollout.commands.COMMANDS``.
        now: Aware, UTC.

    Returns:
        The rollout after, and one event; two after the last wave (``rollout.wave.passed``, ``rollout.completed``).

    Raises:
        TransitionNotAllowed: Not from this state, or the guard does not hold.
        ApprovalRefused, PlanChanged, InvalidPlan, InvalidCommand: As the guard of the arrow says.
    """
    arrow = TRANSITIONS.get((rollout.state, type(command)))
    if arrow is None:
        possible = ", ".join(possible_commands(rollout.state)) or "nothing, it has ended"
        raise TransitionNotAllowed(
            f"{command.name} is not possible while {rollout.id} is {rollout.state}; possible: {possible}"
        )
    arrow.guard(rollout, command, now)
    moved = replace(rollout, state=arrow.to[0], revision=rollout.revision + 1)
    after = arrow.effect(moved, command, now)
    if after.state not in arrow.to:
        raise TransitionNotAllowed(f"{command.name} cannot lead {rollout.id} to {after.state}")
    data: dict[str, object] = {
        "revision": after.revision,
        "from": rollout.state.value,
        "to": after.state.value,
        "wave": getattr(command, "wave", after.wave),
        "plan_hash": after.plan_hash,
        "command": command_to_dict(command),
    }
    event = AuditEvent(arrow.tag, rollout.id, command.by, now, data)
    if after.state is not State.COMPLETED or rollout.state is State.COMPLETED:
        return after, (event,)
    # A consequence, not a transition: same revision, no command, so that replay steps over it.
    ended = {"revision": after.revision, "follows": arrow.tag, "to": after.state.value, "plan_hash": after.plan_hash}
    return after, (event, AuditEvent(COMPLETED_TAG, rollout.id, command.by, now, ended))


def possible_commands(state: State) -> tuple[str, ...]:
    """Names of the commands the table knows for a state."""
    return tuple(command.name for command in COMMANDS if (state, command) in TRANSITIONS)


def replay(events: Iterable[AuditEvent]) -> Rollout:
    """Fold a rollout's events, from ``rollout.created`` on, to the rollout they tell.

    Raises:
        BrokenHistory: An event is missing, out of order, of another rollout, or could not have happened.
    """
    history = iter(events)
    try:
        rollout = _first(next(history))
    except (StopIteration, KeyError, TypeError, ValueError, RolloutError) as error:
        raise BrokenHistory(f"a history begins with {CREATED} and its plan: {error!r}") from error
    due: list[AuditEvent] = []
    for event in history:
        if due:
            _expect(event, due.pop(0))
            continue
        rollout, (told, *due) = _step(rollout, event)
        _expect(event, told)
    if due:
        raise BrokenHistory(f"{due[0].tag} is missing at the end of {rollout.id}")
    return rollout


def _first(event: AuditEvent) -> Rollout:
    data: Mapping[str, Any] = event.data
    rollout, told = begin(
        rollout_id=event.subject,
        org=data["org"],
        plan=plan_from_dict(data["plan"]),
        salt=data["salt"],
        by=event.by,
        now=event.at,
        origin=data.get("origin"),
    )
    _expect(event, told)
    return rollout


def _step(rollout: Rollout, event: AuditEvent) -> tuple[Rollout, tuple[AuditEvent, ...]]:
    told = event.data.get("command")
    if event.subject != rollout.id or not isinstance(told, Mapping):
        raise BrokenHistory(f"{event.tag} of {event.subject} tells no command for {rollout.id}")
    try:
        return apply(rollout, command_from_dict(told, event.by), now=event.at)
    except (ValueError, RolloutError) as error:
        raise BrokenHistory(
            f"{event.tag} cannot follow revision {rollout.revision} of {rollout.id}: {error}"
        ) from error


def _expect(found: AuditEvent, wanted: AuditEvent) -> None:
    if found != wanted:
        raise BrokenHistory(f"expected {wanted.tag} with {dict(wanted.data)!r}, found {found.tag} with {found.data!r}")
