"""What must hold before a command is obeyed; each raises and changes nothing."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from evidence.model import ActorKind
from rollout import gate
from rollout.commands import (
    Approve,
    Command,
    Edit,
    FailWave,
    OpenWave,
    PassWave,
    Refuse,
    Resume,
    Retry,
    RetryLater,
    RollBack,
)
from rollout.errors import ApprovalRefused, InvalidCommand, PlanChanged, TransitionNotAllowed
from rollout.gate import Outcome
from rollout.model import AbortMode, Rollout, WaveState
from rollout.plan import check_plan, is_plain_text

MAX_REASON_LENGTH: Final = 500  # characters; the reason travels in a signed document to every device
MAX_SIGNATURE_LENGTH: Final = 4_096  # characters
MAX_RETRIED_DEVICES: Final = 1_000  # about 40 KB of the decision; more are retried as "all that failed"
MAX_RETRY_SPAN: Final = timedelta(days=366)
_DEVICE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def anything_goes(rollout: Rollout, command: Command, now: datetime) -> None:
    """The state alone decides."""


def has_reason(rollout: Rollout, command: Command, now: datetime) -> None:  # noqa: ARG001
    """A person will want to know why: 1 to 500 characters of plain text."""
    reason = getattr(command, "reason", getattr(command, "cause", ""))
    if not reason.strip() or len(reason) > MAX_REASON_LENGTH or not is_plain_text(reason):
        raise InvalidCommand(
            f"{command.name} needs a reason of 1 to {MAX_REASON_LENGTH} characters without control characters"
        )


def plan_is_valid(rollout: Rollout, command: Command, now: datetime) -> None:  # noqa: ARG001
    """Asked again on submitting: the rules may have grown since the draft was written."""
    check_plan(rollout.plan)


def may_edit(rollout: Rollout, command: Edit, now: datetime) -> None:  # noqa: ARG001
    """Only before the first wave opens: devices already act on the plan after that, and cohorts only grow."""
    if command.by.id != rollout.created_by.id and not command.as_admin:
        raise TransitionNotAllowed(f"{rollout.id} was created by {rollout.created_by.name}; they or an admin can edit")
    if has_opened(rollout):
        raise TransitionNotAllowed(
            f"wave 1 of {rollout.id} has been opened, its plan stands; abort it and create another rollout"
        )
    check_plan(command.plan)


def may_approve(rollout: Rollout, command: Approve, now: datetime) -> None:  # noqa: ARG001
    """A distinct person who neither wrote nor refused the plan, for a pending wave of exactly this plan."""
    person = command.by
    if command.plan_hash != rollout.plan_hash:
        raise PlanChanged(
            f"the plan of {rollout.id} has the hash {rollout.plan_hash}, not {command.plan_hash[:64]!r}; look again"
        )
    if person.kind is not ActorKind.USER:
        raise ApprovalRefused(f"{person.name} is a {person.kind} account; a person must approve")
    if person.id == rollout.created_by.id:
        raise ApprovalRefused(f"{person.name} created {rollout.id}; another person must approve it")
    if any(person.id == editor.id for editor in rollout.editors):
        raise ApprovalRefused(f"{person.name} edited the plan of {rollout.id}; another person must approve it")
    if any(one.by.id == person.id and one.plan_hash == rollout.plan_hash for one in rollout.refusals):
        raise ApprovalRefused(f"{person.name} refused this plan; another person must approve it, or it must be edited")
    _wave_exists(rollout, command.wave)
    state = rollout.waves[command.wave - 1].state
    if state is not WaveState.PENDING:
        raise TransitionNotAllowed(f"wave {command.wave} of {rollout.id} is {state}, only a pending one is approved")
    if person.id in gate.approvers(rollout, command.wave) and not _signs_anew(rollout, command):
        raise ApprovalRefused(f"{person.name} approved wave {command.wave} already; another person must")
    signature = command.signature
    if signature is not None and (len(signature) > MAX_SIGNATURE_LENGTH or not is_plain_text(signature)):
        raise InvalidCommand(f"a signature has at most {MAX_SIGNATURE_LENGTH} characters")


def may_refuse(rollout: Rollout, command: Refuse, now: datetime) -> None:
    """Any person may, the creator too, with a reason."""
    if command.by.kind is not ActorKind.USER:
        raise ApprovalRefused(f"{command.by.name} is a {command.by.kind} account; a person must refuse")
    has_reason(rollout, command, now)


def may_open(rollout: Rollout, command: OpenWave, now: datetime) -> None:
    """The gate of the awaited wave holds."""
    _is_current(rollout, command.wave)
    if (command.reach is None) != (rollout.plan.waves[command.wave - 1].count is None):
        raise InvalidCommand(
            f"wave {command.wave} of {rollout.id} is opened with its reach if, and only if, it has a count"
        )
    verdict = gate.may_open(rollout, now, by_hand=command.by.kind is not ActorKind.SYSTEM)
    if verdict.outcome is not Outcome.PASS:
        raise TransitionNotAllowed(f"{rollout.id}: {verdict.reason}")


def has_passed(rollout: Rollout, command: PassWave, now: datetime) -> None:  # noqa: ARG001
    """The verdict is about the open wave, and is a pass."""
    _is_current(rollout, command.wave)
    if command.verdict.outcome is not Outcome.PASS:
        raise TransitionNotAllowed(f"{rollout.id}: {command.verdict.reason}")


def has_failed(rollout: Rollout, command: FailWave, now: datetime) -> None:
    """The verdict is about the open wave and says why."""
    _is_current(rollout, command.wave)
    has_reason(rollout, command, now)


def may_resume(rollout: Rollout, command: Resume, now: datetime) -> None:
    """After a failed wave, or a refusal, an approver; not the creator where the plan asks for approvals at all."""
    has_reason(rollout, command, now)
    if not rollout.pause_needs_approver:
        return
    if not command.as_approver:
        raise TransitionNotAllowed(f"{rollout.id} paused because {rollout.paused_because}; an approver must resume it")
    wrote_it = command.by.id in {rollout.created_by.id, *(editor.id for editor in rollout.editors)}
    if wrote_it and any(wave.gate.approvals for wave in rollout.plan.waves):
        raise ApprovalRefused(
            f"{command.by.name} wrote the plan of {rollout.id}, which asks for approvals; another approver must"
        )


def may_retry(rollout: Rollout, command: Retry, now: datetime) -> None:  # noqa: ARG001
    """Something has been offered before, and the list of devices fits into a signed document."""
    if not has_opened(rollout):
        raise TransitionNotAllowed(f"no wave of {rollout.id} has been opened; there is nothing to retry")
    if any(_DEVICE.fullmatch(device) is None for device in command.devices):
        raise InvalidCommand("devices to retry are named by their ids")
    if len({*rollout.device_attempts, *command.devices}) > MAX_RETRIED_DEVICES:
        raise InvalidCommand(f"at most {MAX_RETRIED_DEVICES} devices are retried by name; retry all that failed")


def may_retry_later(rollout: Rollout, command: RetryLater, now: datetime) -> None:
    """What may be retried now may be retried later, within a year; a moment that is past is now."""
    may_retry(rollout, Retry(by=command.by, devices=command.devices), now)
    if not now < command.at <= now + MAX_RETRY_SPAN:
        raise InvalidCommand(f"a retry is planned for a moment within {MAX_RETRY_SPAN.days} days from now")


def may_roll_back(rollout: Rollout, command: RollBack, now: datetime) -> None:
    """Something was offered, and its devices have not been called back before."""
    has_reason(rollout, command, now)
    if not has_opened(rollout):
        raise TransitionNotAllowed(f"no wave of {rollout.id} has been opened; no device has anything to give back")
    if rollout.rolled_back_because is not None or rollout.abort_mode is AbortMode.ROLL_BACK:
        raise TransitionNotAllowed(f"devices have been told to leave {rollout.id} already")


def has_opened(rollout: Rollout) -> bool:
    """Whether any wave has ever been opened."""
    return any(wave.opened_at is not None for wave in rollout.waves)


def _signs_anew(rollout: Rollout, command: Approve) -> bool:
    """Whether somebody who said yes signs now, or signs what has moved since; a second key is no second yes."""
    if command.signature is None:
        return False
    mine = [one.signature for one in rollout.approvals if (one.by.id, one.wave) == (command.by.id, command.wave)]
    keyid, version = _key_and_version(command.signature)
    return all(one is None or _key_and_version(one)[1] != version or _key_and_version(one)[0] == keyid for one in mine)


def _key_and_version(signature: str) -> tuple[str, str]:
    keyid, _, rest = signature.partition(":")
    return keyid, rest.partition(":")[0]


def _wave_exists(rollout: Rollout, number: int) -> None:
    if isinstance(number, bool) or not 1 <= number <= len(rollout.waves):
        raise InvalidCommand(f"{rollout.id} has waves 1 to {len(rollout.waves)}, found {number}")


def _is_current(rollout: Rollout, number: int) -> None:
    _wave_exists(rollout, number)
    if number != rollout.wave:
        raise TransitionNotAllowed(f"{rollout.id} is at wave {rollout.wave}, not {number}")
