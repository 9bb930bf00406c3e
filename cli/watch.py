"""Waiting for a rollout: a live view on a terminal, one JSON line per change elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from cli.client import Client, segment
from cli.errors import RolloutStopped, Unreachable, WaitTimedOut
from cli.seeing import clocks, failed, now, rate, reason
from cli.text import COLOURS, moment, visible
from cli.words import share

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.measure import Measurement

_STOPPED: Final = frozenset({"paused", "aborted", "superseded"})
_LONGEST_SILENCE: Final = 60.0  # seconds without any answer; a restart takes a few
_BAR: Final = 30  # columns of a wave's bar
_NARROWEST: Final = 8  # columns of it on a narrow terminal
_REASONS: Final = 5  # of failures that a view or a line names
_COUNTERS: Final = ("expected", "acting", "succeeded", "failed", "rolled_back")


def change(told: Mapping[str, Any]) -> dict[str, Any]:
    """What one line of a watch says: the state, the open wave, why, every wave's counters, and failures by reason."""
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
                "soaks_until": (wave.get("outlook") or {}).get("soaks_until"),
            }
            for wave in told["waves"]
        ],
        "failures": [
            {"code": one["code"], "progress": one["progress"], "devices": one["devices"]} for one in _reasons(told)
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
        show: Called with the rollout whenever it changed, the first time at once; under ``failures`` it has what
            ``/rollouts/{id}/failures`` says, once a device failed.
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
    told = _look(client, path, None)
    shown: dict[str, Any] | None = None
    answered = clock()
    while True:
        said = change(told)
        if said != shown:
            show(told)
            shown = said
        if told["state"] == "completed":
            return told
        if told["state"] in _STOPPED:
            raise RolloutStopped(
                f"rollout {told['id']} is {_state_and_why(told)}", hint=_next_step(told["state"], told["id"])
            )
        left = None if timeout is None else timeout - (clock() - started)
        if left is not None and left <= 0:
            raise WaitTimedOut(
                f"rollout {told['id']} is still {told['state']} after {timeout:g} s: {told['why']}",
                hint=f"it goes on without us; `publish rollout watch {told['id']}` looks again",
            )
        sleep(interval if left is None else min(interval, left))
        try:
            told = _look(client, path, told)
            answered = clock()
        except Unreachable:
            if clock() - answered > _LONGEST_SILENCE:
                raise


def _look(client: Client, path: str, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The rollout, with its failures: asked for only when their number is another than before."""
    told: dict[str, Any] = client.get(path)
    if not failed(told):
        return told
    if before is not None and "failures" in before and failed(before) == failed(told):
        return told | {"failures": before["failures"]}
    return told | {"failures": client.get(f"{path}/failures")}


def _reasons(told: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = told.get("failures", {}).get("reasons", ())
    return found


def json_line(told: Mapping[str, Any]) -> None:
    """Print one change as one line of JSON, at once."""
    click.echo(json.dumps(change(told), ensure_ascii=False))
    sys.stdout.flush()


def text_line(told: Mapping[str, Any]) -> None:
    """Print one change as one line for a log: when, state, wave, how many, and why."""
    wave = told["waves"][max(told["wave"], 1) - 1]
    counters = wave["counters"]
    parts = [
        moment(now().isoformat()),
        told["state"],
        f"wave {wave['number']}/{len(told['waves'])} {visible(wave['group'])}",
        f"{counters['succeeded']}/{counters['expected']} succeeded, {counters['failed']} failed",
        visible(told["why"] or ""),
        *(reason(one) for one in _reasons(told)[:_REASONS]),
    ]
    click.echo("  ".join(parts))
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


def view(told: Mapping[str, Any], at: datetime | None = None) -> RenderableType:
    """The rollout as it stands ``at`` (now): a heading, a bar and clocks for each wave, why, and what failed."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    at = at or now()
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
            _Bar(counters),
            Text(f"{counters['succeeded']}/{counters['expected']}"),
            Text(f"{counters['failed']} failed" if counters["failed"] else "", style="red"),
            Text(wave["state"], style=COLOURS.get(wave["state"], "").replace("bright_black", "dim")),
            Text(rate((wave.get("outlook") or {}).get("success")) or ""),
            Text("; ".join(clocks(wave, at)), style="dim"),
        )
    reasons = [Text(reason(one), style="red") for one in _reasons(told)[:_REASONS]]
    return Group(heading, waves, Text(visible(told["why"] or ""), style="italic"), *reasons)


@dataclass(frozen=True, slots=True)
class _Bar:
    """Succeeded, failed, under way and not yet begun, in proportion; a wave of no devices is an empty bar.

    Drawn as wide as the terminal has room for: cut off, it would say less than is done.
    """

    counters: Mapping[str, int]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(min(_NARROWEST, options.max_width), min(_BAR, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield self._drawn(min(_BAR, options.max_width))

    def _drawn(self, width: int) -> RenderableType:
        from rich.text import Text

        counters = self.counters
        expected = max(counters["expected"], counters["acting"])
        done, failed = counters["succeeded"], counters["failed"] + counters["rolled_back"]
        under_way = max(counters["acting"] - done - failed, 0)
        bar = Text(no_wrap=True)
        left = width
        for count, style in ((done, "green"), (failed, "red"), (under_way, "yellow")):
            # Whoever is there is seen: one failed device of ten thousand still gets a column.
            columns = min(left, max(1, round(width * count / expected))) if count and expected else 0
            bar.append("━" * columns, style=style)
            left -= columns
        bar.append("─" * left, style="dim")
        return bar


def _state_and_why(told: Mapping[str, Any]) -> str:
    """``paused: why``; most reasons begin with the state already."""
    state, why = told["state"], told["why"] or ""
    return why if why.startswith(state) else f"{state}: {why}"


def _next_step(state: str, rollout_id: str) -> str:
    if state == "paused":
        on, off = (f"`publish rollout {verb} {rollout_id} --reason WHY`" for verb in ("resume", "abort"))
        return f"{on} goes on, {off} ends it"
    return ""
