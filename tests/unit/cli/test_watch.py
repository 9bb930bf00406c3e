"""Watching a rollout: what is shown, and how the wait ends."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.client import Client
from cli.errors import RolloutStopped, Unreachable, WaitTimedOut
from cli.watch import view, watch
from tests.simulators.api_server import CUT, ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish, on_a_terminal
from tests.unit.cli.samples import rollout, wave

PATH = "/api/v1/rollouts/rol_01"


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def follow(server: ApiServerSimulator, *, timeout: float | None = None) -> tuple[list[str], Clock]:
    shown: list[str] = []
    clock = Clock()

    def show(told: Mapping[str, Any]) -> None:
        shown.append(told["state"])

    try:
        client = Client(server.url, None, sleep=lambda _: None)
        watch(client, "rol_01", show=show, interval=2, timeout=timeout, clock=clock, sleep=clock.sleep)
    finally:
        assert shown
    return shown, clock


def test_each_change_is_shown_once(server: ApiServerSimulator) -> None:
    server.on(
        "GET",
        PATH,
        Reply(200, rollout("waiting")),
        Reply(200, rollout("waiting")),
        Reply(200, rollout("running", revision=3)),
        Reply(200, rollout("completed", revision=4)),
    )
    shown, clock = follow(server)
    assert shown == ["waiting", "running", "completed"]
    assert clock.now == 106.0


@pytest.mark.parametrize("state", ["paused", "aborted", "superseded"])
def test_a_rollout_that_stops_ends_the_wait(server: ApiServerSimulator, state: str) -> None:
    server.on("GET", PATH, Reply(200, rollout("running")), Reply(200, rollout(state)))
    with pytest.raises(RolloutStopped) as caught:
        follow(server)
    assert caught.value.exit_code == 6


def test_patience_ends_at_the_timeout_and_not_an_interval_later(server: ApiServerSimulator) -> None:
    server.on("GET", PATH, Reply(200, rollout("running")))
    with pytest.raises(WaitTimedOut, match="still running after 5 s") as caught:
        follow(server, timeout=5)
    assert caught.value.exit_code == 7
    assert len(server.requests) == 4


def test_a_server_that_restarts_is_waited_for(server: ApiServerSimulator) -> None:
    server.on("GET", PATH, Reply(200, rollout("running")), *[CUT] * 12, Reply(200, rollout("completed")))
    shown, _ = follow(server)
    assert shown == ["running", "completed"]


def test_a_server_that_stays_away_ends_the_wait(server: ApiServerSimulator) -> None:
    server.on("GET", PATH, Reply(200, rollout("running")), CUT)
    with pytest.raises(Unreachable):
        follow(server)
    # A look every two seconds, five attempts each, until more than a minute has passed.
    assert len(server.requests) == 1 + 31 * 5


def test_away_from_a_terminal_every_change_is_a_line_of_json(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", PATH, Reply(200, rollout("completed", why="done")))
    done = publish("rollout", "watch", "rol_01")
    assert done.code == 0
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {
            "id": "rol_01",
            "state": "completed",
            "revision": 2,
            "wave": 1,
            "why": "done",
            "waves": [
                {
                    "number": 1,
                    "group": "canary",
                    "percent": 10,
                    "state": "pending",
                    "expected": 4,
                    "acting": 0,
                    "succeeded": 0,
                    "failed": 0,
                    "rolled_back": 0,
                },
                {
                    "number": 2,
                    "group": "fleet",
                    "percent": 100,
                    "state": "pending",
                    "expected": 4,
                    "acting": 0,
                    "succeeded": 0,
                    "failed": 0,
                    "rolled_back": 0,
                },
            ],
        }
    ]


def test_the_view_has_a_bar_for_each_wave_and_says_why() -> None:
    told = rollout("running", why="wave 1: 3 of 4 done")
    told["waves"] = [wave(1, "canary", 10, "open", succeeded=3, failed=1), wave(2, "[red]fleet", 100, "pending")]
    paper = io.StringIO()
    Console(file=paper, width=100).print(view(told))
    lines = [line.rstrip() for line in paper.getvalue().splitlines()]
    assert lines == [
        "app 1.0.0  running  rol_01",
        "1  canary 10%       ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  3/4  1 failed  open",
        "2  [red]fleet 100%  ──────────────────────────────  0/4            pending",
        "wave 1: 3 of 4 done",
    ]


def test_on_a_terminal_the_view_is_live_and_its_last_picture_stays(server: ApiServerSimulator, tmp_path: Path) -> None:
    server.on("GET", PATH, Reply(200, rollout("completed", why="all waves passed")))
    code, screen = on_a_terminal("rollout", "watch", "rol_01", "--url", server.url, config=tmp_path)
    assert code == 0
    assert "app 1.0.0  completed  rol_01" in screen
    assert "all waves passed" in screen
