"""Where a JSON document breaks its schema, found at a bounded cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from sbom.schemas import MASKED_VALUE
from sbom.semantics import printable

MAX_FAULTS: Final = 20  # listed; more help nobody
_MAX_EXPLAINED: Final = 16 * 1024  # bytes of JSON; see sbom.schemas.json_validator for why pieces must be small
_SHOWN_VALUE: Final = 60

Validator = jsonschema_rs.Draft7Validator


def find_faults(
    document: dict[str, Any], validator: Validator, *, lists: Sequence[str], frame: dict[str, Any]
) -> list[tuple[str, str]]:
    """Say where ``document``, which is known to be invalid, breaks its schema: (where, what), 20 at most.

    Faults are searched with ``is_valid`` alone until a piece is small enough to be explained.

    Args:
        document: An object the validator refused.
        validator: Its schema, compiled.
        lists: Members whose items can be judged each by itself: those are searched item by item.
        frame: The smallest valid document that any item of these lists may be put into.
    """
    return list(islice(_search(document, validator, lists, frame), MAX_FAULTS))


def _search(
    document: dict[str, Any], validator: Validator, lists: Sequence[str], frame: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    lists = [key for key in lists if isinstance(document.get(key), list)]
    rest = {key: value for key, value in document.items() if key not in lists}
    found = False
    for where, piece, base in _pieces(document, rest, lists, frame):
        if validator.is_valid(piece):
            continue
        found = True
        if len(orjson.dumps(piece)) > _MAX_EXPLAINED:
            yield where, "is not valid, and too large to say where"
            continue
        for error in islice(validator.iter_errors(piece), MAX_FAULTS):
            yield _path(error.instance_path, base), _explained(error.message, error.instance)
    if not found:
        yield ", ".join(lists), "every item is valid by itself, but some are repeated"


def _pieces(
    document: dict[str, Any], rest: dict[str, Any], lists: Sequence[str], frame: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Small documents that are valid exactly if their piece is: (where, document, index of the piece in its list)."""
    # An absent list is a fault of the whole in some versions, one without items never is.
    yield "", rest | {key: [] for key in lists if key in frame}, 0
    for key in lists:
        for index, item in enumerate(document[key]):
            yield f"{key}[{index}]", frame | {key: [item]}, index


def _path(path: list[str | int], base: int) -> str:
    moved = [base if place == 1 else part for place, part in enumerate(path)] if base else list(path)
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part[:_SHOWN_VALUE])}" for part in moved)
    return text.removeprefix(".")


def _explained(message: str, instance: object) -> str:
    said = printable(message[:300])
    if isinstance(instance, dict | list):
        return said.replace(MASKED_VALUE, f"the {kind_of(instance)}", 1)
    return said.replace(MASKED_VALUE, shown(instance), 1)


def shown(value: object) -> str:
    """A JSON value as a message shows it: short, printable, and a composite by its kind alone."""
    if isinstance(value, dict | list):
        return f"a {kind_of(value)}"
    if isinstance(value, str):
        cut = printable(value[:_SHOWN_VALUE])
        return f'"{cut}"' if len(value) <= _SHOWN_VALUE else f'"{cut}…"'
    return orjson.dumps(value).decode()


def kind_of(value: object) -> str:
    """The word for a JSON value's type."""
    return {dict: "object", list: "list", str: "text", bool: "boolean", type(None): "null"}.get(type(value), "number")
