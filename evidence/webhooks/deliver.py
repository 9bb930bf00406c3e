"""From the stored event to the receiver: who gets it, and one attempt after another until it is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from evidence.errors import SecretUnreadable, UnknownWebhook, WebhookChanged
from evidence.ids import new_id
from evidence.model import AuditEvent
from evidence.webhooks.message import body_of, headers_of
from evidence.webhooks.model import COURIER, Attempt, Delivery, Outcome, Webhook
from evidence.webhooks.ports import DeliveryRows, Seal, Sender, WebhookRows
from evidence.webhooks.schedule import settle, why_disabled

_EVENTS_AT_ONCE: Final = 200
_DUE_AT_ONCE: Final = 32
_DUE_EACH: Final = 4  # of one webhook, so that a slow receiver leaves room for the others


@dataclass(frozen=True, slots=True)
class Courier:
    """Carries events to receivers, each at least once.

    A delivery is stored before it is sent and changed after: whoever stops in between sends it again, with the same
    ``webhook-id``. ``chance`` gives numbers from 0 up to 1.
    """

    rows: WebhookRows
    deliveries: DeliveryRows
    seal: Seal
    sender: Sender
    chance: Callable[[], float]

    def collect(self, org: str, now: datetime) -> int:
        """Make deliveries of the events that webhooks have not looked at; how many."""
        made = 0
        for webhook in self.rows.all(org):
            if not webhook.enabled:
                continue
            unseen = self.deliveries.unseen(webhook, _EVENTS_AT_ONCE)
            if not unseen:
                continue
            wanted = [
                Delivery(
                    id=new_id("dlv"),
                    org=org,
                    webhook=webhook.id,
                    message=told.id,
                    seq=told.seq,
                    tag=told.event.tag,
                    created_at=now,
                    next_at=now,
                )
                for told in unseen
                if webhook.wants(told.event.tag)
            ]
            if self.deliveries.queue(webhook, unseen[-1].seq, wanted):
                made += len(wanted)
        return made

    def due(self, org: str, now: datetime) -> Sequence[Delivery]:
        """What is to be sent now, some of it; any number may be sent at the same time."""
        return self.deliveries.due(org, now, limit=_DUE_AT_ONCE, each=_DUE_EACH)

    def attempt(self, delivery: Delivery, now: datetime) -> None:
        """Send once, and store what came of it; nothing is sent to a webhook that was disabled or deleted meanwhile."""
        try:
            webhook = self.rows.get(delivery.org, delivery.webhook)
        except UnknownWebhook:
            return
        if not webhook.enabled:
            return
        self.record(delivery, self._send(webhook, delivery, now), now)

    def record(self, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
        """Store the outcome of an attempt at ``now``, and disable the webhook when it is the last straw."""
        attempt = Attempt(now, outcome.status, outcome.trouble, outcome.took_ms, outcome.answer)
        after = settle(delivery, attempt, retry_after=outcome.retry_after, now=now, chance=self.chance())
        if not self.deliveries.save(delivery, after, []):
            return  # replayed or sent by another process meanwhile, and stored by it
        try:
            # Read anew: another delivery may have succeeded while this one was on its way.
            webhook = self.rows.get(delivery.org, delivery.webhook)
            self.deliveries.failing(webhook, None if attempt.succeeded else webhook.failing_since or now)
            reason = why_disabled(webhook, attempt, now=now)
            if reason is not None and webhook.enabled:
                event = AuditEvent("webhook.disabled", webhook.id, COURIER, now, {"reason": reason})
                self.rows.save(replace(webhook, enabled=False, disabled_because=reason), event, from_now=False)
        except (UnknownWebhook, WebhookChanged):
            # Deleted or changed just now by a person, who knows better; a later attempt judges anew.
            return

    def _send(self, webhook: Webhook, delivery: Delivery, now: datetime) -> Outcome:
        try:
            signing = [self.seal.open(one.sealed, bound_to=webhook.id) for one in webhook.secrets if one.signs(now)]
        except SecretUnreadable as error:
            return Outcome(None, str(error), 0)
        body = body_of(self.deliveries.told(delivery), delivery.org)
        return self.sender.send(webhook.url, headers_of(delivery.message, body, signing, now=now), body)
