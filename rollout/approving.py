"""What approvers sign with their own keys: the decisions of the awaited wave, and of waves that follow by schedule.

Pure: what is signed is what :mod:`rollout.documents` would have served once the wave is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from rollout import documents
from rollout.decision import decision_path, decode_decision
from rollout.errors import InvalidCommand, TransitionNotAllowed
from rollout.model import Plan, Rollout, State, WaveState
from rollout.reading import Faults

MAX_SCHEDULED: Final = 100  # waves; each is a version of the role with all decisions of the product

Reach = Callable[[Rollout, int], int | None]


def to_sign(
    rollout: Rollout, wave: int, through: int, now: datetime, *, reach: Reach
) -> Sequence[tuple[int, dict[str, bytes]]]:
    """For each wave of a schedule its number and the documents that it changes, by path, in order.

    Args:
        rollout: One that waits.
        wave: The awaited one: another would be signed before what it follows from is known.
        through: The last one; the same as ``wave`` for a single one.
        now: Stands for the moments of opening, which no decision tells.
        reach: Says with what range of buckets a wave by count will open, None for one in percent. It gets the rollout
            as it is when the waves before are open.

    Raises:
        TransitionNotAllowed: It does not wait, or not for this wave.
        InvalidCommand: There are no such waves, or too many; or a later one has no ``not_before``, so that nothing but
            the server's word would keep it from opening together with the first; or the plan spreads devices and one
            has no ``not_before`` to spread them from.
    """
    if rollout.state is not State.WAITING:
        raise TransitionNotAllowed(f"{rollout.id} is {rollout.state}; what it waits for is signed while it is waiting")
    if wave != rollout.wave:
        raise TransitionNotAllowed(
            f"{rollout.id} waits for wave {rollout.wave}, not {wave}; later waves are signed together with it, as a "
            "schedule, or when it has passed"
        )
    if not wave <= through <= min(len(rollout.waves), wave + MAX_SCHEDULED - 1):
        raise InvalidCommand(
            f"a schedule from wave {wave} of {rollout.id} ends at wave {wave} to {len(rollout.waves)}, at most "
            f"{MAX_SCHEDULED} waves on; found {through}"
        )
    for number in range(wave + 1, through + 1):
        before, after = (rollout.plan.waves[place - 1].gate.not_before for place in (number - 1, number))
        if after is None or (before is not None and after < before):
            raise InvalidCommand(
                f"wave {number} of {rollout.id} has no not_before of its own that is not before the wave ahead of it: "
                "nothing but the server's word would hold it back. Sign it when the wave before has passed"
            )
    faults = dict(spread_faults(rollout.plan))
    for number in range(wave, through + 1):
        if fault := faults.get(f"waves.{number}.gate.not_before"):
            raise InvalidCommand(f"wave {number} of {rollout.id} cannot be signed, not_before: {fault}")
    found = []
    for number in range(wave, through + 1):
        opened = _opened(rollout, number, now, reach(rollout, number))
        changed = documents.changes(rollout, opened)
        found.append((number, {path: document for path, document in changed.items() if document is not None}))
        rollout = opened
    return found


def spread_faults(plan: Plan) -> Faults:
    """What keeps a plan from being signed by approvers, as ``rollout.plan.plan_faults`` tells it.

    A spread counts from a moment that stands in the decision, and nobody knows the opening when it is signed.
    """
    return [
        (
            f"waves.{number}.gate.not_before",
            f"expected a time: approvers sign this product's waves, and spread_seconds ({plan.spread_seconds}) counts "
            "from it",
        )
        for number, wave in enumerate(plan.waves, start=1)
        if plan.spread_seconds and wave.gate.not_before is None
    ]


def reach_asked(rollout: Rollout, number: int, asked: Mapping[str, bytes]) -> int:
    """The range of buckets that approvers were asked to sign for a wave of this plan; 0 when they were not.

    Args:
        rollout: As it is now.
        number: Of the wave.
        asked: Documents by path that they were asked to sign for that wave, maybe of a plan before this one.
    """
    document = asked.get(decision_path(rollout.plan.product, rollout.plan.waves[number - 1].group))
    if document is None:
        return 0
    decision = decode_decision(document)
    same = (decision.rollout, decision.plan_hash, decision.wave) == (rollout.id, rollout.plan_hash, number)
    return decision.cohort_to if same else 0


def _opened(rollout: Rollout, number: int, now: datetime, reach: int | None) -> Rollout:
    wave = replace(
        rollout.waves[number - 1],
        state=WaveState.OPEN,
        opened_at=now,
        opened_revision=rollout.revision,
        signed=True,
        reach=reach,
    )
    waves = (*rollout.waves[: number - 1], wave, *rollout.waves[number:])
    return replace(rollout, state=State.RUNNING, wave=number, waves=waves)
