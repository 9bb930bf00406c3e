"""Background jobs: rollouts are judged and roles re-signed. What is due stands in the database and the metadata;
a job only looks, so that any number of processes may look at once and a missed turn is made up at the next. Rollouts
are moved by one process at a time, which holds a lease.

Every job goes over all organisations. One whose turn fails or takes long keeps no other from its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from api.canary import OFF
from api.installation import Installation, OrganisationUnavailable
from api.logs import about
from api.organisation_jobs import OrganisationJobs
from api.tallies import Tallies
from api.tracing import span

log: Final = logging.getLogger("wavegate.jobs")

_HOUSEKEEPING_SECONDS: Final = 3600
_SWEEP_SECONDS: Final = (
    300  # how late a group notices that a device has been silent for longer than its selector allows
)
_TIDINGS_SECONDS: Final = 10  # how late an event tells that a device came back, or failed an update
_METERING_SECONDS: Final = 600  # how late a night is counted, behind what must have been written by then
_LOOK_SECONDS: Final = 5.0  # between two looks whether there is another organisation, for jobs that turn less often
_PATIENCE_SECONDS: Final = 30  # for a turn under way when the server stops
_LONGEST_PAUSE_SECONDS: Final = 60  # after failures
_AT_ONCE: Final = 4  # organisations that one job is at; the slow ones among hundreds must not be all of these for long

Turn = Callable[[OrganisationJobs], None]


class Jobs:
    """The jobs of one process, a thread each; with several organisations a few more."""

    def __init__(self, installation: Installation, tallies: Tallies) -> None:
        self._installation: Final = installation
        self._stop: Final = threading.Event()
        self._adding: Final = threading.Lock()
        self._jobs: Final[dict[str, OrganisationJobs]] = {}
        settings = installation.settings
        often, seldom = settings.scheduler_seconds, settings.refresh_seconds
        self._rounds: Final = [
            _Round("scheduler", often, OrganisationJobs.judge, tallies),
            _Round("refresh", seldom, OrganisationJobs.refresh, tallies),
            _Round("housekeeping", _HOUSEKEEPING_SECONDS, OrganisationJobs.tidy, tallies),
            _Round("groups", _SWEEP_SECONDS, OrganisationJobs.sweep, tallies),
            _Round("metrics", often, OrganisationJobs.measure, tallies),
            _Round("webhooks", often, OrganisationJobs.tell, tallies),
            _Round("tidings", _TIDINGS_SECONDS, OrganisationJobs.announce, tallies),
            _Round("metering", _METERING_SECONDS, OrganisationJobs.meter, tallies),
        ]
        if settings.canary_url != OFF:
            self._rounds.append(_Round("canary", settings.canary_seconds, OrganisationJobs.probe, tallies))
        self._threads: Final = [
            threading.Thread(target=self._run, args=(one,), name=f"wavegate-{one.name}", daemon=True)
            for one in self._rounds
        ]

    def recover(self) -> None:
        """Have every organisation finish what a stop left halfway, before anything listens.

        Raises:
            Exception: What the first one lacks, when none can be served.
        """
        failures: list[BaseException] = []
        slugs = self._installation.slugs()
        for slug in slugs:
            try:
                self._of(slug).recover()
            except OrganisationUnavailable as error:
                failures.append(error.__cause__ or error)
            except Exception as error:
                log.exception("%s could not finish what a stop left halfway", slug)
                failures.append(error)
        if failures and len(failures) == len(slugs):
            raise failures[0]

    def start(self) -> None:
        """Begin; every job takes its first turn at once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the turns under way."""
        self._stop.set()
        until = time.monotonic() + _PATIENCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for one in self._rounds:
            one.end(until)
        for jobs in self._jobs.values():
            jobs.step_down()

    def _of(self, slug: str) -> OrganisationJobs:
        found = self._jobs.get(slug)
        if found is None:
            wiring = self._installation.organisation(slug)
            with self._adding:
                found = self._jobs.setdefault(slug, OrganisationJobs(wiring, self._stop.is_set))
        return found

    def _run(self, one: _Round) -> None:
        failures = 0
        while not self._stop.is_set():
            pause = min(one.seconds, _LOOK_SECONDS)
            try:
                slugs = self._installation.slugs()
                failures = 0
            except Exception:
                failures += 1
                log.exception("the %s job cannot ask for the organisations, %s times in a row", one.name, failures)
                slugs, pause = (), min(pause * 2 ** min(failures, 6), _LONGEST_PAUSE_SECONDS)
            for slug in slugs:
                one.take(slug, self._of, together=len(slugs) > 1)
            self._stop.wait(pause)


class _Round:
    """One job, and where it is with each organisation."""

    def __init__(self, name: str, seconds: float, turn: Turn, tallies: Tallies) -> None:
        self.name: Final = name
        self.seconds: Final = seconds
        self._turn: Final = turn
        self._tallies: Final = tallies
        self._due: Final[dict[str, float]] = {}
        self._failures: Final[dict[str, int]] = {}
        self._under_way: Final[dict[str, Future[None]]] = {}
        self._pool: Final = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"wavegate-{name}")

    def take(self, slug: str, of: Callable[[str], OrganisationJobs], *, together: bool) -> None:
        """Take an organisation's turn if it is due, beside those of others if there are any."""
        before = self._under_way.get(slug)
        if (before is not None and not before.done()) or time.monotonic() < self._due.get(slug, 0.0):
            return
        if together:
            self._under_way[slug] = self._pool.submit(self._take, slug, of)
        else:
            self._take(slug, of)

    def end(self, until: float) -> None:
        """Begin no turn any more, and wait for those under way; ``until`` is by the monotonic clock."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        wait(self._under_way.values(), timeout=max(0.0, until - time.monotonic()))

    def _take(self, slug: str, of: Callable[[str], OrganisationJobs]) -> None:
        about(org=slug, job=self.name)
        began = time.monotonic()
        due, well = began + self.seconds, False
        try:
            with span(f"job {self.name}"):
                self._turn(of(slug))
            self._failures.pop(slug, None)
            well = True
        except OrganisationUnavailable:
            due = began + min(self.seconds, _LOOK_SECONDS)  # it stands in the log, and is looked for again
        except Exception:
            # One bad turn must not end the job: the next looks at everything anew.
            failures = self._failures[slug] = self._failures.get(slug, 0) + 1
            log.exception("the %s job of %s failed, %s times in a row", self.name, slug, failures)
            due = time.monotonic() + min(self.seconds * 2 ** min(failures, 6), _LONGEST_PAUSE_SECONDS)
        self._tallies.turn(self.name, time.monotonic() - began, well=well)
        self._due[slug] = due
