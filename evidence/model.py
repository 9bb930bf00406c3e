"""Audit events and the actors in them, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from evidence.ids import is_id


class ActorKind(StrEnum):
    """Who can do something: a person, an automation account, a device, or the product itself."""

    USER = "user"
    SERVICE = "service"
    DEVICE = "device"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it.

    ``id`` names the person, never the credential: two keys of one person are one actor, so
    that approvals count people. ``credential`` (``key_…``, ``ses_…``, ``tok_…``) is evidence only.
    """

    kind: ActorKind
    id: str
    name: str
    credential: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The form stored in events and signed records."""
        return {"kind": self.kind.value, "id": self.id, "name": self.name, "credential": self.credential}

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Actor:
        """Read back what :meth:`to_dict` wrote."""
        credential = stored.get("credential")
        return cls(
            ActorKind(str(stored["kind"])),
            str(stored["id"]),
            str(stored["name"]),
            None if credential is None else str(credential),
        )


SCHEDULER: Final = Actor(ActorKind.SYSTEM, "system:scheduler", "scheduler")
REPOSITORY: Final = Actor(ActorKind.SYSTEM, "system:repository", "repository")


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened, written in the transaction of the change it tells.

    ``tag`` is dotted and past (``rollout.wave.opened``), ``subject`` the id it happened to. ``data`` holds
    JSON values only and never a secret. The store gives each event its place (``seq``, gapless per
    organisation); it is not the caller's to choose.
    """

    tag: str
    subject: str
    by: Actor
    at: datetime
    data: Mapping[str, object] = field(default_factory=dict)


# A device's history has these from what it keeps of calls and of steps, where nothing is summed up.
_KEPT_ELSEWHERE: Final = frozenset({"device.online", "device.update.failed"})


def device_of(event: AuditEvent) -> str | None:
    """The device in whose history the event stands: its subject, or the ``device`` it tells of; None for no device."""
    if event.tag in _KEPT_ELSEWHERE:
        return None
    named = (event.subject, event.data.get("device"))
    return next((one for one in named if isinstance(one, str) and is_id(one, "dev")), None)
