"""The scheduler of rollouts among several servers: whoever holds the lease moves them, the others stand by.

Two that move rollouts at once would do no harm (each change is compared and set); the lease keeps them from doing the
same work, and a process that slept through its lease from acting on what it saw before.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from api.wiring import Wavegate
from evidence.ids import new_id
from store.leases import Lease, Leases

log: Final = logging.getLogger("wavegate.leader")

_TURNS: Final = 3  # a lease outlasts that many looks, so that a slow one does not lose it


class Leader:
    """One process's part in it."""

    def __init__(self, wiring: Wavegate, leases: Leases, *, holder: str = "") -> None:
        self._wiring = wiring
        self._leases = leases
        self._name = f"scheduler/{wiring.org}"
        self._holder = holder or new_id("srv")
        settings = wiring.settings
        self._life = timedelta(seconds=max(settings.lease_seconds, _TURNS * settings.scheduler_seconds))
        self._lease: Lease | None = None

    def turn(self, now: datetime) -> bool:
        """Move the rollouts if this process leads; whether it does."""
        lease = self._leases.take(self._name, self._holder, life=self._life)
        if (lease is None) != (self._lease is None):
            log.info("this process %s the rollouts", "moves" if lease is not None else "no longer moves")
        self._lease = lease
        if lease is None:
            return False
        wiring = self._wiring
        replace(wiring.rollouts, rollouts=wiring.rollout_store.under(lease)).tick(wiring.org, now)
        return True

    @property
    def leads(self) -> bool:
        """Whether this process held the lease at its last turn."""
        return self._lease is not None

    def step_down(self) -> None:
        """Let another take over at once; for a clean end."""
        if self._lease is not None:
            self._leases.give_up(self._lease)
            self._lease = None
