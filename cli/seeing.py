"""Where a rollout stands in words for a person: rates, time left, reasons of failures, what comes next, a preview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cli.text import fields, moment, table, visible
from cli.words import device_rules, share, span


def now() -> datetime:
    """This machine's clock, for what is left of a span; every judgement is by the server's."""
    return datetime.now(UTC)


def left(until: str | None, at: datetime) -> str:
    """What is left until a time of the server's as ``12m30s``; empty when it is over, or there is none."""
    if until is None:
        return ""
    seconds = int((datetime.fromisoformat(until) - at).total_seconds())
    return span(seconds) if seconds > 0 else ""


def rate(told: Mapping[str, Any] | None) -> str | None:
    """``97.5% (88.4 to 99.5)``: the raw rate, and what it may be with so few results; None without any."""
    if told is None:
        return None
    return f"{told['percent']:g}% ({told['low']:g} to {told['high']:g})"


def open_wave(told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The wave that is open, if any."""
    return next((wave for wave in told["waves"] if wave["state"] == "open"), None)


def clocks(wave: Mapping[str, Any], at: datetime) -> list[str]:
    """What an open wave's clocks say: soak, report timeout and deadline still to come, and who is silent."""
    outlook = wave.get("outlook")
    if outlook is None:
        return []
    said = []
    for name, until in (
        ("soaks", outlook["soaks_until"]),
        ("listens", outlook["silent_from"]),
        ("deadline in", outlook["deadline_at"]),
    ):
        span_left = left(until, at)
        if span_left:
            said.append(f"{name} {span_left}" if name == "deadline in" else f"{name} {span_left} more")
    silent = outlook["unheard"] + outlook["stalled"]
    if silent:
        said.append(f"{silent} silent ({outlook['unheard']} never heard of, {outlook['stalled']} standing still)")
    return said


def reason(one: Mapping[str, Any]) -> str:
    """One reason of failures with its count and an example: ``3 x install_failed (exit 1, gate-7)``."""
    example = one["example"]
    name = example["device_name"] or example["device_id"]
    told = ", ".join(visible(part) for part in (example["detail"], name) if part)
    what = one["code"] or ("rolled back" if one["progress"] == "rolled_back" else "no reason given")
    return f"{one['devices']} x {visible(what)} ({told})"


def failed(told: Mapping[str, Any]) -> int:
    """How many devices stand failed or rolled back."""
    return sum(wave["counters"]["failed"] + wave["counters"]["rolled_back"] for wave in told["waves"])


def standing(told: Mapping[str, Any], reasons: Sequence[Mapping[str, Any]], at: datetime) -> str:
    """What `show` says below the waves: rates and clocks of the open wave, failures by reason, and the next step."""
    pairs: list[tuple[str, Any]] = []
    wave = open_wave(told)
    outlook = wave.get("outlook") if wave is not None else None
    if wave is not None and outlook is not None:
        pairs.append((f"wave {wave['number']}", "; ".join(clocks(wave, at)) or "open"))
        pairs.append(("success", rate(outlook["success"])))
        pairs.append(("failure", rate(outlook["failure"])))
    pairs += [("failed" if number == 0 else "", reason(one)) for number, one in enumerate(reasons)]
    pairs.append(("next", next_step(told)))
    return fields(pairs)


def next_step(told: Mapping[str, Any]) -> str:
    """Who has to do what for it to go on."""
    rollout = told["id"]
    match told["state"]:
        case "draft":
            return f"`publish rollout submit {rollout}`"
        case "paused":
            who = "an approver: " if "an approver must resume" in told["why"] else ""
            on, off = (f"`publish rollout {verb} {rollout} --reason WHY`" for verb in ("resume", "abort"))
            return f"{who}{on}, or {off}"
        case "waiting":
            wave = told["waves"][told["wave"] - 1]
            if "waits for signatures" in told["why"]:
                return f"its approvers: `publish rollout approve {rollout} --wave {wave['number']} --key URI`"
            missing = wave["approvals_needed"] - len(wave["approvals"])
            if missing > 0:
                return f"{missing} more of you: `publish rollout approve {rollout} --wave {wave['number']}`"
            if "publish rollout advance" in told["why"]:
                return f"`publish rollout advance {rollout}`"
            return "nothing to do: the wave opens by itself when its gate holds"
        case "running":
            return "nothing to do: the wave is judged by itself"
        case _:
            return "nothing: it is over"


def forecast(told: Mapping[str, Any]) -> str:
    """A preview: the release, a line for each wave, some devices of each, what blocks, and what else follows."""
    plan = told["plan"]
    head: list[tuple[str, Any]] = [
        ("release", f"{plan['product']} {plan['version']} ({plan['channel']})"),
        ("platforms", sorted(plan["artifacts"])),
        ("devices", told["devices"]),
        ("plan", told["plan_hash"]),
    ]
    head += device_rules(plan)
    if not told["cohorts_known"]:
        head.append(("drawn", "which devices fall into a share is drawn when the rollout is made; names are examples"))
    rows = [
        (
            wave["number"],
            wave["group"],
            share(wave),
            wave["state"],
            f"{'' if wave['exact'] else 'about '}{wave['devices']} of {wave['group_devices']}",
            moment(wave["opens_at"]),
            moment(wave["passes_at"]),
            f"{wave['approvals_given']}/{wave['approvals_needed']}" if wave["approvals_needed"] else None,
            wave["platforms"],
            [one["device_name"] or one["device_id"] for one in wave["sample"][:3]],
        )
        for wave in told["waves"]
    ]
    headings = (
        *("wave", "group", "share", "state", "devices", "opens from", "passes from", "approved", "platforms"),
        "such as",
    )
    parts = [fields(head), table(headings, rows)]
    for name, found in (("blocks", told["blocks"]), ("note", told["notes"])):
        if found:
            parts.append(fields([(name if number == 0 else "", one["message"]) for number, one in enumerate(found)]))
    return "\n\n".join(parts)
