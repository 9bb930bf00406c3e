"""What people do with webhooks: make, change, rotate, test, replay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from evidence.errors import InvalidWebhook, UnknownDelivery, WebhookDisabled
from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from evidence.webhooks.addresses import Allowed, place_of
from evidence.webhooks.message import new_secret
from evidence.webhooks.model import ALL_EVENTS, TESTED_TAG, Delivery, DeliveryState, Secret, Webhook
from evidence.webhooks.ports import DeliveryRows, Seal, WebhookRows

MOST_WEBHOOKS: Final = 50  # of an organisation; each costs a look at the log every second
MOST_EVENTS: Final = 50
MOST_OVERLAP: Final = timedelta(days=7)
_TAG: Final = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to change; None leaves it."""

    url: str | None = None
    description: str | None = None
    events: Sequence[str] | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The use cases; ``allowed`` is what receivers may be beside the public network."""

    rows: WebhookRows
    deliveries: DeliveryRows
    seal: Seal
    allowed: Allowed

    def create(
        self, org: str, *, url: str, events: Sequence[str], description: str, by: Actor, now: datetime
    ) -> tuple[Webhook, str]:
        """Make a webhook that gets events from now on; with its secret, which is not to be had again.

        Raises:
            InvalidWebhook: The URL cannot be a receiver, or an event is no tag.
            TooManyWebhooks: There are fifty.
        """
        place_of(url, self.allowed)
        webhook_id, secret = new_id("whk"), new_secret()
        webhook = Webhook(
            id=webhook_id,
            org=org,
            url=url,
            description=description,
            events=_events(events),
            secrets=(Secret(self.seal.seal(secret, bound_to=webhook_id), now),),
            by=by,
            created_at=now,
        )
        event = AuditEvent("webhook.created", webhook_id, by, now, {"events": list(webhook.events)})
        return self.rows.add(webhook, event, most=MOST_WEBHOOKS), secret

    def change(self, before: Webhook, change: Change, *, by: Actor, now: datetime) -> Webhook:
        """Change a webhook. One that is enabled again gets the events from now on, none of the time between.

        Raises:
            InvalidWebhook: As for :meth:`create`.
            UnknownWebhook, WebhookChanged: Somebody else was first.
        """
        if change.url is not None:
            place_of(change.url, self.allowed)
        after = replace(
            before,
            url=before.url if change.url is None else change.url,
            description=before.description if change.description is None else change.description,
            events=before.events if change.events is None else _events(change.events),
            enabled=before.enabled if change.enabled is None else change.enabled,
        )
        changed = [name for name in ("url", "description", "events") if getattr(after, name) != getattr(before, name)]
        tag = "webhook.changed"
        if after.enabled and not before.enabled:
            tag, after = "webhook.enabled", replace(after, disabled_because="", failing_since=None)
        elif before.enabled and not after.enabled:
            tag, after = "webhook.disabled", replace(after, disabled_because=f"disabled by {by.name}")
        elif not changed:
            return before
        # The URL may carry somebody's token: the log tells that it changed, not what it is.
        event = AuditEvent(tag, before.id, by, now, {"changed": changed})
        return self.rows.save(after, event, from_now=tag == "webhook.enabled")

    def rotate(self, before: Webhook, *, overlap: timedelta, by: Actor, now: datetime) -> tuple[Webhook, str]:
        """Make a new secret; messages carry the signatures of both for ``overlap`` (up to a week, may be zero).

        A secret that was being replaced already signs no longer than it was to.

        Raises:
            InvalidWebhook: ``overlap`` is out of range.
            UnknownWebhook, WebhookChanged: Somebody else was first.
        """
        if not timedelta(0) <= overlap <= MOST_OVERLAP:
            raise InvalidWebhook(f"the overlap is {overlap}, expected from none to {MOST_OVERLAP.days} days")
        secret, ends = new_secret(), now + overlap
        older = tuple(
            replace(one, ends_at=ends if one.ends_at is None else min(one.ends_at, ends)) for one in before.secrets
        )
        kept = tuple(one for one in older if one.signs(now))
        fresh = Secret(self.seal.seal(secret, bound_to=before.id), now)
        event = AuditEvent(
            "webhook.secret_rotated", before.id, by, now, {"overlap_seconds": int(overlap.total_seconds())}
        )
        return self.rows.save(replace(before, secrets=(fresh, *kept)), event, from_now=False), secret

    def delete(self, org: str, webhook: str, *, by: Actor, now: datetime) -> None:
        """Forget a webhook and its delivery log; raises UnknownWebhook."""
        self.rows.remove(org, webhook, AuditEvent("webhook.deleted", webhook, by, now))

    def test(self, webhook: Webhook, *, by: Actor, now: datetime) -> Delivery:
        """Send this webhook an event ``webhook.tested``, on the road that every event takes; raises WebhookDisabled."""
        _check_enabled(webhook)
        waiting = Delivery(
            id=new_id("dlv"),
            org=webhook.org,
            webhook=webhook.id,
            message="",
            seq=0,
            tag=TESTED_TAG,
            created_at=now,
            next_at=now,
        )
        return self.deliveries.add(webhook.org, AuditEvent(TESTED_TAG, webhook.id, by, now), waiting)

    def replay(self, webhook: Webhook, delivery: Delivery, *, by: Actor, now: datetime) -> Delivery:
        """Send a delivery once more, now, with the same ``webhook-id`` and a whole round of retries.

        Raises:
            WebhookDisabled: Nothing is sent to this webhook.
            UnknownDelivery: It is another webhook's.
        """
        if delivery.webhook != webhook.id:
            raise UnknownDelivery(f"webhook {webhook.id} has no delivery {delivery.id}")
        _check_enabled(webhook)
        for _ in range(3):
            again = replace(delivery, state=DeliveryState.WAITING, next_at=now, tries=0, revision=delivery.revision + 1)
            event = AuditEvent("webhook.replayed", webhook.id, by, now, {"delivery": delivery.id})
            if self.deliveries.save(delivery, again, [event]):
                return again
            # An attempt ended in between; the replay goes on top of what it left.
            delivery = self.deliveries.get(delivery.org, delivery.id)
        return delivery


def _check_enabled(webhook: Webhook) -> None:
    if not webhook.enabled:
        raise WebhookDisabled(
            f"webhook {webhook.id} is disabled ({webhook.disabled_because}); enable it first, "
            f"`publish webhook change {webhook.id} --enable`"
        )


def _events(events: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(events) <= MOST_EVENTS:
        raise InvalidWebhook(f"{len(events)} events are named, expected 1 to {MOST_EVENTS}; `*` is all of them")
    for one in events:
        if one != ALL_EVENTS and (len(one) > 100 or _TAG.fullmatch(one) is None):
            raise InvalidWebhook(f"{one[:100]!r} is no event; expected `*`, `rollout` or `rollout.paused`")
    return tuple(dict.fromkeys(events))
