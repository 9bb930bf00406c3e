"""What can be wrong with a rollout.

RolloutError
├── UnknownRollout          no such rollout in this organisation
├── InvalidPlan             the plan itself cannot work
├── InvalidCommand          a command says something it cannot say (an empty reason, a wave that is not)
├── UnknownRelease          no signed artifact of that product and version
├── ReleaseBlocked          an artifact of it is yanked
├── UnknownGroup            a wave names a group that does not exist
├── GroupBusy               another channel's rollout of the product holds the group
├── TransitionNotAllowed    not from this state, or a guard does not hold
├── ApprovalRefused         this person cannot approve this plan
├── PlanChanged             the hash named is not the plan's
├── RolloutChanged          somebody else was first; look again
├── SignaturesNeeded        approvers' own keys must sign this decision first
├── UnknownExclusion        no such exclusion, or the device has no such pin
├── InvalidExclusion        it names nothing, or what does not go together
├── TooManyExclusions       the signed list would grow past its bounds
├── UnknownFreeze           no such freeze window
├── InvalidFreeze           it has no length, no known zone, or no reason
├── UnknownTemplate         no such template
├── InvalidTemplate         its name is taken, or its parts do not go together
├── ReportRefused           the device is not in a wave this rollout opened
└── BrokenHistory           the events do not replay to a rollout: somebody changed or lost one
"""

from __future__ import annotations

from typing import ClassVar


class RolloutError(Exception):
    """Root of the room's errors; ``code`` is stable, clients branch on it."""

    code: ClassVar[str] = "rollout_error"


class UnknownRollout(RolloutError):
    code = "rollout_not_found"


class InvalidPlan(RolloutError):
    """``details`` lists every fault as (where, what)."""

    code = "invalid_plan"

    def __init__(self, details: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{where}: {what}" for where, what in details))
        self.details = details


class InvalidCommand(RolloutError):
    code = "invalid_command"


class UnknownRelease(RolloutError):
    code = "release_not_found"


class ReleaseBlocked(RolloutError):
    code = "release_blocked"


class UnknownGroup(RolloutError):
    code = "group_unknown"


class GroupBusy(RolloutError):
    code = "group_busy"


class TransitionNotAllowed(RolloutError):
    code = "transition_not_allowed"


class ApprovalRefused(RolloutError):
    code = "approval_refused"


class PlanChanged(RolloutError):
    code = "plan_changed"


class RolloutChanged(RolloutError):
    code = "rollout_changed"


class SignaturesNeeded(RolloutError):
    code = "signatures_needed"


class UnknownExclusion(RolloutError):
    code = "exclusion_not_found"


class InvalidExclusion(RolloutError):
    code = "invalid_exclusion"


class TooManyExclusions(RolloutError):
    code = "too_many_exclusions"


class UnknownFreeze(RolloutError):
    code = "freeze_not_found"


class InvalidFreeze(RolloutError):
    code = "invalid_freeze"


class UnknownTemplate(RolloutError):
    code = "template_not_found"


class InvalidTemplate(RolloutError):
    code = "invalid_template"


class ReportRefused(RolloutError):
    code = "report_refused"


class BrokenHistory(RolloutError):
    code = "broken_history"
