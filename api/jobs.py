"""Background jobs: rollouts are judged and roles re-signed. What is due stands in the database and the metadata;
a job only looks, so that any number of processes may look at once and a missed turn is made up at the next. Rollouts
are moved by one process at a time, which holds a lease."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from api.leader import Leader
from api.life import COLLECT_EVERY, FIRST_COLLECTION, Alarm, canary_job, collect
from api.logs import about
from api.metrics import Measurer
from api.tallies import Tallies
from api.tracing import span
from api.webhook_round import KEEP_DELIVERIES, WebhookRound
from api.wiring import Wavegate
from repo_signing.roles import BINS
from store.leases import Leases

log: Final = logging.getLogger("wavegate.jobs")

_HOUSEKEEPING_SECONDS: Final = 3600
_SWEEP_SECONDS: Final = (
    300  # how late a group notices that a device has been silent for longer than its selector allows
)
_PATIENCE_SECONDS: Final = 30  # for a turn under way when the server stops


class Jobs:
    """The jobs of one process, a thread each."""

    def __init__(self, wiring: Wavegate, tallies: Tallies) -> None:
        self._wiring = wiring
        self._tallies = tallies
        self._stop = threading.Event()
        self._leader = Leader(wiring, Leases(wiring.db))
        settings = wiring.settings
        self._measurer = Measurer(settings.metric_sources, wiring.rollout_store, wiring.readings)
        self._round = WebhookRound(wiring)
        self._threads = [
            self._thread("scheduler", settings.scheduler_seconds, self._judge),
            self._thread("refresh", settings.refresh_seconds, self._refresh),
            self._thread("housekeeping", _HOUSEKEEPING_SECONDS, self._tidy),
            self._thread("groups", _SWEEP_SECONDS, self._sweep),
            self._thread("metrics", settings.scheduler_seconds, self._measure),
            self._thread("webhooks", settings.scheduler_seconds, self._tell),
        ]
        began = datetime.now(UTC)
        self._alarm = Alarm()
        self._collect_at = began + FIRST_COLLECTION
        self._canary = canary_job(wiring, began)
        if self._canary is not None:
            self._threads.append(self._thread("canary", settings.canary_seconds, self._probe))

    def start(self) -> None:
        """Begin; every job takes its first turn at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the turns under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)
        self._leader.step_down()

    def _thread(self, name: str, seconds: float, turn: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            failures = 0
            about(org=self._wiring.org, job=name)
            while not self._stop.is_set():
                began = time.perf_counter()
                try:
                    with span(f"job {name}"):
                        turn()
                    failures = 0
                except Exception:
                    # One bad turn must not end the job: the next looks at everything anew.
                    failures += 1
                    log.exception("the %s job failed, %s times in a row", name, failures)
                self._tallies.turn(name, time.perf_counter() - began, well=not failures)
                self._stop.wait(min(seconds * 2 ** min(failures, 6), 60 if failures else seconds))

        return threading.Thread(target=run, name=f"wavegate-{name}", daemon=True)

    def _judge(self) -> None:
        self._leader.turn(datetime.now(UTC))

    def _measure(self) -> None:
        if self._leader.leads:
            self._measurer.turn(self._wiring.org, datetime.now(UTC))

    def _tell(self) -> None:
        if self._leader.leads:
            self._round.turn(clock=lambda: datetime.now(UTC), stop=self._stop.is_set)

    def _refresh(self) -> None:
        try:
            signed = self._wiring.repository.refresh(now=datetime.now(UTC))
        finally:
            self._alarm.look(self._wiring, datetime.now(UTC))
        if signed:
            log.info("signed anew before they expire: %s", ", ".join(signed))

    def _probe(self) -> None:
        if self._canary is not None:
            self._canary.turn(datetime.now(UTC))

    def _sweep(self) -> None:
        moved = self._wiring.fleet.sweep(self._wiring.org, now=datetime.now(UTC))
        if moved:
            log.info("time changed who is in %s groups", moved)

    def _tidy(self) -> None:
        now = datetime.now(UTC)
        self._wiring.idempotency.forget(now=now)
        self._wiring.deliveries.forget(self._wiring.org, now - KEEP_DELIVERIES)
        self._wiring.repository.recover(now=now)  # also drops uploads that nobody signed within a day
        self._wiring.exclusions.sync(self._wiring.org, now)
        if self._wiring.repository.layout == BINS:
            serial = self._wiring.repository.rebin(now=now)
            if serial is not None:
                log.info("spread over another number of bins: serial %s", serial)
        if now >= self._collect_at:
            outcome = collect(self._wiring, now=now)
            self._collect_at = now + COLLECT_EVERY
            if not outcome.is_empty():
                log.info(
                    "collected %s metadata files and %s blobs, %s bytes",
                    len(outcome.metadata),
                    len(outcome.blobs) + len(outcome.quarantined),
                    outcome.freed,
                )
