"""Watching a rollout: what is shown, and how the wait ends."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
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
                    "soaks_until": None,
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
                    "soaks_until": None,
                },
            ],
            "failures": [],
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


def test_bars_shrink_to_a_narrow_terminal_and_a_full_one_stays_full() -> None:
    told = rollout("running", why="wave 2 is open")
    told["waves"] = [wave(1, "canary", 10, "passed", succeeded=4), wave(2, "everybody-else", 100, "open", succeeded=2)]
    paper = io.StringIO()
    Console(file=paper, width=60).print(view(told))
    lines = [line.rstrip() for line in paper.getvalue().splitlines()]
    assert lines[1:4] == [
        "1  canary 10%         ━━━━━━━━━━━━━━━━━━  4/4    passed",
        "2  everybody-else     ━━━━━━━━━─────────  2/4    open",
        "   100%",
    ]


OUTLOOK = {
    "success": {"hits": 3, "results": 4, "percent": 75.0, "low": 30.1, "high": 95.4},
    "failure": {"hits": 1, "results": 4, "percent": 25.0, "low": 4.6, "high": 69.9},
    "unheard": 2,
    "stalled": 1,
    "soaks_until": "2026-11-21T12:30:00Z",
    "silent_from": "2026-11-21T11:00:00Z",
    "deadline_at": "2026-11-21T14:00:00Z",
}
FAILURES = {
    "devices": 1,
    "more": 0,
    "reasons": [
        {
            "code": "install_failed",
            "progress": "failed",
            "devices": 1,
            "first_at": "2026-11-21T11:59:00Z",
            "last_at": "2026-11-21T11:59:00Z",
            "example": {"device_id": "dev_07", "device_name": "gate-7", "detail": "exit 1\x1b[32m"},
        }
    ],
}


def failing(state: str = "running", why: str = "wave 1: soaks") -> dict[str, Any]:
    told = rollout(state, why=why)
    told["waves"] = [wave(1, "canary", 10, "open", succeeded=3, failed=1) | {"outlook": OUTLOOK}]
    return told


def test_the_view_tells_rates_time_left_silence_and_failures_by_reason() -> None:
    paper = io.StringIO()
    noon = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    Console(file=paper, width=220).print(view(failing() | {"failures": FAILURES}, noon))
    lines = [line.rstrip() for line in paper.getvalue().splitlines()]
    assert lines[1].endswith(
        "3/4  1 failed  open  75% (30.1 to 95.4)  "
        "soaks 30m more; deadline in 2h; 3 silent (2 never heard of, 1 standing still)"
    )
    assert lines[2:] == ["wave 1: soaks", "1 x install_failed (exit 1\\x1b[32m, gate-7)"]


def test_failures_are_asked_for_when_there_are_any_and_again_only_when_there_are_more(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on(
        "GET",
        PATH,
        Reply(200, rollout("running")),
        Reply(200, failing()),
        Reply(200, failing(why="wave 1: soaks on")),
        Reply(200, failing("completed")),
    )
    server.on("GET", f"{PATH}/failures", Reply(200, FAILURES))
    done = publish("rollout", "watch", "rol_01")
    told = [json.loads(line)["failures"] for line in done.out.splitlines()]
    assert told == [[], *[[{"code": "install_failed", "progress": "failed", "devices": 1}]] * 3]
    assert len(server.asked("GET", f"{PATH}/failures")) == 1


def test_away_from_a_terminal_a_table_is_one_line_of_text_for_each_change(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on("GET", PATH, Reply(200, failing("aborted", why="aborted: no")))
    server.on("GET", f"{PATH}/failures", Reply(200, FAILURES))
    done = publish("rollout", "watch", "rol_01", "-o", "table")
    assert done.code == 6
    [line] = done.out.splitlines()
    assert line[20:] == (
        "  aborted  wave 1/1 canary  3/4 succeeded, 1 failed  aborted: no  1 x install_failed (exit 1\\x1b[32m, gate-7)"
    )


def test_on_a_terminal_the_view_is_live_and_its_last_picture_stays(server: ApiServerSimulator, tmp_path: Path) -> None:
    server.on("GET", PATH, Reply(200, rollout("completed", why="all waves passed")))
    code, screen = on_a_terminal("rollout", "watch", "rol_01", "--url", server.url, config=tmp_path)
    assert code == 0
    assert "app 1.0.0  completed  rol_01" in screen
    assert "all waves passed" in screen
