"""Disruption budgets: how many of the devices that have one value of a label may update at once.

A budget is a plan's and stands in the signed decision; who may begin now is a permit (``rollout.permits``).
Source: docs/adr/0100-permits-are-leases.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rollout.reading import Faults, Reader

LEASE_SECONDS: Final = 3_600
SHORTEST_LEASE: Final = 60  # seconds
LONGEST_LEASE: Final = 30 * 24 * 3_600  # seconds
MOST_DEVICES: Final = 1_000_000_000
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most ``max_updating`` devices with one value of ``label`` update at once, or all but ``min_available``.

    One of the two is given. Devices without the label count together, as those of the value "". A permit lasts
    ``lease_seconds`` unless it comes back before.
    """

    label: str
    max_updating: int | None = None
    min_available: int | None = None
    lease_seconds: int = LEASE_SECONDS

    def limit(self, devices: int) -> int:
        """How many may update at once where ``devices`` have the value, 0 or more."""
        return max(0, devices - (self.min_available or 0)) if self.max_updating is None else self.max_updating


def budget_faults(budget: Budget) -> Faults:
    """Every fault as (where, what), beginning with ``budget``."""
    faults: Faults = []
    if _LABEL.fullmatch(budget.label) is None:
        faults.append(
            (
                "budget.label",
                "expected the key of a label: 1 to 63 of a-z 0-9 . _ / - beginning with a letter or digit, "
                f"found {budget.label[:120]!r}",
            )
        )
    if (budget.max_updating is None) == (budget.min_available is None):
        found = "neither" if budget.max_updating is None else "both"
        faults.append(("budget", f"expected either max_updating or min_available, found {found}"))
    for name, number, most in (
        ("max_updating", budget.max_updating, MOST_DEVICES),
        ("min_available", budget.min_available, MOST_DEVICES),
    ):
        if number is not None and (isinstance(number, bool) or not 1 <= number <= most):
            faults.append((f"budget.{name}", f"expected 1 to {most}, found {number}"))
    if isinstance(budget.lease_seconds, bool) or not SHORTEST_LEASE <= budget.lease_seconds <= LONGEST_LEASE:
        faults.append(
            ("budget.lease_seconds", f"expected {SHORTEST_LEASE} to {LONGEST_LEASE}, found {budget.lease_seconds}")
        )
    return faults


def budget_to_dict(budget: Budget) -> dict[str, object]:
    """JSON form of a budget, in plans and in decisions."""
    return {
        "label": budget.label,
        "max_updating": budget.max_updating,
        "min_available": budget.min_available,
        "lease_seconds": budget.lease_seconds,
    }


def read_budget(one: Reader) -> Budget:
    """Read what :func:`budget_to_dict` wrote; faults go to the reader."""
    return Budget(
        label=one.text("label"),
        max_updating=one.number_or_none("max_updating"),
        min_available=one.number_or_none("min_available"),
        lease_seconds=one.number("lease_seconds"),
    )
