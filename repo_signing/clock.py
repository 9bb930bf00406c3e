"""Which clocks are believed: one that is far from the last commit signs nothing without somebody's word."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from repo_signing import roles
from repo_signing.errors import ClockAhead, ClockBehind
from repo_signing.view import View

# Requests take their moment before they queue, and time services step clocks; more than this is a wrong clock.
CLOCK_TOLERANCE: Final = timedelta(seconds=60)
# By then all that the online keys signed has expired: nothing that is signed speaks for such a clock any more.
LONGEST_SLEEP: Final = timedelta(days=90)


def check_clock(view: View, now: datetime) -> None:
    """Raises ClockBehind or ClockAhead."""
    if now < view.committed_at - CLOCK_TOLERANCE:
        raise ClockBehind(
            f"the clock says {roles.time_out(now)}, but the last commit was at {roles.time_out(view.committed_at)}; "
            "set the clock. If that commit was made by a clock that was ahead: `publish repo refresh --accept-clock`"
        )
    if now > view.committed_at + LONGEST_SLEEP:
        raise ClockAhead(
            f"the clock says {roles.time_out(now)}, {(now - view.committed_at).days} days after the last commit at "
            f"{roles.time_out(view.committed_at)}, and at most {LONGEST_SLEEP.days} are believed: clients could be "
            "held on what is signed now until then. Set the clock; if it is right and the server was off that long: "
            "`publish repo refresh --accept-clock`"
        )
