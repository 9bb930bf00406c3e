"""What happened to one device, as a timeline: entries in plain words, from events, calls and steps of updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from evidence.model import Actor

PERIOD: Final = "device.online"  # the kind of an entry that sums up the calls between two silences
STEP: Final = "device.update"  # of a step of an update, with what came of it behind a dot


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened, at ``at``; ``kind`` is the event's tag, or one of those above.

    ``by`` is None for what the device did of itself. ``details`` are JSON values.
    """

    id: str
    at: datetime
    kind: str
    by: Actor | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries; None asks for nothing. ``kind`` is a kind with all below it, the times are half open."""

    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, kind: str) -> bool:
        """Whether entries of this kind, or of one below it, may be wanted."""
        asked = self.kind
        return asked is None or asked == kind or asked.startswith(f"{kind}.") or kind.startswith(f"{asked}.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands: what the timeline is sorted by. An entry keeps its place whatever comes later."""

    at: datetime
    id: str


class Histories(Protocol):
    """Timelines at rest."""

    def history(self, org: str, device: str, wanted: Wanted, *, before: Place | None, limit: int) -> Sequence[Entry]:
        """At most ``limit`` entries of a device, by its id, the newest first; those before a place."""

    def count_history(self, org: str, device: str, wanted: Wanted) -> int:
        """How many entries there are."""


def is_step(entry: Entry) -> bool:
    """Whether it is a step of an update, and not an event that somebody named like one."""
    return entry.kind.startswith(f"{STEP}.") and "rollout_id" in entry.details and entry.by is None


def words(entry: Entry) -> str:
    """The entry in one line for people; a kind that nobody here knows stands as it is."""
    told = entry.details
    if entry.kind == PERIOD:
        return _period(told)
    if is_step(entry):
        return _step(entry.kind.removeprefix(f"{STEP}."), told)
    make = _WORDS.get(entry.kind)
    return entry.kind if make is None else make(told)


def _period(told: Mapping[str, Any]) -> str:
    silent = told["silent_since"]
    before = "" if silent is None else f" again, silent since {silent}"
    return f"online{before}; last call {told['last_at']}"


def _step(progress: str, told: Mapping[str, Any]) -> str:
    release = f"{told['product']} {told['version']}"
    verb = {
        "downloading": f"downloads {release}",
        "installing": f"installs {release}",
        "succeeded": f"runs {release}",
        "failed": f"failed to update to {release}",
        "rolled_back": f"rolled back from {release}",
    }.get(progress, f"{progress} {release}")
    because = ": ".join(part for part in (told["code"], told["detail"]) if part)
    again = f", attempt {told['attempt']}" if told["attempt"] > 1 else ""
    return f"{verb} (wave {told['wave']}{again})" + (f": {because}" if because else "")


def _enrolled(told: Mapping[str, Any]) -> str:
    groups = told.get("groups") or []
    into = f" into {', '.join(groups)}" if groups else ""
    return f"enrolled by {'its code' if 'code' in told else 'an enrolment token'}{into}"


def _labelled(told: Mapping[str, Any]) -> str:
    labels: Mapping[str, str | None] = told.get("labels") or {}
    put = [f"{name}={value}" for name, value in sorted(labels.items()) if value is not None]
    gone = [f"without {name}" for name, value in sorted(labels.items()) if value is None]
    only = "" if told.get("kept", True) else ", and no other"
    return f"labelled {', '.join([*put, *gone]) or 'with nothing'}{only}"


def _imported(told: Mapping[str, Any]) -> str:
    groups = [
        *(f"into {name}" for name in told.get("joined", ())),
        *(f"out of {name}" for name in told.get("left", ())),
    ]
    labels = ["with other labels"] if "labels" in told else []
    return f"changed by an imported list: {', '.join([*groups, *labels])}"


def _why(told: Mapping[str, Any]) -> str:
    because = ": ".join(str(told[name]) for name in ("code", "detail") if told.get(name))
    return f": {because}" if because else ""


def _excluded(told: Mapping[str, Any]) -> str:
    what = " ".join(str(told[name]) for name in ("product", "version", "package") if told.get(name)) or "all updates"
    verb = "pinned to" if told.get("kind") == "pin" else "excluded from"
    return f"{verb} {what}"


_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "device.created": lambda _: "made, waits to enrol",
    "device.enrolled": _enrolled,
    "device.code.created": lambda _: "got a new enrolment code",
    "device.certificate.renewed": lambda told: f"renewed its certificate, good until {told.get('not_after')}",
    "device.labelled": _labelled,
    "device.revoked": lambda told: f"revoked: {told.get('reason')}",
    "group.device.added": lambda told: f"put into group {told.get('group')}",
    "group.device.removed": lambda told: f"taken out of group {told.get('group')}",
    "exclusion.added": lambda told: f"{_excluded(told)}: {told.get('reason')}",
    "exclusion.removed": lambda told: f"no longer {_excluded(told)}",
    "device.imported": _imported,
    "device.logs_requested": lambda _: "its logs were requested",
    "device.logs_uploaded": lambda _: "sent its logs",
    "device.logs_failed": lambda told: f"could not send its logs{_why(told)}",
    "device.logs_expired": lambda _: "was asked for its logs and did not send them in time",
    "device.logs_cancelled": lambda _: "the request for its logs was taken back",
    "device.logs_deleted": lambda _: "logs that it sent were deleted",
    "device.reboot_scheduled": lambda _: "a reboot was scheduled",
    "device.rebooted": lambda _: "restarted",
    "device.reboot_failed": lambda told: f"could not restart{_why(told)}",
    "device.reboot_expired": lambda _: "did not restart in the time it was given",
    "device.reboot_cancelled": lambda _: "the reboot was taken back",
}
