"""What webhooks need from outside: rows, the sealing of secrets, and somebody who sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from evidence.model import AuditEvent
from evidence.webhooks.model import Delivery, Outcome, Told, Webhook


class Seal(Protocol):
    """Keeps secrets unreadable at rest. ``bound_to`` is the row they belong to; elsewhere they do not open."""

    def seal(self, text: str, *, bound_to: str) -> str:
        """What to store."""

    def open(self, sealed: str, *, bound_to: str) -> str:
        """The text again; raises SecretUnreadable."""


class WebhookRows(Protocol):
    """Webhooks at rest. Events are written in the transaction of the change."""

    def all(self, org: str) -> Sequence[Webhook]:
        """In order of id."""

    def get(self, org: str, webhook: str) -> Webhook:
        """Raises UnknownWebhook."""

    def add(self, webhook: Webhook, event: AuditEvent, *, most: int) -> Webhook:
        """Store a new one, its position at the end of the log; raises TooManyWebhooks when there are ``most``."""

    def save(self, webhook: Webhook, event: AuditEvent, *, from_now: bool) -> Webhook:
        """Store a change of revision ``webhook.revision``, which goes up by one; its waiting deliveries fail if it is
        disabled. ``from_now`` moves its position to the end of the log. Raises UnknownWebhook, WebhookChanged."""

    def remove(self, org: str, webhook: str, event: AuditEvent) -> None:
        """Forget it with its deliveries; raises UnknownWebhook."""


class DeliveryRows(Protocol):
    """Deliveries at rest."""

    def unseen(self, webhook: Webhook, limit: int) -> Sequence[Told]:
        """Events behind the webhook's position, in order."""

    def queue(self, webhook: Webhook, upto: int, deliveries: Sequence[Delivery]) -> bool:
        """Store new deliveries and move the position in one transaction; False and nothing when it was moved before,
        or the webhook was disabled."""

    def add(self, org: str, event: AuditEvent, make: Delivery) -> Delivery:
        """Write the event, and a delivery of just this event: ``make`` with its message and seq."""

    def due(self, org: str, now: datetime, *, limit: int, each: int) -> Sequence[Delivery]:
        """Waiting ones whose time has come, the longest waiting first, at most ``each`` of one webhook."""

    def told(self, delivery: Delivery) -> Told:
        """The event of a delivery."""

    def get(self, org: str, delivery: str) -> Delivery:
        """Raises UnknownDelivery."""

    def save(self, before: Delivery, after: Delivery, events: Sequence[AuditEvent]) -> bool:
        """Store a change if nobody was first; False and nothing otherwise."""

    def failing(self, webhook: Webhook, since: datetime | None) -> None:
        """Remember the first failure since the last success; None for a success."""


class Sender(Protocol):
    """Sends one request and says what came of it, whatever that is; never raises for it."""

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST to a receiver, without following it anywhere else."""
