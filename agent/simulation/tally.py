"""What a simulated fleet did, counted; any thread may add to it."""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from agent.state import PendingReport, Progress

RESULTS = (Progress.SUCCEEDED, Progress.FAILED, Progress.ROLLED_BACK)


class Tally:
    """Counts. What a profile itself makes happen (a simulated network that is away) is no error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrival_ms = array("d")
        self._check_in_ms = array("d")
        self._counts: Counter[str] = Counter()
        self._installs: Counter[str] = Counter({result.value: 0 for result in RESULTS})
        self._failures: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._behind = 0.0

    def count(self, what: str) -> None:
        """One more ``enrolled``, ``polls`` or ``refused``."""
        with self._lock:
            self._counts[what] += 1

    def begin(self) -> None:
        """The time begins: polls are counted from now on, check-ins until now were arrivals; all else goes on."""
        with self._lock:
            self._arrival_ms, self._check_in_ms = self._check_in_ms, array("d")
            self._counts["polls"] = 0

    def check_in(self, seconds: float) -> None:
        """A check-in was answered after so long, the connection included when there was none."""
        with self._lock:
            self._check_in_ms.append(seconds * 1000)

    def report(self, report: PendingReport) -> None:
        """The server took a report and counted it: one that arrives twice is given to this once."""
        with self._lock:
            self._counts["reports"] += 1
            if report.progress in RESULTS:
                self._installs[report.progress.value] += 1
            if report.progress is Progress.FAILED:
                self._failures[report.code] += 1

    def error(self, code: str) -> None:
        """Something that no profile explains."""
        with self._lock:
            self._errors[code] += 1

    def behind(self, seconds: float) -> None:
        """A poll began so long after its time."""
        with self._lock:
            self._behind = max(self._behind, seconds)

    def summary(self) -> dict[str, Any]:
        """All of it as JSON values; milliseconds are null where nobody checked in."""
        with self._lock:
            return {
                "enrolled": self._counts["enrolled"],
                "arrivals": len(self._arrival_ms),
                "arrival_ms": _spread(self._arrival_ms),
                "polls": self._counts["polls"],
                "check_ins": len(self._check_in_ms),
                "check_in_ms": _spread(self._check_in_ms),
                "reports": self._counts["reports"],
                "reports_refused": self._counts["refused"],
                "installs": dict(self._installs),
                "failures": dict(sorted(self._failures.items())),
                "errors": dict(sorted(self._errors.items())),
                "behind_seconds": round(self._behind, 1),
            }

    def line(self) -> str:
        """The numbers so far in one line."""
        now = self.summary()
        installs = ", ".join(f"{count} {result.replace('_', ' ')}" for result, count in now["installs"].items())
        return (
            f"check-ins {now['check_ins']}, reports {now['reports']}; {installs}; errors {sum(now['errors'].values())}"
        )


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """The values that half of all, and 99 percent, stay below."""
    ordered = sorted(values)

    def at(percent: int) -> float | None:
        return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) if ordered else None

    return {"p50": at(50), "p99": at(99)}
