"""Webhooks, their deliveries and each attempt, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from evidence.model import Actor, ActorKind, AuditEvent

COURIER: Final = Actor(ActorKind.SYSTEM, "system:webhooks", "webhooks")
TESTED_TAG: Final = "webhook.tested"
ALL_EVENTS: Final = "*"
KEPT_ATTEMPTS: Final = 20  # of one delivery; two whole rounds of retries


class Told(NamedTuple):
    """An event of the audit log and its place in it: ``seq`` is gapless, ``id`` is ``evt_…``."""

    seq: int
    id: str
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret; ``sealed`` is what the ``Seal`` port made of it. ``ends_at`` None: until it is rotated."""

    sealed: str = field(repr=False)
    made_at: datetime
    ends_at: datetime | None = None

    def signs(self, now: datetime) -> bool:
        """Whether messages sent now carry its signature."""
        return self.ends_at is None or now < self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A receiver of events.

    ``events`` are tags, each with all below it, or ``*``. ``secrets`` has the current one first. ``position`` is the
    ``seq`` of the last event looked at. ``failing_since`` is the first failure after the last success.
    """

    id: str
    org: str
    url: str
    description: str
    events: tuple[str, ...]
    secrets: tuple[Secret, ...]
    by: Actor
    created_at: datetime
    enabled: bool = True
    disabled_because: str = ""
    position: int = 0
    failing_since: datetime | None = None
    revision: int = 1

    def wants(self, tag: str) -> bool:
        """Whether events with this tag are sent to it; a test is sent only to the webhook that it tests."""
        if tag == TESTED_TAG:
            return False
        return any(one in (ALL_EVENTS, tag) or tag.startswith(f"{one}.") for one in self.events)


class DeliveryState(StrEnum):
    """``waiting`` for its next attempt, ``delivered``, or ``failed`` for good (until somebody replays it)."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. ``status`` is None when no answer came, then ``trouble`` says why. ``answer`` is its beginning."""

    at: datetime
    status: int | None
    trouble: str
    took_ms: int
    answer: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300

    def to_dict(self) -> dict[str, object]:
        """The stored form."""
        return {
            "at": self.at.isoformat(),
            "status": self.status,
            "trouble": self.trouble,
            "took_ms": self.took_ms,
            "answer": self.answer,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Attempt:
        """Read back what :meth:`to_dict` wrote."""
        at = datetime.fromisoformat(stored["at"])
        return cls(at, stored["status"], stored["trouble"], stored["took_ms"], stored["answer"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one webhook. ``message`` is the event's id and every attempt's ``webhook-id``.

    ``tries`` counts since it was made or replayed; ``attempts`` keeps the last ones of all.
    """

    id: str
    org: str
    webhook: str
    message: str
    seq: int
    tag: str
    created_at: datetime
    state: DeliveryState = DeliveryState.WAITING
    next_at: datetime | None = None
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()
    revision: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request. ``retry_after`` is in seconds, as the receiver asked."""

    status: int | None
    trouble: str
    took_ms: int
    answer: str = ""
    retry_after: int | None = None
