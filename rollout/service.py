"""Use cases of rollouts over the ports: what people ask for, what the scheduler does, what devices report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence.model import SCHEDULER, Actor
from rollout import gate, machine, progress
from rollout.commands import (
    Abort,
    Approve,
    Edit,
    FailWave,
    PassWave,
    Pause,
    Refuse,
    Resume,
    Retry,
    RetryLater,
    Submit,
    Supersede,
)
from rollout.errors import (
    GroupBusy,
    InvalidPlan,
    ReleaseBlocked,
    ReportRefused,
    RolloutChanged,
    SignaturesNeeded,
    TransitionNotAllowed,
    UnknownGroup,
    UnknownRelease,
    UnknownRollout,
)
from rollout.gate import Outcome
from rollout.model import AbortMode, ArtifactRef, DeviceProgress, Plan, Report, Rollout, State
from rollout.plan import PlanRequest, plan_faults
from rollout.precedence import is_security
from rollout.settlement import STALE_AFTER, why_blocked
from rollout.views import RolloutViews


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutService(RolloutViews):
    """All that can be done with rollouts. Every method that changes something answers with the rollout after it.

    Any of them raises UnknownRollout for an id that is not the organisation's, and RolloutChanged when somebody else
    was first: look again and decide afresh.
    """

    def create(self, org: str, request: PlanRequest, *, by: Actor, now: datetime, origin: str | None = None) -> Rollout:
        """Store a draft that carries the signed artifacts of the release; ``origin`` is the rollout it is made after.

        Raises InvalidPlan (all faults at once), UnknownRelease, ReleaseBlocked or UnknownGroup; nothing is stored then.
        """
        plan = self._plan(org, request, now)
        rollout, event = machine.begin(
            rollout_id=self.make_id("rol"), org=org, plan=plan, salt=self.make_salt(), by=by, now=now, origin=origin
        )
        self.rollouts.add(rollout, event)
        return rollout

    def submit(self, org: str, rollout_id: str, *, by: Actor, now: datetime) -> Rollout:
        """Hand a draft in. Older rollouts of the product that it supersedes (``rollout.precedence``) end.

        Each of those is a transition of its own; one that cannot be made now is made by a later :meth:`tick`, and no
        wave of the newer rollout opens before. Raises GroupBusy while another channel's rollout holds a group.
        """
        rollout = self.settlement.current(org, rollout_id, now)
        command = Submit(by=by)
        machine.apply(rollout, command, now=now)  # Whether it can be submitted at all is the first thing to say.
        self._check_release(rollout, now)
        self._check_groups(org, rollout.plan)
        self.openings.refuse_unsignable(rollout.plan)
        busy = self.precedence.waited_for(rollout)
        if busy is not None and busy.plan.channel != rollout.plan.channel:
            raise GroupBusy(
                f"a group is held by {busy.id} of channel {busy.plan.channel!r}; wait for its end, or abort it"
            )
        submitted = self.settlement.perform(rollout, command, now)
        for older in self.precedence.ended_by(submitted):
            try:
                self.settlement.perform(older, Supersede(by=by, rollout=submitted.id), now)
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
        rollout = self.settlement.current(org, rollout_id, now)
        if seen is not None and seen != rollout.revision:
            raise RolloutChanged(f"{rollout_id} is at revision {rollout.revision}, you saw {seen}; look again")
        return self.settlement.perform(rollout, Edit(by=by, plan=self._plan(org, request, now), as_admin=as_admin), now)

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
        return self.settlement.perform(self.settlement.current(org, rollout_id, now), command, now)

    def approve_signed(
        self,
        org: str,
        rollout_id: str,
        signatures: Mapping[int, str],
        *,
        plan_hash: str,
        by: Actor,
        now: datetime,
        take: Callable[[], object],
    ) -> Rollout:
        """Say yes to waves by signatures over their decisions; the same again changes nothing.

        Args:
            org: Whose rollout it is.
            rollout_id: Of the rollout.
            signatures: As :class:`rollout.model.Approval` has them, by wave.
            plan_hash: Of the plan that was read.
            by: Who signed.
            now: The moment.
            take: Verifies the signatures and keeps them; called when the person may approve, before that is told.

        Raises what :meth:`approve` and ``take`` raise; no wave is approved then.
        """
        rollout = self.settlement.current(org, rollout_id, now)
        known = {(one.by.id, one.wave, one.signature) for one in rollout.approvals}
        commands = [
            Approve(by=by, wave=wave, plan_hash=plan_hash, signature=signature)
            for wave, signature in sorted(signatures.items())
            if (by.id, wave, signature) not in known
        ]
        trial = rollout
        for command in commands:
            trial, _ = machine.apply(trial, command, now=now)
        take()
        for command in commands:
            rollout = self.settlement.perform(rollout, command, now)
        return rollout

    def refuse(self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime) -> Rollout:
        """Say no: back to draft, or to paused when a wave has been opened before."""
        return self.settlement.perform(self.settlement.current(org, rollout_id, now), Refuse(by=by, reason=reason), now)

    def pause(self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime) -> Rollout:
        """Nobody new starts from the moment this returns."""
        return self.settlement.perform(self.settlement.current(org, rollout_id, now), Pause(by=by, reason=reason), now)

    def resume(
        self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime, as_approver: bool = False
    ) -> Rollout:
        """Go on; soak and deadline of an open wave begin anew. ``as_approver``: the caller may approve rollouts.

        Raises ReleaseBlocked while an artifact is yanked.
        """
        rollout = self.settlement.current(org, rollout_id, now)
        counters = self.counters(rollout)
        command = Resume(by=by, reason=reason, as_approver=as_approver, counters=counters)
        return self.settlement.perform(rollout, command, now)

    def retry(
        self,
        org: str,
        rollout_id: str,
        *,
        by: Actor,
        now: datetime,
        devices: Sequence[str] = (),
        after: timedelta | None = None,
    ) -> Rollout:
        """Offer the release again to these devices (ids), or with none named to all that failed: now, or ``after``.

        Raises SignaturesNeeded where approvers sign, for later as for now (ADR 82).
        """
        rollout = self.settlement.current(org, rollout_id, now)
        retry = Retry(by=by, devices=tuple(dict.fromkeys(devices)))
        command = retry if after is None else RetryLater(by=by, devices=retry.devices, at=now + after)
        machine.apply(rollout, command, now=now)  # Whether it can be done at all is the first thing to say.
        lacking = self.settlement.lacking(rollout, retry, now)
        if lacking:
            raise SignaturesNeeded(
                f"a retry of {rollout_id} is another decision, which approvers sign: {lacking}; "
                "abort it and run it again, or have the plan say how often devices retry"
            )
        return self.settlement.perform(rollout, command, now)

    def abort(
        self, org: str, rollout_id: str, *, reason: str, by: Actor, now: datetime, mode: AbortMode = AbortMode.STOP
    ) -> Rollout:
        """End it for good; with ``roll_back`` devices return to what they ran before."""
        return self.settlement.perform(
            self.settlement.current(org, rollout_id, now), Abort(by=by, reason=reason, mode=mode), now
        )

    def advance(self, org: str, rollout_id: str, *, by: Actor, now: datetime) -> Rollout:
        """Open the awaited wave by an operator's word, which one behind ``advance: manual`` needs.

        Everything else must hold as for the scheduler. Raises TransitionNotAllowed, ReleaseBlocked or RolloutChanged.
        """
        rollout = self.settlement.current(org, rollout_id, now)
        command = self.openings.opening(rollout, by)
        machine.apply(rollout, command, now=now)  # Whether it can be opened at all is the first thing to say.
        if not self._way_is_free(rollout, now):
            raise TransitionNotAllowed(f"{rollout_id}: {self.why(rollout, now)}")
        return self.settlement.perform(rollout, command, now)

    def tick(self, org: str, now: datetime) -> None:
        """Let every waiting and running rollout make at most one step; settle or drop what was left half done.

        Meant to be called every second or so, and at once after an artifact was yanked. A rollout that another writer
        holds is left for the next tick. What goes wrong with one does not hold up the others: it is raised at the
        end, in one ExceptionGroup.
        """
        self.recover(org, now, older_than=STALE_AFTER)
        faults: list[Exception] = []
        # What is urgent must not wait for the signing of what is not.
        going = [self.rollouts.get(org, rollout_id) for rollout_id in self.rollouts.moving(org)]
        for rollout_id in [one.id for one in sorted(going, key=is_security, reverse=True)]:
            try:
                self._step(self.rollouts.get(org, rollout_id), now)
            except (RolloutChanged, SignaturesNeeded):
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
        self.settlement.recover(org, now, older_than=older_than)

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

    def _step(self, rollout: Rollout, now: datetime) -> None:
        newer = self.precedence.ending(rollout)
        if newer is not None:
            self.settlement.perform(rollout, Supersede(by=SCHEDULER, rollout=newer.id), now)
            return
        blocked = self.settlement.blocked(rollout, now)
        if blocked:
            self.settlement.perform(rollout, Pause(by=SCHEDULER, reason=blocked), now)
            return
        if rollout.state is State.RUNNING:
            if not self._retried(rollout, now):
                self._judge(rollout, now)
        elif (
            self._way_is_free(rollout, now)
            and gate.may_open(rollout, now).outcome is Outcome.PASS
            and not self.settlement.held(rollout, now)
        ):
            command = self.openings.opening(rollout, SCHEDULER)
            if not self.settlement.lacking(rollout, command, now):
                self.settlement.perform(rollout, command, now)

    def _retried(self, rollout: Rollout, now: datetime) -> bool:
        """Make a retry whose time has come. One that approvers have to sign must not keep the wave from its judge."""
        if rollout.retry_at is None or now < rollout.retry_at:
            return False
        command = Retry(by=SCHEDULER, devices=rollout.retry_devices)
        if self.settlement.lacking(rollout, command, now):
            return False
        self.settlement.perform(rollout, command, now)
        return True

    def _judge(self, rollout: Rollout, now: datetime) -> None:
        verdict = self.verdict(rollout, now)
        if verdict.outcome is Outcome.PASS:
            self.settlement.perform(rollout, PassWave(by=SCHEDULER, wave=rollout.wave, verdict=verdict), now)
        elif verdict.outcome is Outcome.FAIL:
            failed = FailWave(by=SCHEDULER, wave=rollout.wave, cause=verdict.reason, silent=verdict.silent)
            self.settlement.perform(rollout, failed, now)

    def _way_is_free(self, rollout: Rollout, now: datetime) -> bool:
        """End first what this one supersedes: two that serve one group would overwrite each other."""
        for older in self.precedence.ended_by(rollout):
            self.settlement.perform(older, Supersede(by=SCHEDULER, rollout=rollout.id), now)
        return self.precedence.waited_for(rollout) is None

    def _plan(self, org: str, request: PlanRequest, now: datetime) -> Plan:
        # Faults of the request come first; having no artifacts is not one of them but an unknown release.
        faults = [fault for fault in plan_faults(request.with_artifacts({})) if fault[0] != "artifacts"]
        if faults:
            raise InvalidPlan(faults)
        artifacts = self._artifacts(org, request.product, request.version, request.channel)
        plan = request.with_artifacts(artifacts)
        self._check_order(org, plan)
        self._check_groups(org, plan)
        self.openings.refuse_unsignable(plan)
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
        self.settlement.refuse_blocked(rollout, now)

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
