"""What is looked after of one organisation in the background; each method is one turn of a job."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from api.leader import Leader
from api.life import COLLECT_EVERY, FIRST_COLLECTION, Alarm, canary_job, collect
from api.metrics import Measurer
from api.webhook_round import KEEP_DELIVERIES, WebhookRound
from api.wiring import Wavegate
from fleet.metering import count_nights
from fleet.tidings import Tidings
from repo_signing.roles import BINS
from store.leases import Leases
from store.request_counts import SqlRequestCounts
from store.returns import SqlTidings

log: Final = logging.getLogger("wavegate.jobs")


class OrganisationJobs:
    """The jobs of one process for one organisation.

    Args:
        wiring: Of the organisation.
        stop: Whether the process is ending.
    """

    def __init__(self, wiring: Wavegate, stop: Callable[[], bool]) -> None:
        self._wiring: Final = wiring
        self._stop: Final = stop
        self._leader: Final = Leader(wiring, Leases(wiring.db))
        self._measurer: Final = Measurer(wiring.settings.metric_sources, wiring.rollout_store, wiring.readings)
        self._round: Final = WebhookRound(wiring)
        self._tidings: Final = Tidings(wiring.org, SqlTidings(wiring.db))
        self._alarm: Final = Alarm()
        began = datetime.now(UTC)
        self.collect_at = began + FIRST_COLLECTION
        self._canary: Final = canary_job(wiring, began)
        self._is_recovered = False

    def judge(self) -> None:
        """Move the rollouts if this process leads; first finish what a stop left halfway."""
        if not self._is_recovered:
            self.recover()
        self._leader.turn(datetime.now(UTC))

    def recover(self) -> None:
        """Finish what a stop left halfway."""
        now = datetime.now(UTC)
        self._wiring.repository.recover(now=now)
        self._wiring.rollouts.recover(self._wiring.org, now)
        self._is_recovered = True

    def step_down(self) -> None:
        """Let another process move the rollouts at once; for a clean end."""
        self._leader.step_down()

    def measure(self) -> None:
        """Read the metrics of open waves, if this process leads."""
        if self._leader.leads:
            self._measurer.turn(self._wiring.org, datetime.now(UTC))

    def tell(self) -> None:
        """Send webhooks, if this process leads."""
        if self._leader.leads:
            self._round.turn(clock=lambda: datetime.now(UTC), stop=self._stop)

    def announce(self) -> None:
        """Tell of devices that came back or failed an update, if this process leads."""
        if self._leader.leads:
            self._tidings.turn(datetime.now(UTC))

    def meter(self) -> None:
        """Count the active devices of the nights that are over, if this process leads."""
        if self._leader.leads:
            for night in count_nights(self._wiring.meter, self._wiring.org, datetime.now(UTC)):
                log.info("%s: %s devices were active at the end of %s", self._wiring.org, night.active, night.night)

    def refresh(self) -> None:
        """Sign anew what does not last; tell of what will not."""
        try:
            signed = self._wiring.repository.refresh(now=datetime.now(UTC))
        finally:
            self._alarm.look(self._wiring, datetime.now(UTC))
        if signed:
            log.info("%s: signed anew before they expire: %s", self._wiring.org, ", ".join(signed))

    def probe(self) -> None:
        """Have the canary read, if it is due."""
        if self._canary is not None:
            self._canary.turn(datetime.now(UTC))

    def sweep(self) -> None:
        """Move devices whose silence decides about their groups, and end commands whose time is over."""
        moved = self._wiring.fleet.sweep(self._wiring.org, now=datetime.now(UTC))
        if moved:
            log.info("%s: time changed who is in %s groups", self._wiring.org, moved)
        ended = self._wiring.commands.sweep(self._wiring.org, now=datetime.now(UTC))
        if ended:
            log.info("%s: the time of %s commands and log bundles was over", self._wiring.org, ended)

    def tidy(self) -> None:
        """Put away what is over, and spread and collect the repository when it is due."""
        now, org = datetime.now(UTC), self._wiring.org
        self._wiring.idempotency.forget(now=now)
        SqlRequestCounts(self._wiring.db).forget(now=now)
        self._wiring.deliveries.forget(org, now - KEEP_DELIVERIES)
        self._wiring.repository.recover(now=now)  # also drops uploads that nobody signed within a day
        self._wiring.exclusions.sync(org, now)
        if self._wiring.repository.layout == BINS:
            serial = self._wiring.repository.rebin(now=now)
            if serial is not None:
                log.info("%s: spread over another number of bins: serial %s", org, serial)
        if now >= self.collect_at:
            outcome = collect(self._wiring, now=now)
            self.collect_at = now + COLLECT_EVERY
            if not outcome.is_empty():
                log.info(
                    "%s: collected %s metadata files and %s blobs, %s bytes",
                    org,
                    len(outcome.metadata),
                    len(outcome.blobs) + len(outcome.quarantined),
                    outcome.freed,
                )
