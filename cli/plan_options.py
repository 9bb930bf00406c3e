"""What a plan is made of, as options of `publish rollout create` and `edit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.plan import WAVE_FORM, budget, requirement, retry_policy, span, template_call, window

Command = TypeVar("Command", bound=Callable[..., Any])


def plan_options(command: Command) -> Command:
    """Add what a plan is made of: the release, the waves, or a file with both."""
    options = (
        click.option("--product", metavar="NAME", help="What devices run."),
        click.option("--version", metavar="V", help="Which version they are to run."),
        click.option("--channel", metavar="NAME", help="Line of the product. [default: stable]"),
        click.option("--wave", "waves", multiple=True, metavar=WAVE_FORM, help="A wave; repeat, in order. See above."),
        click.option(
            "--template", metavar="NAME", help="Let a template make the waves: canary, all-at-once, exponential, rings…"
        ),
        click.option(
            "--group", "groups", multiple=True, metavar="NAME", help="With --template: for this group; repeat."
        ),
        click.option(
            "--gate", metavar="RULES", help="With --template: rules of every wave, e.g. approvals=1,soak=30m."
        ),
        click.option("--start", metavar="PERCENT", help="With --template exponential: the first share. [default: 1]"),
        click.option(
            "--factor", type=float, metavar="N", help="With --template exponential: growth a wave. [default: 10]"
        ),
        click.option(
            "--plan",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Plan as JSON or YAML; options given besides go before it.",
        ),
        click.option("--note", metavar="TEXT", help="Why, for approvers."),
        click.option(
            "--keep-open/--close",
            default=None,
            help="Let devices that come later have it, too, or not. [default: keep-open]",
        ),
        click.option(
            "--allow-downgrade/--no-downgrade", default=None, help="Let devices on a higher version go back, or not."
        ),
        click.option(
            "--from-version",
            "from_versions",
            multiple=True,
            metavar="RULE",
            help="Only devices on this version, or within bounds as '>=1.2,<2'; repeat.",
        ),
        click.option(
            "--requires", multiple=True, metavar="PRODUCT>=V", help="Only devices that run this besides; repeat."
        ),
        click.option(
            "--after", multiple=True, metavar="ROLLOUT", help="Open no wave before that one is completed; repeat."
        ),
        click.option(
            "--window", metavar="WHEN", help="When devices may install, e.g. 'sat,sun 02:00 4h local' (or a zone)."
        ),
        click.option("--spread", metavar="SPAN", help="Let devices of a wave start over so long, e.g. 2h."),
        click.option(
            "--retry",
            metavar="POLICY",
            help="Devices try again: COUNT[,backoff=SPAN][,code=CODE…], e.g. 2,backoff=10m.",
        ),
        click.option(
            "--budget",
            metavar="RULE",
            help="Devices that may update at once for each value of a label: LABEL,max_updating=N or "
            "LABEL,min_available=N, e.g. site,max_updating=1; and lease=SPAN. [default: 1h]",
        ),
        click.option("--ignores-freeze", is_flag=True, default=None, help="Open waves in freeze windows, too."),
        click.option(
            "--priority",
            type=click.Choice(("security", "normal")),
            help="What goes first where rollouts meet. [default: normal]",
        ),
    )
    decorated: Any = command
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def fields_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`plan_options` and its command read, as fields of the API's body; None says nothing.

    Raises:
        UsageFault: A text that cannot be read, or options of a template without ``--template``.
    """
    from cli.errors import UsageFault

    told = dict(given)
    name, groups, gate = told.pop("template"), told.pop("groups"), told.pop("gate")
    start, factor = told.pop("start"), told.pop("factor")
    if name is not None:
        told["template"] = template_call(name, groups, gate, start, factor)
    elif groups or any(value is not None for value in (gate, start, factor)):
        raise UsageFault("--group, --gate, --start and --factor are a template's", hint="give --template, or --wave")
    for field in ("from_versions", "after"):
        told[field] = list(told[field]) or None
    told["requires"] = [requirement(text) for text in told["requires"]] or None
    told["window"] = None if told["window"] is None else window(told["window"])
    spread, retry = told.pop("spread"), told["retry"]
    told["spread_seconds"] = None if spread is None else span(spread)
    told["budget"] = None if told["budget"] is None else budget(told["budget"])
    told["retry"] = None if retry is None else retry_policy(retry)
    return told
