"""One round of webhooks: new events become deliveries, and those that are due are sent, several at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

from api.webhook_sender import GuardedSender
from api.wiring import Wavegate
from evidence.webhooks.deliver import Courier
from evidence.webhooks.model import Delivery
from evidence.webhooks.ports import Sender

KEEP_DELIVERIES: Final = timedelta(days=30)  # in the log, from when they were made
_AT_ONCE: Final = 16  # requests; four slow receivers fill it, and a request ends within 15 s
_MOST_ROUNDS: Final = 50  # of one turn, so that a flood of events does not keep the server from ending


class WebhookRound:
    """The deliveries of one organisation; one process at a time should do them (the one that judges rollouts)."""

    def __init__(self, wiring: Wavegate, sender: Sender | None = None) -> None:
        webhooks = wiring.webhooks
        self._org = wiring.org
        self._courier = Courier(
            rows=webhooks.rows,
            deliveries=webhooks.deliveries,
            seal=webhooks.seal,
            sender=sender or GuardedSender(webhooks.allowed),
            chance=random.random,
        )

    def turn(self, *, clock: Callable[[], datetime], stop: Callable[[], bool]) -> int:
        """Send all that is due now; how many attempts were made."""
        sent = 0
        for _ in range(_MOST_ROUNDS):
            self._courier.collect(self._org, clock())
            due = self._courier.due(self._org, clock())
            if not due or stop():
                break
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wavegate-webhook") as pool:
                sent += sum(pool.map(lambda one: self._attempt(one, clock()), due))
        return sent

    def _attempt(self, delivery: Delivery, now: datetime) -> int:
        self._courier.attempt(delivery, now)
        return 1
