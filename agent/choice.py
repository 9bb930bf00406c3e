"""What a device does about one product, given the signed documents that reach it: pure, and in words for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import zip_longest
from typing import Final

from agent.state import Ended, Progress, Release
from rollout.cohort import bucket
from rollout.decision import Brake, Decision, DecisionArtifact, Stance

ANY_PLATFORM: Final = "any"
_AS_WORDS: Final = {Progress.FAILED: "failed", Progress.ROLLED_BACK: "was rolled back"}
_NUMBER: Final = re.compile(r"\d+")


class Act(StrEnum):
    """What follows from a choice."""

    NOTHING = "nothing"
    INSTALL = "install"
    ADOPT = "adopt"  # what is offered runs already: say so, once
    RETURN = "return"  # go back to what ran before


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where the device stands with one product."""

    device: str
    platform: str
    running: Release | None
    ended: Mapping[str, Ended]
    now: datetime
    revoked: Mapping[str, str] = field(default_factory=dict)  # SHA-256 to reason, from the product's signed list


@dataclass(frozen=True, slots=True)
class Choice:
    """``release`` is what to install or adopt, or, for RETURN, what to leave; ``words`` say why."""

    act: Act
    words: str
    release: Release | None = None


def choose(decisions: Sequence[Decision], brakes: Sequence[Brake], situation: Situation) -> Choice:
    """Judge the decisions and brakes of one product that the device's groups have.

    Steps, in this order: (0) what runs was revoked; (1) a brake that says roll back what runs; (2) decisions whose
    cohort has the device; (3) of these the one submitted last, for it supersedes, but first the last security one while
    there is something to do for it; (4) its brake; (5) attempt, time, expiry; (6) artifact for the platform, not
    revoked; (7) same bytes; (8) versions. A braked decision is not stepped over to an older one: who stopped the newest
    rollout did not ask for the one before.
    """
    running = situation.running
    ended = None if running is None else situation.ended.get(running.rollout)
    if running is not None and (ended is None or ended.progress is Progress.SUCCEEDED):
        if running.sha256 in situation.revoked:  # (0)
            why = f"told to leave {running.version}: revoked: {situation.revoked[running.sha256]}"
            return Choice(Act.RETURN, why, running)
        # (1) A return that was tried and could not be made is not tried for ever; its report has told.
        back = next((b for b in brakes if b.stance is Stance.ROLL_BACK and _meets(b, running)), None)
        if back is not None:
            return Choice(Act.RETURN, f"told to leave {running.version}: {back.reason}", running)
    if not decisions:
        return Choice(Act.NOTHING, _runs(running, "no decision for its groups"))
    mine = [d for d in decisions if _in_cohort(d, situation.device)]  # (2)
    if not mine:
        d = max(decisions, key=lambda d: d.submitted_at)
        place = bucket(d.salt, situation.device)
        return Choice(
            Act.NOTHING,
            _runs(running, f"{d.version} reaches places {d.cohort_from} to {d.cohort_to - 1}, this device has {place}"),
        )
    newest = max(mine, key=_place)  # (3)
    urgent = max((d for d in mine if d.is_security), key=_place, default=newest)
    if urgent is not newest:
        choice = _follow(urgent, brakes, situation)
        if choice.act is not Act.NOTHING or _is_to_come(urgent, brakes, situation):
            return choice
    return _follow(newest, brakes, situation)


def braked(rollout: str, wave: int, brakes: Sequence[Brake]) -> Brake | None:
    """The brake that stops this rollout at this wave: one of the same rollout and the same or a later wave."""
    return next((b for b in brakes if b.rollout == rollout and b.wave >= wave), None)


def is_same_offer(one: Release | None, other: Release) -> bool:
    """Whether both are the same bytes of the same attempt; the wave may have moved on meanwhile."""
    return one is not None and (one.rollout, one.attempt, one.sha256) == (other.rollout, other.attempt, other.sha256)


def offered_attempt(decision: Decision, device: str) -> int:
    """Which attempt the decision offers this device."""
    return max(decision.attempt, decision.device_attempts.get(device, 1))


def _follow(decision: Decision, brakes: Sequence[Brake], situation: Situation) -> Choice:
    brake = braked(decision.rollout, decision.wave, brakes)
    if brake is not None:  # (4)
        return Choice(Act.NOTHING, _runs(situation.running, f"{decision.version} is stopped: {brake.reason}"))
    return _judge(decision, situation)


def _is_to_come(decision: Decision, brakes: Sequence[Brake], situation: Situation) -> bool:
    """Whether the device only waits for its time: then nothing submitted later goes before it."""
    if braked(decision.rollout, decision.wave, brakes) is not None or decision.not_before is None:
        return False
    judged = _judge(decision, replace(situation, now=decision.not_before))
    return situation.now < decision.not_before and judged.act is Act.INSTALL


def _place(decision: Decision) -> tuple[datetime, str]:
    return decision.submitted_at, decision.rollout


def _judge(decision: Decision, situation: Situation) -> Choice:
    running, version = situation.running, decision.version
    attempt = offered_attempt(decision, situation.device)
    ended = situation.ended.get(decision.rollout)
    if ended is not None and (ended.progress is Progress.SUCCEEDED or ended.attempt >= attempt):  # (5)
        if ended.progress is Progress.SUCCEEDED:
            return Choice(Act.NOTHING, _runs(running, "up to date"))
        why = ": ".join(part for part in (ended.code, ended.detail) if part)
        return Choice(Act.NOTHING, _runs(running, f"{version} {_AS_WORDS[ended.progress]} here ({why})"))
    if decision.not_before is not None and situation.now < decision.not_before:
        return Choice(Act.NOTHING, _runs(running, f"{version} may start at {decision.not_before.isoformat()}"))
    if decision.expires is not None and situation.now >= decision.expires:
        return Choice(Act.NOTHING, _runs(running, f"{version} could start until {decision.expires.isoformat()}"))
    artifact = decision.artifacts.get(situation.platform) or decision.artifacts.get(ANY_PLATFORM)
    if artifact is None:  # (6)
        offered = ", ".join(sorted(decision.artifacts)) or "none"
        return Choice(Act.NOTHING, _runs(running, f"{version} is for {offered}, this device is {situation.platform}"))
    if artifact.sha256 in situation.revoked:
        return Choice(Act.NOTHING, _runs(running, f"{version} was revoked: {situation.revoked[artifact.sha256]}"))
    release = _release(decision, artifact, attempt)
    if running is not None and running.sha256 == artifact.sha256:  # (7)
        return Choice(Act.ADOPT, _runs(running, "up to date"), release)
    if decision.from_versions and (running is None or running.version not in decision.from_versions):  # (8)
        allowed = ", ".join(decision.from_versions)
        return Choice(Act.NOTHING, _runs(running, f"{version} may only follow {allowed}"))
    if running is not None and not decision.allow_downgrade and is_older(version, running.version):
        return Choice(Act.NOTHING, _runs(running, f"{version} is older and the rollout allows no downgrade"))
    return Choice(Act.INSTALL, f"installing {version}", release)


def is_older(version: str, than: str) -> bool:
    """Whether ``version`` stands before ``than``.

    The order: what follows a ``+`` does not count; the part before the first ``-`` is compared piece by piece between
    dots, numbers as numbers and before words, a missing piece as 0; when that is equal, a version with a ``-`` part
    stands before one without, and two such parts are compared the same way. ``1.9 < 1.10``, ``2.0-rc.1 < 2.0``,
    ``1.0 = 1.0.0``.
    """
    (core, pre), (other_core, other_pre) = _parts(version), _parts(than)
    if core != other_core:
        for mine, other in zip_longest(core, other_core, fillvalue=(0, 0, "")):
            if mine != other:
                return mine < other
    if bool(pre) != bool(other_pre):
        return bool(pre)
    return pre < other_pre


Piece = tuple[int, int, str]


def _parts(version: str) -> tuple[list[Piece], list[Piece]]:
    core, _, pre = version.partition("+")[0].partition("-")
    return _pieces(core), _pieces(pre)


def _pieces(text: str) -> list[Piece]:
    return [(0, int(p), "") if _NUMBER.fullmatch(p) else (1, 0, p) for p in text.split(".") if p]


def _in_cohort(decision: Decision, device: str) -> bool:
    return decision.cohort_from <= bucket(decision.salt, device) < decision.cohort_to


def _meets(brake: Brake, running: Release) -> bool:
    return brake.rollout == running.rollout and brake.wave >= running.wave


def _release(decision: Decision, artifact: DecisionArtifact, attempt: int) -> Release:
    return Release(
        product=decision.product,
        version=decision.version,
        path=artifact.path,
        length=artifact.length,
        sha256=artifact.sha256,
        rollout=decision.rollout,
        group=decision.group,
        wave=decision.wave,
        attempt=attempt,
    )


def _runs(running: Release | None, why: str) -> str:
    return f"runs {running.version}; {why}" if running is not None else f"runs nothing yet; {why}"
