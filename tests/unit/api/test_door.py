"""What every answer goes through last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api.app import Door


class Answer:
    """Pieces of an answer, which notes that it was closed; the last piece may be an error."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces, self.is_closed = pieces, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.is_closed = True


def through(answer: Any, *headers: tuple[str, str]) -> tuple[Any, list[tuple[str, str]]]:
    """What comes out, and with which headers."""
    sent: list[tuple[str, str]] = []

    def inner(_environ: dict[str, Any], start: Any) -> Any:
        start("200 OK", list(headers))
        return answer

    got = Door(inner)({"PATH_INFO": "/"}, lambda _status, given: sent.extend(given))
    return got, sent


def test_a_short_answer_comes_in_one_piece_and_is_closed() -> None:
    answer = Answer(b"one ", b"two")
    got, sent = through(answer, ("Content-Length", "7"))
    assert got == [b"one two"]
    assert answer.is_closed
    assert sent[0] == ("Content-Length", "7")
    assert ("X-Content-Type-Options", "nosniff") in sent


def test_an_answer_that_has_nothing_to_close_comes_too() -> None:
    assert through((), ("Content-Length", "7"))[0] == [b""]


@pytest.mark.parametrize("headers", [[], [("Content-Length", "65537")]], ids=["of unknown length", "long"])
def test_another_is_handed_on_as_it_comes(headers: list[tuple[str, str]]) -> None:
    answer = Answer(b"one ", b"two")
    assert through(answer, *headers)[0] is answer
    assert not answer.is_closed


def test_an_answer_that_breaks_off_is_closed() -> None:
    answer = Answer(b"one ", OSError("the disk is gone"))
    with pytest.raises(OSError, match="the disk is gone"):
        through(answer, ("Content-Length", "7"))
    assert answer.is_closed
