"""What can be done once a rollout has gone its way: call devices back, do it again, make another like it, check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Protocol

from evidence.model import Actor
from rollout import machine
from rollout.commands import RollBack
from rollout.documents import documents, reached
from rollout.errors import BrokenHistory, TransitionNotAllowed
from rollout.model import FINAL_STATES, Counters, Rollout, State
from rollout.plan import PlanRequest
from rollout.precedence import outranks, place
from rollout.service import RolloutService


class Recounts(Protocol):
    """What a check asks of the store beyond ``rollout.ports.Rollouts``."""

    def recount(self, org: str, rollout_id: str) -> tuple[Mapping[int, Counters], Mapping[int, Counters]]:
        """The counters as kept and as the devices' rows give them, both of one moment; raises UnknownRollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """A rollout checked: counters by wave as kept and as counted anew, and every fault in a line; none when sound."""

    rollout: Rollout
    kept: Mapping[int, Counters]
    counted: Mapping[int, Counters]
    faults: Sequence[str]


def request_of(rollout: Rollout) -> PlanRequest:
    """What was asked for to get this rollout's plan; the artifacts are those of the release, looked up anew."""
    return PlanRequest(**{one.name: getattr(rollout.plan, one.name) for one in fields(PlanRequest)})


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Use cases over :class:`rollout.service.RolloutService`; every one raises UnknownRollout as it does."""

    service: RolloutService

    def roll_back(self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime) -> Rollout:
        """Call devices back after the end; the final state stays. Each returns to what it ran before.

        Raises:
            TransitionNotAllowed: It has not ended, was called back before, or another rollout has reached one of its
                groups since: that one has the word there.
        """
        settlement = self.service.settlement
        rollout = settlement.current(org, rollout_id, now)
        command = RollBack(by=by, reason=reason)
        machine.apply(rollout, command, now=now)  # Whether it can be at all is the first thing to say.
        group = settlement.overtaken(rollout)
        if group:
            raise TransitionNotAllowed(
                f"another rollout has reached group {group!r} since {rollout_id}; roll that one back, "
                "or clone one of the version wanted with allow_downgrade"
            )
        return settlement.perform(rollout, command, now)

    def clone(
        self, org: str, rollout_id: str, request: PlanRequest | None = None, *, by: Actor, now: datetime
    ) -> Rollout:
        """A new draft made after this rollout, in whatever state: with its own plan, or with ``request``.

        Raises what :meth:`rollout.service.RolloutService.create` raises; nothing is stored then.
        """
        source = self.service.rollouts.get(org, rollout_id)
        wanted = request_of(source) if request is None else request
        return self.service.create(org, wanted, by=by, now=now, origin=source.id)

    def rerun(self, org: str, rollout_id: str, *, by: Actor, now: datetime) -> Rollout:
        """The same plan once more, as a draft to submit, for devices that failed or never got it.

        Devices that run the release say so and change nothing. Raises TransitionNotAllowed while it is under way.
        """
        source = self.service.rollouts.get(org, rollout_id)
        if source.state not in FINAL_STATES:
            raise TransitionNotAllowed(
                f"{rollout_id} is {source.state}; retry what failed, or abort it and run it again"
            )
        return self.clone(org, rollout_id, by=by, now=now)

    def recount(self, org: str, rollout_id: str, counts: Recounts) -> Recount:
        """Hold counters against the devices' rows, events against the state, and the state against what is served."""
        kept, counted = counts.recount(org, rollout_id)
        rollout = self.service.rollouts.get(org, rollout_id)
        faults = [
            f"wave {wave}: the counters say {kept.get(wave)}, the devices' rows {counted.get(wave)}"
            for wave in sorted({*kept, *counted})
            if kept.get(wave) != counted.get(wave)
        ]
        moved = self._moved_since(rollout)
        faults += [] if moved else self._history(rollout)
        faults += [] if moved else self._served(rollout)
        return Recount(rollout=rollout, kept=kept, counted=counted, faults=faults)

    def overtaken_by(self, rollout: Rollout, reported_in: Mapping[str, Sequence[Rollout]]) -> Mapping[str, Rollout]:
        """Of devices and the other rollouts of the product they reported in: those that follow another one now.

        An earlier one that was stopped, or whose every group this one has reached, has nothing to say any more.
        """
        found: dict[str, Rollout] = {}
        for device, others in reported_in.items():
            for other in others:
                if outranks(other, found.get(device, rollout)) and not _silenced(other, rollout):
                    found[device] = other
        return found

    def _moved_since(self, rollout: Rollout) -> bool:
        """A change under way is no fault: it is looked at when it has settled."""
        under_way = any(intent.after.id == rollout.id for intent in self.service.rollouts.intents(rollout.org))
        return under_way or self.service.rollouts.get(rollout.org, rollout.id) != rollout

    def _history(self, rollout: Rollout) -> list[str]:
        try:
            told = machine.replay(self.service.rollouts.events(rollout.org, rollout.id))
        except BrokenHistory as error:
            return [f"its events do not replay: {error}"]
        if told != rollout and not self._moved_since(rollout):
            return [f"its events replay to revision {told.revision}, which is not what is stored"]
        return []

    def _served(self, rollout: Rollout) -> list[str]:
        if rollout.state in FINAL_STATES:
            return []  # A later rollout may have its groups by now.
        return [
            f"{path} is not served as the state says"
            for path, document in documents(rollout).items()
            if self.service.decisions.served(path) != document and not self._moved_since(rollout)
        ]


def _silenced(earlier: Rollout, rollout: Rollout) -> bool:
    """Whether it was submitted before ``rollout`` and is stopped, or has lost the word in every group it reached."""
    if place(earlier) >= place(rollout):
        return False
    stopped = earlier.state in {State.ABORTED, State.SUPERSEDED}
    return stopped or reached(earlier).keys() <= reached(rollout).keys()
