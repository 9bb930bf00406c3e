"""Rollouts as values. Nothing here reads a clock, a database or a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from evidence.model import Actor
from rollout.budget import Budget, budget_to_dict
from rollout.metrics import Metric, metric_to_dict
from rollout.windows import Window, window_to_dict

ANY_PLATFORM: Final = "any"  # of artifacts that fit every device
BUCKETS: Final = 10_000  # a share of a group is told in hundredths of a percent


class State(StrEnum):
    """Where a rollout can rest."""

    DRAFT = "draft"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


FINAL_STATES: Final = frozenset({State.COMPLETED, State.ABORTED, State.SUPERSEDED})


class WaveState(StrEnum):
    """Where a wave can rest; ``stopped`` when the rollout ended under it."""

    PENDING = "pending"
    OPEN = "open"
    PASSED = "passed"
    STOPPED = "stopped"


class AbortMode(StrEnum):
    """What devices do when a rollout is aborted: start nothing new, or return to what they ran."""

    STOP = "stop"
    ROLL_BACK = "roll_back"


class Advance(StrEnum):
    """Who opens the wave after one that passed: the scheduler, or an operator's word."""

    AUTO = "auto"
    MANUAL = "manual"


class Silent(StrEnum):
    """What becomes of devices that are silent past the report timeout: failures, or left out of every count."""

    FAIL = "fail"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What must hold before a wave opens, passes, or pauses the rollout.

    ``approvals`` distinct people (0 = none); spans in seconds; ``success_percent`` 1 to 100 of the
    wave's acting devices; ``min_reports`` at least 1 (a wave with fewer devices needs all of them);
    ``max_failures`` pauses when that many devices failed; ``max_failure_rate_percent`` (0 to 100) pauses
    when the rate is above it with ``min_reports`` results in; ``None`` switches a rule off. ``advance`` says who opens
    the wave after this one.
    ``report_timeout_seconds``: a device without a result is silent when that much time has passed since the wave opened
    or was resumed, and since the device's last step; ``silent`` says what it counts as then.
    ``metrics`` must all hold before the wave passes.
    """

    approvals: int = 0
    not_before: datetime | None = None
    soak_seconds: int = 0
    success_percent: int = 90
    min_reports: int = 1
    max_failures: int | None = None
    max_failure_rate_percent: int | None = 10
    deadline_seconds: int | None = None
    advance: Advance = Advance.AUTO
    report_timeout_seconds: int | None = None
    silent: Silent = Silent.FAIL
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePlan:
    """One group's turn.

    ``percent`` is the share of the group reached once this wave is open (0.01 to 100, in hundredths): a later wave of
    the same group names a larger one, so cohorts only grow. ``count`` says instead how many devices it reaches, about;
    it becomes a range of buckets when the wave opens (``Wave.reach``), and ``percent`` stays 100. A whole percent is an
    int, so that it is hashed as it always was.
    """

    group: str
    percent: float = 100
    gate: Gate = field(default_factory=Gate)
    count: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.percent, float) and self.percent.is_integer():
            object.__setattr__(self, "percent", int(self.percent))


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A device takes the release only while it runs ``product`` in version ``at_least`` or a later one."""

    product: str
    at_least: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A device tries again by itself: ``count`` times (1 to 10) after a failure with one of ``codes`` (none: any).

    The first time after ``backoff_seconds``, each further time after twice as long.
    """

    count: int
    backoff_seconds: int = 60
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRef:
    """The artifact of one platform: TUF target path, length in bytes, lower-case hex SHA-256."""

    id: str
    path: str
    length: int
    sha256: str


class Priority(StrEnum):
    """What goes first where rollouts meet: a ``security`` one is not overtaken by a newer ``normal`` one."""

    SECURITY = "security"
    NORMAL = "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rollout carries and how; a value with a hash, and approvals name that hash.

    ``artifacts`` maps platform to artifact. ``keep_open``: after completion the decision stays for
    devices that come later. ``allow_downgrade``: devices that run a higher version may return to this one.
    ``from_versions``: only devices that run a version meeting one of these rules (``rollout.versions``) take it.
    ``requires``: what else a device must run. ``after``: ids of rollouts that must be completed before a wave opens.
    ``window``: when devices may start to install. ``spread_seconds``: devices of a wave start over so long, each at its
    own moment. ``ignores_freeze``: waves open in freeze windows, too. ``budget``: devices ask for a permit before they
    install.
    """

    product: str
    version: str
    channel: str
    artifacts: Mapping[str, ArtifactRef]
    waves: tuple[WavePlan, ...]
    keep_open: bool = True
    allow_downgrade: bool = False
    note: str = ""
    from_versions: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()
    after: tuple[str, ...] = ()
    window: Window | None = None
    spread_seconds: int = 0
    retry: RetryPolicy | None = None
    ignores_freeze: bool = False
    priority: Priority = Priority.NORMAL
    budget: Budget | None = None

    @property
    def tries(self) -> int:
        """How many attempts a device may make of one offer, 1 or more."""
        return 1 if self.retry is None else 1 + self.retry.count

    def hash(self) -> str:
        """Lower-case hex SHA-256 of the plan's canonical JSON."""
        encoded = json.dumps(plan_to_dict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(encoded.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's yes to one wave of exactly one plan.

    ``signature``: ``<keyid>:<version of waves-<product>>:<hex>`` where approvers sign with their own keys.
    """

    wave: int
    by: Actor
    at: datetime
    plan_hash: str
    signature: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A person's no to one plan."""

    by: Actor
    at: datetime
    plan_hash: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the devices of one wave have reported.

    ``acting`` devices have reported anything; ``succeeded``, ``failed`` and ``rolled_back`` are where they
    stand now. ``failures`` and ``finishes`` count results ever (an attempt each) and never go down, so that a
    resume can judge only what came after it.
    """

    acting: int = 0
    succeeded: int = 0
    failed: int = 0
    rolled_back: int = 0
    failures: int = 0
    finishes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """How far one wave has come.

    ``judged_from`` holds the counters at the last resume, ``resumed_at`` its time: soak and deadline run from the later
    of ``opened_at`` and ``resumed_at``. ``opened_revision`` is the rollout's revision that opened the wave (0 before).
    ``signed``: approvers signed its decision with their own keys.
    ``reach`` is the bucket below which a device of a wave by count is inside, from its opening on.
    ``silence_judged`` is how many silent devices the wave had when it failed last: resuming forgives so many.
    """

    state: WaveState = WaveState.PENDING
    opened_at: datetime | None = None
    ended_at: datetime | None = None
    note: str = ""
    judged_from: Counters = field(default_factory=Counters)
    resumed_at: datetime | None = None
    opened_revision: int = 0
    signed: bool = False
    reach: int | None = None
    silence_judged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout at one revision. Wave numbers are 1-based everywhere.

    ``wave`` is the wave that is open, or whose gate is awaited; 0 in ``draft``. ``paused_from`` remembers where
    to go on; ``pause_needs_approver`` is true after a failed wave. ``attempt`` counts retries of all failed devices,
    ``device_attempts`` those of named ones. ``salt`` is 32 lower-case hex characters, kept for life. ``editors`` are
    those who changed the plan, by whom it cannot be approved either. ``retried_revision`` and ``braked_revision`` are
    the revisions of the last retry and of the last stop (0 when there was none): signed documents carry them.
    ``origin`` is the rollout it was cloned from. ``rolled_back_because`` is set when devices were called back after the
    end. ``retry_at`` is when the scheduler retries ``retry_devices`` (none named: all that failed).
    """

    id: str
    org: str
    plan: Plan
    plan_hash: str
    created_by: Actor
    created_at: datetime
    salt: str
    state: State = State.DRAFT
    revision: int = 1
    wave: int = 0
    waves: tuple[Wave, ...] = ()
    approvals: tuple[Approval, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    paused_from: State | None = None
    paused_because: str | None = None
    pause_needs_approver: bool = False
    attempt: int = 1
    device_attempts: Mapping[str, int] = field(default_factory=dict)
    abort_mode: AbortMode | None = None
    abort_reason: str | None = None
    superseded_by: str | None = None
    editors: tuple[Actor, ...] = ()
    retried_revision: int = 0
    braked_revision: int = 0
    origin: str | None = None
    rolled_back_because: str | None = None
    retry_at: datetime | None = None
    retry_devices: tuple[str, ...] = ()

    def attempt_for(self, device: str) -> int:
        """The attempt a device is offered now, 1 or more."""
        return max(self.attempt, self.device_attempts.get(device, 0))


class Progress(StrEnum):
    """How far one device is with one decision, in order; a report never moves a device back within an attempt."""

    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a device says of one decision. ``code`` and ``detail`` (at most 64, 1,000 characters) explain a failure."""

    id: str
    rollout: str
    attempt: int
    progress: Progress
    at: datetime
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProgress:
    """Where one device stands in one rollout; a row exists only for devices that reported."""

    device: str
    wave: int
    attempt: int
    progress: Progress
    at: datetime
    code: str = ""
    detail: str = ""
    failures: int = 0
    finishes: int = 0
    last_report: str = ""


def plan_to_dict(plan: Plan) -> dict[str, object]:
    """JSON form of a plan: what is hashed, stored and shown. Times are RFC 3339 UTC.

    What came later than the first plans is absent at its default, so that their hashes stay what they were.
    """
    told: dict[str, object] = {
        "product": plan.product,
        "version": plan.version,
        "channel": plan.channel,
        "artifacts": {
            platform: {"id": a.id, "path": a.path, "length": a.length, "sha256": a.sha256}
            for platform, a in sorted(plan.artifacts.items())
        },
        "waves": [wave_to_dict(wave) for wave in plan.waves],
        "keep_open": plan.keep_open,
        "allow_downgrade": plan.allow_downgrade,
        "note": plan.note,
    }
    later: dict[str, object] = {
        "from_versions": list(plan.from_versions),
        "requires": [{"product": one.product, "at_least": one.at_least} for one in plan.requires],
        "after": list(plan.after),
        "window": None if plan.window is None else window_to_dict(plan.window),
        "spread_seconds": plan.spread_seconds,
        "retry": None if plan.retry is None else retry_to_dict(plan.retry),
        "ignores_freeze": plan.ignores_freeze,
        "priority": None if plan.priority is Priority.NORMAL else plan.priority.value,
        "budget": None if plan.budget is None else budget_to_dict(plan.budget),
    }
    return told | {name: value for name, value in later.items() if value}


def wave_to_dict(wave: WavePlan) -> dict[str, object]:
    """JSON form of a wave's plan."""
    told: dict[str, object] = {"group": wave.group, "percent": wave.percent, "gate": gate_to_dict(wave.gate)}
    return told if wave.count is None else told | {"count": wave.count}


def retry_to_dict(retry: RetryPolicy) -> dict[str, object]:
    """JSON form of a retry policy."""
    return {"count": retry.count, "backoff_seconds": retry.backoff_seconds, "codes": list(retry.codes)}


def gate_to_dict(gate: Gate) -> dict[str, object]:
    """JSON form of a gate. What came later than the first plans is absent where it is the default: hashes stay."""
    told: dict[str, object] = {
        "approvals": gate.approvals,
        "not_before": None if gate.not_before is None else gate.not_before.isoformat().replace("+00:00", "Z"),
        "soak_seconds": gate.soak_seconds,
        "success_percent": gate.success_percent,
        "min_reports": gate.min_reports,
        "max_failures": gate.max_failures,
        "max_failure_rate_percent": gate.max_failure_rate_percent,
        "deadline_seconds": gate.deadline_seconds,
    }
    if gate.advance is not Advance.AUTO:
        told["advance"] = gate.advance.value
    if gate.report_timeout_seconds is not None:
        told["report_timeout_seconds"] = gate.report_timeout_seconds
    if gate.silent is not Silent.FAIL:
        told["silent"] = gate.silent.value
    if gate.metrics:
        told["metrics"] = [metric_to_dict(metric) for metric in gate.metrics]
    return told
