"""When a delivery is tried again, and when a webhook is given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from evidence.webhooks.model import KEPT_ATTEMPTS, Attempt, Delivery, DeliveryState, Webhook

# After the first attempt; the example of the Standard Webhooks specification, three days and three hours in all.
WAITS: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER: Final = 0.2  # a wait is up to a fifth longer, so that receivers that come back are not met by all at once
LONGEST_WAIT: Final = timedelta(hours=24)  # whatever Retry-After asks
GIVE_UP_AFTER: Final = timedelta(days=5)  # without one success
GONE: Final = 410


def settle(delivery: Delivery, attempt: Attempt, *, retry_after: int | None, now: datetime, chance: float) -> Delivery:
    """The delivery after an attempt: delivered, waiting for the next, or failed after the last.

    Args:
        retry_after: Seconds that the receiver asked for; they can only make the wait longer, to a day at most.
        chance: From 0 up to 1, where in the jitter the wait falls.
    """
    after = replace(
        delivery,
        tries=delivery.tries + 1,
        attempts=(*delivery.attempts, attempt)[-KEPT_ATTEMPTS:],
        revision=delivery.revision + 1,
        next_at=None,
    )
    if attempt.succeeded:
        return replace(after, state=DeliveryState.DELIVERED)
    if attempt.status == GONE or after.tries > len(WAITS):
        return replace(after, state=DeliveryState.FAILED)
    wait = WAITS[after.tries - 1] * (1 + JITTER * chance)
    if retry_after is not None:
        wait = max(wait, min(timedelta(seconds=min(retry_after, 86_400)), LONGEST_WAIT))
    return replace(after, state=DeliveryState.WAITING, next_at=now + wait)


def why_disabled(webhook: Webhook, attempt: Attempt, *, now: datetime) -> str | None:
    """Why nothing is to be sent to the webhook any more after this attempt; None when it stays."""
    if attempt.succeeded:
        return None
    if attempt.status == GONE:
        return "the receiver answered 410: it is gone"
    if webhook.failing_since is not None and now - webhook.failing_since >= GIVE_UP_AFTER:
        return f"no delivery has succeeded since {webhook.failing_since.isoformat().replace('+00:00', 'Z')}"
    return None
