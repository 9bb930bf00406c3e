"""The life of the repository beside publishing: what is looked after in the background, joined from several rooms."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from api.canary import Canary, CanaryJob, Sample, canary_folder, canary_url
from api.wiring import Wavegate
from evidence.model import REPOSITORY, Actor
from repo_signing.collection import Collected
from repo_signing.outlook import Outlook, warnings
from rollout.model import State
from store.rollout_lists import RolloutFilter

log: Final = logging.getLogger("wavegate.jobs")

COLLECT_EVERY: Final = timedelta(hours=24)
FIRST_COLLECTION: Final = timedelta(hours=1)  # after the start: whoever restarts a lot has other worries
TELL_EVERY: Final = timedelta(hours=1)

_ACTIVE: Final = (State.DRAFT, State.WAITING, State.RUNNING, State.PAUSED)
_PAGE: Final = 200


def collect(wiring: Wavegate, *, now: datetime, dry_run: bool = False, by: Actor = REPOSITORY) -> Collected:
    """Collect the repository; what an active rollout names stays. Raises RepositoryDamaged, CommitFailed."""
    needed = set(_named_by_rollouts(wiring))
    return wiring.repository.collect(needed=needed, dry_run=dry_run, now=now, by=by)


def canary_job(wiring: Wavegate, now: datetime) -> CanaryJob | None:
    """The canary of this server; None when it is switched off."""
    url = canary_url(wiring.settings, wiring.org)
    first_root = wiring.repository.metadata_file("1.root.json")
    if url is None or first_root is None:
        return None
    canary = Canary(canary_folder(wiring.settings, wiring.org), url, first_root.read_bytes())

    def sample() -> Sample | None:
        newest = [one for one in wiring.artifacts.list(limit=10) if one.withdrawn is None]
        return (newest[0].path, newest[0].length) if newest else None

    return CanaryJob(canary, lambda: (wiring.repository.serial(), sample), now)


class Alarm:
    """Tells in the log of roles that do not last, well before clients notice, and not at every look."""

    def __init__(self) -> None:
        self._told: dict[str, datetime] = {}

    def look(self, wiring: Wavegate, now: datetime) -> None:
        """Look at every role's expiry; a role is told when it gets worse, and once an hour."""
        for how, line in warnings(wiring.repository.status(now=now).roles, now):
            subject = f"{how} {line.partition(' ')[0]}"
            if subject in self._told and now - self._told[subject] < TELL_EVERY:
                continue
            self._told[subject] = now
            level = logging.WARNING if how is Outlook.SOON else logging.ERROR
            log.log(level, "%s: %s", how, line)


def _named_by_rollouts(wiring: Wavegate) -> Iterator[str]:
    for state in _ACTIVE:
        after: str | None = None
        while page := wiring.rollout_store.list(wiring.org, RolloutFilter(state=state), after=after, limit=_PAGE):
            for rollout in page:
                yield from (artifact.sha256 for artifact in rollout.plan.artifacts.values())
            after = page[-1].id
