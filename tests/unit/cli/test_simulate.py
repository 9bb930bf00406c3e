"""`publish simulate` before any fleet runs: what is refused, and what is not left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.simulation.profiles import Profile
from cli.commands.simulate import PROFILES
from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish


def test_every_profile_of_the_agent_can_be_asked_for() -> None:
    assert tuple(profile.value for profile in Profile) == PROFILES


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--behave", "broken=10"], "'broken=10' is not NAME=PERCENT with one of ok, slow, failing"),
        (["--behave", "slow"], "'slow' is not NAME=PERCENT"),
        (["--behave", "slow=10", "--behave", "slow=20"], "slow is given twice"),
        (["--behave", "slow=60", "--behave", "failing=41"], "101 percent"),
        (["--interval", "0s"], "0 is no span"),
        (["--duration", "soon"], "'soon' is no span of time"),
        (["--devices", "0"], "0 is not in the range"),
    ],
)
def test_what_makes_no_fleet_is_refused_before_the_server_is_asked(
    publish: Publish, server: ApiServerSimulator, options: list[str], words: str
) -> None:
    done = publish("simulate", *options)
    assert done.code == 2
    assert words in done.err
    assert server.requests == []


def test_a_token_and_groups_contradict_each_other(publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wge_…")
    done = publish("simulate", "--group", "field", "--token-file", str(tmp_path / "token"))
    assert done.code == 2
    assert "a token puts devices into its own groups" in done.err


def test_a_fleet_that_nobody_lets_in_leaves_no_token_and_no_home(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "places").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "places"))
    token = f"wge_{'ab' * 32}_{'x' * 43}"
    server.on("POST", "/api/v1/enroll-tokens", Reply(201, {"id": "tok_1", "token": token}))
    server.on("DELETE", "/api/v1/enroll-tokens/tok_1", Reply(204))
    server.on(
        "POST",
        "/api/v1/enroll",
        Reply(429, refusal(429, "rate_limited").body, {"Retry-After": "0"}),  # waited for
        refusal(409, "enroll_token_spent", "used up"),
    )

    done = publish("simulate", "--group", "field", "--devices", "3", "--seed", "5")

    assert done.code == 1
    assert "the simulation ended: the server refuses (enroll_token_spent): used up" in done.err
    asked = server.requests[0].json
    assert (asked["name"], asked["groups"], asked["max_uses"]) == ("simulate-5", ["field"], 3)
    assert [(seen.method, seen.path.rpartition("/")[2]) for seen in server.requests] == [
        ("POST", "enroll-tokens"),
        ("POST", "enroll"),
        ("POST", "enroll"),
        ("DELETE", "tok_1"),
    ]
    assert list((tmp_path / "places").iterdir()) == []
