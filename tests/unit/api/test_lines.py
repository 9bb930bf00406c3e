"""Lines of the log, written together."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator

import pytest

from api import lines
from api.lines import MOST_HELD, Lines


class Stream(io.StringIO):
    """Stderr, with the number of writes; it can be broken."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.is_broken = False

    def write(self, text: str) -> int:
        if self.is_broken:
            raise BrokenPipeError("nobody reads")
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def log(stream: Stream) -> Iterator[logging.Logger]:
    log = logging.Logger("of a test")
    log.addHandler(Lines(stream))
    yield log
    for handler in log.handlers:
        handler.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are held for longer than a test runs."""
    monkeypatch.setattr(lines, "HELD_SECONDS", 3_600.0)


def test_lines_are_written_soon_and_in_order(log: logging.Logger, stream: Stream) -> None:
    for number in range(100):
        log.info("line %d", number)
    end = time.monotonic() + 60
    while stream.getvalue().count("\n") < 100 and time.monotonic() < end:
        time.sleep(0.01)
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(100)]


@pytest.mark.usefixtures("held")
def test_a_warning_is_written_at_once_behind_what_came_before_it(log: logging.Logger, stream: Stream) -> None:
    log.info("one")
    log.info("two")
    assert stream.getvalue() == ""
    log.warning("three")
    assert stream.getvalue() == "one\ntwo\nthree\n"
    assert stream.writes == 1


@pytest.mark.usefixtures("held")
def test_no_more_than_a_thousand_lines_are_held(log: logging.Logger, stream: Stream) -> None:
    for number in range(MOST_HELD - 1):
        log.info("line %d", number)
    assert stream.getvalue() == ""
    log.info("the last")
    assert stream.getvalue().count("\n") == MOST_HELD


@pytest.mark.usefixtures("held")
def test_the_end_writes_what_is_held_and_later_lines_are_written_at_once(log: logging.Logger, stream: Stream) -> None:
    log.info("held")
    log.handlers[0].close()
    assert stream.getvalue() == "held\n"
    log.info("late")
    assert stream.getvalue() == "held\nlate\n"


def test_a_stderr_that_is_gone_ends_no_request_and_lines_go_on_when_it_is_back(
    log: logging.Logger, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # which only tells of it on stderr
    stream.is_broken = True
    log.info("lost")
    log.warning("lost")
    time.sleep(2 * lines.HELD_SECONDS)  # the thread has met it, too
    stream.is_broken = False
    log.warning("told")
    assert stream.getvalue() == "told\n"
