"""Lists as CSV: one answer of any length, sent as it is read, that no spreadsheet calculates."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal

from flask import Response, request

from evidence.times import rfc3339

CSV: Final = "text/csv"
CHUNK: Final = 1_000  # rows read at once: about 0.5 MB, however many there are
# What a spreadsheet would take for a formula at the beginning of a cell. Source: OWASP, "CSV Injection".
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def wants_csv(form: Literal["json", "csv"] | None) -> bool:
    """What the query says goes before what the request accepts; who takes anything gets JSON."""
    if form is not None:
        return form == "csv"
    return request.accept_mimetypes.best_match(["application/json", CSV], default="application/json") == CSV


def sheet(chunks: Iterator[bytes], name: str) -> Response:
    """The answer; browsers keep it as a file of this name."""
    return Response(chunks, mimetype=CSV, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def lines(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as lines, RFC 4180."""
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()


def cell(value: object) -> str:
    """A value as a cell: nothing for None, and an apostrophe before what would begin a formula."""
    if value is None:
        return ""
    text = rfc3339(value) if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
