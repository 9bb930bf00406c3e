"""What the server says on stderr: a line an event, as JSON for programs or as text for a person at a terminal.

A line has fields beside its message: those that the event itself names (:func:`fields`), and those of the work it
belongs to (:func:`about`), such as the request's id and who calls. No line holds a body, a header, a query or a path
as it was sent: routes are told by their template.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import orjson

from api.lines import Lines

FORMS: Final = ("text", "json")

_ABOUT: ContextVar[Mapping[str, object] | None] = ContextVar("wavegate_log", default=None)
_FIELDS: Final = "wavegate_fields"  # the attribute of a record that holds the event's own fields
# Our secrets wear their kind. No line should hold one; should a library ever say one in an error, it ends here.
_SECRETS: Final = re.compile(r"\b(wg[a-z]_|whsec_)[0-9A-Za-z+/=]{16,}")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def about(**told: object) -> None:
    """Say what the lines of this thread, or task, are about from now on, instead of what was said before."""
    _ABOUT.set(told)


def also(**told: object) -> None:
    """Add to what the lines from now on are about."""
    _ABOUT.set({**(_ABOUT.get() or {}), **told})


def fields(**told: object) -> dict[str, Any]:
    """Fields of one line, for ``extra=`` of a log call; those that are None are left out."""
    return {_FIELDS: told}


def keep_fields(record: logging.LogRecord) -> bool:
    """A filter of handlers: puts what the work is about beside the event's own fields. Lets everything through."""
    # Here and not in the formatter: another handler may format in another thread.
    own = getattr(record, _FIELDS, None) or {}
    setattr(record, _FIELDS, {**(_ABOUT.get() or {}), **own})
    return True


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields of a record that :func:`keep_fields` has seen."""
    told: Mapping[str, object] = getattr(record, _FIELDS, None) or {}
    return {name: value for name, value in told.items() if value is not None}


def start_logging(level: str, form: str = "") -> None:
    """Log to stderr from now on.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``text`` or ``json``; empty: text when stderr is a terminal, else JSON.
    """
    lines = Lines(sys.stderr)
    lines.addFilter(keep_fields)
    lines.setFormatter(AsText() if is_text(form) else AsJson())
    logging.basicConfig(level=level.upper(), handlers=[lines], force=True)
    # No line says where in the code it comes from, or from which thread or process; finding that out costs more than
    # the line. https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Who calls them tells what came of it; their own words are of every try.
    for noisy, least in (("alembic", logging.WARNING), ("urllib3", logging.ERROR)):
        logging.getLogger(noisy).setLevel(least)


def is_text(form: str) -> bool:
    """Whether lines are for a person: by the setting, and without one when stderr is a terminal."""
    return form == "text" or (not form and sys.stderr.isatty())


class AsJson(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, the fields, and ``error`` when one was."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without an end."""
        told: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(told, default=str).decode()
        except orjson.JSONEncodeError:  # half of a character, in a name that a device or a file told
            line = json.dumps(told, default=str)
        return without_secrets(line)


class AsText(logging.Formatter):
    """Time, level, logger, message, then ``name=value``; the stack of an error on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without an end; nobody's text can begin another."""
        told = " ".join(f"{name}={value}" for name, value in fields_of(record).items())
        line = f"{_moment(record)} {record.levelname} {record.name}: {record.getMessage()}{' ' if told else ''}{told}"
        line = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), line)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return without_secrets(line)


def without_secrets(text: str) -> str:
    """The text, with what looks like one of our secrets cut down to its kind."""
    if "wg" not in text and "whsec_" not in text:  # as almost every line, and quicker to find out
        return text
    return _SECRETS.sub(r"\1[redacted]", text)


def _moment(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(2)  # many lines are of the same second
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
