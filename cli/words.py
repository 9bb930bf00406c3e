"""Rollouts in words: what a wave's gate asks for, who would receive what, how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.text import fields, moment, size, styled, table, visible

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60  # seconds


def span(seconds: int) -> str:
    """``90`` seconds as ``1m30s``."""
    parts = []
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"), (1, "s")):
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def gate(rules: Mapping[str, Any]) -> str:
    """A gate in one line; rules that ask for nothing are left out."""
    said = []
    if rules["approvals"]:
        said.append(f"{rules['approvals']} approval{'s' if rules['approvals'] > 1 else ''}")
    if rules.get("not_before"):
        said.append(f"not before {moment(rules['not_before'])}")
    if rules["soak_seconds"]:
        said.append(f"soak {span(rules['soak_seconds'])}")
    said.append(f"passes at {rules['success_percent']}% success of at least {rules['min_reports']}")
    if rules.get("max_failures") is not None:
        said.append(f"pauses at {rules['max_failures']} failed")
    if rules.get("max_failure_rate_percent") is not None:
        said.append(f"pauses above {rules['max_failure_rate_percent']}% failed")
    for one in rules.get("metrics", ()):
        fails = " or pauses" if one["on"] == "fail" else ""
        said.append(f"{one['name']} of {one['source']} {one['op']} {one['threshold']:g}{fails}")
    if rules.get("advance") == "manual":
        said.append("then waits for a word")
    if rules.get("deadline_seconds") is not None:
        said.append(f"deadline {span(rules['deadline_seconds'])}")
    if rules.get("report_timeout_seconds") is not None:
        counts = "left out" if rules.get("silent") == "ignore" else "failed"
        said.append(f"silent for {span(rules['report_timeout_seconds'])} counts as {counts}")
    return ", ".join(said)


def freeze(told: Mapping[str, Any]) -> str:
    """When a freeze window holds, in one line."""
    weekly = told["weekly"]
    if weekly is None:
        return f"{moment(told['starts'])} to {moment(told['ends'])}"
    return f"every {window(weekly)}"


def window(told: Mapping[str, Any]) -> str:
    """A window as ``--window`` takes it."""
    return f"{','.join(told['days'])} {told['start']} {span(told['minutes'] * _MINUTE)} {told['zone']}"


def share(wave: Mapping[str, Any]) -> str:
    """How much of its group a wave reaches."""
    count = wave.get("count")
    return f"{wave['percent']:g}%" if count is None else f"{count} device{'' if count == 1 else 's'}"


def device_rules(plan: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a plan asks of devices and of the order, as lines; none for a plan that asks for nothing."""
    said: list[tuple[str, Any]] = []
    if plan.get("from_versions"):
        said.append(("from versions", " or ".join(plan["from_versions"])))
    for one in plan.get("requires", ()):
        said.append(("requires", f"{one['product']} {one['at_least']} or later"))
    for other in plan.get("after", ()):
        said.append(("after", other))
    if plan.get("window"):
        said.append(("installs", window(plan["window"])))
    if plan.get("spread_seconds"):
        said.append(("spread over", span(plan["spread_seconds"])))
    if plan.get("retry"):
        retry = plan["retry"]
        codes = f" on {', '.join(retry['codes'])}" if retry["codes"] else ""
        said.append(("retries", f"{retry['count']}, first after {span(retry['backoff_seconds'])}{codes}"))
    if plan.get("budget"):
        said.append(("updates at once", budget(plan["budget"])))
    if plan.get("ignores_freeze"):
        said.append(("freeze windows", "ignored"))
    return said


def budget(told: Mapping[str, Any]) -> str:
    """How many devices may update at once, as ``at most 1 for each site, by permit for 1h``."""
    most = f"all but {told['min_available']}" if told["max_updating"] is None else f"at most {told['max_updating']}"
    return f"{most} for each {told['label']}, by permit for {span(told['lease_seconds'])}"


def rollout(told: Mapping[str, Any]) -> str:
    """One rollout: where it stands, why, and a line for each wave."""
    head: list[tuple[str, Any]] = [
        ("id", told["id"]),
        ("release", f"{told['product']} {told['version']} ({told['channel']})"),
        ("state", told["state"]),
        ("why", told["why"]),
        ("plan", told["plan_hash"]),
        ("created", f"{moment(told['created_at'])} by {told['created_by']['name']}"),
        ("revision", told["revision"]),
    ]
    head.extend(device_rules(told.get("plan", {})))
    if told.get("paused_because"):
        head.append(("paused because", told["paused_because"]))
    if told.get("abort_reason"):
        head.append(("aborted", f"{told['abort_mode']}: {told['abort_reason']}"))
    if told["plan"].get("priority", "normal") != "normal":
        head.append(("priority", told["plan"]["priority"]))
    if told.get("cloned_from"):
        head.append(("cloned from", told["cloned_from"]))
    if told.get("rolled_back_because"):
        head.append(("rolled back", told["rolled_back_because"]))
    if told.get("retry_at"):
        head.append(("retried at", moment(told["retry_at"])))
    if told.get("superseded_by"):
        head.append(("superseded by", told["superseded_by"]))
    if told["attempt"] > 1:
        head.append(("attempt", told["attempt"]))
    if told.get("ended_at"):
        head.append(("ended", moment(told["ended_at"])))
    rows = [
        (
            wave["number"],
            wave["group"],
            share(wave),
            wave["state"],
            *(wave["counters"][name] for name in ("expected", "acting", "succeeded", "failed", "rolled_back")),
            f"{len(wave['approvals'])}/{wave['approvals_needed']}" if wave["approvals_needed"] else None,
            gate(wave["gate"]),
            wave["note"],
        )
        for wave in told["waves"]
    ]
    headings = (
        "wave",
        "group",
        "share",
        "state",
        "expected",
        "acting",
        "succeeded",
        "failed",
        "rolled back",
        "approved",
        "gate",
        "note",
    )
    return fields(head) + "\n\n" + table(headings, rows)


def approval(told: Mapping[str, Any], wave: Mapping[str, Any], devices: int | None) -> str:
    """What saying yes to one wave would do: who would receive what, under which plan.

    Args:
        told: The rollout.
        wave: Its wave that is to be approved.
        devices: How many devices the group has now; None when it is not known.
    """
    before = [other for other in told["waves"] if other["number"] < wave["number"] and other["group"] == wave["group"]]
    reach = f"{share(wave)} of group {wave['group']}"
    if before:
        reach += f" (up from {share(before[-1])})"
    if devices is not None:
        reach += f", which has {devices} device{'' if devices == 1 else 's'} now"
    lines: list[tuple[str, Any]] = [
        ("you approve", f"wave {wave['number']} of {len(told['waves'])} of {told['id']}"),
        ("devices", reach),
        ("would receive", f"{told['product']} {told['version']} ({told['channel']})"),
    ]
    for platform, artifact in told["plan"]["artifacts"].items():
        lines.append((f"  on {visible(platform)}", f"{artifact['path']}, {size(artifact['length'])}"))
        lines.append(("  sha256", artifact["sha256"]))
    lines.append(("gate", gate(wave["gate"])))
    lines.extend(device_rules(told["plan"]))
    if told["plan"].get("allow_downgrade"):
        lines.append(("downgrade", styled("devices on a higher version may go back to this one", fg="red")))
    if told["plan"].get("note"):
        lines.append(("note", told["plan"]["note"]))
    lines.append(("asked for by", told["created_by"]["name"]))
    yes = [said["by"]["name"] for said in wave["approvals"]]
    names = f": {', '.join(yes)}" if yes else ""
    lines.append(("approved so far", f"{len(yes)} of {wave['approvals_needed']}{names}"))
    lines.append(("plan", told["plan_hash"]))
    return fields(lines)
