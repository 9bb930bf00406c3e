"""What the demo shows: live bars on a terminal, a line for every change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text


class Screen:
    """Everything goes to stdout. ``console`` decides whether this is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        # Elsewhere than on a terminal there is no width to keep to, and a cut line helps nobody.
        self.console = console or Console(highlight=False, width=None if sys.stdout.isatty() else 240)

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self.console.print()
        self.console.print(Text(title, style="bold cyan"))

    def say(self, line: str) -> None:
        """One line of the story."""
        self.console.print(Text(f"  {line}"), soft_wrap=True)

    def command(self, line: str) -> None:
        """A command as the reader could have typed it."""
        self.console.print(Text(f"  $ {line}", style="green"), soft_wrap=True)

    def verdict(self, claim: str, holds: bool) -> None:
        """One thing the demo had to show, and whether it did."""
        mark = Text("  ok    " if holds else "  WRONG ", style="bold green" if holds else "bold red")
        self.console.print(mark + Text(claim))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as their content, where that fits."""
        table = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Counter]:
        """Show something that is done ``total`` times."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        hidden = not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as progress:
            yield Counter(progress, what, total)
        self.say(f"{what}: {total}")

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """Show a rollout while it moves."""
        if not self.console.is_terminal:
            yield Follower(self, None)
            return
        with Live(console=self.console, refresh_per_second=8) as live:
            yield Follower(self, live)


class Counter:
    """A bar that moves by one."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def step(self, _: str = "") -> None:
        """One more is done; may be called from any thread."""
        self._progress.advance(self._task)


class Follower:
    """Draws a rollout again whenever it changed."""

    def __init__(self, screen: Screen, live: Live | None) -> None:
        self._screen = screen
        self._live = live
        self._last = ""

    def show(self, rollout: dict[str, Any]) -> None:
        """Draw the rollout (its REST shape)."""
        if self._live is not None:
            self._live.update(_drawn(rollout))
            return
        line = _line(rollout)
        if line != self._last:
            self._last = line
            self._screen.say(line)


def _line(rollout: dict[str, Any]) -> str:
    waves = []
    for wave in rollout["waves"]:
        counters = wave["counters"]
        failed = f", {counters['failed']} failed" if counters["failed"] else ""
        waves.append(f"{wave['group']} {wave['state']} {counters['succeeded']}/{counters['expected']}{failed}")
    return f"{rollout['version']} {rollout['state']:9} {' | '.join(waves)}"


def _drawn(rollout: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    style = {"paused": "bold yellow", "aborted": "bold red", "completed": "bold green"}.get(rollout["state"], "bold")
    table.add_row(Text(f"  {rollout['version']}"), Text(rollout["state"], style=style), Text(rollout["why"] or ""))
    for wave in rollout["waves"]:
        counters = wave["counters"]
        expected = max(counters["expected"], 1)
        width = 30
        good = round(width * min(counters["succeeded"], expected) / expected)
        bad = min(width - good, round(width * counters["failed"] / expected))
        bar = Text.assemble(("█" * good, "green"), ("█" * bad, "red"), ("░" * (width - good - bad), "dim"))
        told = f"{counters['succeeded']}/{counters['expected']} ok, {counters['failed']} failed"
        table.add_row(Text(f"  {wave['number']} {wave['group']}"), bar, Text(f"{wave['state']:8} {told}"))
    return table
