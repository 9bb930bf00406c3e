"""Waiting for a rollout: a live view on a terminal, one JSON line per change elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import click

from cli.client import Client, segment
from cli.errors import RolloutStopped, Unreachable, WaitTimedOut
from cli.words import share

if TYPE_CHECKING:
    from rich.console import RenderableType

_STOPPED: Final = frozenset({"paused", "aborted", "superseded"})
_LONGEST_SILENCE: Final = 60.0  # seconds without any answer; a restart takes a few
_BAR: Final = 30  # columns of a wave's bar
_COUNTERS: Final = ("expected", "acting", "succeeded", "failed", "rolled_back")


def change(told: Mapping[str, Any]) -> dict[str, Any]:
    """What one line of a watch says: the state, the open wave, why, and the counters of every wave."""
    return {
        "id": told["id"],
        "state": told["state"],
        "revision": told["revision"],
        "wave": told["wave"],
        "why": told["why"],
        "waves": [
            {
                "number": wave["number"],
                "group": wave["group"],
                "percent": wave["percent"],
                "state": wave["state"],
                **{name: wave["counters"][name] for name in _COUNTERS},
            }
            for wave in told["waves"]
        ],
    }


def watch(
    client: Client,
    rollout_id: str,
    *,
    show: Callable[[Mapping[str, Any]], None],
    interval: float,
    timeout: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Look at a rollout until it is completed.

    Args:
        show: Called with the rollout whenever it changed, the first time at once.
        interval: Seconds between two looks.
        timeout: Seconds after which to give up; None waits for ever.

    Returns:
        The completed rollout.

    A server that is away for a minute, say for an upgrade, is waited for.

    Raises:
        RolloutStopped: It is paused, aborted or superseded.
        Unreachable: No answer at the first look, or for longer than a minute.
        WaitTimedOut: ``timeout`` is over; the rollout goes on without us.
    """
    started = clock()
    path = f"/rollouts/{segment(rollout_id)}"
    told: dict[str, Any] = client.get(path)
    shown: dict[str, Any] | None = None
    answered = clock()
    while True:
        now = change(told)
        if now != shown:
            show(told)
            shown = now
        if told["state"] == "completed":
            return told
        if told["state"] in _STOPPED:
            raise RolloutStopped(
                f"rollout {told['id']} is {told['state']}: {told['why']}", hint=_next_step(told["state"], told["id"])
            )
        left = None if timeout is None else timeout - (clock() - started)
        if left is not None and left <= 0:
            raise WaitTimedOut(
                f"rollout {told['id']} is still {told['state']} after {timeout:g} s: {told['why']}",
                hint=f"it goes on without us; `publish rollout watch {told['id']}` looks again",
            )
        sleep(interval if left is None else min(interval, left))
        try:
            told = client.get(path)
            answered = clock()
        except Unreachable:
            if clock() - answered > _LONGEST_SILENCE:
                raise


def json_line(told: Mapping[str, Any]) -> None:
    """Print one change as one line of JSON, at once."""
    click.echo(json.dumps(change(told), ensure_ascii=False))
    sys.stdout.flush()


def live(told: Callable[[], Mapping[str, Any] | None]) -> AbstractContextManager[object]:
    """A view on the terminal that redraws itself from ``told`` while the block runs; what it showed last stays."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def draw() -> RenderableType:
        current = told()
        return Text("…") if current is None else view(current)

    console = Console()
    if not console.is_terminal:
        return nullcontext()
    return Live(get_renderable=draw, console=console, refresh_per_second=4, transient=False)


def view(told: Mapping[str, Any]) -> RenderableType:
    """The rollout as it stands: a heading, a bar for each wave, and why it waits."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from cli.text import COLOURS, visible

    heading = Text.assemble(
        (f"{visible(told['product'])} {visible(told['version'])}", "bold"),
        "  ",
        (told["state"], COLOURS.get(told["state"], "")),
        f"  {told['id']}",
    )
    waves = Table.grid(padding=(0, 2))
    for wave in told["waves"]:
        counters = wave["counters"]
        waves.add_row(
            Text(str(wave["number"]), style="bold"),
            Text(f"{visible(wave['group'])} {share(wave)}"),
            _bar(counters),
            Text(f"{counters['succeeded']}/{counters['expected']}"),
            Text(f"{counters['failed']} failed" if counters["failed"] else "", style="red"),
            Text(wave["state"], style=COLOURS.get(wave["state"], "").replace("bright_black", "dim")),
        )
    return Group(heading, waves, Text(visible(told["why"] or ""), style="italic"))


def _bar(counters: Mapping[str, int]) -> RenderableType:
    """Succeeded, failed, under way and not yet begun, in proportion; a wave of no devices is an empty bar."""
    from rich.text import Text

    expected = max(counters["expected"], counters["acting"])
    done, failed = counters["succeeded"], counters["failed"] + counters["rolled_back"]
    under_way = max(counters["acting"] - done - failed, 0)
    bar = Text()
    left = _BAR
    for count, style in ((done, "green"), (failed, "red"), (under_way, "yellow")):
        # Whoever is there is seen: one failed device of ten thousand still gets a column.
        columns = min(left, max(1, round(_BAR * count / expected))) if count and expected else 0
        bar.append("━" * columns, style=style)
        left -= columns
    bar.append("─" * left, style="dim")
    return bar


def _next_step(state: str, rollout_id: str) -> str:
    if state == "paused":
        return f"`publish rollout resume {rollout_id}` goes on, `publish rollout abort {rollout_id}` ends it"
    return ""
