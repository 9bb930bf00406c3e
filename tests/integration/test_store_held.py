"""Edits never widen an open wave: the engine over real databases, with people who change groups while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Group, Running
from rollout.errors import ReportRefused
from rollout.model import ArtifactRef, Gate, Progress, Report, Rollout, State, WavePlan
from rollout.plan import PlanRequest
from rollout.ports import Intent
from rollout.service import RolloutService
from store.database import Database
from store.fleet import SqlFleet
from store.rollouts import SqlRollouts
from tests.simulators.rollouts import DecisionsSimulator, ReleasesSimulator

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
WAVES = (WavePlan(group="field", percent=50), WavePlan(group="field", percent=100))
TOKEN = EnrolToken(
    id="tok_1",
    org="acme",
    name="line 3",
    sha256="0a" * 32,
    created_by="usr_ADA",
    created_at=NOON,
    expires_at=NOON + timedelta(days=1),
    max_uses=100,
    groups=("field",),
    labels={"site": "berlin"},
)


@dataclass
class Scene:
    """A fleet, an engine and a clock that each step moves on by a second."""

    fleet: SqlFleet
    rollouts: SqlRollouts
    engine: RolloutService
    now: datetime = NOON
    reports: list[str] = field(default_factory=list)

    def event(self) -> AuditEvent:
        self.now += timedelta(seconds=1)
        return AuditEvent("something.happened", "subject", ADA, self.now)

    def enrol(self, number: int, token: EnrolToken = TOKEN) -> str:
        device = f"dev_{number}"
        event = self.event()
        certificate = Certificate(
            fingerprint=f"{number:064x}", serial="1", device=device, not_before=NOON, not_after=NOON
        )
        made = Device(
            id=device,
            org="acme",
            name=f"device-{number}",
            status=DeviceStatus.ACTIVE,
            platform="linux-amd64",
            created_at=self.now,
        )
        self.fleet.enrol("acme", token.sha256, made, certificate, event, now=self.now)
        return device

    def begin(self, product: str = "app", waves: tuple[WavePlan, ...] = WAVES) -> Rollout:
        """A rollout with its first wave open."""
        request = PlanRequest(product=product, version="1", waves=waves)
        made = self.engine.create("acme", request, by=ADA, now=self.event().at)
        self.engine.submit("acme", made.id, by=ADA, now=self.event().at)
        self.tick()
        return self.get(made)

    def get(self, rollout: Rollout) -> Rollout:
        return self.rollouts.get("acme", rollout.id)

    def tick(self) -> None:
        self.engine.tick("acme", self.event().at)

    def report(self, rollout: Rollout, device: str, progress: Progress = Progress.SUCCEEDED) -> bool:
        self.reports.append(device)
        report = Report(
            id=f"rep_{len(self.reports)}", rollout=rollout.id, attempt=1, progress=progress, at=self.event().at
        )
        return self.engine.record_report("acme", device, report)

    def finish_wave(self, rollout: Rollout) -> None:
        """Let every device that the wave reaches succeed, and the scheduler see it."""
        for number in range(1, 9):
            try:
                self.report(rollout, f"dev_{number}")
            except ReportRefused:
                continue
        self.tick()

    def seen(self, device: str) -> tuple[frozenset[str], tuple[str, ...]]:
        """Groups it is told, and those it is held back from."""
        shown, _ = self.fleet.device_by_fingerprint(f"{int(device.removeprefix('dev_')):064x}")
        assert shown == self.fleet.device("acme", device)
        return self.fleet.of_device("acme", device), shown.held_back


@pytest.fixture
def scene(database: Database) -> Scene:
    """``field`` with eight devices that enrolled into it, and ``lab`` with nobody."""
    fleet, rollouts, releases = SqlFleet(database), SqlRollouts(database), ReleasesSimulator()
    for product in ("app", "shell"):
        artifact = ArtifactRef(id=f"art_{product}", path=f"{product}/1/any/p", length=7, sha256="ab" * 32)
        releases.signed["acme", product, "1", "stable"] = {"any": artifact}
    engine = RolloutService(
        rollouts=rollouts,
        decisions=DecisionsSimulator(),
        releases=releases,
        groups=fleet,
        make_salt=lambda: "000102030405060708090a0b0c0d0e0f",
    )
    scene = Scene(fleet, rollouts, engine)
    for name in ("field", "lab"):
        group = Group(id=f"grp_{name}", org="acme", name=name, description="", created_at=NOON)
        fleet.add_group(group, scene.event())
    fleet.add_token(TOKEN, scene.event())
    fleet.add_token(replace(TOKEN, id="tok_2", sha256="0b" * 32, groups=("lab",), labels={}), scene.event())
    for number in range(1, 9):
        scene.enrol(number)
    return scene


LAB = replace(TOKEN, sha256="0b" * 32)


def test_a_device_put_in_by_hand_waits_for_the_next_wave(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    rollout = scene.begin()
    counted = scene.engine.expected(rollout, 1, scene.now)
    scene.fleet.join("acme", "grp_field", added, scene.event())

    assert scene.seen(added) == (frozenset({"lab"}), ("field",))
    assert scene.fleet.device("acme", added).groups == ("field", "lab")
    assert (scene.fleet.size("acme", "field"), scene.fleet.group("acme", "field").devices) == (8, 9)
    assert added not in scene.fleet.members("acme", "field")
    assert scene.engine.expected(scene.get(rollout), 1, scene.now) == counted
    with pytest.raises(ReportRefused):
        scene.report(rollout, added)

    scene.finish_wave(rollout)
    assert (scene.get(rollout).state, scene.seen(added)[1]) == (State.WAITING, ("field",))
    scene.tick()
    assert scene.get(rollout).state is State.RUNNING
    assert scene.seen(added) == (frozenset({"field", "lab"}), ())
    assert scene.fleet.size("acme", "field") == 9
    assert added in scene.fleet.members("acme", "field")
    assert scene.report(rollout, added)


def test_a_device_that_enrols_while_a_wave_is_open_falls_into_its_bucket(scene: Scene) -> None:
    rollout = scene.begin(waves=(WavePlan(group="field"),))
    late = scene.enrol(20)
    assert scene.seen(late) == (frozenset({"field"}), ())
    assert scene.engine.expected(scene.get(rollout), 1, scene.now) == 9
    assert scene.report(rollout, late)


def test_in_the_last_wave_an_added_device_waits_for_the_end(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    rollout = scene.begin(waves=(WavePlan(group="field"),))
    scene.fleet.join("acme", "grp_field", added, scene.event())
    assert scene.seen(added)[1] == ("field",)
    scene.finish_wave(rollout)
    assert scene.get(rollout).state is State.COMPLETED
    assert scene.seen(added) == (frozenset({"field", "lab"}), ())
    assert scene.report(rollout, added)


def test_pause_and_resume_let_nobody_in_and_an_abort_ends_the_waiting(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    rollout = scene.begin()
    scene.engine.pause("acme", rollout.id, reason="look", by=ADA, now=scene.event().at)
    scene.fleet.join("acme", "grp_field", added, scene.event())
    assert scene.seen(added)[1] == ("field",)
    scene.engine.resume("acme", rollout.id, reason="on", by=ADA, now=scene.event().at)
    assert scene.seen(added)[1] == ("field",)
    scene.engine.abort("acme", rollout.id, reason="enough", by=ADA, now=scene.event().at)
    assert scene.seen(added)[1] == ()


def test_while_no_wave_has_opened_an_edit_counts_at_once(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    waves = (WavePlan(group="field", gate=Gate(approvals=1)),)
    rollout = scene.begin(waves=waves)
    assert rollout.state is State.WAITING
    scene.fleet.join("acme", "grp_field", added, scene.event())
    assert scene.seen(added) == (frozenset({"field", "lab"}), ())
    assert scene.fleet.size("acme", "field") == 9


def test_a_wave_on_one_group_holds_nobody_back_from_another(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    scene.begin(waves=(WavePlan(group="lab"), WavePlan(group="field")))
    scene.fleet.join("acme", "grp_field", added, scene.event())
    assert scene.seen(added) == (frozenset({"field", "lab"}), ())


def test_any_later_wave_of_the_rollout_ends_the_waiting(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    rollout = scene.begin(waves=(WavePlan(group="field"), WavePlan(group="lab")))
    scene.fleet.join("acme", "grp_field", added, scene.event())
    scene.finish_wave(rollout)
    scene.tick()
    assert scene.get(rollout).wave == 2
    assert scene.seen(added)[1] == ()


def test_a_device_is_held_back_while_any_rollout_has_its_wave_open(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    app = scene.begin("app", (WavePlan(group="field"),))
    shell = scene.begin("shell", (WavePlan(group="field"),))
    scene.fleet.join("acme", "grp_field", added, scene.event())
    scene.finish_wave(app)
    assert (scene.get(app).state, scene.seen(added)[1]) == (State.COMPLETED, ("field",))
    scene.finish_wave(shell)
    assert scene.seen(added)[1] == ()


def test_taking_a_device_out_and_putting_it_back_is_an_edit(scene: Scene) -> None:
    scene.begin()
    scene.fleet.leave("acme", "grp_field", "dev_1", scene.event())
    assert scene.fleet.size("acme", "field") == 7
    scene.fleet.join("acme", "grp_field", "dev_1", scene.event())
    assert scene.seen("dev_1") == (frozenset(), ("field",))
    assert scene.fleet.size("acme", "field") == 7


def edit_selector(scene: Scene) -> None:
    group = scene.fleet.group("acme", "berlin")
    wider = replace(group, selector="labels.site in (berlin, munich)")
    scene.fleet.edit_group(wider, scene.event(), seen=group.revision)


def edit_labels(scene: Scene) -> None:
    scene.fleet.relabel("acme", "dev_20", lambda _: {"site": "berlin"}, scene.event())


@pytest.mark.parametrize("edit", [edit_selector, edit_labels])
def test_an_edit_of_a_selector_or_of_labels_is_held_back_too(scene: Scene, edit: Callable[[Scene], None]) -> None:
    group = Group(
        id="grp_berlin", org="acme", name="berlin", description="", created_at=NOON, selector="labels.site = berlin"
    )
    scene.fleet.add_group(group, scene.event())
    added = scene.enrol(20, LAB)
    scene.fleet.relabel("acme", added, lambda _: {"site": "munich"}, scene.event())
    rollout = scene.begin(waves=(WavePlan(group="berlin"),))
    edit(scene)
    assert scene.seen(added) == (frozenset({"lab"}), ("berlin",))
    assert scene.fleet.size("acme", "berlin") == 8
    scene.finish_wave(rollout)
    assert scene.seen(added) == (frozenset({"berlin", "lab"}), ())
    assert scene.fleet.size("acme", "berlin") == 9


def test_a_device_that_moves_by_what_it_runs_is_a_late_device(scene: Scene) -> None:
    group = Group(id="grp_apps", org="acme", name="apps", description="", created_at=NOON, selector="version(app) >= 2")
    scene.fleet.add_group(group, scene.event())
    scene.begin(waves=(WavePlan(group="field"), WavePlan(group="apps")))
    said = CheckIn(
        agent_version="1",
        hostname="h",
        os_family="linux",
        os_name="d",
        platform="linux-amd64",
        running=(Running(product="app", version="2.1", path="p", sha256="ab" * 32),),
        state="",
        at=scene.event().at,
    )
    scene.fleet.check_in("acme", "dev_1", said)
    assert scene.seen("dev_1") == (frozenset({"field", "apps"}), ())


def test_a_wave_counts_as_open_from_its_intent_on_and_no_longer_when_that_is_dropped(scene: Scene) -> None:
    added = scene.enrol(20, LAB)
    opened = scene.begin()
    before = replace(opened, state=State.WAITING, waves=(replace(opened.waves[0], opened_at=None), opened.waves[1]))
    scene.rollouts.save(before, [], seen=opened.revision)
    intent = Intent(
        id="int_1",
        seen=opened.revision,
        after=replace(opened, revision=opened.revision + 1),
        events=(),
        decision_hash="00" * 32,
        changes={},
        proposed_at=scene.now,
    )
    scene.rollouts.propose(intent)
    scene.fleet.join("acme", "grp_field", added, scene.event())
    assert scene.seen(added)[1] == ("field",)
    scene.rollouts.drop(intent)
    assert scene.seen(added)[1] == ()
