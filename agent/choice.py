"""What a device does about one product, given the signed documents that reach it: pure, and in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from agent.reason import Reason
from agent.state import Ended, PermitWait, Progress, Release
from rollout.cohort import bucket, starts_after
from rollout.decision import Brake, Decision, DecisionArtifact, Stance
from rollout.exclusion import Entry
from rollout.model import ANY_PLATFORM
from rollout.versions import is_older, meets
from rollout.windows import Window

CLOCK_MAY_BE_BEHIND: Final = timedelta(days=1)  # a clock that shows local time is not lost
NOTED_AT_MOST: Final = timedelta(days=1)  # what lies further ahead was noted by a clock that was set back since
_AS_WORDS: Final = {Progress.FAILED: "failed", Progress.ROLLED_BACK: "was rolled back"}


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
    groups: Sequence[str] = ()
    exclusions: Sequence[Entry] = ()  # of the product, from its signed list
    pin: str | None = None  # the only version of the product that the device's own settings let in
    versions: Mapping[str, str] = field(default_factory=dict)  # of every product that runs
    window: Window | None = None  # the device's own
    zone: tzinfo = UTC  # the device's own
    permit_wait: PermitWait | None = None
    signed_time: datetime | None = None  # it is later than this: somebody whom the device trusts has signed it


@dataclass(frozen=True, slots=True)
class Choice:
    """``release`` is what to install or adopt, or, for RETURN, what to leave; ``reason`` and ``words`` say why.

    ``wait`` says why INSTALL must not begin yet; empty when it may. What was fetched meanwhile is kept.
    """

    act: Act
    reason: Reason
    words: str
    release: Release | None = None
    wait: str = ""


def choose(decisions: Sequence[Decision], brakes: Sequence[Brake], situation: Situation) -> Choice:
    """Judge the decisions and brakes of one product that the device's groups have.

    Steps, in this order: (0) what runs was revoked; (1) a brake that says roll back what runs; (2) decisions whose
    cohort has the device; (3) of these the one submitted last, for it supersedes, but first the last security one while
    there is something to do for it, now or at its moment; (4) its brake; (5) attempt, a clock that can be right, time,
    expiry; (6) artifact for the platform, not revoked; (7) same bytes; (8) not excluded, no other version pinned;
    (9) versions; (10) what else must run; (11) the moment: back-off, spread, windows; (12) a permit refused a while
    ago. A braked decision is not stepped over to an older one: who stopped the newest rollout did not ask for the one
    before.
    """
    running = situation.running
    ended = None if running is None else situation.ended.get(running.rollout)
    if running is not None and (ended is None or ended.progress is Progress.SUCCEEDED):
        if running.sha256 in situation.revoked:  # (0)
            why = f"told to leave {running.version}: revoked: {situation.revoked[running.sha256]}"
            return Choice(Act.RETURN, Reason.LEAVING, why, running)
        # (1) A return that was tried and could not be made is not tried for ever; its report has told.
        back = next((b for b in brakes if b.stance is Stance.ROLL_BACK and _meets(b, running)), None)
        if back is not None:
            return Choice(Act.RETURN, Reason.LEAVING, f"told to leave {running.version}: {back.reason}", running)
    if not decisions:
        return Choice(Act.NOTHING, Reason.NO_DECISION, what_runs(running, "no decision for its groups"))
    known = [d.submitted_at for d in decisions] + ([] if situation.signed_time is None else [situation.signed_time])
    situation = replace(situation, signed_time=max(known))
    mine = [d for d in decisions if _in_cohort(d, situation.device)]  # (2)
    if not mine:
        d = max(decisions, key=lambda d: d.submitted_at)
        place = bucket(d.salt, situation.device)
        reach = f"{d.version} reaches places {d.cohort_from} to {d.cohort_to - 1}, this device has {place}"
        return Choice(Act.NOTHING, Reason.NOT_IN_COHORT, what_runs(running, reach))
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


def what_runs(running: Release | None, why: str) -> str:
    """What runs of a product, then why nothing else does: the line that people read."""
    return f"runs {running.version}; {why}" if running is not None else f"runs nothing yet; {why}"


def _follow(decision: Decision, brakes: Sequence[Brake], situation: Situation) -> Choice:
    brake = braked(decision.rollout, decision.wave, brakes)
    if brake is not None:  # (4)
        words = what_runs(situation.running, f"{decision.version} is stopped: {brake.reason}")
        return Choice(Act.NOTHING, Reason.STOPPED, words)
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

    def nothing(reason: Reason, why: str) -> Choice:
        return Choice(Act.NOTHING, reason, what_runs(running, why))

    attempt = offered_attempt(decision, situation.device)
    ended = situation.ended.get(decision.rollout)
    again = None if ended is None else _tries_again(decision, attempt, ended, situation.now)
    if again is not None and ended is not None:
        attempt = ended.attempt + 1
    elif ended is not None and (ended.progress is Progress.SUCCEEDED or ended.attempt >= attempt):  # (5)
        if ended.progress is Progress.SUCCEEDED:
            return nothing(Reason.UP_TO_DATE, "up to date")
        why = ": ".join(part for part in (ended.code, ended.detail) if part)
        return nothing(Reason.ENDED_HERE, f"{version} {_AS_WORDS[ended.progress]} here ({why})")
    if situation.signed_time is not None and situation.now < situation.signed_time - CLOCK_MAY_BE_BEHIND:
        return nothing(Reason.CLOCK, _clock_words(situation.now, situation.signed_time))
    if decision.not_before is not None and situation.now < decision.not_before:
        return nothing(Reason.NOT_BEFORE, f"{version} may start at {decision.not_before.isoformat()}")
    if decision.expires is not None and situation.now >= decision.expires:
        return nothing(Reason.TOO_LATE, f"{version} could start until {decision.expires.isoformat()}")
    artifact = decision.artifacts.get(situation.platform) or decision.artifacts.get(ANY_PLATFORM)
    if artifact is None:  # (6)
        offered = ", ".join(sorted(decision.artifacts)) or "none"
        return nothing(Reason.PLATFORM, f"{version} is for {offered}, this device is {situation.platform}")
    if artifact.sha256 in situation.revoked:
        return nothing(Reason.REVOKED, f"{version} was revoked: {situation.revoked[artifact.sha256]}")
    release = _release(decision, artifact, attempt)
    if running is not None and running.sha256 == artifact.sha256:  # (7)
        return Choice(Act.ADOPT, Reason.UP_TO_DATE, what_runs(running, "up to date"), release)
    no = next(_noes(decision, artifact, situation), None)
    if no is not None:
        return nothing(*no)
    wait = _wait(version, _moments(decision, again, situation), situation.now)  # (11)
    if wait:
        return Choice(Act.INSTALL, Reason.WAITS, what_runs(running, wait), release, wait)
    wait = _permit_words(release, situation)  # (12)
    if wait:
        return Choice(Act.INSTALL, Reason.PERMIT, what_runs(running, wait), release, wait)
    return Choice(Act.INSTALL, Reason.INSTALLING, f"installing {version}", release)


def _noes(decision: Decision, artifact: DecisionArtifact, situation: Situation) -> Iterator[tuple[Reason, str]]:
    running, version = situation.running, decision.version
    for entry in situation.exclusions:  # (8)
        if entry.is_for(situation.device, situation.groups) and entry.forbids(version, artifact.sha256, situation.now):
            yield Reason.EXCLUDED, f"{version} is not for this device, {entry.words()}"
    if situation.pin is not None and situation.pin != version:
        yield Reason.PINNED, f"{version} is not for this device, its settings pin {situation.pin}"
    if decision.from_versions and (running is None or not meets(running.version, decision.from_versions)):  # (9)
        yield Reason.FROM_VERSIONS, f"{version} may only follow {' or '.join(decision.from_versions)}"
    if running is not None and not decision.allow_downgrade and is_older(version, running.version):
        yield Reason.OLDER, f"{version} is older and the rollout allows no downgrade"
    for one in decision.requires:  # (10)
        have = situation.versions.get(one.product)
        if have is None or is_older(have, one.at_least):
            found = "none runs" if have is None else f"{have} runs"
            yield Reason.REQUIRES, f"{version} needs {one.product} {one.at_least} or later, {found}"


def _clock_words(now: datetime, signed_time: datetime) -> str:
    return (
        f"the clock shows {now:%Y-%m-%d}, before {signed_time:%Y-%m-%d}, when something was signed that is here: "
        "nothing is installed until the clock is set"
    )


def _tries_again(decision: Decision, offered: int, ended: Ended, now: datetime) -> datetime | None:
    """From when on the device tries again by itself; None when it does not."""
    retry = decision.retry
    if retry is None or ended.progress is not Progress.FAILED or (retry.codes and ended.code not in retry.codes):
        return None
    made = ended.attempt - offered  # of the tries that the policy gives
    if not ended.at or not 0 <= made < retry.count:
        return None
    at = datetime.fromisoformat(ended.at)
    # Noted in what is the future now, by a clock that was ahead: nobody knows how long ago it was.
    return now if at > now else at + timedelta(seconds=retry.backoff_seconds * 2**made)


def _wait(version: str, moments: Iterator[datetime | None], now: datetime) -> str:
    latest = max((moment for moment in moments if moment is not None and moment > now), default=None)
    return "" if latest is None else f"{version} may start at {latest.isoformat(timespec='seconds')}"


def _moments(decision: Decision, again: datetime | None, situation: Situation) -> Iterator[datetime | None]:
    """Before which moments nothing is to begin."""
    yield again
    if decision.spread_from is not None:
        after = starts_after(decision.salt, situation.device, decision.spread_seconds)
        yield decision.spread_from + timedelta(seconds=after)
    for window in (decision.window, situation.window):
        if window is not None and window.closes_at(situation.now, local=situation.zone) is None:
            yield window.opens_at(situation.now, local=situation.zone)


def _permit_words(release: Release, situation: Situation) -> str:
    """Why no permit is asked for yet; empty when it may be asked for, or none is needed."""
    wait = situation.permit_wait
    if wait is None or not release.needs_permit or (wait.rollout, wait.attempt) != (release.rollout, release.attempt):
        return ""
    left = datetime.fromisoformat(wait.until) - situation.now
    return wait.words if timedelta(0) < left <= NOTED_AT_MOST else ""


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
        needs_permit=decision.budget is not None,
    )
