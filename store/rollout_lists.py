"""Lists of rollouts: which filters and orders there are, and where a page begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.sql import Select

from rollout.model import Rollout, State
from store.models import rollout_groups, rollouts
from store.order import Order

SORTS: Final = ("-created_at", "created_at", "product", "-product")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutFilter:
    """What a rollout must be to be listed; None asks for nothing. ``group`` is the name of one of its waves' groups."""

    state: State | None = None
    product: str | None = None
    channel: str | None = None
    group: str | None = None

    def conditions(self, org: str) -> list[ColumnElement[bool]]:
        """The filter on the table ``rollouts``."""
        wanted = [rollouts.c.org == org]
        if self.state is not None:
            wanted.append(rollouts.c.state == self.state.value)
        if self.product is not None:
            wanted.append(rollouts.c.product == self.product)
        if self.channel is not None:
            wanted.append(rollouts.c.channel == self.channel)
        if self.group is not None:
            named = rollout_groups.c
            wanted.append(exists().where(named.rollout == rollouts.c.id, named.org == org, named.name == self.group))
        return wanted


def place(rollout: Rollout, sort: str) -> str:
    """Where a rollout stands in this order, to begin behind it."""
    return Order.of(sort).place(rollout.id, rollout.plan.product)


def listed(org: str, wanted: RolloutFilter, sort: str, after: str | None, limit: int) -> Select[Any]:
    """The query of one page of documents; ``sort`` is one of SORTS, ``after`` a :func:`place`."""
    query = select(rollouts.c.document).where(*wanted.conditions(org))
    return Order.of(sort).page(query, rollouts, after=after, limit=limit)


def counted(org: str, wanted: RolloutFilter) -> Select[int]:
    """The query of how many rollouts the filter leaves."""
    return select(func.count()).select_from(rollouts).where(*wanted.conditions(org))
