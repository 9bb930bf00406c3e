"""What a rollout wants served: for each group reached a decision, and a brake while it must not go on.

Pure: the documents follow from the rollout's state alone, so recovery can compare what is served with what should be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

from rollout.cohort import reach_of
from rollout.decision import (
    Brake,
    Decision,
    DecisionArtifact,
    Stance,
    brake_path,
    decision_path,
    encode_brake,
    encode_decision,
)
from rollout.model import AbortMode, Priority, Rollout, State, Wave


def documents(rollout: Rollout) -> dict[str, bytes]:
    """Target path to bytes of every document the rollout wants served in its present state.

    A group has a decision from the opening of its first wave on, with the cohort of its widest opened wave; it is
    never taken back or made narrower. What stops it is a brake beside it. A revision in a document is that of the
    transition that last changed it, so that unchanged documents keep their bytes.
    """
    wanted: dict[str, bytes] = {}
    product = rollout.plan.product
    for group, number in reached(rollout).items():
        wanted[decision_path(product, group)] = encode_decision(_decision(rollout, group, number))
        stance, reason = stance_of(rollout)
        if stance is not Stance.OPEN:
            brake = Brake(
                org=rollout.org,
                product=product,
                channel=rollout.plan.channel,
                group=group,
                rollout=rollout.id,
                plan_hash=rollout.plan_hash,
                wave=number,
                revision=rollout.braked_revision,
                stance=stance,
                reason=reason,
            )
            wanted[brake_path(product, group)] = encode_brake(brake)
    return wanted


def changes(before: Rollout, after: Rollout) -> dict[str, bytes | None]:
    """What has to be signed for a transition: path to new bytes, or None for a document to be removed."""
    old, new = documents(before), documents(after)
    delta: dict[str, bytes | None] = {path: document for path, document in new.items() if old.get(path) != document}
    return delta | {path: None for path in old if path not in new}


def changes_to_text(delta: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """The form kept in an intent; documents are UTF-8."""
    return {path: None if document is None else document.decode() for path, document in delta.items()}


def decision_hash(delta: Mapping[str, str | None]) -> str:
    """Lower-case hex SHA-256 over the canonical JSON of a change of documents."""
    encoded = json.dumps(dict(delta), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(encoded.encode()).hexdigest()


def wave_document(rollout: Rollout, number: int) -> bytes | None:
    """The decision that stands for the group of wave ``number``; None while no wave of that group was opened."""
    path = decision_path(rollout.plan.product, rollout.plan.waves[number - 1].group)
    return documents(rollout).get(path)


def opened(wave: Wave) -> bool:
    """Whether the wave has ever been open, however the rollout ended."""
    return wave.opened_at is not None


def reached(rollout: Rollout) -> dict[str, int]:
    """Group to its widest opened wave. Shares grow along a group's waves, so the last opened counts."""
    return {
        plan.group: number
        for number, (plan, wave) in enumerate(zip(rollout.plan.waves, rollout.waves, strict=True), start=1)
        if opened(wave)
    }


def _decision(rollout: Rollout, group: str, number: int) -> Decision:
    plan, wave = rollout.plan, rollout.waves[number - 1]
    if rollout.submitted_at is None:
        raise ValueError(f"{rollout.id} has an opened wave and was never submitted")
    # Approvers sign before anybody knows at which revision the wave will open: the wave's number stands for it. And
    # nobody but the devices themselves can be trusted to keep a wave from opening early.
    revision = number if wave.signed else max(wave.opened_revision, rollout.retried_revision)
    return Decision(
        org=rollout.org,
        product=plan.product,
        channel=plan.channel,
        group=group,
        rollout=rollout.id,
        plan_hash=rollout.plan_hash,
        wave=number,
        revision=revision,
        submitted_at=rollout.submitted_at,
        version=plan.version,
        artifacts={
            platform: DecisionArtifact(path=artifact.path, length=artifact.length, sha256=artifact.sha256)
            for platform, artifact in plan.artifacts.items()
        },
        salt=rollout.salt,
        cohort_from=0,
        cohort_to=widest_reach(rollout, group),
        attempt=rollout.attempt,
        device_attempts=rollout.device_attempts,
        not_before=plan.waves[number - 1].gate.not_before if wave.signed else None,
        allow_downgrade=plan.allow_downgrade,
        is_security=plan.priority is Priority.SECURITY,
        from_versions=plan.from_versions,
        requires=plan.requires,
        window=plan.window,
        spread_from=_spread_from(rollout, number) if plan.spread_seconds else None,
        spread_seconds=plan.spread_seconds,
        retry=plan.retry,
        budget=plan.budget,
    )


def _spread_from(rollout: Rollout, number: int) -> datetime | None:
    """Nobody knows the opening when approvers sign; what they sign is spread from its own ``not_before``."""
    wave = rollout.waves[number - 1]
    return rollout.plan.waves[number - 1].gate.not_before if wave.signed else wave.opened_at


def widest_reach(rollout: Rollout, group: str) -> int:
    """The bucket below which devices of the group are inside the waves opened so far.

    The widest, not the last: a share in percent can reach less than a count before it did, and cohorts only grow.
    """
    return max(
        reach_of(plan, wave)
        for plan, wave in zip(rollout.plan.waves, rollout.waves, strict=True)
        if plan.group == group and opened(wave)
    )


def stance_of(rollout: Rollout) -> tuple[Stance, str]:
    """What the rollout asks of devices in its present state, and why when it is to stop or go back."""
    if rollout.rolled_back_because is not None:
        return Stance.ROLL_BACK, rollout.rolled_back_because
    match rollout.state:
        case State.PAUSED:
            return Stance.HALTED, rollout.paused_because or "paused"
        case State.ABORTED:
            stance = Stance.ROLL_BACK if rollout.abort_mode is AbortMode.ROLL_BACK else Stance.HALTED
            return stance, rollout.abort_reason or "aborted"
        case State.SUPERSEDED:
            return Stance.HALTED, f"superseded by {rollout.superseded_by}"
        case State.COMPLETED if not rollout.plan.keep_open:
            return Stance.HALTED, "completed, not kept open"
        case _:
            return Stance.OPEN, ""
