"""A small world for tests of rollouts: people, one release in two versions, three groups, and the service over it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from evidence.model import Actor, ActorKind
from rollout.model import ArtifactRef, Gate, Progress, Report, Rollout, WavePlan
from rollout.plan import PlanRequest
from rollout.service import RolloutService
from tests.simulators.rollouts import DecisionsSimulator, GroupsSimulator, ReleasesSimulator, RolloutsSimulator

ORG = "acme"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SALT = "000102030405060708090a0b0c0d0e0f"
CREATOR = Actor(ActorKind.USER, "usr_creator", "Cleo", "key_1")
ANN = Actor(ActorKind.USER, "usr_ann", "Ann", "ses_1")
ANN_BY_KEY = Actor(ActorKind.USER, "usr_ann", "Ann", "key_2")
BOB = Actor(ActorKind.USER, "usr_bob", "Bob", "ses_2")
ROBOT = Actor(ActorKind.SERVICE, "usr_robot", "robot", "key_3")

CANARY = ["dev_c1", "dev_c2", "dev_c3"]
FLEET = [f"dev_f{number:02}" for number in range(40)]


def artifact(version: str, platform: str = "linux-amd64") -> ArtifactRef:
    """The signed artifact of one version of ``firmware``."""
    return ArtifactRef(
        id=f"art_{version}_{platform}",
        path=f"firmware/{version}/{platform}/firmware.bin",
        length=1000,
        sha256="ab" * 32,
    )


def two_waves(**gate: int | None) -> tuple[WavePlan, ...]:
    """All of ``canary``, then half of ``fleet``; the gate's fields are both waves'."""
    settings = Gate(**gate)  # type: ignore[arg-type]
    return (WavePlan(group="canary", gate=settings), WavePlan(group="fleet", percent=50, gate=settings))


def request(version: str = "1.0", waves: tuple[WavePlan, ...] | None = None, **more: object) -> PlanRequest:
    """A request for ``firmware``; two waves without approvals unless told otherwise."""
    return PlanRequest(product="firmware", version=version, waves=waves or two_waves(), **more)  # type: ignore[arg-type]


@dataclass
class World:
    """The service over simulators, with a clock that tests move by hand."""

    rollouts: RolloutsSimulator = field(default_factory=RolloutsSimulator)
    decisions: DecisionsSimulator = field(default_factory=DecisionsSimulator)
    releases: ReleasesSimulator = field(default_factory=ReleasesSimulator)
    groups: GroupsSimulator = field(default_factory=lambda: GroupsSimulator(ORG))
    now: datetime = NOW
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        for version in ("1.0", "2.0", "3.0"):
            self.releases.signed[ORG, "firmware", version, "stable"] = {"linux-amd64": artifact(version)}
        self.releases.signed[ORG, "firmware", "2.1", "beta"] = {"linux-amd64": artifact("2.1")}
        self.groups.devices = {"canary": list(CANARY), "fleet": list(FLEET), "empty": []}
        self.service = RolloutService(
            rollouts=self.rollouts,
            decisions=self.decisions,
            releases=self.releases,
            groups=self.groups,
            make_id=lambda prefix: f"{prefix}_{next(self.numbers):04}",
            make_salt=lambda: SALT,
        )

    def wait(self, seconds: float = 1) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def tick(self) -> None:
        """One second later, the scheduler."""
        self.wait()
        self.service.tick(ORG, self.now)

    def submitted(self, version: str = "1.0", waves: tuple[WavePlan, ...] | None = None, **more: object) -> Rollout:
        """A rollout that waits for its first gate."""
        draft = self.service.create(ORG, request(version, waves, **more), by=CREATOR, now=self.now)
        return self.service.submit(ORG, draft.id, by=CREATOR, now=self.now)

    def running(self, version: str = "1.0", waves: tuple[WavePlan, ...] | None = None, **more: object) -> Rollout:
        """A rollout whose first wave is open."""
        rollout = self.submitted(version, waves, **more)
        self.tick()
        return self.get(rollout)

    def get(self, rollout: Rollout) -> Rollout:
        """The rollout as stored now."""
        return self.rollouts.get(ORG, rollout.id)

    def report(self, rollout: Rollout, device: str, progress: Progress, attempt: int = 1) -> bool:
        """A new report of a device."""
        report = Report(
            id=f"rep_{next(self.numbers)}", rollout=rollout.id, attempt=attempt, progress=progress, at=self.now
        )
        return self.service.record_report(ORG, device, report)
