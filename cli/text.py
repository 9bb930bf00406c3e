"""Answers as text: tables and values for a person at a terminal, JSON and YAML for programs."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
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
_READABLE: Final = 16  # a column of words is not folded below this


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


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    empty: str = "nothing found",
    columns: int | None = None,
) -> str:
    """Columns aligned by two spaces, headings in capitals; ``empty`` when there is no row.

    What is wider than ``columns`` (by default the terminal, if stdout is one) has its words on further lines; where
    words alone are too wide, each row becomes a block of names and values. Nothing is cut off: ids are to be copied.
    """
    if not rows:
        return empty
    cells = [[cell(value) for value in row] for row in rows]
    columns = _terminal() if columns is None else columns
    widths = _widths(headings, cells, columns)
    if widths is None:
        return "\n\n".join(fields(list(zip(headings, row, strict=True)), columns=columns) for row in cells)
    lines = [_line([heading.upper() for heading in headings], widths, bold=True)]
    for row in cells:
        folded = (_folded(text, width) for text, width in zip(row, widths, strict=True))
        lines.extend(_line(line, widths) for line in zip_longest(*folded, fillvalue=""))
    return "\n".join(lines)


def fields(pairs: Sequence[tuple[str, Any]], *, columns: int | None = None) -> str:
    """One ``name  value`` a line, values aligned; words that do not fit into ``columns`` stand below."""
    width = max(len(name) for name, _ in pairs)
    columns = _terminal() if columns is None else columns
    lines = []
    for name, value in pairs:
        text = cell(value)
        folded = [text] if columns is None else _folded(text, columns - width - len(_GAP))
        names = (name, *[""] * (len(folded) - 1))
        lines += [
            f"{styled(one.ljust(width), bold=True)}{_GAP}{coloured(part)}"
            for one, part in zip(names, folded, strict=True)
        ]
    return "\n".join(lines)


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


def _terminal() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _widths(headings: Sequence[str], cells: Sequence[Sequence[str]], columns: int | None) -> list[int] | None:
    """Of each column; None where the words alone are wider than ``columns``."""
    natural = [max(_width(text) for text in column) for column in zip(headings, *cells, strict=True)]
    spare = None if columns is None else columns - len(_GAP) * (len(headings) - 1)
    if spare is None or sum(natural) <= spare:
        return natural
    words = ([word for text in column for word in text.split(" ")] for column in zip(headings, *cells, strict=True))
    widths = [
        max(max(map(_width, column)), min(wanted, _READABLE)) for column, wanted in zip(words, natural, strict=True)
    ]
    spare -= sum(widths)
    if spare < 0:
        return None
    for place in sorted(range(len(widths)), key=lambda place: natural[place]):  # the widest gets what is left
        more = min(spare, natural[place] - widths[place])
        widths[place] += more
        spare -= more
    return widths


def _folded(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width``, broken at spaces; a longer word stays whole."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if _width(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


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
