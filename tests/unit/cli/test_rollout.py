"""`publish rollout`: plans out, states in, and approvals of exactly what was shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish, on_a_terminal
from tests.unit.cli.samples import rollout

RELEASE = ("--product", "app", "--version", "1.0.0")


def test_create_sends_only_what_was_said(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/rollouts", Reply(201, rollout()))
    done = publish("rollout", "create", *RELEASE, "--wave", "canary:10,approvals=1", "--wave", "fleet")
    assert done.code == 0
    assert done.json["id"] == "rol_01"
    assert server.requests[0].json == {
        "product": "app",
        "version": "1.0.0",
        "waves": [
            {"group": "canary", "percent": 10, "gate": {"approvals": 1}},
            {"group": "fleet", "percent": 100, "gate": {}},
        ],
    }


def test_create_with_every_option(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/rollouts", Reply(201, rollout("draft")))
    publish(
        "rollout", "create", *RELEASE, "--wave", "fleet", "--channel", "beta", "--note", "why", "--close",
        "--allow-downgrade", "--draft",
    )  # fmt: skip
    assert server.requests[0].json == {
        "product": "app",
        "version": "1.0.0",
        "channel": "beta",
        "waves": [{"group": "fleet", "percent": 100, "gate": {}}],
        "note": "why",
        "keep_open": False,
        "allow_downgrade": True,
        "draft": True,
    }


def test_create_from_a_plan_file(publish: Publish, server: ApiServerSimulator, tmp_path: Path) -> None:
    server.on("POST", "/api/v1/rollouts", Reply(201, rollout()))
    plan = tmp_path / "plan.yaml"
    plan.write_text("product: app\nversion: 1.0.0\nallow_downgrade: true\nwaves: ['canary:10,soak=1m']\n")
    publish("rollout", "create", "--plan", str(plan))
    assert server.requests[0].json == {
        "product": "app",
        "version": "1.0.0",
        "allow_downgrade": True,
        "waves": [{"group": "canary", "percent": 10, "gate": {"soak_seconds": 60}}],
    }


def test_a_plan_without_waves_never_reaches_the_server(publish: Publish, server: ApiServerSimulator) -> None:
    done = publish("rollout", "create", *RELEASE)
    assert done.code == 2
    assert done.err.splitlines() == [
        "error: the plan has no waves",
        "hint: give --wave, or name it in the --plan file",
    ]
    assert server.requests == []


def test_an_edit_goes_through_only_over_what_was_read(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/rollouts/rol_01", Reply(200, rollout(), {"ETag": '"2"'}))
    server.on("PATCH", "/api/v1/rollouts/rol_01", refusal(412, "precondition_failed", "somebody was first"))
    assert publish("rollout", "edit", "rol_01", *RELEASE, "--wave", "fleet").code == 5
    assert server.requests[1].headers["if-match"] == '"2"'


def test_approve_shows_who_would_receive_what_and_sends_the_hash_it_showed(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on("GET", "/api/v1/rollouts/rol_01", Reply(200, rollout()))
    server.on("GET", "/api/v1/groups/canary", Reply(200, {"devices": 40}))
    server.on("POST", "/api/v1/rollouts/rol_01/approve", Reply(200, rollout("waiting", why="wave 1 opens next")))
    done = publish("rollout", "approve", "rol_01", "-o", "table")
    assert done.code == 0
    assert server.requests[-1].json == {"wave": 1, "plan_hash": "c" * 64}
    assert done.err.splitlines() == [
        "you approve      wave 1 of 2 of rol_01",
        "devices          10% of group canary, which has 40 devices now",
        "would receive    app 1.0.0 (stable)",
        "  on any         app/1.0.0/any/app.bin, 50.0 MiB",
        "  sha256         " + "a" * 64,
        "gate             1 approval, soak 1m30s, passes at 90% success of at least 1, pauses at 2 failed, "
        "pauses above 10% failed",
        "note             fixes the clock",
        "asked for by     ci",
        "approved so far  0 of 1",
        "plan             " + "c" * 64,
    ]
    assert done.out == "approved wave 1 of rol_01; waiting: wave 1 opens next\n"


def test_a_plan_that_is_not_the_one_reviewed_is_not_approved(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/rollouts/rol_01", Reply(200, rollout()))
    done = publish("rollout", "approve", "rol_01", "--plan-hash", "d" * 64)
    assert done.code == 5
    assert server.asked("POST", "/api/v1/rollouts/rol_01/approve") == []


def test_a_wave_that_is_not_there_cannot_be_approved(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/rollouts/rol_01", Reply(200, rollout()))
    done = publish("rollout", "approve", "rol_01", "--wave", "3")
    assert done.code == 2
    assert done.err.startswith("error: rol_01 has 2 waves, there is no wave 3\n")


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (("submit",), "submit", {}),
        (("refuse", "--reason", "no"), "refuse", {"reason": "no"}),
        (("pause", "--reason", "no"), "pause", {"reason": "no"}),
        (("resume", "--reason", "go"), "resume", {"reason": "go"}),
        (("abort", "--reason", "no"), "abort", {"reason": "no", "mode": "stop"}),
        (("abort", "--reason", "no", "--mode", "roll-back"), "abort", {"reason": "no", "mode": "roll_back"}),
        (("abort", "--reason", "no", "--mode", "roll_back"), "abort", {"reason": "no", "mode": "roll_back"}),
        (("retry",), "retry", {}),
        (("retry", "--device", "dev_01", "--device", "dev_02"), "retry", {"devices": ["dev_01", "dev_02"]}),
    ],
)
def test_a_verb_becomes_one_call(
    publish: Publish, server: ApiServerSimulator, arguments: tuple[str, ...], path: str, body: dict[str, object]
) -> None:
    server.on("POST", f"/api/v1/rollouts/rol_01/{path}", Reply(200, rollout()))
    verb, *options = arguments
    assert publish("rollout", verb, "rol_01", *options).code == 0
    (seen,) = server.requests
    assert seen.json == body


def test_show_tells_state_why_a_line_for_each_wave_and_what_comes_next(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on("GET", "/api/v1/rollouts/rol_01", Reply(200, rollout()))
    lines = publish("rollout", "show", "rol_01", "-o", "table").out.splitlines()
    assert lines[2:4] == ["state     waiting", "why       wave 1 waits for 1 approval"]
    assert lines[-4].split()[:10] == ["1", "canary", "10%", "pending", "4", "0", "0", "0", "0", "0/1"]
    assert lines[-1] == "next  1 more of you: `publish rollout approve rol_01 --wave 1`"


def test_a_command_the_state_forbids_is_a_conflict(publish: Publish, server: ApiServerSimulator) -> None:
    server.on(
        "POST",
        "/api/v1/rollouts/rol_01/resume",
        refusal(409, "transition_not_allowed", "Resume is not possible while rol_01 is running"),
    )
    done = publish("rollout", "resume", "rol_01", "--reason", "go", "-o", "json")
    assert done.code == 5
    assert done.out == ""
    assert '"code": "transition_not_allowed"' in done.err


def test_waiting_after_create_ends_as_the_rollout_does(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/rollouts", Reply(201, rollout()))
    server.on(
        "GET", "/api/v1/rollouts/rol_01", Reply(200, rollout("paused", why="wave 1: 3 of 4 devices failed, limit 2"))
    )
    done = publish("rollout", "create", *RELEASE, "--wave", "fleet", "--wait")
    assert done.code == 6
    assert done.err.splitlines()[0] == "error: rollout rol_01 is paused: wave 1: 3 of 4 devices failed, limit 2"


@pytest.mark.parametrize(("word", "code", "sent"), [("y", 0, 1), ("n", 1, 0)])
def test_a_person_at_a_terminal_is_asked_before_an_approval(
    server: ApiServerSimulator, config_dir: Path, word: str, code: int, sent: int
) -> None:
    server.on("GET", "/api/v1/rollouts/rol_01", Reply(200, rollout()))
    server.on("POST", "/api/v1/rollouts/rol_01/approve", Reply(200, rollout()))
    ended, screen = on_a_terminal(
        "rollout", "approve", "rol_01", "--url", server.url, config=config_dir, dialogue=[("Approve? [y/N]: ", word)]
    )
    assert "10% of group canary" in screen
    assert ended == code
    assert len(server.asked("POST", "/api/v1/rollouts/rol_01/approve")) == sent


def test_create_with_every_rule(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/rollouts", Reply(201, rollout("draft")))
    publish(
        "rollout", "create", *RELEASE, "--template", "exponential", "--group", "fleet", "--gate", "approvals=1,soak=1h",
        "--start", "0.5", "--factor", "4", "--from-version", ">=1,<2", "--requires", "os>=11.2", "--after", "rol_1",
        "--window", "sat,sun 02:00 4h local", "--spread", "2h", "--retry", "2,backoff=10m,code=health_failed",
        "--ignores-freeze",
    )  # fmt: skip
    assert server.requests[0].json == {
        "product": "app",
        "version": "1.0.0",
        "template": {
            "name": "exponential",
            "groups": ["fleet"],
            "gate": {"approvals": 1, "soak_seconds": 3600},
            "start": 0.5,
            "factor": 4.0,
        },
        "from_versions": [">=1,<2"],
        "requires": [{"product": "os", "at_least": "11.2"}],
        "after": ["rol_1"],
        "window": {"days": ["sat", "sun"], "start": "02:00", "minutes": 240, "zone": "local"},
        "spread_seconds": 7200,
        "retry": {"count": 2, "backoff_seconds": 600, "codes": ["health_failed"]},
        "ignores_freeze": True,
    }


def test_options_of_a_template_without_one_never_reach_the_server(publish: Publish, server: ApiServerSimulator) -> None:
    done = publish("rollout", "create", *RELEASE, "--group", "fleet")
    assert done.code == 2
    assert done.err.splitlines()[0] == "error: --group, --gate, --start and --factor are a template's"
    assert server.requests == []


def test_a_word_for_the_next_wave(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/rollouts/rol_1/advance", Reply(200, rollout()))
    assert publish("rollout", "advance", "rol_1").code == 0


def test_a_freeze_and_a_template_are_sent_as_the_api_takes_them(publish: Publish, server: ApiServerSimulator) -> None:
    frozen = {
        "id": "frz_1", "product": None, "starts": None, "ends": None, "frozen_until": None, "reason": "off", "at": None,
        "weekly": {"days": ["fri"], "start": "16:00", "minutes": 90, "zone": "UTC"}, "by": {"name": "Ada"},
    }  # fmt: skip
    server.on("POST", "/api/v1/freeze-windows", Reply(201, frozen))
    done = publish("rollout", "freeze", "add", "--weekly", "fri 16:00 90m UTC", "--reason", "off", "-o", "table")
    assert done.out.strip() == "added freeze frz_1: every fri 16:00 1h30m UTC"
    assert server.requests[0].json == {"reason": "off", "weekly": frozen["weekly"]}
    server.on("POST", "/api/v1/rollout-templates", Reply(201, {"name": "careful", "waves": [{}, {}]}))
    publish("rollout", "template", "create", "careful", "--wave", "*:5,soak=1h", "--wave", "*,count=9")
    assert server.requests[1].json == {
        "name": "careful",
        "description": "",
        "waves": [
            {"group": "*", "percent": 5, "gate": {"soak_seconds": 3600}},
            {"group": "*", "percent": 100, "count": 9, "gate": {}},
        ],
    }


def test_an_exclusion_and_a_pin_in_words(publish: Publish, server: ApiServerSimulator) -> None:
    made = {
        "id": "exc_1", "kind": "exclude", "device_id": None, "group": "night", "product": "app", "version": "2.0",
        "package": None, "until": None, "matched": 0, "reason": "hot", "by": {"name": "Ada"}, "at": None,
    }  # fmt: skip
    server.on("POST", "/api/v1/exclusions", Reply(201, made))
    excluded = publish(
        "device",
        "exclude",
        "--group",
        "night",
        "--product",
        "app",
        "--version",
        "2.0",
        "--reason",
        "hot",
        "-o",
        "table",
    )
    assert excluded.out.strip() == "exc_1: app 2.0 is kept from group night"
    assert server.requests[0].json == {"group": "night", "product": "app", "version": "2.0", "reason": "hot"}
    pinned = {**made, "kind": "pin", "device_id": "dev_1", "group": None}
    server.on("PUT", "/api/v1/devices/press-1/pin", Reply(200, pinned))
    done = publish("device", "pin", "press-1", "--product", "app", "--version", "2.0", "--reason", "hot", "-o", "table")
    assert done.out.strip() == "exc_1: dev_1 takes only app 2.0"
    server.on("DELETE", "/api/v1/devices/press-1/pin", Reply(204, None))
    assert publish("device", "unpin", "press-1", "--product", "app").code == 0
