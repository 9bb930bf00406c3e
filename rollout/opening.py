"""How a wave opens: signed by whom, and with what reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evidence.model import Actor
from rollout import approving, audience
from rollout.commands import OpenWave
from rollout.errors import InvalidPlan
from rollout.model import Plan, Rollout
from rollout.ports import Decisions, Groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """The one place that makes ``OpenWave``: scheduler, operators and approvers get the same decision of a wave."""

    decisions: Decisions
    groups: Groups

    def opening(self, rollout: Rollout, by: Actor) -> OpenWave:
        """The command that opens the awaited wave, of a draft the first; whether it may open is not asked."""
        number = max(rollout.wave, 1)
        signed = self.decisions.approvers_sign(rollout.plan.product)
        return OpenWave(by=by, wave=number, signed=signed, reach=self._reach(rollout, number))

    def to_sign(
        self, rollout: Rollout, wave: int, through: int, now: datetime
    ) -> Sequence[tuple[int, dict[str, bytes]]]:
        """As :func:`rollout.approving.to_sign`; a wave by count keeps the range with which it was first asked for."""
        return approving.to_sign(rollout, wave, through, now, reach=self._reach)

    def refuse_unsignable(self, plan: Plan) -> None:
        """Raise InvalidPlan for one that approvers would have to sign and cannot."""
        faults = approving.spread_faults(plan) if self.decisions.approvers_sign(plan.product) else []
        if faults:
            raise InvalidPlan(faults)

    def _reach(self, rollout: Rollout, number: int) -> int | None:
        """For a wave by count. What approvers were asked to sign is what opens, whoever has joined the group since."""
        if rollout.plan.waves[number - 1].count is None:
            return None
        if self.decisions.approvers_sign(rollout.plan.product):
            asked = self.decisions.proposed(rollout.id).get(number, {})
            if reach := approving.reach_asked(rollout, number, asked):
                return reach
        return audience.reach_by_count(rollout, self.groups, number=number)
