"""Reads keep to one core and take turns over SQLite, and nobody waits for a long one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.cores import Cores
from api.turns import Turns


class Inner:
    """An application that says how many are in it at once, and stays until it is let go."""

    def __init__(self, stay: Callable[[], object]) -> None:
        self.stay, self.lock = stay, threading.Lock()
        self.inside = self.most = 0

    def __call__(self, environ: dict[str, Any], _start: Any) -> Any:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.stay()
        finally:
            with self.lock:
                self.inside -= 1
        answer = [str(environ["REQUEST_METHOD"]).encode()]
        return iter(answer) if environ["PATH_INFO"] == "/long" else answer


class Moves(Cores):
    """Moves no thread, and tells where each would be."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def together(self) -> None:
        self.told.append("together")

    def apart(self) -> None:
        self.told.append("apart")


def get(turns: Turns, method: str = "GET", path: str = "/") -> Any:
    return turns({"REQUEST_METHOD": method, "PATH_INFO": path}, None)


def test_a_short_read_has_the_turn_to_itself() -> None:
    seen: list[bool] = []
    cores = Moves()
    turns = Turns(Inner(lambda: seen.append(turns._turn.locked())), cores, alone=True)
    assert get(turns) == get(turns) == [b"GET"]
    assert get(turns, "HEAD") == [b"HEAD"]
    assert seen == [True, True, True]
    assert not turns._turn.locked()
    assert cores.told == ["together", "together", "together"]


def test_a_long_read_holds_up_nobody() -> None:
    both = threading.Barrier(2)
    inner = Inner(lambda: both.wait(30))  # each stays until the other is there, too
    cores = Moves()
    turns = Turns(inner, cores, alone=True)
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda _: get(turns), range(2))] == [[b"GET"], [b"GET"]]
    assert inner.most == 2
    assert sorted(cores.told) == ["apart", "together"]


def test_reads_that_wait_for_another_program_take_no_turns() -> None:
    seen: list[bool] = []
    cores = Moves()
    turns = Turns(Inner(lambda: seen.append(turns._turn.locked())), cores, alone=False)
    assert get(turns) == [b"GET"]
    assert (seen, cores.told) == ([False], ["together"])


def test_a_write_waits_for_no_turn_and_holds_none() -> None:
    both = threading.Barrier(3)
    inner = Inner(lambda: both.wait(30))
    cores = Moves()
    turns = Turns(inner, cores, alone=True)
    with ThreadPoolExecutor(3) as pool:
        methods = ["GET", "POST", "PUT"]
        assert [*pool.map(lambda method: get(turns, method), methods)] == [[b"GET"], [b"POST"], [b"PUT"]]
    assert inner.most == 3
    assert sorted(cores.told) == ["apart", "apart", "together"]


def test_an_answer_in_pieces_is_sent_from_any_core() -> None:
    cores = Moves()
    assert [*get(Turns(Inner(int), cores, alone=True), path="/long")] == [b"GET"]
    assert cores.told == ["together", "apart"]


def test_a_read_that_fails_gives_the_turn_back() -> None:
    def fail() -> None:
        raise OSError("gone")

    turns = Turns(Inner(fail), Moves(), alone=True)
    with pytest.raises(OSError, match="gone"):
        get(turns)
    assert not turns._turn.locked()


def in_a_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a thread of its own, which may be moved."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_threads_come_together_on_one_core_and_part_again() -> None:
    every, cores = os.sched_getaffinity(0), Cores()

    def run() -> list[set[int]]:
        seen = []
        for move in (cores.together, cores.together, cores.apart):
            move()
            seen.append(os.sched_getaffinity(0))
        return seen

    first, again = in_a_thread(run), in_a_thread(run)
    assert first == again
    assert (len(first[0]), first[0] <= every, first[1], first[2]) == (1, True, first[0], every)
    assert os.sched_getaffinity(0) == every


def test_cores_that_were_taken_away_move_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(_thread: int, cores: frozenset[int]) -> None:
        tried.append(cores)
        raise OSError("Invalid argument")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    cores = Cores()
    for _ in range(3):
        cores.together()
    assert len(tried) == 1


def test_where_there_is_one_core_nobody_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("moved"), raising=False)
    Cores().together()
