"""Which release a device chooses, and how versions are ordered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent.choice import Act, Situation, choose, offered_attempt
from agent.state import Ended, Progress, Release
from rollout.cohort import bucket
from rollout.decision import Brake, Decision, DecisionArtifact, Stance
from rollout.versions import is_older

DEVICE = "dev_01JD3ZQ5W8X9Y0A1B2C3D4E5F6"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def decision(version: str = "2.0", rollout: str = "rol_2", **changes: object) -> Decision:
    fields: dict[str, object] = {
        "org": "acme",
        "product": "app",
        "channel": "stable",
        "group": "canary",
        "rollout": rollout,
        "plan_hash": "ab" * 32,
        "wave": 2,
        "revision": 5,
        "submitted_at": NOON,
        "version": version,
        "artifacts": {
            "linux": DecisionArtifact(path=f"app/{version}/linux/a", length=1, sha256=version.ljust(64, "0"))
        },
        "salt": "00" * 16,
        "cohort_from": 0,
        "cohort_to": 10_000,
    }
    return Decision(**{**fields, **changes})  # type: ignore[arg-type]


def brake(stance: Stance, rollout: str = "rol_2", wave: int = 2) -> Brake:
    return Brake(
        org="acme",
        product="app",
        channel="stable",
        group="canary",
        rollout=rollout,
        plan_hash="ab" * 32,
        wave=wave,
        revision=6,
        stance=stance,
        reason="too hot",
    )


def release(version: str, rollout: str, wave: int = 2) -> Release:
    return Release(
        product="app",
        version=version,
        path=f"app/{version}/linux/a",
        length=1,
        sha256=version.ljust(64, "0"),
        rollout=rollout,
        group="canary",
        wave=wave,
        attempt=1,
    )


def situation(running: Release | None = None, **ended: Ended) -> Situation:
    return Situation(device=DEVICE, platform="linux", running=running, ended=ended, now=NOON)


def ended(progress: Progress, attempt: int = 1) -> Ended:
    return Ended(attempt=attempt, progress=progress, version="2.0", code="x")


def test_an_open_decision_is_installed() -> None:
    choice = choose([decision()], [], situation())

    assert choice.act is Act.INSTALL
    assert choice.release == release("2.0", "rol_2")


@pytest.mark.parametrize(
    ("stance", "rollout", "wave", "act"),
    [
        (Stance.HALTED, "rol_2", 1, Act.INSTALL),
        (Stance.HALTED, "rol_2", 2, Act.NOTHING),
        (Stance.HALTED, "rol_2", 3, Act.NOTHING),
        (Stance.HALTED, "rol_1", 9, Act.INSTALL),
        (Stance.ROLL_BACK, "rol_2", 2, Act.NOTHING),
    ],
)
def test_a_brake_stops_its_rollouts_wave_and_the_ones_before(stance: Stance, rollout: str, wave: int, act: Act) -> None:
    assert choose([decision()], [brake(stance, rollout, wave)], situation()).act is act


def test_what_runs_is_left_when_its_rollout_says_so_even_without_a_decision() -> None:
    running = release("2.0", "rol_2")

    choice = choose([], [brake(Stance.ROLL_BACK)], situation(running, rol_2=ended(Progress.SUCCEEDED)))

    assert (choice.act, choice.release) == (Act.RETURN, running)


def test_a_return_that_could_not_be_made_is_not_tried_again() -> None:
    running = release("2.0", "rol_2")
    assert choose([], [brake(Stance.ROLL_BACK)], situation(running, rol_2=ended(Progress.FAILED))).act is Act.NOTHING


def test_a_stopped_newest_rollout_is_not_stepped_over_to_an_older_one() -> None:
    newest = decision("3.0", "rol_3", submitted_at=NOON + timedelta(minutes=1), group="lab")

    assert choose([decision(), newest], [brake(Stance.HALTED, "rol_3")], situation()).act is Act.NOTHING


def test_a_newer_rollout_that_does_not_reach_the_device_leaves_the_older_one_in_force() -> None:
    place = bucket("00" * 16, DEVICE)
    newest = decision("3.0", "rol_3", submitted_at=NOON + timedelta(minutes=1), group="lab", cohort_to=place)

    choice = choose([decision(), newest], [], situation())

    assert choice.release is not None
    assert choice.release.version == "2.0"


def test_an_artifact_for_every_platform_serves_when_there_is_none_for_this_one() -> None:
    anywhere = DecisionArtifact(path="app/2.0/any/a", length=1, sha256="ff" * 32)

    choice = choose([decision(artifacts={"any": anywhere})], [], situation())

    assert choice.release is not None
    assert choice.release.path == "app/2.0/any/a"


@pytest.mark.parametrize(
    ("before", "attempt", "act"),
    [
        (Progress.FAILED, 1, Act.NOTHING),
        (Progress.FAILED, 2, Act.INSTALL),
        (Progress.ROLLED_BACK, 1, Act.NOTHING),
        (Progress.ROLLED_BACK, 2, Act.INSTALL),
        (Progress.SUCCEEDED, 2, Act.NOTHING),
    ],
)
def test_only_a_higher_attempt_is_taken_up_again(before: Progress, attempt: int, act: Act) -> None:
    assert choose([decision(attempt=attempt)], [], situation(rol_2=ended(before))).act is act


def test_a_named_device_is_offered_its_own_attempt() -> None:
    assert offered_attempt(decision(attempt=2, device_attempts={DEVICE: 3}), DEVICE) == 3
    assert offered_attempt(decision(attempt=2, device_attempts={DEVICE: 1}), DEVICE) == 2
    assert offered_attempt(decision(device_attempts={"dev_other": 3}), DEVICE) == 1


@pytest.mark.parametrize(
    ("version", "than"),
    [
        ("1.9", "1.10"),
        ("1.0-rc.1", "1.0"),
        ("1.0-rc.2", "1.0-rc.10"),
        ("1.0-alpha", "1.0-beta"),
        ("1.0-1", "1.0-a"),
        ("1.0", "1.0.1"),
        ("1.0+build9", "1.1+build1"),
        ("2024.12", "2025.1"),
    ],
)
def test_a_version_is_older_and_the_other_way_round_it_is_not(version: str, than: str) -> None:
    assert is_older(version, than)
    assert not is_older(than, version)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0.0"), ("1.0+a", "1.0+b"), ("1.0", "1.0"), ("01.0", "1.0")])
def test_neither_of_two_equal_versions_is_older(one: str, other: str) -> None:
    assert not is_older(one, other)
    assert not is_older(other, one)


class TestSecurityFirst:
    """A security decision of one group, and a normal one submitted an hour later for another."""

    URGENT = decision("2.1", "rol_2", is_security=True, group="plant")
    NEWER = decision("3.0", "rol_3", submitted_at=NOON + timedelta(hours=1))

    def version(self, *decisions: Decision, at: Situation | None = None, brakes: tuple[Brake, ...] = ()) -> str:
        choice = choose([*decisions], [*brakes], at or situation())
        return choice.release.version if choice.act is Act.INSTALL and choice.release is not None else choice.words

    def test_it_goes_before_what_was_submitted_later(self) -> None:
        assert self.version(self.NEWER, self.URGENT) == "2.1"

    def test_what_was_submitted_later_follows_once_it_is_installed(self) -> None:
        done = situation(release("2.1", "rol_2"), rol_2=ended(Progress.SUCCEEDED))
        assert self.version(self.NEWER, self.URGENT, at=done) == "3.0"

    @pytest.mark.parametrize("progress", [Progress.FAILED, Progress.ROLLED_BACK])
    def test_a_device_where_it_failed_is_not_kept_from_what_came_later(self, progress: Progress) -> None:
        assert self.version(self.NEWER, self.URGENT, at=situation(None, rol_2=ended(progress))) == "3.0"

    def test_one_that_is_not_for_the_device_is_stepped_over(self) -> None:
        other = decision("2.1", "rol_2", is_security=True, artifacts={})
        assert self.version(self.NEWER, other) == "3.0"

    def test_it_does_not_bring_a_higher_version_down(self) -> None:
        runs = situation(release("3.0", "rol_3"), rol_3=ended(Progress.SUCCEEDED))
        assert self.version(self.NEWER, self.URGENT, at=runs) == "runs 3.0; up to date"

    def test_one_that_was_stopped_is_stepped_over_to_what_came_later(self) -> None:
        assert self.version(self.NEWER, self.URGENT, brakes=(brake(Stance.HALTED),)) == "3.0"

    def test_one_that_was_stopped_is_not_stepped_over_to_what_came_before(self) -> None:
        before = decision("1.0", "rol_1", submitted_at=NOON - timedelta(hours=1))
        stopped = self.version(before, self.URGENT, brakes=(brake(Stance.HALTED),))
        assert stopped == "runs nothing yet; 2.1 is stopped: too hot"

    def test_while_it_waits_for_its_time_nothing_newer_goes_before_it(self) -> None:
        later = decision("2.1", "rol_2", is_security=True, not_before=NOON + timedelta(minutes=5))
        assert self.version(self.NEWER, later).startswith("runs nothing yet; 2.1 may start at")
        assert self.version(self.NEWER, later, brakes=(brake(Stance.HALTED),)) == "3.0"

    def test_of_two_the_one_submitted_last_counts(self) -> None:
        newer = decision("2.2", "rol_4", is_security=True, submitted_at=NOON + timedelta(minutes=1))
        assert self.version(self.NEWER, newer, self.URGENT) == "2.2"
