"""Rollouts, intents and progress as JSON values and back, exactly: what the store keeps is what the machine gave.

Every ``…_from_dict`` raises ValueError (InvalidPlan for the plan inside) when a field is missing or garbled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields as fields_of
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from evidence.model import Actor, AuditEvent
from rollout.model import (
    AbortMode,
    Approval,
    Counters,
    DeviceProgress,
    Progress,
    Refusal,
    Rollout,
    State,
    Wave,
    WaveState,
    plan_to_dict,
)
from rollout.plan import plan_from_dict
from rollout.ports import Intent

_P = ParamSpec("_P")
_T = TypeVar("_T")


def rollout_to_dict(rollout: Rollout) -> dict[str, object]:
    """JSON values only; times are RFC 3339 UTC to the microsecond."""
    return {
        "id": rollout.id,
        "org": rollout.org,
        "plan": plan_to_dict(rollout.plan),
        "plan_hash": rollout.plan_hash,
        "created_by": rollout.created_by.to_dict(),
        "created_at": time_to_text(rollout.created_at),
        "salt": rollout.salt,
        "state": rollout.state.value,
        "revision": rollout.revision,
        "wave": rollout.wave,
        "waves": [_wave_to_dict(wave) for wave in rollout.waves],
        "approvals": [
            {
                "wave": one.wave,
                "by": one.by.to_dict(),
                "at": time_to_text(one.at),
                "plan_hash": one.plan_hash,
                "signature": one.signature,
            }
            for one in rollout.approvals
        ],
        "refusals": [
            {"by": one.by.to_dict(), "at": time_to_text(one.at), "plan_hash": one.plan_hash, "reason": one.reason}
            for one in rollout.refusals
        ],
        "submitted_at": _some_time_to_text(rollout.submitted_at),
        "ended_at": _some_time_to_text(rollout.ended_at),
        "paused_from": None if rollout.paused_from is None else rollout.paused_from.value,
        "paused_because": rollout.paused_because,
        "pause_needs_approver": rollout.pause_needs_approver,
        "attempt": rollout.attempt,
        "device_attempts": dict(rollout.device_attempts),
        "abort_mode": None if rollout.abort_mode is None else rollout.abort_mode.value,
        "abort_reason": rollout.abort_reason,
        "superseded_by": rollout.superseded_by,
        "editors": [one.to_dict() for one in rollout.editors],
        "retried_revision": rollout.retried_revision,
        "braked_revision": rollout.braked_revision,
        **_later_fields(rollout),
    }


def _garbled_is_value_error(read: Callable[_P, _T]) -> Callable[_P, _T]:
    def reading(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return read(*args, **kwargs)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{read.__name__}: a field is missing or garbled: {error!r}") from error

    return reading


@_garbled_is_value_error
def rollout_from_dict(stored: Mapping[str, Any]) -> Rollout:
    """The rollout that :func:`rollout_to_dict` was given."""
    return Rollout(
        id=stored["id"],
        org=stored["org"],
        plan=plan_from_dict(stored["plan"]),
        plan_hash=stored["plan_hash"],
        created_by=Actor.from_dict(stored["created_by"]),
        created_at=datetime.fromisoformat(stored["created_at"]),
        salt=stored["salt"],
        state=State(stored["state"]),
        revision=stored["revision"],
        wave=stored["wave"],
        waves=tuple(_wave_from_dict(wave) for wave in stored["waves"]),
        approvals=tuple(
            Approval(
                wave=one["wave"],
                by=Actor.from_dict(one["by"]),
                at=datetime.fromisoformat(one["at"]),
                plan_hash=one["plan_hash"],
                signature=one["signature"],
            )
            for one in stored["approvals"]
        ),
        refusals=tuple(
            Refusal(
                by=Actor.from_dict(one["by"]),
                at=datetime.fromisoformat(one["at"]),
                plan_hash=one["plan_hash"],
                reason=one["reason"],
            )
            for one in stored["refusals"]
        ),
        submitted_at=_some_time(stored["submitted_at"]),
        ended_at=_some_time(stored["ended_at"]),
        paused_from=None if stored["paused_from"] is None else State(stored["paused_from"]),
        paused_because=stored["paused_because"],
        pause_needs_approver=stored["pause_needs_approver"],
        attempt=stored["attempt"],
        device_attempts=dict(stored["device_attempts"]),
        abort_mode=None if stored["abort_mode"] is None else AbortMode(stored["abort_mode"]),
        abort_reason=stored["abort_reason"],
        superseded_by=stored["superseded_by"],
        editors=tuple(Actor.from_dict(one) for one in stored["editors"]),
        retried_revision=stored["retried_revision"],
        braked_revision=stored["braked_revision"],
        origin=stored.get("origin"),
        rolled_back_because=stored.get("rolled_back_because"),
        retry_at=_some_time(stored.get("retry_at")),
        retry_devices=tuple(stored.get("retry_devices", ())),
    )


def intent_to_dict(intent: Intent) -> dict[str, object]:
    """JSON values only."""
    return {
        "id": intent.id,
        "seen": intent.seen,
        "after": rollout_to_dict(intent.after),
        "events": [event_to_dict(event) for event in intent.events],
        "decision_hash": intent.decision_hash,
        "changes": dict(intent.changes),
        "proposed_at": time_to_text(intent.proposed_at),
    }


@_garbled_is_value_error
def intent_from_dict(stored: Mapping[str, Any]) -> Intent:
    """The intent that :func:`intent_to_dict` was given."""
    return Intent(
        id=stored["id"],
        seen=stored["seen"],
        after=rollout_from_dict(stored["after"]),
        events=tuple(event_from_dict(event) for event in stored["events"]),
        decision_hash=stored["decision_hash"],
        changes=dict(stored["changes"]),
        proposed_at=datetime.fromisoformat(stored["proposed_at"]),
    )


def event_to_dict(event: AuditEvent) -> dict[str, object]:
    """JSON values only; the event has no place (``seq``) yet."""
    return {
        "tag": event.tag,
        "subject": event.subject,
        "by": event.by.to_dict(),
        "at": time_to_text(event.at),
        "data": dict(event.data),
    }


@_garbled_is_value_error
def event_from_dict(stored: Mapping[str, Any]) -> AuditEvent:
    """The event that :func:`event_to_dict` was given."""
    return AuditEvent(
        stored["tag"],
        stored["subject"],
        Actor.from_dict(stored["by"]),
        datetime.fromisoformat(stored["at"]),
        dict(stored["data"]),
    )


def progress_to_dict(progress: DeviceProgress) -> dict[str, object]:
    """JSON values only."""
    return {
        "device": progress.device,
        "wave": progress.wave,
        "attempt": progress.attempt,
        "progress": progress.progress.value,
        "at": time_to_text(progress.at),
        "code": progress.code,
        "detail": progress.detail,
        "failures": progress.failures,
        "finishes": progress.finishes,
        "last_report": progress.last_report,
    }


@_garbled_is_value_error
def progress_from_dict(stored: Mapping[str, Any]) -> DeviceProgress:
    """The progress that :func:`progress_to_dict` was given."""
    return DeviceProgress(
        device=stored["device"],
        wave=stored["wave"],
        attempt=stored["attempt"],
        progress=Progress(stored["progress"]),
        at=datetime.fromisoformat(stored["at"]),
        code=stored["code"],
        detail=stored["detail"],
        failures=stored["failures"],
        finishes=stored["finishes"],
        last_report=stored["last_report"],
    )


def counters_to_dict(counters: Counters) -> dict[str, object]:
    """JSON values only."""
    return {one.name: getattr(counters, one.name) for one in fields_of(Counters)}


@_garbled_is_value_error
def counters_from_dict(stored: Mapping[str, Any]) -> Counters:
    """The counters that :func:`counters_to_dict` was given."""
    return Counters(**{one.name: stored[one.name] for one in fields_of(Counters)})


def _later_fields(rollout: Rollout) -> dict[str, object]:
    """Absent at their defaults, as in every rollout stored before they were thought of."""
    told: dict[str, object] = {}
    if rollout.origin is not None:
        told["origin"] = rollout.origin
    if rollout.rolled_back_because is not None:
        told["rolled_back_because"] = rollout.rolled_back_because
    if rollout.retry_at is not None:
        told["retry_at"] = time_to_text(rollout.retry_at)
    if rollout.retry_devices:
        told["retry_devices"] = list(rollout.retry_devices)
    return told


def time_to_text(moment: datetime) -> str:
    """RFC 3339 in UTC, with ``Z``."""
    return moment.isoformat().replace("+00:00", "Z")


def _some_time_to_text(moment: datetime | None) -> str | None:
    return None if moment is None else time_to_text(moment)


def _some_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _wave_to_dict(wave: Wave) -> dict[str, object]:
    told: dict[str, object] = {
        "state": wave.state.value,
        "opened_at": _some_time_to_text(wave.opened_at),
        "ended_at": _some_time_to_text(wave.ended_at),
        "note": wave.note,
        "judged_from": counters_to_dict(wave.judged_from),
        "resumed_at": _some_time_to_text(wave.resumed_at),
        "opened_revision": wave.opened_revision,
        "signed": wave.signed,
    }
    if wave.reach is not None:
        told["reach"] = wave.reach
    if wave.silence_judged:
        told["silence_judged"] = wave.silence_judged
    return told


def _wave_from_dict(stored: Mapping[str, Any]) -> Wave:
    return Wave(
        state=WaveState(stored["state"]),
        opened_at=_some_time(stored["opened_at"]),
        ended_at=_some_time(stored["ended_at"]),
        note=stored["note"],
        judged_from=counters_from_dict(stored["judged_from"]),
        resumed_at=_some_time(stored["resumed_at"]),
        opened_revision=stored["opened_revision"],
        signed=stored.get("signed", False),
        reach=stored.get("reach"),
        silence_judged=stored.get("silence_judged", 0),
    )
