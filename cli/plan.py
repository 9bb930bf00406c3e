"""Reading a rollout's plan from the command line or a file into the body the API takes.

Nothing is judged here but the form: whether a plan can work is the server's to say, in one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cli.errors import UsageFault

WAVE_FORM: Final = "GROUP[:PERCENT][,RULE=VALUE…]"

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN: Final = re.compile(r"(?:[0-9]+[smhd])+|[0-9]+")
_SPAN_PART: Final = re.compile(r"([0-9]+)([smhd])")
_PLAN_FIELDS: Final = frozenset(
    {
        "product",
        "version",
        "channel",
        "waves",
        "template",
        "keep_open",
        "allow_downgrade",
        "note",
        "draft",
        "from_versions",
        "requires",
        "after",
        "window",
        "spread_seconds",
        "retry",
        "ignores_freeze",
        "budget",
        "priority",
    }
)


def span(text: str) -> int:
    """Seconds told as ``90``, ``30s``, ``5m``, ``1h30m`` or ``2d``.

    Raises:
        UsageFault: It is none of these.
    """
    if not _SPAN.fullmatch(text):
        raise UsageFault(f"{text!r} is no span of time", hint="write it like 30s, 5m, 1h30m or 2d")
    if text.isdecimal():
        return int(text)
    return sum(int(number) * _SECONDS[unit] for number, unit in _SPAN_PART.findall(text))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UsageFault(f"{text!r} is no whole number")
    return int(text)


def _percent(text: str) -> int:
    return _number(text.removesuffix("%"))


def share(text: str) -> int | float:
    """A share in percent, ``10``, ``10%`` or ``0.5``; a whole one is an int."""
    number = text.removesuffix("%")
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?", number) is None:
        raise UsageFault(f"{text!r} is no whole number of percent, nor one with two decimals at most")
    return float(number) if "." in number else int(number)


def _advance(text: str) -> str:
    if text not in ("auto", "manual"):
        raise UsageFault(f"advance is auto or manual, found {text!r}")
    return text


def _silent(text: str) -> str:
    if text not in ("fail", "ignore"):
        raise UsageFault(f"{text!r} is neither fail nor ignore")
    return text


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageFault(f"{text!r} is no time", hint="write it like 2026-11-30T08:00:00Z") from error
    if moment.tzinfo is None:
        raise UsageFault(f"{text!r} has no time zone", hint="end it with Z for UTC, or an offset such as +01:00")
    return text


# Rule on the command line → (field of the gate, how its value is read, whether "none" switches it off)
_RULES: Final[dict[str, tuple[str, Any, bool]]] = {
    "approvals": ("approvals", _number, False),
    "not_before": ("not_before", _moment, True),
    "soak": ("soak_seconds", span, False),
    "success": ("success_percent", _percent, False),
    "min_reports": ("min_reports", _number, False),
    "max_failures": ("max_failures", _number, True),
    "max_failure_rate": ("max_failure_rate_percent", _percent, True),
    "deadline": ("deadline_seconds", span, True),
    "advance": ("advance", _advance, False),
    "report_timeout": ("report_timeout_seconds", span, True),
    "silent": ("silent", _silent, False),
}


def wave(text: str) -> dict[str, Any]:
    """One ``--wave``: ``canary:10,approvals=1,soak=30s``.

    Returns:
        ``group``, ``percent`` and ``gate`` with only the rules that were named; the server knows the defaults.

    Raises:
        UsageFault: The form is wrong, or a rule is unknown or given twice.
    """
    head, *rules = text.split(",")
    group, colon, percent = head.partition(":")
    if not group or (colon and not percent):
        raise UsageFault(f"{text!r} is no wave", hint=f"write it as {WAVE_FORM}, e.g. canary:10,approvals=1,soak=30s")
    counts = [rule.removeprefix("count=") for rule in rules if rule.startswith("count=")]
    if len(counts) > 1 or (counts and colon):
        raise UsageFault(f"wave {group}: a share is told once, by percent or by count")
    told: dict[str, Any] = {"group": group, "percent": share(percent) if colon else 100}
    if counts:
        told["count"] = _number(counts[0])
    told["gate"] = gate_rules([rule for rule in rules if not rule.startswith("count=")], f"wave {group}")
    return told


def gate_rules(rules: list[str], where: str) -> dict[str, Any]:
    """Rules of a gate, ``approvals=1``, ``soak=30s`` and so on, as the fields of the API.

    Raises:
        UsageFault: A rule is unknown, wrong or given twice; ``where`` begins the message.
    """
    gate: dict[str, Any] = {}
    for rule in rules:
        name, _, value = rule.partition("=")
        if name not in _RULES:
            raise UsageFault(f"{where}: unknown rule {name!r}", hint=f"known rules: {', '.join(_RULES)}")
        field, read, may_be_off = _RULES[name]
        if field in gate:
            raise UsageFault(f"{where}: {name} is given twice")
        try:
            gate[field] = None if may_be_off and value == "none" else read(value)
        except UsageFault as error:
            raise UsageFault(f"{where}, {name}: {error}", hint=error.hint) from error
    return gate


def requirement(text: str) -> dict[str, Any]:
    """``agent-os>=2.1``: what else a device must run, at least."""
    product, sign, version = text.partition(">=")
    if not product or not sign or not version:
        raise UsageFault(f"{text!r} is no requirement", hint="write it like PRODUCT>=VERSION")
    return {"product": product, "at_least": version}


def retry_policy(text: str) -> dict[str, Any]:
    """``2``, or ``2,backoff=10m,code=health_failed,code=download_failed``."""
    count, *more = text.split(",")
    told: dict[str, Any] = {"count": _number(count)}
    codes = [part.removeprefix("code=") for part in more if part.startswith("code=")]
    for part in more:
        if part.startswith("backoff=") and "backoff_seconds" not in told:
            told["backoff_seconds"] = span(part.removeprefix("backoff="))
        elif not part.startswith("code="):
            raise UsageFault(f"{part!r} is no part of a retry policy", hint="write COUNT[,backoff=SPAN][,code=CODE…]")
    return {**told, "codes": codes} if codes else told


def budget(text: str) -> dict[str, Any]:
    """``site,max_updating=1`` or ``site,min_available=2,lease=2h``: a label, and how many of its value may update."""
    label, *more = text.split(",")
    told: dict[str, Any] = {"label": label}
    reads = {
        "max_updating": ("max_updating", _number),
        "min_available": ("min_available", _number),
        "lease": ("lease_seconds", span),
    }
    for part in more:
        name, _, value = part.partition("=")
        if name not in reads or reads[name][0] in told:
            raise UsageFault(
                f"{part!r} is no part of a budget, or told twice",
                hint="write LABEL,max_updating=N or LABEL,min_available=N, and perhaps lease=SPAN",
            )
        field, read = reads[name]
        told[field] = read(value)
    if ("max_updating" in told) == ("min_available" in told):
        raise UsageFault(f"{text!r} is no budget", hint="write LABEL,max_updating=N or LABEL,min_available=N")
    return told


def window(text: str) -> dict[str, Any]:
    """``sat,sun 02:00 4h Europe/Berlin``."""
    from rollout.windows import InvalidWindow, parse_window, window_to_dict

    try:
        return window_to_dict(parse_window(text))
    except InvalidWindow as error:
        raise UsageFault(str(error)) from error


def template_call(
    name: str, groups: tuple[str, ...], gate: str | None, start: str | None, factor: float | None
) -> dict[str, Any]:
    """The ``template`` of a body; what was not given is left to the server."""
    told: dict[str, Any] = {"name": name, "groups": list(groups)}
    if gate is not None:
        told["gate"] = gate_rules(gate.split(","), "--gate")
    if start is not None:
        told["start"] = share(start)
    if factor is not None:
        told["factor"] = factor
    return told


def read_plan(path: Path) -> dict[str, Any]:
    """A plan file, JSON or YAML: the fields of the API's body; a wave may also be a text as ``--wave`` takes it.

    Raises:
        UsageFault: The file is neither JSON nor YAML, or holds a field that no plan has.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        told = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except ValueError as error:
        raise UsageFault(f"{path} cannot be read as a plan: {error}") from error
    if not isinstance(told, Mapping):
        raise UsageFault(f"{path} holds no plan: expected a mapping at the top")
    unknown = sorted(str(name) for name in told if name not in _PLAN_FIELDS)
    if unknown:
        raise UsageFault(f"{path}: unknown field {unknown[0]!r}", hint=f"a plan has {', '.join(sorted(_PLAN_FIELDS))}")
    plan = dict(told)
    waves = plan.get("waves", [])
    if not isinstance(waves, list):
        raise UsageFault(f"{path}: waves is no list")
    if waves:
        plan["waves"] = [wave(item) if isinstance(item, str) else item for item in waves]
    if isinstance(plan.get("window"), str):
        plan["window"] = window(plan["window"])
    if isinstance(plan.get("budget"), str):
        plan["budget"] = budget(plan["budget"])
    plan["requires"] = [requirement(item) if isinstance(item, str) else item for item in plan.get("requires", ())]
    return {name: value for name, value in plan.items() if name != "requires" or value}


def body(
    *,
    plan: Path | None,
    waves: tuple[str, ...],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The body of a create or edit call: the file's plan, with what the command line says put over it.

    Args:
        plan: A plan file, or None.
        waves: Texts of ``--wave``; when there are any they replace the file's.
        given: Fields by name; those that are None say nothing.

    Raises:
        UsageFault: Product, version or waves are missing.
    """
    told = told_of(plan=plan, waves=waves, given=given)
    for name, option in (("product", "--product"), ("version", "--version"), ("waves", "--wave")):
        if not told.get(name) and not (name == "waves" and told.get("template")):
            raise UsageFault(f"the plan has no {name}", hint=f"give {option}, or name it in the --plan file")
    return told


def told_of(*, plan: Path | None, waves: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`body`, of a plan that need not be whole."""
    told = read_plan(plan) if plan is not None else {}
    told.update({name: value for name, value in given.items() if value is not None})
    if waves:
        told["waves"] = [wave(text) for text in waves]
        told.pop("template", None)
    if given.get("template") is not None:
        told.pop("waves", None)
    return told


def _yaml(text: str) -> Any:
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """YAML without its times: a plan is JSON values, and ``not_before`` stays the text it is."""

    PlainLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader=PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
