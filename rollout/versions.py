"""The one order of versions, and rules over it. Servers and devices judge with the same lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Final

MAX_RULE_LENGTH: Final = 200  # characters
_NUMBER: Final = re.compile(r"\d+")
_VERSION: Final = r"[a-z0-9][a-z0-9._+-]{0,99}"
_BOUND: Final = re.compile(rf"(>=|<=|>|<)({_VERSION})")
_EXACT: Final = re.compile(_VERSION)

Piece = tuple[int, int, str]


def is_older(version: str, than: str) -> bool:
    """Whether ``version`` stands before ``than``.

    The order: what follows a ``+`` does not count; the part before the first ``-`` is compared piece by piece between
    dots, numbers as numbers and before words, a missing piece as 0; when that is equal, a version with a ``-`` part
    stands before one without, and two such parts are compared the same way. ``1.9 < 1.10``, ``2.0-rc.1 < 2.0``,
    ``1.0 = 1.0.0``.
    """
    (core, pre), (other_core, other_pre) = _parts(version), _parts(than)
    if core != other_core:
        for mine, other in zip_longest(core, other_core, fillvalue=(0, 0, "")):
            if mine != other:
                return mine < other
    if bool(pre) != bool(other_pre):
        return bool(pre)
    return pre < other_pre


def is_rule(text: str) -> bool:
    """Whether the text is a version, or bounds joined by commas: ``>=1.2,<2``."""
    if len(text) > MAX_RULE_LENGTH:
        return False
    return _EXACT.fullmatch(text) is not None or all(_BOUND.fullmatch(part) for part in text.split(","))


def meets(version: str, rules: Iterable[str]) -> bool:
    """Whether a version meets one of the rules: is it letter by letter, or within all its bounds.

    A rule that cannot be read is met by nothing.
    """
    return any(_meets(version, rule) for rule in rules)


def _meets(version: str, rule: str) -> bool:
    if version == rule:
        return True
    bounds = [_BOUND.fullmatch(part) for part in rule.split(",")]
    return all(bound is not None and _within(version, bound[1], bound[2]) for bound in bounds)


def _within(version: str, sign: str, bound: str) -> bool:
    match sign:
        case ">=":
            return not is_older(version, bound)
        case ">":
            return is_older(bound, version)
        case "<=":
            return not is_older(bound, version)
        case _:
            return is_older(version, bound)


def _parts(version: str) -> tuple[list[Piece], list[Piece]]:
    core, _, pre = version.partition("+")[0].partition("-")
    return _pieces(core), _pieces(pre)


def _pieces(text: str) -> list[Piece]:
    return [(0, int(p), "") if _NUMBER.fullmatch(p) else (1, 0, p) for p in text.split(".") if p]
