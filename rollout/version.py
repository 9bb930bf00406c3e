"""The order of versions, the same for the device that refuses an older one and the server that foresees it."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

_NUMBER: Final = re.compile(r"\d+")


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


Piece = tuple[int, int, str]


def _parts(version: str) -> tuple[list[Piece], list[Piece]]:
    core, _, pre = version.partition("+")[0].partition("-")
    return _pieces(core), _pieces(pre)


def _pieces(text: str) -> list[Piece]:
    return [(0, int(p), "") if _NUMBER.fullmatch(p) else (1, 0, p) for p in text.split(".") if p]
