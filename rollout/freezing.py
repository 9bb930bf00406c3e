"""Freeze windows: when no wave opens, of one product or of all. An organisation's own calendar.

Only opening is held: open waves go on, and people may resume, retry and abort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from rollout.errors import InvalidFreeze
from rollout.plan import SLUG, is_plain_text
from rollout.windows import Window, window_faults, window_to_dict

MAX_REASON_LENGTH: Final = 500  # characters
MAX_FREEZES: Final = 1_000  # per organisation; each is looked at whenever a wave might open
MAX_SPAN: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Either one span, from ``starts`` up to ``ends``, or every week, as ``weekly`` says.

    ``product`` None means all of them.
    """

    id: str
    org: str
    reason: str
    by: Actor
    at: datetime
    product: str | None = None
    starts: datetime | None = None
    ends: datetime | None = None
    weekly: Window | None = None

    def until(self, now: datetime) -> datetime | None:
        """When the freeze that holds now ends; None when it does not hold."""
        if self.weekly is not None:
            return self.weekly.closes_at(now)
        if self.starts is not None and self.ends is not None and self.starts <= now < self.ends:
            return self.ends
        return None


class FreezeRows(Protocol):
    """Freezes at rest. Every method is one transaction, events in it."""

    def all(self, org: str) -> Sequence[Freeze]:
        """All that were not removed, in order of id."""

    def get(self, org: str, freeze_id: str) -> Freeze:
        """Raises UnknownFreeze."""

    def add(self, freeze: Freeze, event: AuditEvent) -> None:
        """Store a new one."""

    def remove(self, org: str, freeze_id: str, event: AuditEvent) -> None:
        """Forget one; raises UnknownFreeze."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezes:
    """The calendar."""

    rows: FreezeRows

    def freeze(
        self,
        org: str,
        *,
        reason: str,
        by: Actor,
        now: datetime,
        product: str | None = None,
        starts: datetime | None = None,
        ends: datetime | None = None,
        weekly: Window | None = None,
    ) -> Freeze:
        """Put one into the calendar; writes ``freeze.added``. Without ``starts`` a span begins now.

        Raises InvalidFreeze.
        """
        if ends is not None and starts is None:
            starts = now
        made = Freeze(
            id=new_id("frz"),
            org=org,
            reason=reason,
            by=by,
            at=now,
            product=product,
            starts=starts,
            ends=ends,
            weekly=weekly,
        )
        _check(made, now)
        if len(self.rows.all(org)) >= MAX_FREEZES:
            raise InvalidFreeze(f"there are {MAX_FREEZES} freeze windows; remove those that are over")
        self.rows.add(made, AuditEvent("freeze.added", made.id, by, now, told(made)))
        return made

    def lift(self, org: str, freeze_id: str, *, by: Actor, now: datetime) -> None:
        """Take one out of the calendar; writes ``freeze.removed``. Raises UnknownFreeze."""
        found = self.rows.get(org, freeze_id)
        self.rows.remove(org, found.id, AuditEvent("freeze.removed", found.id, by, now, told(found)))

    def frozen(self, org: str, product: str, now: datetime) -> str:
        """Why no wave of the product opens now, and until when; empty when waves may open."""
        holding = [
            (until, one.reason)
            for one in self.rows.all(org)
            if one.product in (None, product) and (until := one.until(now)) is not None
        ]
        if not holding:
            return ""
        until, reason = max(holding)
        return f"frozen until {until.isoformat(timespec='seconds').replace('+00:00', 'Z')}: {reason}"


def told(freeze: Freeze) -> dict[str, object]:
    """A freeze as its events tell it."""
    return {
        "product": freeze.product,
        "starts": None if freeze.starts is None else freeze.starts.isoformat(),
        "ends": None if freeze.ends is None else freeze.ends.isoformat(),
        "weekly": None if freeze.weekly is None else window_to_dict(freeze.weekly),
        "reason": freeze.reason,
    }


def _check(one: Freeze, now: datetime) -> None:
    if not one.reason.strip() or len(one.reason) > MAX_REASON_LENGTH or not is_plain_text(one.reason):
        raise InvalidFreeze(f"a freeze needs a reason of 1 to {MAX_REASON_LENGTH} characters of plain text")
    if one.product is not None and SLUG.fullmatch(one.product) is None:
        raise InvalidFreeze(f"{one.product[:120]!r} is no product's name")
    if (one.weekly is None) == (one.ends is None) or (one.weekly is not None and one.starts is not None):
        raise InvalidFreeze("a freeze is either one span (starts, ends) or weekly; give one of them")
    if one.weekly is not None:
        faults = window_faults(one.weekly, local_is_known=False)
        if faults:
            raise InvalidFreeze("; ".join(faults))
    if one.starts is not None and one.ends is not None:
        if one.ends <= max(one.starts, now):
            raise InvalidFreeze(
                f"the freeze would end {one.ends.isoformat()}, expected a later time than its start and now"
            )
        if one.ends - one.starts > MAX_SPAN:
            raise InvalidFreeze("the freeze would last more than 366 days")
