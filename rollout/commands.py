"""Everything that can be asked of a rollout, as values. Machines and people use the same commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, Final

from evidence.model import Actor
from rollout.gate import Outcome, Verdict
from rollout.model import AbortMode, Counters, Plan, plan_to_dict
from rollout.plan import plan_from_dict
from rollout.stored import counters_from_dict, counters_to_dict, time_to_text


@dataclass(frozen=True, kw_only=True)
class Command:
    """``by`` is who asks; ``name`` is the verb an operator would use, stable in events."""

    name: ClassVar[str] = ""
    by: Actor


@dataclass(frozen=True, kw_only=True)
class Submit(Command):
    """Hand a draft in: its first wave's gate is awaited."""

    name: ClassVar[str] = "submit"


@dataclass(frozen=True, kw_only=True)
class Edit(Command):
    """Put another plan in place before the first wave opens; the approvals are gone.

    ``as_admin`` is true when the caller may edit what others created.
    """

    name: ClassVar[str] = "edit"
    plan: Plan
    as_admin: bool = False


@dataclass(frozen=True, kw_only=True)
class Approve(Command):
    """Say yes to one pending wave of exactly the plan with this hash. ``signature`` is kept, not judged here."""

    name: ClassVar[str] = "approve"
    wave: int
    plan_hash: str
    signature: str | None = None


@dataclass(frozen=True, kw_only=True)
class Refuse(Command):
    """Say no: back to draft, or to paused when a wave has been opened before."""

    name: ClassVar[str] = "refuse"
    reason: str


@dataclass(frozen=True, kw_only=True)
class OpenWave(Command):
    """Offer the release to the awaited wave.

    ``signed``: its decision is one that approvers signed themselves. ``reach`` is the range of buckets of a wave by
    count, None of others.
    """

    name: ClassVar[str] = "open_wave"
    wave: int
    signed: bool = False
    reach: int | None = None


@dataclass(frozen=True, kw_only=True)
class PassWave(Command):
    """The open wave has passed its gate; ``verdict`` says so."""

    name: ClassVar[str] = "pass_wave"
    wave: int
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class FailWave(Command):
    """The open wave has crossed a limit; ``cause`` is the line that people read, ``silent`` how many were silent."""

    name: ClassVar[str] = "fail_wave"
    wave: int
    cause: str
    silent: int = 0


@dataclass(frozen=True, kw_only=True)
class Pause(Command):
    """Nobody new starts until somebody resumes."""

    name: ClassVar[str] = "pause"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """Go on. ``counters`` are those of the open wave now: what failed before is not judged again.

    ``as_approver`` is true when the caller may approve; needed after a failed wave.
    """

    name: ClassVar[str] = "resume"
    reason: str
    as_approver: bool = False
    counters: Counters = field(default_factory=Counters)


@dataclass(frozen=True, kw_only=True)
class Retry(Command):
    """Offer the release again: to the devices named, or with none named to all that failed."""

    name: ClassVar[str] = "retry"
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetryLater(Command):
    """Have the scheduler retry at a moment: the devices named, or with none named all that failed by then.

    The last one told stands; a retry before then takes its place.
    """

    name: ClassVar[str] = "retry_later"
    at: datetime
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Abort(Command):
    """End it; ``mode`` says what devices do that have the release."""

    name: ClassVar[str] = "abort"
    reason: str
    mode: AbortMode = AbortMode.STOP


@dataclass(frozen=True, kw_only=True)
class RollBack(Command):
    """Call back, after the end, what devices got: each returns to what it ran before."""

    name: ClassVar[str] = "roll_back"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Supersede(Command):
    """End it because ``rollout`` takes its devices over."""

    name: ClassVar[str] = "supersede"
    rollout: str


COMMANDS: Final[tuple[type[Command], ...]] = (
    Submit,
    Edit,
    Approve,
    Refuse,
    OpenWave,
    PassWave,
    FailWave,
    Pause,
    Resume,
    Retry,
    RetryLater,
    Abort,
    RollBack,
    Supersede,
)
_BY_NAME: Final = {command.name: command for command in COMMANDS}
_LATER: Final[tuple[tuple[str, object], ...]] = (
    ("signed", False),
    ("reach", None),
    ("silent", 0),
)  # fields and their defaults


def command_to_dict(command: Command) -> dict[str, object]:
    """The whole command but its actor as JSON values, for the event that tells it."""
    told: dict[str, object] = {"name": command.name}
    for one in fields(command):
        value = getattr(command, one.name)
        # A field that came later is absent at its default: older events replay to the bytes that they were.
        if one.name != "by" and (one.name, value) not in _LATER:
            told[one.name] = _out(value)
    return told


def command_from_dict(told: Mapping[str, Any], by: Actor) -> Command:
    """Read back what :func:`command_to_dict` wrote; raises ValueError for what no command is."""
    try:
        kind = _BY_NAME[told["name"]]
        values = {key: _in(key, value) for key, value in told.items() if key != "name"}
        return kind(by=by, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no command is told by {dict(told)!r}: {error!r}") from error


def _out(value: object) -> object:
    if isinstance(value, Plan):
        return plan_to_dict(value)
    if isinstance(value, Counters):
        return counters_to_dict(value)
    if isinstance(value, Verdict):
        return {"outcome": value.outcome.value, "reason": value.reason}
    if isinstance(value, AbortMode):
        return value.value
    if isinstance(value, datetime):
        return time_to_text(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def _in(key: str, value: Any) -> object:
    match key:
        case "plan":
            return plan_from_dict(value)
        case "counters":
            return counters_from_dict(value)
        case "verdict":
            return Verdict(Outcome(value["outcome"]), value["reason"])
        case "mode":
            return AbortMode(value)
        case "at":
            return datetime.fromisoformat(value)
        case "devices":
            return tuple(value)
        case _:
            return value
