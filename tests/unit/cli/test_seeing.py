"""`publish rollout preview`, `devices`, `failures` and what `show` says of a rollout that stands still."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.api_server import CUT, ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import rollout
from tests.unit.cli.test_watch import FAILURES, failing

PATH = "/api/v1/rollouts/rol_01"
PREVIEW: dict[str, Any] = {
    "plan": {"product": "app", "version": "1.0.0", "channel": "stable", "artifacts": {"any": {}}},
    "plan_hash": "c" * 64,
    "cohorts_known": False,
    "devices": 12,
    "waves": [
        {
            "number": 1,
            "group": "canary",
            "percent": 10,
            "state": "pending",
            "group_devices": 120,
            "devices": 12,
            "exact": True,
            "sample": [{"device_id": "dev_01", "device_name": "gate-1", "platform": "any", "version": None}],
            "platforms": {"mips": 12},
            "without_artifact": {},
            "already": 0,
            "newer": 0,
            "approvals_needed": 1,
            "approvals_given": 0,
            "opens_at": "2026-11-21T10:00:00Z",
            "passes_at": None,
        }
    ],
    "blocks": [
        {"code": "group_unknown", "message": "no group is named x", "wave": None},
        {"code": "approvals_missing", "message": "wave 1 needs 1 approval, 0 given", "wave": 1},
    ],
    "notes": [{"code": "supersedes", "message": "submitting it ends rol_00", "wave": None}],
}


def test_a_plan_is_previewed_with_the_options_of_create(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("POST", "/api/v1/rollouts/preview", Reply(200, PREVIEW))
    done = publish("rollout", "preview", "--product", "app", "--version", "1.0.0", "--wave", "canary:10", "-o", "json")
    assert done.json == PREVIEW
    plan = tmp_path / "plan.yaml"
    plan.write_text("{product: app, version: 1.0.0, draft: true, waves: ['canary,report_timeout=1h,silent=ignore']}")
    assert publish("rollout", "preview", "--plan", str(plan)).code == 0
    first, second = server.asked("POST", "/api/v1/rollouts/preview")
    assert first.json["waves"] == [{"group": "canary", "percent": 10, "gate": {}}]
    gate = {"report_timeout_seconds": 3600, "silent": "ignore"}
    assert second.json == {
        "product": "app",
        "version": "1.0.0",
        "waves": [{"group": "canary", "percent": 100, "gate": gate}],
    }


def test_a_preview_in_words_says_who_when_how_many_and_what_blocks(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on("GET", f"{PATH}/preview", Reply(200, PREVIEW))
    lines = publish("rollout", "preview", "rol_01", "-o", "table").out.splitlines()
    assert lines[:3] == ["release    app 1.0.0 (stable)", "platforms  any", "devices    12"]
    assert lines[7].split()[:4] == ["1", "canary", "10%", "pending"]
    assert "12 of 120" in lines[7]
    assert "2026-11-21 10:00:00Z" in lines[7]
    assert lines[-4:] == [
        "blocks  no group is named x",
        "        wave 1 needs 1 approval, 0 given",
        "",
        "note  submitting it ends rol_00",
    ]


def test_a_rollout_and_a_plan_at_once_are_refused(publish: Publish, server: ApiServerSimulator) -> None:
    assert publish("rollout", "preview", "rol_01", "--product", "app").code == 2
    assert publish("rollout", "preview").code == 2
    assert server.requests == []


def test_silence_is_neither_loud_nor_without_a_meaning(publish: Publish) -> None:
    done = publish("rollout", "preview", "--product", "a", "--version", "1", "--wave", "g,silent=loud")
    assert done.code == 2
    assert "'loud' is neither fail nor ignore" in done.err


def test_devices_as_csv_are_the_server_s_bytes(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", f"{PATH}/devices", Reply(200, b"device_id,wave\r\ndev_01,1\r\n"))
    done = publish("rollout", "devices", "rol_01", "--wave", "1", "--code", "x", "-o", "csv")
    assert (done.code, done.out) == (0, "device_id,wave\r\ndev_01,1\r\n")
    [asked] = server.asked("GET", f"{PATH}/devices")
    assert asked.query == {"format": "csv", "wave": "1", "code": "x"}


@pytest.mark.parametrize(("reply", "code"), [(refusal(404, "rollout_not_found"), 5), (CUT, 1)])
def test_a_csv_that_does_not_come_is_no_empty_list(
    publish: Publish, server: ApiServerSimulator, reply: Reply, code: int
) -> None:
    server.on("GET", f"{PATH}/devices", reply)
    done = publish("rollout", "devices", "rol_01", "-o", "csv")
    assert (done.code, done.out) == (code, "")


def test_devices_are_listed_with_their_last_step(publish: Publish, server: ApiServerSimulator) -> None:
    step = {
        "device_id": "dev_01",
        "device_name": "gate-1",
        "wave": 1,
        "attempt": 2,
        "progress": "failed",
        "code": "install_failed",
        "detail": "exit 1",
        "at": "2026-11-21T10:00:00Z",
    }
    server.on("GET", f"{PATH}/devices", Reply(200, {"items": [step], "next_cursor": None}))
    assert publish("rollout", "devices", "rol_01", "-o", "json").json == {"items": [step]}
    lines = publish("rollout", "devices", "rol_01", "--progress", "failed", "-o", "table").out.splitlines()
    assert lines[1] == "dev_01  gate-1  1     2        failed    install_failed  exit 1  2026-11-21 10:00:00Z"


def test_failures_are_told_by_reason(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", f"{PATH}/failures", Reply(200, FAILURES | {"more": 2}))
    lines = publish("rollout", "failures", "rol_01", "-o", "table").out.splitlines()
    assert lines[1].split()[:3] == ["1", "install_failed", "failed"]
    assert lines[2] == "and 2 more"
    assert json.loads(publish("rollout", "failures", "rol_01").out)["more"] == 2


def test_show_answers_why_it_does_not_move(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", PATH, Reply(200, failing()))
    server.on("GET", f"{PATH}/failures", Reply(200, FAILURES))
    lines = publish("rollout", "show", "rol_01", "-o", "table").out.splitlines()
    assert lines[-5].startswith("wave 1   ")
    assert lines[-5].endswith("3 silent (2 never heard of, 1 standing still)")
    assert lines[-4:] == [
        "success  75% (30.1 to 95.4)",
        "failure  25% (4.6 to 69.9)",
        "failed   1 x install_failed (exit 1\\x1b[32m, gate-7)",
        "next     nothing to do: the wave is judged by itself",
    ]


@pytest.mark.parametrize(
    ("state", "why", "step"),
    [
        ("draft", "a draft", "`publish rollout submit rol_01`"),
        (
            "paused",
            "paused: hot",
            "`publish rollout resume rol_01 --reason WHY`, or `publish rollout abort rol_01 --reason WHY`",
        ),
        (
            "paused",
            "paused: hot (an approver must resume)",
            "an approver: `publish rollout resume rol_01 --reason WHY`, or `publish rollout abort rol_01 --reason WHY`",
        ),
        (
            "waiting",
            "wave 1 waits for signatures: 0 of 2 signatures by approvers of app given",
            "its approvers: `publish rollout approve rol_01 --wave 1 --key URI`",
        ),
        ("completed", "done", "nothing: it is over"),
    ],
)
def test_show_names_the_next_step(
    publish: Publish, server: ApiServerSimulator, state: str, why: str, step: str
) -> None:
    server.on("GET", PATH, Reply(200, rollout(state, why=why)))
    assert publish("rollout", "show", "rol_01", "-o", "table").out.splitlines()[-1] == f"next  {step}"


def test_rollouts_are_filtered_and_sorted_by_the_server(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/rollouts", Reply(200, {"items": [], "next_cursor": None}))
    publish("rollout", "list", "--group", "canary", "--channel", "beta", "--sort", "product", "--state", "paused")
    [asked] = server.asked("GET", "/api/v1/rollouts")
    assert asked.query == {"limit": "100", "group": "canary", "channel": "beta", "sort": "product", "state": "paused"}
