"""The organisation's rules, joined: what ``rollout.ports.HouseRules`` asks, answered by exclusions and freezes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rollout.excluding import Exclusions
from rollout.freezing import Freezes
from rollout.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Fulfils ``rollout.ports.HouseRules``."""

    exclusions: Exclusions
    freezes: Freezes

    def blocking(self, org: str, plan: Plan, now: datetime) -> str:
        """As the exclusions say."""
        return self.exclusions.blocking(org, plan, now)

    def left_out(self, org: str, plan: Plan, now: datetime) -> tuple[frozenset[str], frozenset[str]]:
        """As the exclusions say."""
        return self.exclusions.left_out(org, plan, now)

    def frozen(self, org: str, plan: Plan, now: datetime) -> str:
        """As the calendar says, unless the plan may ignore it."""
        return "" if plan.ignores_freeze else self.freezes.frozen(org, plan.product, now)

    def prepare(self, org: str, plan: Plan, now: datetime) -> None:
        """Sign the product's list of exclusions."""
        self.exclusions.prepare(org, plan, now)


class NoRules:
    """An organisation without rules of its own; fulfils ``rollout.ports.HouseRules``."""

    def blocking(self, org: str, plan: Plan, now: datetime) -> str:  # noqa: ARG002
        """Nothing is excluded."""
        return ""

    def left_out(self, org: str, plan: Plan, now: datetime) -> tuple[frozenset[str], frozenset[str]]:  # noqa: ARG002
        """Nobody is left out."""
        return frozenset(), frozenset()

    def frozen(self, org: str, plan: Plan, now: datetime) -> str:  # noqa: ARG002
        """Waves always may open."""
        return ""

    def prepare(self, org: str, plan: Plan, now: datetime) -> None:
        """There is nothing to sign."""
