"""The agent before a signed repository on loopback: what it installs, what it leaves, how it goes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.state import Step
from rollout.decision import DecisionArtifact, Stance, encode_decision
from tests.simulators.agents import (
    BUCKET,
    DEVICE,
    NOON,
    DeviceBench,
    device_bench,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeviceBench]:
    with device_bench(tmp_path) as bench:
        yield bench


def test_a_device_installs_what_its_decision_says_and_tells_every_step(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")

    state = bench.poll()

    assert bench.commands.installed == b"1.0" * 1000
    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]
    assert [report[2] for report in bench.server.reports] == ["downloading", "installing", "succeeded"]
    assert state.running["app"].version == "1.0"
    assert state.step is Step.IDLE
    assert bench.server.check_ins[-1][1] == "app: runs 1.0; up to date"


def test_an_idle_poll_makes_two_requests_and_writes_nothing(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    agent = bench.agent()
    agent.poll()
    agent.poll()
    before, written = len(bench.mirror.requests), bench.home.state.stat().st_mtime_ns
    spoken = len(bench.server.check_ins)

    agent.poll()

    assert bench.mirror.requests[before:] == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert bench.home.state.stat().st_mtime_ns == written
    assert len(bench.server.check_ins) == spoken
    agent.close()


def test_requests_carry_no_credentials(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()

    assert {name.lower() for sent in bench.mirror.headers for name in sent} == {
        "host",
        "user-agent",
        "accept-encoding",
        "connection",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cohort_to": BUCKET}, f"1.0 reaches places 0 to {BUCKET - 1}, this device has {BUCKET}"),
        ({"group": "elsewhere"}, "no decision for its groups"),
        ({"not_before": NOON + timedelta(hours=2)}, "1.0 may start at 2026-11-21T14:00:00+00:00"),
        ({"expires": NOON}, "1.0 could start until 2026-11-21T12:00:00+00:00"),
        ({"from_versions": ("0.9",)}, "1.0 may only follow 0.9"),
        ({"artifacts": {}}, "1.0 is for none, this device is linux-x86_64"),
    ],
    ids=["cohort", "group", "not before", "expires", "from versions", "platform"],
)
def test_a_device_that_a_decision_does_not_reach_stays_and_says_why(
    bench: DeviceBench, change: dict[str, Any], words: str
) -> None:
    bench.offer("1.0", "rol_1", **change)

    state = bench.poll()

    assert bench.commands.ran == []
    assert state.words["app"] == f"runs nothing yet; {words}"
    assert bench.server.reports == []


def test_the_last_place_of_a_cohort_is_inside(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1", cohort_to=BUCKET + 1)

    assert bench.poll().running["app"].version == "1.0"


def test_a_decision_validly_signed_under_another_name_does_not_count(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1", group="elsewhere")
    bench.tree.put_document("decisions/app/canary.json", encode_decision(decision))
    other_org = replace(decision, org="rival", group="lab")
    bench.server.groups = ("canary", "lab")
    bench.tree.put_document("decisions/app/lab.json", encode_decision(other_org))

    bench.poll()

    assert bench.commands.ran == []


def test_an_older_version_needs_the_rollouts_word(bench: DeviceBench) -> None:
    bench.offer("1.10", "rol_1")
    bench.poll()
    decision = bench.offer("1.9", "rol_2", minutes=1)
    assert bench.poll().words["app"] == "runs 1.10; 1.9 is older and the rollout allows no downgrade"

    bench.put(replace(decision, allow_downgrade=True))

    assert bench.poll().running["app"].version == "1.9"


def test_of_two_groups_decisions_the_one_submitted_last_counts(bench: DeviceBench) -> None:
    bench.server.groups = ("canary", "lab")
    bench.offer("2.0", "rol_2", minutes=5, group="lab")
    bench.offer("1.0", "rol_1")

    assert bench.poll().running["app"].version == "2.0"


def test_bytes_that_run_already_are_adopted_and_told_once(bench: DeviceBench) -> None:
    first = bench.offer("1.0", "rol_1")
    bench.poll()
    bench.put(replace(first, rollout="rol_2", submitted_at=NOON + timedelta(minutes=1)))
    bench.poll()
    bench.poll()

    assert bench.server.results == [("rol_1", 1, "succeeded", ""), ("rol_2", 1, "succeeded", "")]
    assert bench.commands.ran == [("install", "1.0"), ("health", "1.0")]


def test_a_release_that_is_not_well_goes_back_to_the_one_before(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.ill = {"2.0"}

    state = bench.poll()

    assert bench.commands.installed == b"1.0" * 1000
    assert bench.commands.ran[-5:] == [("install", "2.0"), *[("health", "2.0")] * 3, ("rollback", "1.0")]
    assert bench.server.results[-1] == ("rol_2", 1, "failed", "health_failed")
    assert state.running["app"].version == "1.0"
    assert bench.poll().words["app"] == "runs 1.0; 2.0 failed here (health_failed: port 80 is closed)"


@pytest.mark.parametrize(("kind", "code"), [("refuse", "install_failed"), ("slow", "install_timeout")])
def test_an_install_command_that_fails_goes_back_too(bench: DeviceBench, kind: str, code: str) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)
    getattr(bench.commands, kind).add("2.0")

    bench.poll()

    assert bench.commands.installed == b"1.0" * 1000
    assert bench.server.results[-1] == ("rol_2", 1, "failed", code)


def test_a_failed_device_tries_again_only_when_a_higher_attempt_is_offered(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1")
    bench.commands.ill = {"1.0"}
    bench.poll()
    bench.commands.ill = set()
    bench.poll()
    assert bench.server.results == [("rol_1", 1, "failed", "health_failed")]

    bench.put(replace(decision, device_attempts={DEVICE: 2}))
    bench.poll()

    assert bench.server.results[-1] == ("rol_1", 2, "succeeded", "")


def test_when_the_way_back_fails_as_well_the_device_says_that_nothing_is_known(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.refuse = {"1.0", "2.0"}

    state = bench.poll()

    assert state.running == {}
    assert bench.server.results[-1] == ("rol_2", 1, "failed", "rollback_failed")
    assert bench.commands.ran[-3:] == [("rollback", "1.0")] * 3


def test_halted_before_it_began_nothing_starts(bench: DeviceBench) -> None:
    bench.brake(bench.offer("1.0", "rol_1"), Stance.HALTED)

    assert bench.poll().words["app"] == "runs nothing yet; 1.0 is stopped: stopped by Ada"
    assert bench.server.reports == []

    bench.release_brake()

    assert bench.poll().running["app"].version == "1.0"


def test_halted_after_it_was_confirmed_nothing_changes(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1")
    bench.poll()
    bench.brake(decision, Stance.HALTED)

    assert bench.poll().running["app"].version == "1.0"
    assert bench.commands.installed == b"1.0" * 1000


def test_a_brake_of_another_rollout_or_an_earlier_wave_stops_nothing(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1", wave=2)
    bench.brake(decision, Stance.HALTED, wave=1)

    assert bench.poll().running["app"].version == "1.0"

    bench.brake(replace(decision, rollout="rol_0"), Stance.ROLL_BACK, wave=9)

    assert bench.poll().running["app"].version == "1.0"


def test_told_to_roll_back_a_confirmed_device_returns_and_says_so_once(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.brake(decision, Stance.ROLL_BACK)

    state = bench.poll()
    bench.poll()

    assert state.running["app"].version == "1.0"
    assert bench.commands.installed == b"1.0" * 1000
    assert bench.server.results[2:] == [("rol_2", 1, "rolled_back", "rolled_back")]


def test_told_to_roll_back_the_first_release_a_device_goes_on_and_says_why(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1")
    bench.poll()
    bench.brake(decision, Stance.ROLL_BACK)
    bench.poll()
    state = bench.poll()

    assert state.running["app"].version == "1.0"
    assert bench.server.results[1:] == [("rol_1", 1, "failed", "nothing_to_return_to")]


def test_taken_out_of_the_group_a_device_still_hears_the_call_back(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()
    bench.server.groups = ("other",)
    bench.brake(decision, Stance.ROLL_BACK)

    assert bench.poll().running["app"].version == "1.0"


@pytest.mark.parametrize("stance", [Stance.HALTED, Stance.ROLL_BACK])
def test_stopped_while_installed_and_not_yet_confirmed_it_goes_back(bench: DeviceBench, stance: Stance) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    decision = bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.ill = {"2.0"}
    bench.commands.before_health = lambda: bench.brake(decision, stance)

    state = bench.poll()

    assert state.running["app"].version == "1.0"
    assert bench.commands.installed == b"1.0" * 1000
    assert bench.server.results[-1] == ("rol_2", 1, "rolled_back", "rolled_back")


def test_stopped_while_downloading_nothing_is_installed_and_nothing_is_left(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1")
    path = next(p for p in bench.mirror.files if p.startswith("targets/app/1.0"))

    def stop_then_answer(asked: str, content: bytes | None) -> bytes | None:
        if asked == path:
            bench.mirror.answer = lambda _, content: content
            bench.brake(decision, Stance.HALTED)
        return content

    bench.mirror.answer = stop_then_answer
    state = bench.poll()

    assert bench.commands.ran == []
    assert (state.step, state.words["app"]) == (Step.IDLE, "runs nothing yet; 1.0 is stopped: stopped by Ada")
    assert list(bench.home.artifacts.iterdir()) == list(bench.home.downloads.iterdir()) == []


def test_stopped_in_the_middle_of_a_long_download_it_ends_at_once(bench: DeviceBench) -> None:
    content = b"x" * 300_000
    target = bench.tree.add_artifact("app/3.0/linux-x86_64/app.bin", content)
    decision = bench.offer("1.0", "rol_1")
    artifact = DecisionArtifact(path=target.path, length=target.length, sha256=target.hashes["sha256"])
    bench.put(replace(decision, version="3.0", artifacts={"linux-x86_64": artifact}))
    bench.config = replace(bench.config, interval_seconds=1)
    path = next(p for p in bench.mirror.files if p.startswith("targets/app/3.0"))

    def stop_then_answer(asked: str, content: bytes | None) -> bytes | None:
        if asked == path:
            bench.mirror.answer = lambda _, content: content
            bench.brake(decision, Stance.HALTED)
            bench.clock.now += timedelta(seconds=2)
        return content

    bench.mirror.answer = stop_then_answer

    assert bench.poll().words["app"] == "runs nothing yet; 3.0 is stopped: stopped by Ada"
    assert bench.commands.ran == []


def test_a_yanked_artifact_is_not_newly_installed_and_no_report_is_made_of_it(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.tree.add_artifact("app/1.0/linux-x86_64/app.bin", b"1.0" * 1000, yanked={"reason": "leaks"})

    bench.poll()
    state = bench.poll()

    assert state.words["app"] == "1.0 was yanked, it is not newly installed anywhere"
    assert (bench.commands.ran, bench.server.reports) == ([], [])


def test_a_decision_that_names_other_bytes_than_the_signed_release_is_refused(bench: DeviceBench) -> None:
    decision = bench.offer("1.0", "rol_1")
    evil = bench.tree.add_artifact("app/6.6/linux-x86_64/app.bin", b"evil")
    wrong = DecisionArtifact(path=evil.path, length=4, sha256="00" * 32)
    bench.put(replace(decision, artifacts={"linux-x86_64": wrong}))

    for _ in range(3):
        bench.poll()

    assert bench.commands.ran == []
    assert bench.server.results == [("rol_1", 1, "failed", "artifact_refused")]


def revoke(bench: DeviceBench, *contents: bytes) -> None:
    entries = [{"sha256": hashlib.sha256(one).hexdigest(), "reason": "leaks keys"} for one in contents]
    document = {"_type": "wavegate-revocations", "format": 1, "product": "app", "revoked": entries}
    bench.tree.put_document("revocations/app/all.json", json.dumps(document).encode())


def test_a_device_leaves_what_was_revoked_and_does_not_install_it_again(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    second = bench.offer("2.0", "rol_2", minutes=1)
    bench.poll()

    revoke(bench, b"2.0" * 1000)
    state = bench.poll()

    assert bench.commands.installed == b"1.0" * 1000
    assert bench.server.results[-1] == ("rol_2", 1, "rolled_back", "revoked")
    assert state.running["app"].version == "1.0"
    bench.put(replace(second, rollout="rol_3", submitted_at=NOON + timedelta(minutes=2)))
    assert bench.poll().words["app"] == "runs 1.0; 2.0 was revoked: leaks keys"
    assert bench.commands.ran[-1] == ("rollback", "1.0")


@pytest.mark.parametrize("both", [False, True], ids=["the first there was", "the one before is revoked as well"])
def test_a_revoked_release_with_nothing_to_return_to_runs_on_and_says_so_once(bench: DeviceBench, both: bool) -> None:
    rollout = "rol_1"
    bench.offer("1.0", "rol_1")
    bench.poll()
    if both:
        rollout = "rol_2"
        bench.offer("2.0", "rol_2", minutes=1)
        bench.poll()
    revoke(bench, b"1.0" * 1000, b"2.0" * 1000)

    bench.poll()
    state = bench.poll()

    assert bench.server.results[-1] == (rollout, 1, "failed", "nothing_to_return_to")
    assert [one[3] for one in bench.server.results].count("nothing_to_return_to") == 1
    assert state.running["app"].rollout == rollout
    assert [action for action, _ in bench.commands.ran].count("rollback") == 0


def test_what_is_revoked_while_it_is_being_confirmed_goes_back(bench: DeviceBench) -> None:
    bench.offer("1.0", "rol_1")
    bench.poll()
    bench.offer("2.0", "rol_2", minutes=1)
    bench.commands.ill = {"2.0"}
    bench.commands.before_health = lambda: revoke(bench, b"2.0" * 1000)

    bench.poll()

    assert bench.commands.installed == b"1.0" * 1000
    assert bench.server.results[-1] == ("rol_2", 1, "rolled_back", "rolled_back")


def test_a_list_of_revocations_that_cannot_be_read_stops_the_product(bench: DeviceBench) -> None:
    bench.tree.put_document("revocations/app/all.json", b'{"_type": "wavegate-revocations", "format": 2}')
    bench.offer("1.0", "rol_1")

    state = bench.poll()

    assert bench.commands.ran == []
    assert "revocations/app/all.json cannot be read" in state.repository_trouble
