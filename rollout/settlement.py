"""Two stores, one truth: how a transition that changes what is served is signed and saved.

It runs intent → sign → settle: the intent is written where the rollout is stored, the documents are signed, then state,
events and the end of the intent are saved in one transaction. Stopped in between, :meth:`Settlement.recover` looks at
what is served and settles or drops. So the state never claims what is not signed, and a stop is signed before anybody
is told that it happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rollout import documents, machine
from rollout.commands import Command, OpenWave, Resume, Retry, RollBack
from rollout.decision import DECISIONS
from rollout.errors import ReleaseBlocked, RolloutChanged, SignaturesNeeded, TransitionNotAllowed, UnknownRollout
from rollout.model import FINAL_STATES, Plan, Rollout, State
from rollout.plan import made_plain
from rollout.ports import Decisions, HouseRules, Intent, Releases, Rollouts

STALE_AFTER: Final = timedelta(seconds=10)  # signing takes milliseconds; an older intent's writer has stopped
MAX_TOLD_LENGTH: Final = 200  # characters of a yank's reason that are repeated in a rollout's
_WIDENING: Final = (OpenWave, Resume, Retry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Performs transitions over the two stores and resolves those that were left half done."""

    rollouts: Rollouts
    decisions: Decisions
    releases: Releases
    make_id: Callable[[str], str]
    rules: HouseRules

    def perform(self, before: Rollout, command: Command, now: datetime) -> Rollout:
        """Obey a command on ``before`` and return the rollout after it, signed and saved.

        Raises what ``machine.apply`` raises, ReleaseBlocked for a widening command on a yanked artifact, and
        RolloutChanged when the rollout has moved since, SignaturesNeeded when approvers have not signed what would be
        served; nothing has changed then. After any other error, of a disk for
        instance, the intent stands until it is resolved: nobody knows yet whether its documents are served.
        """
        after, events = machine.apply(before, command, now=now)
        if isinstance(command, _WIDENING):
            self.refuse_blocked(before, now)
            held = self.held(before, now) if isinstance(command, OpenWave) else ""
            if held:
                raise TransitionNotAllowed(f"{before.id}: wave {before.wave} is {held}")
            self.rules.prepare(before.org, before.plan, now)
        delta = documents.changes(before, after)
        if not delta:
            self.rollouts.save(after, events, seen=before.revision)
            return after
        text = documents.changes_to_text(delta)
        intent = Intent(
            id=self.make_id("int"),
            seen=before.revision,
            after=after,
            events=events,
            decision_hash=documents.decision_hash(text),
            changes=text,
            proposed_at=now,
        )
        self.rollouts.propose(intent)
        try:
            self.decisions.commit(delta, only_if=lambda: self._may_sign(intent, command, now), now=now)
        except (RolloutChanged, SignaturesNeeded):
            self.rollouts.drop(intent)
            raise
        self.rollouts.settle(intent)
        return after

    def lacking(self, before: Rollout, command: Command, now: datetime) -> str:
        """Which approvers' signatures the command waits for, in one line; empty when none is missing."""
        return self.decisions.lacking(documents.changes(before, machine.apply(before, command, now=now)[0]))

    def current(self, org: str, rollout_id: str, now: datetime) -> Rollout:
        """The rollout with no intent on it: a stopped writer's is resolved, a living one's raises RolloutChanged."""
        for intent in self.rollouts.intents(org):
            if intent.after.id != rollout_id:
                continue
            if now - intent.proposed_at < STALE_AFTER:
                raise RolloutChanged(f"{rollout_id} is being changed by {intent.events[0].by.name}; look again")
            self._resolve(intent)
        return self.rollouts.get(org, rollout_id)

    def recover(self, org: str, now: datetime, *, older_than: timedelta) -> None:
        """Settle every intent whose documents are served and drop every other, from this age on."""
        for intent in self.rollouts.intents(org):
            if now - intent.proposed_at >= older_than:
                self._resolve(intent)

    def blocked(self, rollout: Rollout, now: datetime) -> str:
        """Why the release may not be offered, in one line; empty when it may."""
        return why_blocked(self.releases, rollout.org, rollout.plan) or self.rules.blocking(
            rollout.org, rollout.plan, now
        )

    def overtaken(self, rollout: Rollout) -> str:
        """A group whose served decision is another rollout's by now; empty when every one is this one's."""
        for path, document in documents.documents(rollout).items():
            if path.startswith(DECISIONS) and self.decisions.served(path) != document:
                return path.removeprefix(DECISIONS).removesuffix(".json").partition("/")[2]
        return ""

    def refuse_blocked(self, rollout: Rollout, now: datetime) -> None:
        """Raise ReleaseBlocked when the release may not be offered."""
        blocked = self.blocked(rollout, now)
        if blocked:
            raise ReleaseBlocked(blocked)

    def held(self, rollout: Rollout, now: datetime) -> str:
        """Why no wave opens though its gate holds, as in "frozen until …"; empty when it may open."""
        frozen = self.rules.frozen(rollout.org, rollout.plan, now)
        return frozen or why_waiting(self.rollouts, rollout)

    def _may_sign(self, intent: Intent, command: Command, now: datetime) -> bool:
        """Asked under the repository lock, where a yank or an exclusion is signed as well: none slips in between."""
        if isinstance(command, _WIDENING) and self.blocked(intent.after, now):
            return False
        if isinstance(command, RollBack) and self.overtaken(intent.after):
            return False  # Its brake would replace that of the rollout that has the group now.
        return self.rollouts.standing(intent)

    def _resolve(self, intent: Intent) -> None:
        def settle_or_drop() -> None:
            if not self.rollouts.standing(intent):
                return
            if all(
                self.decisions.served(path) == (None if text is None else text.encode())
                for path, text in intent.changes.items()
            ):
                self.rollouts.settle(intent)
            else:
                self.rollouts.drop(intent)

        self.decisions.exclusively(settle_or_drop)


def why_blocked(releases: Releases, org: str, plan: Plan) -> str:
    """Why an artifact of the plan may not be offered, in one line; empty when all may."""
    blocked = releases.blocked(org, [artifact.id for artifact in plan.artifacts.values()])
    if not blocked:
        return ""
    artifact, reason = min(blocked.items())
    more = f", and {len(blocked) - 1} more" if len(blocked) > 1 else ""
    return f"artifact {artifact} is yanked: {made_plain(reason)[:MAX_TOLD_LENGTH]}{more}"


def why_waiting(rollouts: Rollouts, rollout: Rollout) -> str:
    """Which rollout that must be completed first is not, in one line; empty when all are."""
    for first in rollout.plan.after:
        try:
            state = rollouts.get(rollout.org, first).state
        except UnknownRollout:
            return f"held back: it comes after {first}, which does not exist"
        if state is not State.COMPLETED:
            never = "; that has ended, make another plan" if state in FINAL_STATES else ""
            return f"held back until {first} is completed; it is {state}{never}"
    return ""
