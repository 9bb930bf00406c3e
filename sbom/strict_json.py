"""JSON from strangers: parsed whole, within bounds, and without the freedoms Python's parser takes."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

import orjson

from sbom.errors import InvalidSbom, SbomTooLarge
from sbom.model import SbomLimits

# A string that is never closed matches too: if it did not, each quote in it would start another search to the end.
# The possessive quantifiers (++, *+) keep the engine from remembering ways back.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
# Python goes on to thousands of digits; other readers of the same file stop at 64 bits, signed or not.
_SMALLEST: Final = -(2**63)
_GREATEST: Final = 2**64 - 1
_MAX_CHARACTERS: Final = 20


def parse_strict(data: bytes, limits: SbomLimits, *, what: str = "SBOM") -> Any:
    """Parse one JSON document (RFC 8259, UTF-8 without byte order mark); messages call it ``what``.

    Refused although Python's parser takes them, since two readers could see two documents: duplicate keys, NaN and
    Infinity, numbers outside 64 bits, and lone surrogates.

    Raises:
        InvalidSbom: It is not such a document.
        SbomTooLarge: More values or nesting than ``limits`` let in; found before anything is parsed.
    """
    check_bounds(data, limits, what=what)
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        if _SURROGATE_ESCAPE.search(data) is not None:
            orjson.loads(data)  # refuses an escape that pairs with nothing; json lets it through
    except UnicodeDecodeError as error:
        raise InvalidSbom(f"byte {error.start} is not UTF-8; save the {what} as UTF-8") from error
    except json.JSONDecodeError as error:  # orjson's error is one too
        raise InvalidSbom(f"not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise SbomTooLarge("the JSON is nested deeper than this machine can read") from error
    return document


def check_bounds(data: bytes, limits: SbomLimits, *, what: str = "SBOM") -> None:
    """Refuse by counting alone what would cost too much to parse.

    Raises:
        SbomTooLarge: More values or nesting than ``limits`` let in.
    """
    values = sum(data.count(separator) for separator in (b",", b":", b"[", b"{"))
    if values > limits.values:
        raise SbomTooLarge(f"the {what} holds about {values} values, at most {limits.values} are read; split it")
    depth = deepest = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    if deepest > limits.depth:
        raise SbomTooLarge(f"the JSON is nested {deepest} deep, at most {limits.depth} is read")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidSbom(f"an object has the key {twice[:40]!a} twice; readers would disagree on which one counts")
    return made


def _constant(text: str) -> NoReturn:
    raise InvalidSbom(f"{text} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidSbom(f"the number {text[:40]} is too large")
    return number


def _int(text: str) -> int:
    if len(text) <= _MAX_CHARACTERS and _SMALLEST <= (number := int(text)) <= _GREATEST:
        return number
    raise InvalidSbom(f"the number {text[:40]} does not fit into 64 bits")
