"""A roster: devices as a table in CSV, one a line, for spreadsheets and for programs, both ways.

Of an export's columns an import reads :data:`SETTABLE` and passes over :data:`TOLD`, which are the devices' own to say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fleet.errors import FleetError, InvalidDeviceList
from fleet.model import Device
from fleet.rules import checked_device_name, checked_labels, checked_platform

SETTABLE: Final = ("name", "platform", "groups", "labels")
TOLD: Final = (
    "id",
    "status",
    "online",
    "last_seen_at",
    "hostname",
    "os_family",
    "os_name",
    "agent_version",
    "selector_groups",
    "held_back",
    "running",
    "updates_available",
    "critical_count",
    "state",
    "created_at",
)
MAX_ROWS: Final = 10_000  # one transaction, and one answer that shows every code once
MAX_BYTES: Final = 8 * 1024**2  # 10,000 rows of 800 bytes
MAX_CELL: Final = 16_384  # characters; 32 labels of full length have some 10,000
MAX_FAULTS: Final = 50  # that are told at once

_BETWEEN: Final = ";"
_ESCAPE: Final = "\\"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a roster; a None has no column in it, and says nothing. ``line`` counts from 1, the head's."""

    line: int
    name: str
    platform: str | None = None
    groups: tuple[str, ...] | None = None
    labels: Mapping[str, str] | None = None


@dataclass(slots=True)
class Faults:
    """What is wrong with a roster, gathered so that a person mends all of it at once."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, line: int, column: str, message: str) -> None:
        """Note one."""
        self.found.append((f"line {line}, {column}" if column else f"line {line}", message))

    def refuse(self) -> None:
        """Raises InvalidDeviceList when there is any."""
        if self.found:
            raise InvalidDeviceList(self.found, most=MAX_FAULTS)


def join_list(values: Iterable[str]) -> str:
    r"""Values in one cell, between semicolons; a ``;`` or ``\`` within one has a ``\`` before it."""
    return _BETWEEN.join(one.replace(_ESCAPE, _ESCAPE * 2).replace(_BETWEEN, f"{_ESCAPE}{_BETWEEN}") for one in values)


def split_list(cell: str) -> list[str]:
    """What :func:`join_list` made a cell of; an empty cell holds none. Raises ValueError."""
    found, piece, escaped = [], "", False
    for character in cell:
        if escaped:
            if character not in (_ESCAPE, _BETWEEN):
                raise ValueError(f"a backslash stands before {character!r}, expected it before a ; or another one")
            piece, escaped = piece + character, False
        elif character == _ESCAPE:
            escaped = True
        elif character == _BETWEEN:
            found.append(piece)
            piece = ""
        else:
            piece += character
    if escaped:
        raise ValueError("the cell ends with a single backslash")
    return [*found, piece] if cell else []


def written(device: Device, selector_groups: frozenset[str]) -> tuple[str, str, str, str]:
    """The cells of :data:`SETTABLE`; groups are those that people put devices into."""
    labels = [f"{name}={value}" for name, value in sorted(device.labels.items())]
    static = [name for name in device.groups if name not in selector_groups]
    return device.name, device.platform, join_list(static), join_list(labels)


def read_roster(content: bytes) -> tuple[Row, ...]:
    """Read a roster: UTF-8, comma separated, the names of its columns in the first line, ``name`` among them.

    Raises:
        InvalidDeviceList: It is none, or some of its lines do not do; ``details`` has up to 50 by line and column.
    """
    if len(content) > MAX_BYTES:
        raise _refused(f"it has {len(content)} bytes, at most {MAX_BYTES} are taken; cut it into several")
    reader = csv.reader(io.StringIO(_text(content), newline=""), strict=True)
    rows: list[Row] = []
    faults, lines = Faults(), _Lines()
    columns: list[str] = []
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if not columns:
                columns = _head(cells, line)
                continue
            if len(rows) + len(faults.found) >= MAX_ROWS:
                raise _refused(f"it has more than {MAX_ROWS} devices; cut it into several", line)
            row = lines.read(line, columns, cells, faults)
            if row is not None:
                rows.append(row)
    except csv.Error as error:
        raise _refused(f"it is no CSV: {error}", before + 1) from error
    if not columns:
        raise _refused("it is empty; the first line names the columns, for example: name,platform,groups,labels")
    faults.refuse()
    if not rows:
        raise _refused("it has a head and no device")
    return tuple(rows)


class _Lines:
    """Reads the lines behind the head; remembers where which name stood."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def read(self, line: int, columns: list[str], cells: list[str], faults: Faults) -> Row | None:
        """One row; None, with faults, when it does not do."""
        if len(cells) != len(columns):
            faults.add(line, "", f"{len(cells)} cells, the head names {len(columns)} columns")
            return None
        told = dict(zip(columns, cells, strict=True))
        at_first = len(faults.found)
        for column, cell in told.items():
            if len(cell) > MAX_CELL:
                faults.add(line, column, f"the cell has {len(cell)} characters, at most {MAX_CELL} are taken")
        if len(faults.found) > at_first:
            return None

        def checked(column: str, read: Callable[[str], _T]) -> _T | None:
            try:
                return read(told[column])
            except (FleetError, ValueError) as error:
                faults.add(line, column, str(error))
                return None

        name = checked("name", checked_device_name)
        if name is not None and (first := self._seen.setdefault(name, line)) != line:
            faults.add(line, "name", f"the device {name} stands in line {first} already")
        platform = checked("platform", _platform) if "platform" in told else None
        groups = checked("groups", _groups) if "groups" in told else None
        labels = checked("labels", _labels) if "labels" in told else None
        if name is None or len(faults.found) > at_first:
            return None
        return Row(line=line, name=name, platform=platform, groups=groups, labels=labels)


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refused("it is in UTF-16; save it as CSV in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(f"byte {error.start + 1} is not UTF-8; save it as CSV in UTF-8", line) from error
    if "\0" in text:
        raise _refused("it holds a NUL character; is it a CSV?", text.count("\n", 0, text.index("\0")) + 1)
    return text


def _head(cells: list[str], line: int) -> list[str]:
    faults, known = Faults(), (*SETTABLE, *TOLD)
    if len(cells) == 1 and any(mark in cells[0] for mark in ";\t"):
        raise _refused("its columns are not separated by commas; save it as CSV with commas", line)
    for place, name in enumerate(cells):
        if name in cells[:place]:
            faults.add(line, name, "the column stands there twice")
        elif name not in known:
            faults.add(line, name[:100], f"there is no such column; an import reads {', '.join(SETTABLE)}")
    if "name" not in cells:
        faults.add(line, "name", "the column is missing")
    faults.refuse()
    return cells


def _platform(cell: str) -> str:
    return checked_platform(cell) if cell else ""


def _groups(cell: str) -> tuple[str, ...]:
    names = split_list(cell)
    if "" in names:
        raise ValueError("a group's name is empty; names stand between semicolons, for example: canary;berlin")
    return tuple(dict.fromkeys(names))


def _labels(cell: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in split_list(cell):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair[:100]!r} is no label; expected name=value, for example: site=berlin;rack=7")
        if name in found:
            raise ValueError(f"the label {name[:100]!r} is given twice")
        found[name] = value
    return checked_labels(found)


def _refused(message: str, line: int | None = None) -> InvalidDeviceList:
    return InvalidDeviceList([("the file" if line is None else f"line {line}", message)], most=MAX_FAULTS)
