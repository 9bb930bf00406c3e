"""The steps from a choice to a device that runs it, or that runs again what it ran before.

Each is written down before it is taken, and may be begun again after a power cut:

============  =====================================================================================================
step          begun again as
============  =====================================================================================================
downloading   the choice is made anew; still wanted: fetched from where it stopped, else dropped
installing    the install command runs again with the same file, three times at most, then rolled back
confirming    a brake of this rollout: rolled back; else the health command judges again, three times at most
rolling_back  the install command runs again with the file from before, until it has failed three times
============  =====================================================================================================
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

from agent.choice import Act, Choice, is_same_offer, what_runs
from agent.config import AgentConfig
from agent.errors import DownloadStopped, NoRoom, RepositoryAway, RepositoryRefused
from agent.home import Home
from agent.hooks import INSTALL, ROLLBACK, Hooks, Outcome
from agent.reason import Reason
from agent.state import Ended, Memory, PendingReport, PermitWait, Progress, Release, State, Step, Work
from agent.trust import Repository, View

MAX_TRIES: Final = 3  # of one step that keeps being cut off or failing
MAX_RETURNS: Final = 30  # of a way back that only the power cuts off: there is nothing better to do than to go on

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the agent takes from outside; a simulation gives its own. ``clock`` answers aware UTC.

    ``zone`` is what the device's wall clock shows, for windows in local time. ``stopping`` says that the agent was told
    to end: a download under way is left then, to be gone on with.
    """

    clock: Callable[[], datetime]
    sleep: Callable[[float], object]
    new_report_id: Callable[[], str]
    zone: tzinfo = UTC
    stopping: Callable[[], bool] = lambda: False


class Advice(Protocol):
    """What the signed documents say now; both raise RepositoryAway, RepositoryRefused."""

    def choose(self, product: str, view: View) -> Choice:
        """What to do about a product."""

    def stop_on(self, release: Release, view: View) -> str | None:
        """Why this release must not go on; None when it may."""


class Server(Protocol):
    """What a step says to the server; nothing of it raises."""

    def send_reports(self) -> None:
        """Hand over the reports that should not wait for the end of the poll."""

    def ask_permit(self, release: Release) -> PermitWait | None:
        """Ask for the permit that the release needs; None when it was given, else when to ask again."""


class Steps:
    """Takes the steps."""

    def __init__(
        self,
        home: Home,
        config: AgentConfig,
        memory: Memory,
        repository: Repository,
        hooks: Hooks,
        advice: Advice,
        surroundings: Surroundings,
        server: Server,
    ) -> None:
        self._home = home
        self._config = config
        self._memory = memory
        self._repository = repository
        self._hooks = hooks
        self._advice = advice
        self._around = surroundings
        self._server = server
        self.ended: list[Ended] = []

    def go_on(self, work: Work, view: View | None) -> None:
        """Go on with what an earlier poll, or an earlier process, began; only downloading needs a ``view``."""
        _LOG.info("going on with %s of %s %s", work.step, work.release.product, work.release.version)
        if work.step is Step.INSTALLING:
            self._install(work)
        elif work.step is Step.CONFIRMING:
            self._confirm(work)
        elif work.step is Step.ROLLING_BACK:
            self._roll_back(work)
        elif view is not None:
            choice = self._advice.choose(work.release.product, view)
            if choice.act is Act.INSTALL and is_same_offer(choice.release, work.release):
                self._download(work, view)
            else:
                self._drop(work.release, choice.reason, choice.words)

    def begin(self, release: Release, view: View) -> None:
        """Fetch, install and confirm a release; raises RepositoryAway, RepositoryRefused before anything was begun."""
        target = view.target(release.path)
        if target is not None and view.yanked(target):
            self._drop(release, Reason.YANKED, _yanked(release))
            return
        work = Work(step=Step.DOWNLOADING, release=release, before=self._memory.state.running.get(release.product))
        # Told once, however often what is here has to wait.
        is_here = self._memory.state.fetched.get(release.product) == release.sha256
        self._record(work, None if is_here else self._report(release, Progress.DOWNLOADING))
        self._download(work, view)

    def adopt(self, release: Release) -> None:
        """Say that what is offered runs already."""
        ended = Ended(attempt=release.attempt, progress=Progress.SUCCEEDED, version=release.version)
        self._finish(self._memory.state, release, ended)

    def leave(self, running: Release, before: Release | None, code: str, why: str) -> None:
        """Return from what runs to ``before``; with None there is no way back, and that is told."""
        self._roll_back(
            Work(
                step=Step.ROLLING_BACK,
                release=running,
                before=before,
                ending=Progress.ROLLED_BACK,
                code=code,
                detail=why,
            )
        )

    def _download(self, work: Work, view: View) -> None:
        release = work.release
        try:
            target = view.target(release.path)
            if target is None or (target.length, target.hashes.get("sha256")) != (release.length, release.sha256):
                raise RepositoryRefused(f"{release.path} is not signed with the length and SHA-256 of the decision")
            if view.yanked(target):
                raise DownloadStopped(_yanked(release), Reason.YANKED)
            view.download(target, self._still_wanted(release, self._config.interval_seconds))
            # The download may have taken hours: whoever stopped the rollout meanwhile is heard before anything runs.
            self._still_wanted(release, 0)()
        except DownloadStopped as stopped:
            self._drop(release, stopped.reason, str(stopped))
        except RepositoryAway as away:
            words = f"fetching {release.version}: {away}"
            self._memory.write(self._memory.state.saying(release.product, Reason.FETCHING, words))
        except (RepositoryRefused, NoRoom, OSError) as error:
            self._try_again_later(work, error)
        else:
            # The download may have outlasted the window: what is here is kept, and waits without holding up others.
            choice = self._advice.choose(release.product, view)
            if choice.wait:
                self._keep(release, choice.reason, choice.words)
            elif (wait := self._refused(release)) is not None:
                running = self._memory.state.running.get(release.product)
                self._keep(release, Reason.PERMIT, what_runs(running, wait.words), wait)
            else:
                self._install(replace(work, step=Step.INSTALLING, tries=0))

    def _refused(self, release: Release) -> PermitWait | None:
        return self._server.ask_permit(release) if release.needs_permit else None

    def _keep(self, release: Release, reason: Reason, words: str, wait: PermitWait | None = None) -> None:
        """Let what was fetched wait, without holding up other products."""
        kept = self._memory.state.with_fetched(release.product, release.sha256)
        kept = kept.with_permit_wait(release.product, wait)
        self._memory.write(replace(kept.saying(release.product, reason, words), work=None))

    def _try_again_later(self, work: Work, error: RepositoryRefused | NoRoom | OSError) -> None:
        release, tries = work.release, work.tries + 1
        if tries < MAX_TRIES:
            words = f"fetching {release.version}, tries again: {error}"
            after = self._memory.state.saying(release.product, Reason.FETCHING_AGAIN, words)
            self._memory.write(replace(after, work=replace(work, tries=tries)))
            return
        code = "artifact_refused" if isinstance(error, RepositoryRefused) else "download_failed"
        self._finish(self._memory.state, release, _ended(release, Progress.FAILED, code, str(error)))

    def _still_wanted(self, release: Release, seconds: float) -> Callable[[], None]:
        """A question to ask between pieces, which looks at the repository every so many seconds."""
        looked_at = self._around.clock()

        def ask() -> None:
            nonlocal looked_at
            if self._around.stopping():
                raise RepositoryAway("the agent was told to end; it goes on when it is started again")
            now = self._around.clock()
            if now - looked_at < timedelta(seconds=seconds):
                return
            looked_at = now
            try:
                choice = self._advice.choose(release.product, self._repository.refresh(aside=True))
            except (RepositoryAway, RepositoryRefused):
                return  # what is being fetched was verified; a mirror that is away does not take it back
            if choice.act is not Act.INSTALL or not is_same_offer(choice.release, release):
                raise DownloadStopped(choice.words, choice.reason)

        return ask

    def _install(self, work: Work) -> None:
        release = work.release
        if work.tries >= MAX_TRIES:
            self._fail(work, "install_failed", f"the install command was cut off {work.tries} times")
            return
        first, work = work.tries == 0, replace(work, tries=work.tries + 1)
        if not first:
            # Half installed, it goes on whatever the answer is; asked, its permit lasts for this try, too.
            self._refused(release)
        self._record(work, self._report(release, Progress.INSTALLING) if first else None)
        self._server.send_reports()
        outcome = self._run(release, INSTALL)
        if outcome.ok:
            work = replace(work, step=Step.CONFIRMING, tries=0)
            self._record(work)
            self._confirm(work)
        else:
            self._fail(work, "install_timeout" if outcome.timed_out else "install_failed", outcome.detail)

    def _confirm(self, work: Work) -> None:
        release = work.release
        if work.tries >= MAX_TRIES:
            self._fail(work, "health_failed", f"the device restarted {work.tries} times before it was well")
            return
        work = replace(work, tries=work.tries + 1)
        self._record(work)
        outcome = Outcome(False)
        for left in reversed(range(self._config.health_tries)):
            stop = self._stop_on(release)
            if stop is not None:
                # Installed and not yet confirmed: it goes back, whether the brake says stop or roll back.
                why = f"stopped before it was confirmed: {stop}"
                back = replace(work, step=Step.ROLLING_BACK, tries=0, ending=Progress.ROLLED_BACK)
                self._roll_back(replace(back, code="rolled_back", detail=why))
                return
            outcome = self._hooks.healthy(release, self._home.artifact(release.sha256))
            if outcome.ok:
                after = self._memory.state.with_running(release.product, release, work.before)
                after = after.saying(release.product, Reason.UP_TO_DATE, f"runs {release.version}; up to date")
                self._finish(after, release, _ended(release, Progress.SUCCEEDED))
                return
            if left:
                self._around.sleep(self._config.health_pause_seconds)
        self._fail(work, "health_failed", outcome.detail)

    def _stop_on(self, release: Release) -> str | None:
        try:
            return self._advice.stop_on(release, self._repository.refresh())
        except (RepositoryAway, RepositoryRefused):
            return None  # nobody can be asked; the health command judges

    def _fail(self, work: Work, code: str, detail: str) -> None:
        """Tell of the failure before going back, so that a bad release stops spreading."""
        work = replace(work, step=Step.ROLLING_BACK, tries=0, ending=Progress.FAILED, code=code, detail=detail)
        self._record(work, self._report(work.release, Progress.FAILED, code, detail))
        self._server.send_reports()
        self._roll_back(work)

    def _roll_back(self, work: Work) -> None:
        before = work.before
        if before is None:
            self._cannot_return(work, "nothing ran before")
            return
        outcome = Outcome(False, f"the way back was cut off {work.tries} times")
        while work.failures < MAX_TRIES and work.tries < MAX_RETURNS:
            work = replace(work, tries=work.tries + 1)
            self._record(work)
            outcome = self._run(before, ROLLBACK)
            if outcome.ok:
                self._returned(work, before)
                return
            work = replace(work, failures=work.failures + 1)
        self._cannot_return(work, outcome.detail)

    def _returned(self, work: Work, before: Release) -> None:
        release, state = work.release, self._memory.state
        if state.running.get(release.product) != before:  # what was left had been confirmed; else nothing changed
            state = state.with_running(release.product, before, None)
        ended = _ended(release, work.ending or Progress.ROLLED_BACK, work.code, work.detail)
        why = f"{release.version}: {work.code}: {work.detail}"
        # A failure was reported when it happened.
        report = ended.progress is not Progress.FAILED
        after = state.saying(release.product, Reason.WENT_BACK, f"runs {before.version} again; {why}")
        self._finish(after, release, ended, report=report)

    def _cannot_return(self, work: Work, why: str) -> None:
        release, state = work.release, self._memory.state
        detail = f"{work.detail}; {why}" if work.detail else why
        if work.before is None and work.ending is Progress.FAILED:
            # The first release there ever was: it failed, and that has been reported.
            ended, runs, report = _ended(release, Progress.FAILED, work.code, detail), "runs nothing yet", False
        elif work.before is None and state.running.get(release.product) == release:
            # Told to leave, and nowhere to go: what runs goes on running.
            ended, runs, report = _ended(release, Progress.FAILED, "nothing_to_return_to", detail), "runs on", True
        else:
            code = "nothing_to_return_to" if work.before is None else "rollback_failed"
            ended, runs, report = _ended(release, Progress.FAILED, code, detail), "what runs is not known", True
            state = state.with_running(release.product, None, None)
        words = f"{runs}; {release.version}: {ended.code}: {detail}"
        after = state.saying(release.product, Reason.NO_WAY_BACK, words)
        self._finish(after, release, ended, report=report)

    def _finish(self, after: State, release: Release, ended: Ended, *, report: bool = True) -> None:
        """Settle the work, remember how it ended and queue the report of it, in one write."""
        ended = replace(ended, at=self._around.clock().isoformat().replace("+00:00", "Z"))
        after = replace(after.with_ended(release.rollout, ended).with_fetched(release.product, None), work=None)
        if ended.progress is Progress.FAILED:  # other results end the permit by their report
            after = after.with_permit_back(release)
        if report:
            after = after.with_report(self._report(release, ended.progress, ended.code, ended.detail))
        self._memory.write(after)
        self.ended.append(ended)

    def _drop(self, release: Release, reason: Reason, words: str) -> None:
        after = self._memory.state.saying(release.product, reason, words).with_permit_back(release)
        self._memory.write(replace(after, work=None))

    def _record(self, work: Work, report: PendingReport | None = None) -> None:
        after = replace(self._memory.state, work=work)
        self._memory.write(after if report is None else after.with_report(report))

    def _report(self, release: Release, progress: Progress, code: str = "", detail: str = "") -> PendingReport:
        return PendingReport(
            id=self._around.new_report_id(),
            rollout=release.rollout,
            attempt=release.attempt,
            progress=progress,
            code=code,
            detail=detail,
        )

    def _run(self, release: Release, action: str) -> Outcome:
        file = self._home.artifact(release.sha256)
        try:
            # Days may lie between the download and this; the disk is not trusted to have kept it.
            with file.open("rb") as stored:
                if hashlib.file_digest(stored, "sha256").hexdigest() != release.sha256:
                    return Outcome(False, "the stored artifact is damaged")
        except OSError as error:
            return Outcome(False, f"the stored artifact cannot be read: {error.strerror}")
        return self._hooks.install(release, file, action)


def _ended(release: Release, progress: Progress, code: str = "", detail: str = "") -> Ended:
    return Ended(attempt=release.attempt, progress=progress, version=release.version, code=code, detail=detail)


def _yanked(release: Release) -> str:
    return f"{release.version} was yanked, it is not newly installed anywhere"
