"""The order of versions as one text, so that a database compares them as the agent does."""

from __future__ import annotations

from typing import Final

# Both stand before everything a printable version can hold, so a shorter piece or part comes first.
_PIECE_END: Final = "\x01"
_CORE_END: Final = "\x02"
_LENGTH_DIGITS: Final = 4  # a version of up to 9,999 digits; what is kept of one has 100 characters


def order_key(version: str) -> str:
    """A text whose bytewise order (UTF-8) is the order of versions; equal for versions that count as equal.

    The rule is that of ``rollout.versions.is_older``, by which server and device judge; a test holds the two together:
    what follows a ``+`` does not count; the part before the first
    ``-`` is compared piece by piece between dots, numbers as numbers and before words, a missing piece as 0; when that
    is equal, a version with a ``-`` part stands before one without. ``1.9 < 1.10``, ``2.0-rc.1 < 2.0``,
    ``1.0 = 1.0.0``.
    """
    core, _, pre = version.partition("+")[0].partition("-")
    pieces = _pieces(core)
    while pieces and pieces[-1] == _ZERO:
        pieces.pop()
    before = _pieces(pre)
    return "".join(pieces) + _CORE_END + ("0" + "".join(before) if before else "1")


def _pieces(text: str) -> list[str]:
    return [_piece(piece) for piece in text.split(".") if piece]


def _piece(piece: str) -> str:
    if not piece.isdecimal():
        return f"w{piece}{_PIECE_END}"
    digits = str(int(piece))
    return f"n{len(digits):0{_LENGTH_DIGITS}}{digits}{_PIECE_END}"


_ZERO: Final = _piece("0")
