"""Answers as text: tables and values for a person at a terminal, JSON and YAML for programs."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, TextIO

import click

# What each state looks like; words not listed stay plain.
COLOURS: Final[dict[str, str]] = {
    "completed": "green",
    "passed": "green",
    "active": "green",
    "succeeded": "green",
    "running": "cyan",
    "open": "cyan",
    "waiting": "yellow",
    "pending": "yellow",
    "draft": "yellow",
    "paused": "red",
    "aborted": "red",
    "failed": "red",
    "revoked": "red",
    "yanked": "red",
    "withdrawn": "red",
    "superseded": "bright_black",
    "stopped": "bright_black",
}

_GAP: Final = "  "


def visible(text: str, *, lines: bool = False) -> str:
    """Make text from elsewhere safe for a terminal: control and direction characters become ``\\xNN`` escapes.

    A device may choose its own name; it may not move the cursor or colour a refusal green.

    Args:
        text: Whatever the server handed on.
        lines: Keep line ends.
    """
    return "".join(
        character
        if not unicodedata.category(character).startswith("C") or (lines and character == "\n")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def cell(value: Any) -> str:
    """One value in words: ``-`` for nothing, ``yes``/``no``, times to the second, lists with commas."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{visible(str(key))}={cell(item)}" for key, item in value.items())
    return visible(str(value))


def moment(value: str | None) -> str:
    """An RFC 3339 time cut to the second: ``2026-11-21 22:43:01Z``."""
    if not value:
        return "-"
    return visible(value[:19].replace("T", " ") + "Z")


def size(length: int) -> str:
    """A length in bytes as people say it: ``512 B``, ``1.5 MiB``."""
    amount = float(length)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str = "nothing found") -> str:
    """Columns aligned by two spaces, headings in capitals; ``empty`` when there is no row."""
    if not rows:
        return empty
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(_width(text) for text in column) for column in zip(headings, *cells, strict=True)]
    lines = [_line([heading.upper() for heading in headings], widths, bold=True)]
    lines.extend(_line(row, widths) for row in cells)
    return "\n".join(lines)


def fields(pairs: Sequence[tuple[str, Any]]) -> str:
    """One ``name  value`` a line, values aligned."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{styled(name.ljust(width), bold=True)}{_GAP}{coloured(cell(value))}" for name, value in pairs)


def coloured(word: str) -> str:
    """A state in its colour, anything else as it is."""
    colour = COLOURS.get(word)
    return styled(word, fg=colour) if colour else word


def styled(text: str, *, fg: str | None = None, bold: bool = False, stream: TextIO | None = None) -> str:
    """Colour for terminals only (``stream``, stdout by default), and never with NO_COLOR set (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or not (stream or sys.stdout).isatty():
        return text
    return click.style(text, fg=fg, bold=bold or None)


def encode(answer: Any, form: str) -> str:
    """JSON (two spaces of indent) or YAML, keys in the order given, without a line end."""
    if form == "yaml":
        import yaml

        return yaml.safe_dump(answer, sort_keys=False, allow_unicode=True).rstrip("\n")
    import json

    return json.dumps(answer, indent=2, ensure_ascii=False)


def _line(cells: Sequence[str], widths: Sequence[int], *, bold: bool = False) -> str:
    parts = []
    for text, width in zip(cells, widths, strict=True):
        padding = " " * (width - _width(text))
        parts.append((styled(text, bold=True) if bold else coloured(text)) + padding)
    return _GAP.join(parts).rstrip()


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
