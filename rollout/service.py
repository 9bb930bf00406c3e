"""Use cases of rollouts over the ports: what people ask for, what the scheduler does, what devices report."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from evidence.ids import new_id
from evidence.model import SCHEDULER, Actor
from rollout import audience, gate, machine, progress, silence
from rollout.commands import (
    Abort,
    Approve,
    Edit,
    FailWave,
    OpenWave,
    PassWave,
    Pause,
    Refuse,
    Resume,
    Retry,
    Submit,
    Supersede,
)
from rollout.errors import (
    GroupBusy,
    InvalidPlan,
    ReleaseBlocked,
    ReportRefused,
    RolloutChanged,
    TransitionNotAllowed,
    UnknownGroup,
    UnknownRelease,
    UnknownRollout,
)
from rollout.gate import Outcome, Verdict
from rollout.model import AbortMode, ArtifactRef, Counters, DeviceProgress, Plan, Report, Rollout, State
from rollout.outlook import Outlook, outlook
from rollout.plan import PlanRequest, plan_faults
from rollout.ports import Decisions, Groups, HouseRules, Releases, Rollouts
from rollout.rules import NoRules
from rollout.settlement import STALE_AFTER, Settlement, why_blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout as people look at it: ``why`` in one line; counters, expected devices and outlooks by wave number.

    In a list ``expected`` is empty: counting who is in a wave costs with the size of its group.
    """

    rollout: Rollout
    why: str
    counters: Mapping[int, Counters]
    expected: Mapping[int, int]
    outlooks: Mapping[int, Outlook] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutService:
    """All that can be done with rollouts. Every method that changes something answers with the rollout after it.

    Any of them raises UnknownRollout for an id that is not the organisation's, and RolloutChanged when somebody else
    was first: look again and decide afresh. ``make_id`` gets a prefix, ``make_salt`` gives 32 lower-case
    hex characters.
    """

    rollouts: Rollouts
    decisions: Decisions
    releases: Releases
    groups: Groups
    make_id: Callable[[str], str] = new_id
    make_salt: Callable[[], str] = lambda: secrets.token_hex(16)
    rules: HouseRules = field(default_factory=NoRules)

    @property
    def _settlement(self) -> Settlement:
        return Settlement(
            rollouts=self.rollouts,
            decisions=self.decisions,
            releases=self.releases,
            make_id=self.make_id,
            rules=self.rules,
        )

    def create(self, org: str, request: PlanRequest, *, by: Actor, now: datetime) -> Rollout:
        """Store a draft that carries the signed artifacts of the release.

        Raises InvalidPlan (all faults at once), UnknownRelease, ReleaseBlocked or UnknownGroup; nothing is stored then.
        """
        plan = self._plan(org, request, now)
        rollout, event = machine.begin(
            rollout_id=self.make_id("rol"), org=org, plan=plan, salt=self.make_salt(), by=by, now=now
        )
        self.rollouts.add(rollout, event)
        return rollout

    def submit(self, org: str, rollout_id: str, *, by: Actor, now: datetime) -> Rollout:
        """Hand a draft in. Older rollouts of the same product and channel that share a group are superseded.

        Each of those is a transition of its own; one that cannot be made now is made by a later :meth:`tick`, and no
        wave of the newer rollout opens before. Raises GroupBusy while another channel's rollout holds a group.
        """
        rollout = self._settlement.current(org, rollout_id, now)
        command = Submit(by=by)
        machine.apply(rollout, command, now=now)  # Whether it can be submitted at all is the first thing to say.
        self._check_release(rollout, now)
        self._check_groups(org, rollout.plan)
        busy = self._held_by_another_channel(rollout)
        if busy is not None:
            raise GroupBusy(
                f"a group is held by {busy.id} of channel {busy.plan.channel!r}; wait for its end, or abort it"
            )
        submitted = self._settlement.perform(rollout, command, now)
        for older in self._rivals(submitted, older=True):
            try:
                self._settlement.perform(older, Supersede(by=by, rollout=submitted.id), now)
            except RolloutChanged:
                continue  # It is moving right now; the next tick looks again before anything opens.
        return submitted

    def edit(
        self,
        org: str,
        rollout_id: str,
        request: PlanRequest,
        *,
        by: Actor,
        now: datetime,
        as_admin: bool = False,
        seen: int | None = None,
    ) -> Rollout:
        """Put another plan in place; back to draft. ``seen`` is the revision looked at, None for any."""
        rollout = self._settlement.current(org, rollout_id, now)
        if seen is not None and seen != rollout.revision:
            raise RolloutChanged(f"{rollout_id} is at revision {rollout.revision}, you saw {seen}; look again")
        return self._settlement.perform(
            rollout, Edit(by=by, plan=self._plan(org, request, now), as_admin=as_admin), now
        )

    def approve(
        self,
        org: str,
        rollout_id: str,
        *,
        wave: int,
        plan_hash: str,
        by: Actor,
        now: datetime,
        signature: str | None = None,
    ) -> Rollout:
        """Say yes to one pending wave of the plan with this hash. Raises ApprovalRefused or PlanChanged."""
        command = Approve(by=by, wave=wave, plan_hash=plan_hash, signature=signature)
        return self._settlement.perform(self._settlement.current(org, rollout_id, now), command, now)

    def refuse(self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime) -> Rollout:
        """Say no: back to draft, or to paused when a wave has been opened before."""
        return self._settlement.perform(
            self._settlement.current(org, rollout_id, now), Refuse(by=by, reason=reason), now
        )

    def pause(self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime) -> Rollout:
        """Nobody new starts from the moment this returns."""
        return self._settlement.perform(
            self._settlement.current(org, rollout_id, now), Pause(by=by, reason=reason), now
        )

    def resume(
        self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime, as_approver: bool = False
    ) -> Rollout:
        """Go on; soak and deadline of an open wave begin anew. ``as_approver``: the caller may approve rollouts.

        Raises ReleaseBlocked while an artifact is yanked.
        """
        rollout = self._settlement.current(org, rollout_id, now)
        counters = self._counters(rollout)
        command = Resume(by=by, reason=reason, as_approver=as_approver, counters=counters)
        return self._settlement.perform(rollout, command, now)

    def retry(self, org: str, rollout_id: str, *, by: Actor, now: datetime, devices: Sequence[str] = ()) -> Rollout:
        """Offer the release again to these devices (ids), or with none named to all that failed."""
        command = Retry(by=by, devices=tuple(dict.fromkeys(devices)))
        return self._settlement.perform(self._settlement.current(org, rollout_id, now), command, now)

    def abort(
        self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime, mode: AbortMode = AbortMode.STOP
    ) -> Rollout:
        """End it for good; with ``roll_back`` devices return to what they ran before."""
        return self._settlement.perform(
            self._settlement.current(org, rollout_id, now), Abort(by=by, reason=reason, mode=mode), now
        )

    def advance(self, org: str, rollout_id: str, *, by: Actor, now: datetime) -> Rollout:
        """Open the awaited wave by an operator's word, which one behind ``advance: manual`` needs.

        Everything else must hold as for the scheduler. Raises TransitionNotAllowed, ReleaseBlocked or RolloutChanged.
        """
        rollout = self._settlement.current(org, rollout_id, now)
        number = max(rollout.wave, 1)
        command = OpenWave(by=by, wave=number, reach=audience.reach_by_count(rollout, self.groups, number=number))
        machine.apply(rollout, command, now=now)  # Whether it can be opened at all is the first thing to say.
        if not self._way_is_free(rollout, now):
            raise TransitionNotAllowed(f"{rollout_id}: {self.why(rollout, now)}")
        return self._settlement.perform(rollout, command, now)

    def tick(self, org: str, now: datetime) -> None:
        """Let every waiting and running rollout make at most one step; settle or drop what was left half done.

        Meant to be called every second or so, and at once after an artifact was yanked. A rollout that another writer
        holds is left for the next tick. What goes wrong with one does not hold up the others: it is raised at the
        end, in one ExceptionGroup.
        """
        self.recover(org, now, older_than=STALE_AFTER)
        faults: list[Exception] = []
        for rollout_id in self.rollouts.moving(org):
            try:
                self._step(self.rollouts.get(org, rollout_id), now)
            except RolloutChanged:
                continue
            except Exception as fault:  # noqa: BLE001 - gathered and raised below
                faults.append(fault)
        if faults:
            raise ExceptionGroup(f"{len(faults)} rollouts of {org} could not be moved", faults)

    def recover(self, org: str, now: datetime, *, older_than: timedelta = timedelta(0)) -> None:
        """Settle every intent whose documents are served, drop every other; of any age by default.

        Safe beside living writers: it runs under the repository lock, and a writer asks there, before it signs,
        whether its intent still stands.
        """
        self._settlement.recover(org, now, older_than=older_than)

    def record_report(self, org: str, device: str, report: Report, *, groups: frozenset[str] | None = None) -> bool:
        """Count what an active device says of one rollout; whether it changed anything.

        Reports after the rollout's end still count; they change no state. Repeated, late and out-of-order ones answer
        False. ``groups`` spares asking for the device's groups when they are known.

        Raises:
            ReportRefused: No opened wave reaches the device, or the attempt was never offered.
            RolloutChanged: The same, while a transition is being settled: the device should report again.
        """
        mine = self.groups.of_device(org, device) if groups is None else groups

        def change(rollout: Rollout, row: DeviceProgress | None) -> DeviceProgress | None:
            return progress.advance(rollout, row, report, device, mine)

        try:
            return self.rollouts.update_progress(org, report.rollout, device, change)
        except ReportRefused as refusal:
            # The decision may be served a moment before the state says so.
            if any(intent.after.id == report.rollout for intent in self.rollouts.intents(org)):
                raise RolloutChanged(f"{report.rollout} is changing; report again") from refusal
            raise

    def expected(self, rollout: Rollout, wave: int, now: datetime) -> int:
        """How many devices a wave reaches that none before it reached: exact for groups of up to 10,000."""
        left_out = self.rules.left_out(rollout.org, rollout.plan, now)
        return audience.expected(rollout, self.groups, number=wave, left_out=left_out)

    def why(self, rollout: Rollout, now: datetime) -> str:
        """One line: what the rollout waits for, what blocks it, or how it ended."""
        if rollout.state is State.RUNNING:
            return self._verdict(rollout, now).reason
        if rollout.state is State.WAITING and gate.may_open(rollout, now).outcome is Outcome.PASS:
            blocked = self._settlement.blocked(rollout, now)
            if blocked:
                return blocked
            held = self._settlement.held(rollout, now)
            if held:
                return f"wave {rollout.wave} is {held}"
            holder = self._held_by_another_channel(rollout)
            if holder is not None:
                return f"wave {rollout.wave} waits: {holder.id} of channel {holder.plan.channel!r} holds a group"
        return gate.why(rollout, Counters(), 0, now)

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
        )

    def glance(self, found: Sequence[Rollout], now: datetime) -> list[RolloutView]:
        """Views of many rollouts at a cost that no fleet's size enters: no device is counted or placed."""
        told = self.rollouts.counters_of([rollout.id for rollout in found])
        return [
            RolloutView(
                rollout=rollout,
                why=gate.glance(rollout, told.get(rollout.id, {}).get(rollout.wave, Counters()))
                if rollout.state is State.RUNNING
                else self.why(rollout, now),
                counters=told.get(rollout.id, {}),
                expected={},
            )
            for rollout in found
        ]

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

    def _step(self, rollout: Rollout, now: datetime) -> None:
        newer = self._rivals(rollout, older=False)
        if newer:
            self._settlement.perform(rollout, Supersede(by=SCHEDULER, rollout=newer[-1].id), now)
            return
        blocked = self._settlement.blocked(rollout, now)
        if blocked:
            self._settlement.perform(rollout, Pause(by=SCHEDULER, reason=blocked), now)
            return
        if rollout.state is State.RUNNING:
            self._judge(rollout, now)
        elif (
            self._way_is_free(rollout, now)
            and gate.may_open(rollout, now).outcome is Outcome.PASS
            and not self._settlement.held(rollout, now)
        ):
            reach = audience.reach_by_count(rollout, self.groups, number=rollout.wave)
            self._settlement.perform(rollout, OpenWave(by=SCHEDULER, wave=rollout.wave, reach=reach), now)

    def _judge(self, rollout: Rollout, now: datetime) -> None:
        verdict = self._verdict(rollout, now)
        if verdict.outcome is Outcome.PASS:
            self._settlement.perform(rollout, PassWave(by=SCHEDULER, wave=rollout.wave, verdict=verdict), now)
        elif verdict.outcome is Outcome.FAIL:
            failed = FailWave(by=SCHEDULER, wave=rollout.wave, cause=verdict.reason, silent=verdict.silent)
            self._settlement.perform(rollout, failed, now)

    def _verdict(self, rollout: Rollout, now: datetime) -> Verdict:
        expected, (stalled, unsure) = self.expected(rollout, rollout.wave, now), self._listen(rollout, now)
        return gate.judge(rollout, self._counters(rollout), expected, now, stalled=stalled, unsure=unsure)

    def _listen(self, rollout: Rollout, now: datetime) -> tuple[int, int]:
        """Who stands still in the open wave, and by how many it may be smaller than expected; 0 until it matters."""
        before = silence.stalled_before(rollout, now)
        if before is None:
            return 0, 0
        stalled = self.rollouts.stalled(rollout.id, rollout.wave, before=before)
        return stalled, audience.unsure(rollout, self.groups, number=rollout.wave)

    def _way_is_free(self, rollout: Rollout, now: datetime) -> bool:
        """End the older rollouts of the channel first: two that serve one group would overwrite each other."""
        for older in self._rivals(rollout, older=True):
            self._settlement.perform(older, Supersede(by=SCHEDULER, rollout=rollout.id), now)
        return self._held_by_another_channel(rollout) is None

    def _rivals(self, rollout: Rollout, *, older: bool) -> list[Rollout]:
        """Live rollouts of the product and channel that share a group, submitted before (or after) this one."""
        mine = _place(rollout)
        return sorted(
            (
                other
                for other in self._overlapping(rollout)
                if other.plan.channel == rollout.plan.channel and (_place(other) < mine) == older
            ),
            key=_place,
        )

    def _held_by_another_channel(self, rollout: Rollout) -> Rollout | None:
        """A live rollout of another channel that has one of the groups and was there first."""
        mine = _place(rollout)
        for other in self._overlapping(rollout):
            if other.plan.channel != rollout.plan.channel and (rollout.submitted_at is None or _place(other) < mine):
                return other
        return None

    def _overlapping(self, rollout: Rollout) -> list[Rollout]:
        groups = sorted({wave.group for wave in rollout.plan.waves})
        found = self.rollouts.overlapping(rollout.org, rollout.plan.product, groups)
        return [other for other in found if other.id != rollout.id]

    def _counters(self, rollout: Rollout) -> Counters:
        return self.rollouts.counters(rollout.id).get(rollout.wave, Counters())

    def _plan(self, org: str, request: PlanRequest, now: datetime) -> Plan:
        # Faults of the request come first; having no artifacts is not one of them but an unknown release.
        faults = [fault for fault in plan_faults(request.with_artifacts({})) if fault[0] != "artifacts"]
        if faults:
            raise InvalidPlan(faults)
        artifacts = self._artifacts(org, request.product, request.version, request.channel)
        plan = request.with_artifacts(artifacts)
        self._check_order(org, plan)
        self._check_groups(org, plan)
        blocked = why_blocked(self.releases, org, plan) or self.rules.blocking(org, plan, now)
        if blocked:
            raise ReleaseBlocked(blocked)
        return plan

    def _artifacts(self, org: str, product: str, version: str, channel: str) -> Mapping[str, ArtifactRef]:
        artifacts = self.releases.artifacts(org, product, version, channel)
        if not artifacts:
            raise UnknownRelease(f"no signed artifact of {product} {version} in channel {channel!r}; publish one first")
        return artifacts

    def _check_release(self, rollout: Rollout, now: datetime) -> None:
        plan = rollout.plan
        signed = self._artifacts(rollout.org, plan.product, plan.version, plan.channel)
        gone = [platform for platform, artifact in plan.artifacts.items() if signed.get(platform) != artifact]
        if gone:
            raise UnknownRelease(
                f"{plan.product} {plan.version} has no such artifact any more for {', '.join(gone)}; edit the rollout"
            )
        self._settlement.refuse_blocked(rollout, now)

    def _check_order(self, org: str, plan: Plan) -> None:
        for number, first in enumerate(plan.after, start=1):
            try:
                self.rollouts.get(org, first)
            except UnknownRollout as error:
                raise InvalidPlan([(f"after.{number}", f"expected a rollout of yours, there is no {first}")]) from error

    def _check_groups(self, org: str, plan: Plan) -> None:
        missing = self.groups.missing(org, sorted({wave.group for wave in plan.waves}))
        if missing:
            raise UnknownGroup(f"no group is named {', '.join(missing)}; create it or name another")


def _place(rollout: Rollout) -> tuple[bool, datetime, str]:
    """Order of submission; a draft comes last."""
    return (rollout.submitted_at is None, rollout.submitted_at or rollout.created_at, rollout.id)
