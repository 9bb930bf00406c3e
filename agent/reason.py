"""Why a device does what it does with a product: a code for programs, and what people are to make of it.

``python -m agent.reason`` prints the table of docs/devices.md. The examples are what the agent really says: a test
makes each of them happen.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Stable codes: ``status -o json`` has the one of each product."""

    UP_TO_DATE = "up_to_date"
    INSTALLING = "installing"
    NO_DECISION = "no_decision"
    NOT_IN_COHORT = "not_in_cohort"
    STOPPED = "stopped"
    ENDED_HERE = "ended_here"
    CLOCK = "clock"
    NOT_BEFORE = "not_before"
    TOO_LATE = "too_late"
    PLATFORM = "platform"
    REVOKED = "revoked"
    EXCLUDED = "excluded"
    PINNED = "pinned"
    FROM_VERSIONS = "from_versions"
    OLDER = "older"
    REQUIRES = "requires"
    WAITS = "waits"
    PERMIT = "permit"
    YANKED = "yanked"
    FETCHING = "fetching"
    FETCHING_AGAIN = "fetching_again"
    LEAVING = "leaving"
    WENT_BACK = "went_back"
    NO_WAY_BACK = "no_way_back"


@dataclass(frozen=True, slots=True)
class Told:
    """``says`` is an example of the line, ``advice`` what to do about it."""

    says: str
    advice: str


TOLD: Final[dict[Reason, Told]] = {
    Reason.UP_TO_DATE: Told("runs 2.0; up to date", "nothing"),
    Reason.INSTALLING: Told("installing 2.0", "nothing: it is under way"),
    Reason.NO_DECISION: Told(
        "runs 1.0; no decision for its groups", "start a rollout for one of its groups, or put it into another"
    ),
    Reason.NOT_IN_COHORT: Told(
        "runs 1.0; 2.0 reaches places 0 to 1743, this device has 1744", "wait: a later wave reaches further"
    ),
    Reason.STOPPED: Told(
        "runs 1.0; 2.0 is stopped: stopped by Ada", "resume or abort the rollout; nothing older is taken instead"
    ),
    Reason.ENDED_HERE: Told(
        "runs 1.0; 2.0 failed here (health_failed: port 80 is closed)",
        "mend the cause, then publish rollout retry, or roll a mended release out",
    ),
    Reason.CLOCK: Told(
        "runs 1.0; the clock shows 1970-01-01, before 2026-11-21, when something was signed that is here: "
        "nothing is installed until the clock is set",
        "set the clock, let the device synchronise it (NTP), or mend its battery; the device goes on by itself",
    ),
    Reason.NOT_BEFORE: Told("runs 1.0; 2.0 may start at 2026-11-21T14:00:00+00:00", "wait"),
    Reason.TOO_LATE: Told(
        "runs 1.0; 2.0 could start until 2026-11-21T12:00:00+00:00", "the device was away too long: roll out again"
    ),
    Reason.PLATFORM: Told(
        "runs 1.0; 2.0 is for linux-aarch64, this device is linux-x86_64",
        "publish the release for this platform, or mend platform in agent.toml",
    ),
    Reason.REVOKED: Told("runs 1.0; 2.0 was revoked: leaks keys", "roll another release out"),
    Reason.EXCLUDED: Told(
        "runs 1.0; 2.0 is not for this device, excluded: on the test bench",
        "publish exclusion list shows who said so",
    ),
    Reason.PINNED: Told(
        "runs 1.0; 2.0 is not for this device, its settings pin 1.0", "change pins in the device's agent.toml"
    ),
    Reason.FROM_VERSIONS: Told("runs 1.0; 2.0 may only follow >=1.5", "roll a release in between out first"),
    Reason.OLDER: Told(
        "runs 3.0; 2.0 is older and the rollout allows no downgrade", "allow it in the plan, or leave it as it is"
    ),
    Reason.REQUIRES: Told(
        "runs 1.0; 2.0 needs bios 7.0 or later, none runs", "roll out what is needed; this follows by itself"
    ),
    Reason.WAITS: Told(
        "runs 1.0; 2.0 may start at 2026-11-22T02:00:00+00:00",
        "wait: for a window of the rollout or the device, its place in the spread, or the pause before it tries again",
    ),
    Reason.PERMIT: Told(
        "runs 1.0; 2.0 is here and waits for a permit: 5 of 5 are updating", "wait: it asks again by itself"
    ),
    Reason.YANKED: Told("2.0 was yanked, it is not newly installed anywhere", "roll another release out"),
    Reason.FETCHING: Told(
        "fetching 2.0: app/2.0/linux-x86_64/app.bin is not there: HTTP status 404",
        "nothing: it goes on at the next poll, from where it stopped; if it lasts, look at the mirror or the line",
    ),
    Reason.FETCHING_AGAIN: Told(
        "fetching 2.0, tries again: 3000 bytes are to be fetched and 16777216 kept free, 1000 are free in downloads; "
        "make room there",
        "what it says; after three polls the attempt counts as failed",
    ),
    Reason.LEAVING: Told("told to leave 2.0: stopped by Ada", "nothing: it goes back to the release before"),
    Reason.WENT_BACK: Told(
        "runs 1.0 again; 2.0: health_failed: port 80 is closed", "the same as for ended_here, which follows"
    ),
    Reason.NO_WAY_BACK: Told(
        "what runs is not known; 2.0: rollback_failed: port 80 is closed; the install command ended with 1",
        "look at hook.log in the agent's home; the next release that is rolled out is installed as the first",
    ),
}


def table() -> str:
    """As it stands in the docs."""
    rows = [f"| `{reason}` | {told.says} | {told.advice} |" for reason, told in TOLD.items()]
    return "\n".join(["| reason | an example of the line | what to do |", "|---|---|---|", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(table())
