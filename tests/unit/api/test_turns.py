"""Reads take turns, and nobody waits for a long one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.turns import Turns


class Inner:
    """An application that says how many are in it at once, and stays until it is let go."""

    def __init__(self, stay: Callable[[], object]) -> None:
        self.stay, self.lock = stay, threading.Lock()
        self.inside = self.most = 0

    def __call__(self, environ: dict[str, Any], _start: Any) -> list[bytes]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.stay()
        finally:
            with self.lock:
                self.inside -= 1
        return [str(environ["REQUEST_METHOD"]).encode()]


def get(turns: Turns, method: str = "GET") -> list[bytes]:
    answer: list[bytes] = turns({"REQUEST_METHOD": method}, None)
    return answer


def test_a_short_read_has_the_turn_to_itself() -> None:
    seen: list[bool] = []
    turns = Turns(Inner(lambda: seen.append(turns._turn.locked())))
    assert get(turns) == get(turns) == [b"GET"]
    assert get(turns, "HEAD") == [b"HEAD"]
    assert seen == [True, True, True]
    assert not turns._turn.locked()


def test_a_long_read_holds_up_nobody() -> None:
    both = threading.Barrier(2)
    inner = Inner(lambda: both.wait(30))  # each stays until the other is there, too
    turns = Turns(inner)
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda _: get(turns), range(2))] == [[b"GET"], [b"GET"]]
    assert inner.most == 2


def test_a_write_waits_for_no_turn_and_holds_none() -> None:
    both = threading.Barrier(3)
    inner = Inner(lambda: both.wait(30))
    turns = Turns(inner)
    turns._turn.acquire()
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(lambda _: get(turns, "PUT"), range(3))] == [[b"PUT"]] * 3
    assert turns._turn.locked()


def test_a_turn_is_given_back_when_the_application_fails() -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    turns = Turns(Inner(fail))
    for _ in range(3):
        with pytest.raises(OSError, match="the disk is gone"):
            get(turns)
        assert not turns._turn.locked()
