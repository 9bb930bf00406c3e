"""How many requests a caller may send: counted by credential, or by source address for whoever has shown none.

Windows are the minutes of the clock, so one number is kept for each caller and whoever counts needs to be asked once.
Source: docs/adr/0130-rates-are-counted-by-the-minute.md
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from store.errors import StoreError

WINDOW_SECONDS: Final = 60
_ASK_AGAIN_AFTER: Final = timedelta(seconds=5)  # a store that does not answer costs every request its time limit

log: Final = logging.getLogger("wavegate.api")


class Policy(StrEnum):
    """What is counted together."""

    READS = "reads"
    WRITES = "writes"
    UPLOADS = "uploads"
    LOGINS = "logins"
    ENROLMENTS = "enrolments"
    ANONYMOUS = "anonymous"


class Counts(Protocol):
    """Where the numbers are kept."""

    def add(self, key: str, *, ends_at: int) -> int:
        """Count one more for ``key`` in the window that ends at ``ends_at`` (seconds since 1970), and tell how many.

        Raises:
            StoreError: The number cannot be had now.
        """


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after a request: ``used`` of ``quota`` in a window that ends in ``seconds`` (1 to 60)."""

    policy: Policy
    quota: int
    used: int
    seconds: int

    @property
    def is_over(self) -> bool:
        """Whether this request is one too many."""
        return self.used > self.quota

    def headers(self) -> dict[str, str]:
        """``RateLimit-Policy`` and ``RateLimit`` as draft-ietf-httpapi-ratelimit-headers writes them."""
        left = max(0, self.quota - self.used)
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.policy}";r={left};t={self.seconds}',
        }


class MemoryCounts:
    """Numbers of this process alone, gone with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[int, dict[str, int]] = {}

    def add(self, key: str, *, ends_at: int) -> int:
        """Count one more; never fails."""
        with self._lock:
            window = self._windows.get(ends_at)
            if window is None:
                # The one before is kept for requests that began in it.
                kept = {end: held for end, held in self._windows.items() if end == ends_at - WINDOW_SECONDS}
                window = {}
                self._windows = {**kept, ends_at: window}
            window[key] = used = window.get(key, 0) + 1
            return used


class Rates:
    """Counts requests against quotas.

    A store that fails is left alone for five seconds, and this process counts by itself meanwhile: the API stays
    reachable, and a runaway caller is still held, by each server alone.

    Args:
        quotas: Requests a minute; 0 or absent: as many as you like.
        counts: Where the numbers are kept.
        failed: Told of each failure of ``counts``.
    """

    def __init__(
        self, quotas: Mapping[Policy, int], counts: Counts, *, failed: Callable[[], None] = lambda: None
    ) -> None:
        self._quotas = quotas
        self._counts = counts
        self._alone = MemoryCounts()
        self._failed = failed
        self._ask_after: datetime | None = None

    def count(self, policy: Policy, caller: str, *, now: datetime) -> Standing | None:
        """Count a request of ``caller``, a credential's id or an address; None when the policy has no limit."""
        quota = self._quotas.get(policy, 0)
        if not quota:
            return None
        moment = int(now.timestamp())
        ends_at = moment - moment % WINDOW_SECONDS + WINDOW_SECONDS
        return Standing(policy, quota, self._add(f"{policy}:{caller}", ends_at, now), ends_at - moment)

    def _add(self, key: str, ends_at: int, now: datetime) -> int:
        if self._ask_after is None or now >= self._ask_after:
            try:
                used = self._counts.add(key, ends_at=ends_at)
            except StoreError as error:
                self._ask_after = now + _ASK_AGAIN_AFTER
                self._failed()
                log.warning("requests are counted by this process alone for %s s: %s", _ASK_AGAIN_AFTER.seconds, error)
            else:
                self._ask_after = None
                return used
        return self._alone.add(key, ends_at=ends_at)
