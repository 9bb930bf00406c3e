"""A rollout before it happens: who would get it, when at the earliest, how many, and what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from evidence.model import Actor
from rollout import gate
from rollout.audience import EXACT_UP_TO, NOBODY, LeftOut, devices_left_out, share
from rollout.cohort import bucket
from rollout.errors import InvalidPlan
from rollout.model import ANY_PLATFORM, BUCKETS, FINAL_STATES, Advance, Plan, Rollout, State, Wave, WaveState
from rollout.opening import Openings
from rollout.plan import PlanRequest, plan_faults
from rollout.ports import Decisions, DeviceFacts, Groups, HouseRules, Inventory, Kind, Releases, Rollouts
from rollout.precedence import Precedence, is_security
from rollout.rules import NoRules
from rollout.settlement import why_blocked, why_waiting
from rollout.silence import began
from rollout.versions import is_older, meets

SAMPLE: Final = 10  # devices of a wave that are named
_LOOKED_THROUGH: Final = 2_000  # devices of a large group among which those to be named are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to know before saying yes. ``code`` is stable; ``wave`` is None where it is about the whole rollout."""

    code: str
    message: str
    wave: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveForecast:
    """What one wave would do.

    Attributes:
        devices: How many it reaches that no wave before it reached.
        is_exact: They were placed one by one; else it is size times share, and a device in two groups counts in both.
        sample: Some of them, by id; named to be recognised, not drawn at random.
        platforms: Devices by platform.
        without_artifact: Those whose platform the release has nothing for.
        already: How many say that they run this version.
        newer: How many run a later version, and stay there unless the plan allows a downgrade.
        unfit: How many run no version that the plan's ``from_versions`` let in.
        left_out: How many of the group are excluded, and counted nowhere else; not looked at one by one where
            ``is_exact`` is false.
        held_back: How many more an edit put into the group while a wave was open on it; the next wave that opens on it
            reaches them, if it is theirs.
        opens_at: The earliest moment; when it did open, for one that has. None when it never will.
        passes_at: The earliest moment, or when it did. None when it never will.
    """

    number: int
    group: str
    percent: float
    count: int | None
    state: WaveState
    group_devices: int
    devices: int
    is_exact: bool
    sample: Sequence[DeviceFacts]
    platforms: Mapping[str, int]
    without_artifact: Mapping[str, int]
    already: int
    newer: int
    unfit: int
    left_out: int
    held_back: int
    approvals_needed: int
    approvals_given: int
    opens_at: datetime | None
    passes_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Who, when, how many, and what blocks. Nothing of it is stored.

    ``cohorts_are_known`` is false for a plan that is no rollout yet: which devices fall into a share is drawn when one
    is made of it, so the numbers hold and the names are examples. ``blocks`` keep a wave from opening; ``notes`` are
    about devices that will not take it, and what else follows.
    """

    plan: Plan
    plan_hash: str
    cohorts_are_known: bool
    devices: int
    waves: Sequence[WaveForecast]
    blocks: Sequence[Finding]
    notes: Sequence[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Previews:
    """Foresees rollouts; reads, and changes nothing. ``make_salt`` gives 32 lower-case hex characters."""

    rollouts: Rollouts
    decisions: Decisions
    releases: Releases
    groups: Groups
    inventory: Inventory
    make_salt: Callable[[], str]
    rules: HouseRules = field(default_factory=NoRules)

    def of_plan(self, org: str, request: PlanRequest, *, by: Actor, now: datetime) -> Preview:
        """Foresee a plan as though it were submitted now. Raises InvalidPlan; all else wrong is among the blocks."""
        plan = request.with_artifacts(self.releases.artifacts(org, request.product, request.version, request.channel))
        faults = [fault for fault in plan_faults(plan) if fault[0] != "artifacts"]
        if faults:
            raise InvalidPlan(faults)
        self._openings.refuse_unsignable(plan)
        imagined = Rollout(
            id="",
            org=org,
            plan=plan,
            plan_hash=plan.hash(),
            created_by=by,
            created_at=now,
            salt=self.make_salt(),
            waves=tuple(Wave() for _ in plan.waves),
        )
        found = self._preview(imagined, now)
        return replace(found, cohorts_are_known=all(wave.percent == 100 and wave.count is None for wave in plan.waves))

    def of_rollout(self, org: str, rollout_id: str, now: datetime) -> Preview:
        """Foresee the rest of a rollout as though it went on now. Raises UnknownRollout."""
        return self._preview(self.rollouts.get(org, rollout_id), now)

    @property
    def _openings(self) -> Openings:
        return Openings(decisions=self.decisions, groups=self.groups)

    def _preview(self, rollout: Rollout, now: datetime) -> Preview:
        missing = self.groups.missing(rollout.org, sorted({wave.group for wave in rollout.plan.waves}))
        left_out = self.rules.left_out(rollout.org, rollout.plan, now)
        audiences = _Audiences(rollout, self.groups, self.inventory, left_out)
        times = _times(rollout, now)
        waves = [audiences.forecast(number, *times[number]) for number in range(1, len(rollout.plan.waves) + 1)]
        return Preview(
            plan=rollout.plan,
            plan_hash=rollout.plan_hash,
            cohorts_are_known=True,
            devices=sum(wave.devices for wave in waves),
            waves=waves,
            blocks=self._blocks(rollout, waves, missing, now),
            notes=[*self._consequences(rollout), *_notes(rollout.plan, waves)],
        )

    def _blocks(
        self, rollout: Rollout, waves: Sequence[WaveForecast], missing: Sequence[str], now: datetime
    ) -> list[Finding]:
        plan = rollout.plan
        if rollout.state in FINAL_STATES:
            return [Finding(code="ended", message=f"the rollout is {rollout.state}; nothing of it opens any more")]
        found: list[Finding] = []
        if rollout.state is State.DRAFT and rollout.id:
            found.append(Finding(code="draft", message="the rollout is a draft; submit it"))
        if rollout.state is State.PAUSED:
            who = "an approver must resume it" if rollout.pause_needs_approver else "resume it"
            found.append(Finding(code="paused", message=f"paused: {rollout.paused_because}; {who}"))
        if not plan.artifacts:
            what = f"no signed artifact of {plan.product} {plan.version} in channel {plan.channel!r}; publish one first"
            found.append(Finding(code="release_not_found", message=what))
        blocked = why_blocked(self.releases, rollout.org, plan) if plan.artifacts else ""
        if blocked:
            found.append(Finding(code="release_blocked", message=blocked))
        excluded = self.rules.blocking(rollout.org, plan, now)
        if excluded:
            found.append(Finding(code="release_excluded", message=excluded))
        if missing:
            message = f"no group is named {', '.join(missing)}; create it or name another"
            found.append(Finding(code="group_unknown", message=message))
        holder = Precedence(self.rollouts).waited_for(rollout)
        if holder is not None:
            kind = "of priority 'security'" if is_security(holder) else f"of channel {holder.plan.channel!r}"
            message = f"a group is held by {holder.id} {kind}; wait for its end, or abort it"
            found.append(Finding(code="group_busy", message=message))
        found += [
            Finding(
                code="approvals_missing",
                message=f"wave {wave.number} needs {_approvals(wave.approvals_needed)}, {wave.approvals_given} given",
                wave=wave.number,
            )
            for wave in waves
            if wave.state is WaveState.PENDING and wave.approvals_given < wave.approvals_needed
        ]
        found += self._holds(rollout, now)
        verdict = gate.may_open(rollout, now)
        if rollout.state is State.WAITING and verdict.outcome is gate.Outcome.WAIT and not found:
            code = "advance" if gate.may_open(rollout, now, by_hand=True).outcome is gate.Outcome.PASS else "not_before"
            found.append(Finding(code=code, message=verdict.reason, wave=rollout.wave))
        return found + self._signatures(rollout, now)

    def _signatures(self, rollout: Rollout, now: datetime) -> list[Finding]:
        """What keeps approvers from signing the awaited wave with their own keys, or that they have not yet."""
        try:
            self._openings.refuse_unsignable(rollout.plan)
        except InvalidPlan as error:
            return [Finding(code="unsignable", message=str(error))]
        if rollout.state is not State.WAITING or not self.decisions.approvers_sign(rollout.plan.product):
            return []
        [(number, documents)] = self._openings.to_sign(rollout, rollout.wave, rollout.wave, now)
        lacking = self.decisions.lacking(documents)
        message = f"wave {number} waits for signatures: {lacking}"
        return [Finding(code="signatures_needed", message=message, wave=number)] if lacking else []

    def _holds(self, rollout: Rollout, now: datetime) -> list[Finding]:
        """Why no wave opens now though its gate may hold."""
        if all(wave.state is not WaveState.PENDING for wave in rollout.waves):
            return []
        frozen = self.rules.frozen(rollout.org, rollout.plan, now)
        after = why_waiting(self.rollouts, rollout)
        return [Finding(code=code, message=why) for code, why in (("frozen", frozen), ("after", after)) if why]

    def _consequences(self, rollout: Rollout) -> list[Finding]:
        if rollout.retry_at is not None:
            what = f"{len(rollout.retry_devices)} devices" if rollout.retry_devices else "all that failed"
            moment = rollout.retry_at.isoformat(timespec="seconds")
            return [Finding(code="retry_planned", message=f"{what} will be retried at {moment}", wave=rollout.wave)]
        if rollout.state is not State.DRAFT:
            return []
        what = f"approvers of {rollout.plan.product} sign each wave with their own keys"
        signed = self.decisions.approvers_sign(rollout.plan.product)
        return [Finding(code="approvers_sign", message=what)] * signed + [
            Finding(code="supersedes", message=f"submitting it ends {one.id}, {one.plan.product} {one.plan.version}")
            for one in Precedence(self.rollouts).ended_by(rollout)
        ]


@dataclass(slots=True)
class _Audiences:
    """Who is in each wave, asked in the order of the waves: each device counts in the first that reaches it."""

    rollout: Rollout
    groups: Groups
    inventory: Inventory
    left_out: LeftOut = NOBODY
    _placed: set[str] = field(default_factory=set)
    _share: dict[str, int] = field(default_factory=dict)
    _facts: dict[str, Sequence[DeviceFacts]] = field(default_factory=dict)
    _kinds: dict[str, Sequence[Kind]] = field(default_factory=dict)
    _gone: set[str] | None = None

    def forecast(self, number: int, opens_at: datetime | None, passes_at: datetime | None) -> WaveForecast:
        plan = self.rollout.plan.waves[number - 1]
        size = self.groups.size(self.rollout.org, plan.group)
        is_exact = size <= EXACT_UP_TO
        kinds, sample = self._exactly(number, size) if is_exact else self._about(number, size)
        platforms: Counter[str] = Counter()
        without: Counter[str] = Counter()
        already = newer = unfit = 0
        version, artifacts = self.rollout.plan.version, self.rollout.plan.artifacts
        allowed = self.rollout.plan.from_versions
        for kind in kinds:
            platforms[kind.platform] += kind.devices
            if kind.platform not in artifacts and ANY_PLATFORM not in artifacts:
                without[kind.platform] += kind.devices
            already += kind.devices if kind.version == version else 0
            newer += kind.devices if kind.version and is_older(version, kind.version) else 0
            fits = not allowed or kind.version == version or (kind.version is not None and meets(kind.version, allowed))
            unfit += 0 if fits else kind.devices
        return WaveForecast(
            number=number,
            group=plan.group,
            percent=plan.percent,
            count=plan.count,
            state=self.rollout.waves[number - 1].state,
            group_devices=size,
            devices=platforms.total(),
            is_exact=is_exact,
            sample=sample,
            platforms=dict(sorted(platforms.items())),
            without_artifact=dict(sorted(without.items())),
            already=already,
            newer=newer,
            unfit=unfit,
            left_out=self._left_out_of(plan.group, size),
            held_back=self.inventory.held_back(self.rollout.org, plan.group),
            approvals_needed=plan.gate.approvals,
            approvals_given=len(gate.approvers(self.rollout, number)),
            opens_at=opens_at,
            passes_at=passes_at,
        )

    def _exactly(self, number: int, size: int) -> tuple[list[Kind], list[DeviceFacts]]:
        group = self.rollout.plan.waves[number - 1].group
        facts = self._facts_of(group, EXACT_UP_TO)
        places = {one.device: bucket(self.rollout.salt, one.device) for one in facts}
        widest = self._widened(number, size, sorted(places.values()))[1]
        gone = self._placed | self._excluded
        inside = [
            one
            for one in facts
            if places[one.device] < widest and one.device not in gone and group not in self.left_out[1]
        ]
        self._placed.update(one.device for one in inside)
        kinds = Counter((one.platform, one.version) for one in inside)
        return [Kind(platform, version, count) for (platform, version), count in kinds.items()], inside[:SAMPLE]

    def _about(self, number: int, size: int) -> tuple[list[Kind], list[DeviceFacts]]:
        group = self.rollout.plan.waves[number - 1].group
        before, widest = self._widened(number, size)
        if group in self.left_out[1]:
            return [], []
        if group not in self._kinds:
            self._kinds[group] = self.inventory.kinds(self.rollout.org, group, self.rollout.plan.product)
        part = widest - before
        kinds = [Kind(one.platform, one.version, one.devices * part // BUCKETS) for one in self._kinds[group]]
        facts = self._facts_of(group, _LOOKED_THROUGH)
        new = [one for one in facts if before <= bucket(self.rollout.salt, one.device) < widest]
        return kinds, [one for one in new if one.device not in self._excluded][:SAMPLE]

    def _widened(self, number: int, size: int, places: list[int] | None = None) -> tuple[int, int]:
        """The buckets that the group's waves reached before this one, and reach with it."""
        group = self.rollout.plan.waves[number - 1].group
        before = self._share.get(group, 0)
        self._share[group] = max(before, share(self.rollout, number, size, places))
        return before, self._share[group]

    @property
    def _excluded(self) -> set[str]:
        if self._gone is None:
            self._gone = devices_left_out(self.rollout.org, self.groups, self.left_out)
        return self._gone

    def _left_out_of(self, group: str, size: int) -> int:
        if group in self.left_out[1]:
            return size
        if size > EXACT_UP_TO or not self._excluded:
            return 0
        return sum(1 for one in self._facts_of(group, EXACT_UP_TO) if one.device in self._excluded)

    def _facts_of(self, group: str, limit: int) -> Sequence[DeviceFacts]:
        if group not in self._facts:
            self._facts[group] = self.inventory.facts(self.rollout.org, group, self.rollout.plan.product, limit=limit)
        return self._facts[group]


def _times(rollout: Rollout, now: datetime) -> dict[int, tuple[datetime | None, datetime | None]]:
    """Earliest opening and passing by wave: each wave opens when the one before passed, and not before its time."""
    times: dict[int, tuple[datetime | None, datetime | None]] = {}
    free = now
    for number, (plan, wave) in enumerate(zip(rollout.plan.waves, rollout.waves, strict=True), start=1):
        soak = timedelta(seconds=plan.gate.soak_seconds)
        match wave.state:
            case WaveState.PASSED:
                times[number] = (wave.opened_at, wave.ended_at)
            case WaveState.STOPPED:
                times[number] = (wave.opened_at, None)
            case WaveState.OPEN:
                # A pause ends at the earliest now, and the soak begins anew then.
                free = max(free, (now if rollout.state is State.PAUSED else began(wave)) + soak)
                times[number] = (wave.opened_at, free)
            case WaveState.PENDING:
                opens = free if plan.gate.not_before is None else max(free, plan.gate.not_before)
                free = opens + soak
                times[number] = (opens, free)
    return times


def _notes(plan: Plan, waves: Sequence[WaveForecast]) -> list[Finding]:
    found: list[Finding] = []
    for wave in waves:
        if wave.state is WaveState.PASSED:
            continue
        if wave.devices == 0:
            found.append(_note("empty_wave", wave, "reaches nobody that no wave before it reached; it passes at once"))
        for platform, devices in wave.without_artifact.items() if plan.artifacts else ():
            offered = ", ".join(sorted(plan.artifacts))
            message = f"{_devices(devices)} of platform {platform!r} get nothing: the release is for {offered}"
            found.append(_note("platform_without_artifact", wave, message))
        if wave.newer:
            goes = "go back to this one" if plan.allow_downgrade else "stay there: the plan allows no downgrade"
            found.append(_note("downgrade", wave, f"{_devices(wave.newer)} run a later version and {goes}"))
        if wave.unfit:
            rules = " or ".join(plan.from_versions)
            message = f"{_devices(wave.unfit)} run no version of {rules} and stay there"
            found.append(_note("from_versions", wave, message))
        if wave.left_out:
            found.append(_note("excluded", wave, f"{_devices(wave.left_out)} of the group are excluded"))
        if wave.held_back:
            told = f"{_devices(wave.held_back)} more came into the group while a wave was open; they wait for the next"
            found.append(_note("held_back", wave, told))
        if wave.number > 1 and plan.waves[wave.number - 2].gate.advance is Advance.MANUAL:
            found.append(_note("advance", wave, "opens only by an operator's word"))
        if wave.already:
            found.append(
                _note(
                    "already_there",
                    wave,
                    f"{_devices(wave.already)} run this version already",
                )
            )
    return found


def _note(code: str, wave: WaveForecast, message: str) -> Finding:
    return Finding(code=code, message=f"wave {wave.number}: {message}", wave=wave.number)


def _approvals(count: int) -> str:
    return "1 approval" if count == 1 else f"{count} approvals"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"
