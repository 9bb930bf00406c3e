"""Rollouts as people look at them: where each stands, why it does not move, how many devices a wave is for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from evidence.ids import new_id
from evidence.model import SCHEDULER
from rollout import audience, gate, silence
from rollout.gate import Outcome, Verdict
from rollout.metrics import Reading
from rollout.model import Counters, Rollout, State
from rollout.opening import Openings
from rollout.outlook import Outlook, outlook
from rollout.ports import Decisions, Groups, HouseRules, Releases, Rollouts
from rollout.precedence import Precedence, is_security
from rollout.rules import NoRules
from rollout.settlement import Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout as people look at it: ``why`` in one line; counters, expected devices and outlooks by wave number.

    In a list ``expected`` is empty: counting who is in a wave costs with the size of its group. ``signed``: approvers
    sign the product's decisions with their own keys.
    """

    rollout: Rollout
    why: str
    counters: Mapping[int, Counters]
    expected: Mapping[int, int]
    outlooks: Mapping[int, Outlook] = field(default_factory=dict)
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutViews:
    """All that can be asked of rollouts; nothing here changes one.

    ``make_id`` gets a prefix, ``make_salt`` gives 32 lower-case hex characters. ``updating`` says in
    words who updates now, with the separator from what is said before it; ``readings`` are those of the open
    wave's metrics, by name.
    """

    rollouts: Rollouts
    decisions: Decisions
    releases: Releases
    groups: Groups
    make_id: Callable[[str], str] = new_id
    make_salt: Callable[[], str] = lambda: secrets.token_hex(16)
    rules: HouseRules = field(default_factory=NoRules)
    updating: Callable[[Rollout, datetime], str] = lambda _rollout, _now: ""
    readings: Callable[[Rollout], Mapping[str, Reading]] = lambda _rollout: {}

    @property
    def precedence(self) -> Precedence:
        """Which of the rollouts under way goes first."""
        return Precedence(self.rollouts)

    @property
    def settlement(self) -> Settlement:
        """What performs transitions over the two stores."""
        return Settlement(
            rollouts=self.rollouts,
            decisions=self.decisions,
            releases=self.releases,
            make_id=self.make_id,
            rules=self.rules,
        )

    @property
    def openings(self) -> Openings:
        """How waves open, and what approvers sign."""
        return Openings(decisions=self.decisions, groups=self.groups)

    def expected(self, rollout: Rollout, wave: int, now: datetime) -> int:
        """How many devices a wave reaches that none before it reached: exact for groups of up to 10,000."""
        left_out = self.rules.left_out(rollout.org, rollout.plan, now)
        return audience.expected(rollout, self.groups, number=wave, left_out=left_out)

    def why(self, rollout: Rollout, now: datetime) -> str:
        """One line: what the rollout waits for, what blocks it, or how it ended."""
        return self._why(rollout, now) or self._lacking(rollout, now) or self._from_gate(rollout, now)

    def _why(self, rollout: Rollout, now: datetime) -> str:
        """What can be told without asking the repository for proposals; empty for what the gate, or approvers, say."""
        if rollout.state is State.RUNNING:
            return f"{self.verdict(rollout, now).reason}{_retry_to_come(rollout)}{self.updating(rollout, now)}"
        if rollout.state is State.WAITING and gate.may_open(rollout, now).outcome is Outcome.PASS:
            blocked = self.settlement.blocked(rollout, now)
            if blocked:
                return blocked
            held = self.settlement.held(rollout, now)
            if held:
                return f"wave {rollout.wave} is {held}"
            holder = self.precedence.waited_for(rollout)
            if holder is not None:
                kind = "of priority 'security'" if is_security(holder) else f"of channel {holder.plan.channel!r}"
                return f"wave {rollout.wave} waits: {holder.id} {kind} holds a group"
        return ""

    def _lacking(self, rollout: Rollout, now: datetime) -> str:
        if rollout.state is not State.WAITING or gate.may_open(rollout, now).outcome is not Outcome.PASS:
            return ""
        lacking = self.settlement.lacking(rollout, self.openings.opening(rollout, SCHEDULER), now)
        return f"wave {rollout.wave} waits for signatures: {lacking}" if lacking else ""

    def _from_gate(self, rollout: Rollout, now: datetime) -> str:
        return f"{gate.why(rollout, Counters(), 0, now)}{_retry_to_come(rollout)}"

    def show(self, org: str, rollout_id: str, now: datetime) -> RolloutView:
        """The rollout with its why, counters and expected devices of every wave."""
        return self.view(self.rollouts.get(org, rollout_id), now)

    def view(self, rollout: Rollout, now: datetime) -> RolloutView:
        """As :meth:`show`, for a rollout at hand."""
        counters = dict(self.rollouts.counters(rollout.id))
        left_out = self.rules.left_out(rollout.org, rollout.plan, now)
        expected = audience.expected_all(rollout, self.groups, left_out=left_out)
        return RolloutView(
            rollout=rollout,
            why=self.why(rollout, now),
            counters=counters,
            expected=expected,
            outlooks=self._outlooks(rollout, counters, expected, now),
            signed=self.decisions.approvers_sign(rollout.plan.product),
        )

    def glance(self, found: Sequence[Rollout], now: datetime) -> list[RolloutView]:
        """Views of many rollouts at a cost that no fleet's size enters: no device is counted or placed."""
        told = self.rollouts.counters_of([rollout.id for rollout in found])
        signed = {product: self.decisions.approvers_sign(product) for product in {one.plan.product for one in found}}
        return [
            RolloutView(
                rollout=rollout,
                why=self._glimpse(rollout, told.get(rollout.id, {}), now, signed=signed[rollout.plan.product]),
                counters=told.get(rollout.id, {}),
                expected={},
                signed=signed[rollout.plan.product],
            )
            for rollout in found
        ]

    def _glimpse(self, rollout: Rollout, counters: Mapping[int, Counters], now: datetime, *, signed: bool) -> str:
        if rollout.state is State.RUNNING:
            return gate.glance(rollout, counters.get(rollout.wave, Counters()))
        why = self._why(rollout, now)
        if why or not signed or rollout.state is not State.WAITING:
            return why or self._from_gate(rollout, now)
        # How many have signed only the proposals tell, and looking there for each of a list would be too much.
        passes = gate.may_open(rollout, now).outcome is Outcome.PASS
        return f"{self._from_gate(rollout, now)}{' once approvers have signed it' if passes else ''}"

    def _outlooks(
        self, rollout: Rollout, counters: Mapping[int, Counters], expected: Mapping[int, int], now: datetime
    ) -> dict[int, Outlook]:
        stalled, unsure = self._listen(rollout, now)
        found: dict[int, Outlook] = {}
        for number in range(1, len(rollout.waves) + 1):
            one = outlook(
                rollout,
                number,
                counters.get(number, Counters()),
                expected=expected.get(number, 0),
                stalled=stalled if number == rollout.wave else 0,
                unsure=unsure if number == rollout.wave else 0,
                now=now,
            )
            if one is not None:
                found[number] = one
        return found

    def verdict(self, rollout: Rollout, now: datetime) -> Verdict:
        """How the open wave is judged now."""
        expected, (stalled, unsure) = self.expected(rollout, rollout.wave, now), self._listen(rollout, now)
        readings = self.readings(rollout) if rollout.plan.waves[rollout.wave - 1].gate.metrics else {}
        return gate.judge(
            rollout, self.counters(rollout), expected, now, stalled=stalled, unsure=unsure, readings=readings
        )

    def _listen(self, rollout: Rollout, now: datetime) -> tuple[int, int]:
        """Who stands still in the open wave, and by how many it may be smaller than expected; 0 until it matters."""
        before = silence.stalled_before(rollout, now)
        if before is None:
            return 0, 0
        stalled = self.rollouts.stalled(rollout.id, rollout.wave, before=before)
        return stalled, audience.unsure(rollout, self.groups, number=rollout.wave)

    def counters(self, rollout: Rollout) -> Counters:
        """Those of the wave that it is at; zeros while nobody in it has reported."""
        return self.rollouts.counters(rollout.id).get(rollout.wave, Counters())


def _retry_to_come(rollout: Rollout) -> str:
    if rollout.retry_at is None:
        return ""
    return f"; a retry is planned for {rollout.retry_at.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
