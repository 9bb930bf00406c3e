"""What a device is asked to do once: send a bundle of its logs, or reboot. Values, and the one table of its states.

========== ==================================================================================
state      at rest because
========== ==================================================================================
waiting    the device has not called since
delivered  an answer to the device had it; answered again until the device says that it holds it
done       the device did it
failed     the device could not, and said why
expired    its time was over first
cancelled  somebody took it back
========== ==================================================================================

What a device did counts though its time was over, or it was taken back, before that was told: it happened.
Source: docs/adr/0156-commands-are-answered-until-they-are-held.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from evidence.model import Actor, AuditEvent
from fleet.errors import CommandOver


class Kind(StrEnum):
    """What is asked for."""

    LOGS = "logs"
    REBOOT = "reboot"


class CommandState(StrEnum):
    """Where a command can rest."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Verb(StrEnum):
    """What can happen to it."""

    DELIVER = "deliver"
    FINISH = "finish"
    FAIL = "fail"
    EXPIRE = "expire"
    CANCEL = "cancel"


OPEN: Final = frozenset({CommandState.WAITING, CommandState.DELIVERED})

_WAITING, _DELIVERED = CommandState.WAITING, CommandState.DELIVERED
_EXPIRED, _CANCELLED = CommandState.EXPIRED, CommandState.CANCELLED

TRANSITIONS: Final[Mapping[tuple[CommandState, Verb], CommandState]] = {
    (_WAITING, Verb.DELIVER): _DELIVERED,
    (_WAITING, Verb.EXPIRE): _EXPIRED,
    (_WAITING, Verb.CANCEL): _CANCELLED,
    (_DELIVERED, Verb.DELIVER): _DELIVERED,
    (_DELIVERED, Verb.FINISH): CommandState.DONE,
    (_DELIVERED, Verb.FAIL): CommandState.FAILED,
    (_DELIVERED, Verb.EXPIRE): _EXPIRED,
    (_DELIVERED, Verb.CANCEL): _CANCELLED,
    (_EXPIRED, Verb.FINISH): CommandState.DONE,
    (_CANCELLED, Verb.FINISH): CommandState.DONE,
}

# What the audit trail says of each; that a device has been told is in the command itself.
TAGS: Final[Mapping[tuple[Kind, Verb], str]] = {
    (Kind.LOGS, Verb.FINISH): "device.logs_uploaded",
    (Kind.LOGS, Verb.FAIL): "device.logs_failed",
    (Kind.LOGS, Verb.EXPIRE): "device.logs_expired",
    (Kind.LOGS, Verb.CANCEL): "device.logs_cancelled",
    (Kind.REBOOT, Verb.FINISH): "device.rebooted",
    (Kind.REBOOT, Verb.FAIL): "device.reboot_failed",
    (Kind.REBOOT, Verb.EXPIRE): "device.reboot_expired",
    (Kind.REBOOT, Verb.CANCEL): "device.reboot_cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of one device, to be carried out from ``not_before`` on and before ``expires_at``.

    ``own_window`` asks the device to wait for its own maintenance window besides. ``code`` and ``detail`` are what the
    device said when it ended.
    """

    id: str
    org: str
    device: str
    kind: Kind
    by: Actor
    made_at: datetime
    not_before: datetime
    expires_at: datetime
    own_window: bool = False
    reason: str = ""
    state: CommandState = CommandState.WAITING
    delivered_at: datetime | None = None
    ended_at: datetime | None = None
    code: str = ""
    detail: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it may still be carried out."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a device says came of a command. ``code`` is empty when it is done, ``boot_id`` what runs since then."""

    id: str
    done: bool
    code: str = ""
    detail: str = ""
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a device is answered: ``deliver`` these; ``drop`` the ids that it holds and that are wanted no more."""

    deliver: tuple[Command, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A log bundle that is here: ``command`` is its id, too. ``sha256`` in lower-case hex, ``length`` in bytes."""

    command: str
    org: str
    device: str
    length: int
    sha256: str
    files: int
    received_at: datetime
    kept_until: datetime

    @property
    def file(self) -> str:
        """What its bytes are called: the same name is the same bytes, however often they came."""
        return f"{self.command}.{self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A command after something happened to it, and the event that tells it; no event when the device was told."""

    command: Command
    event: AuditEvent | None = field(default=None)


def move(command: Command, verb: Verb, *, by: Actor, now: datetime, told: Mapping[str, object] | None = None) -> Moved:
    """Let something happen to a command.

    Args:
        told: What stands in the event besides; ``code`` and ``detail`` of it are kept with the command.

    Raises:
        CommandOver: It is not possible in the state the command is in.
    """
    to = TRANSITIONS.get((command.state, verb))
    if to is None:
        raise CommandOver(f"{command.id} is {command.state}: it cannot {verb} any more")
    if verb is Verb.DELIVER:
        return Moved(command=replace(command, state=to, delivered_at=command.delivered_at or now))
    more = dict(told or {})
    after = replace(command, state=to, ended_at=now, code=str(more.get("code", "")), detail=str(more.get("detail", "")))
    tag = TAGS[command.kind, verb]
    return Moved(command=after, event=AuditEvent(tag, command.device, by, now, {"command": command.id, **more}))
