"""What is excluded is never newly offered from the moment the command returned; counts and shares follow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from evidence.model import AuditEvent
from rollout import excluding
from rollout.errors import (
    InvalidExclusion,
    ReleaseBlocked,
    ReportRefused,
    TooManyExclusions,
    UnknownExclusion,
    UnknownFreeze,
)
from rollout.excluding import Exclusions
from rollout.exclusion import Entry, Exclusion, Kind, contains, decode_exclusions, exclusions_path
from rollout.freezing import Freeze, Freezes
from rollout.model import ArtifactRef, Gate, Progress, Rollout, State, WavePlan
from rollout.rules import Rules
from tests.unit.rollout.world import ANN, CANARY, FLEET, NOW, ORG, World

PATH = exclusions_path("firmware")


@dataclass
class ExclusionsSimulator:
    """Fulfils ``rollout.excluding.ExclusionRows``, in memory; ``before_add`` may stop the process there."""

    world: World
    kept: dict[str, Exclusion] = field(default_factory=dict)
    told: list[AuditEvent] = field(default_factory=list)
    before_add: Callable[[], None] = lambda: None

    def all(self, org: str) -> Sequence[Exclusion]:
        return [one for _, one in sorted(self.kept.items()) if one.org == org]

    def get(self, org: str, exclusion_id: str) -> Exclusion:
        if exclusion_id not in self.kept:
            raise UnknownExclusion(exclusion_id)
        return self.kept[exclusion_id]

    def add(self, exclusion: Exclusion, events: Sequence[AuditEvent], *, instead_of: Sequence[str] = ()) -> None:
        self.before_add()
        for gone in instead_of:
            del self.kept[gone]
        self.kept[exclusion.id] = exclusion
        self.told.extend(events)

    def match(self, org: str, exclusion_id: str, matched: Mapping[str, str]) -> None:
        self.kept[exclusion_id] = replace(self.get(org, exclusion_id), matched=matched)

    def remove(self, org: str, exclusion_id: str, event: AuditEvent) -> None:
        self.get(org, exclusion_id)
        del self.kept[exclusion_id]
        self.told.append(event)

    def products(self, org: str) -> Sequence[str]:
        return ["firmware"]

    def planned(self, org: str) -> Sequence[tuple[str, ArtifactRef]]:
        over = {State.ABORTED, State.SUPERSEDED}
        plans = [one.plan for one in self.world.rollouts.stored.values() if one.state not in over]
        return [(plan.product, artifact) for plan in plans for artifact in plan.artifacts.values()]


@dataclass
class FreezesSimulator:
    """Fulfils ``rollout.freezing.FreezeRows``, in memory."""

    kept: dict[str, Freeze] = field(default_factory=dict)

    def all(self, org: str) -> Sequence[Freeze]:
        return [*self.kept.values()]

    def get(self, org: str, freeze_id: str) -> Freeze:
        if freeze_id not in self.kept:
            raise UnknownFreeze(freeze_id)
        return self.kept[freeze_id]

    def add(self, freeze: Freeze, event: AuditEvent) -> None:
        self.kept[freeze.id] = freeze

    def remove(self, org: str, freeze_id: str, event: AuditEvent) -> None:
        del self.kept[freeze_id]


@dataclass
class House:
    """A world whose organisation has rules."""

    world: World = field(default_factory=World)
    packages: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = ExclusionsSimulator(self.world)
        self.exclusions = Exclusions(
            rows=self.rows,
            decisions=self.world.decisions,
            groups=self.world.groups,
            packages_of=lambda artifact: self.packages.get(artifact, frozenset()),
        )
        self.freezes = Freezes(rows=FreezesSimulator())
        rules = Rules(exclusions=self.exclusions, freezes=self.freezes)
        self.world.service = replace(self.world.service, rules=rules)

    def exclude(self, **what: object) -> Exclusion:
        more = {"reason": "overheats", **what}
        return self.exclusions.exclude(ORG, by=ANN, now=self.world.now, **more)  # type: ignore[arg-type]

    def entries(self) -> tuple[Entry, ...]:
        served = self.world.decisions.documents.get(PATH)
        return () if served is None else decode_exclusions(served, org=ORG, product="firmware")

    def offered(self, rollout: Rollout, device: str, group: str) -> bool:
        """Whether the documents served would let the device install the rollout's release."""
        if f"decisions/firmware/{group}.json" not in self.world.decisions.documents:
            return False
        if f"brakes/firmware/{group}.json" in self.world.decisions.documents:
            return False
        artifact = rollout.plan.artifacts["linux-amd64"]
        return not any(
            one.is_for(device, [group]) and one.forbids(rollout.plan.version, artifact.sha256, self.world.now)
            for one in self.entries()
        )


@pytest.fixture
def house() -> House:
    return House()


WHOLE_CANARY = (WavePlan(group="canary"),)
TWO = (WavePlan(group="canary", gate=Gate(min_reports=3)), WavePlan(group="fleet"))
NOES: list[dict[str, object]] = [
    {"device": "dev_c1"},
    {"device": "dev_c1", "product": "firmware"},
    {"device": "dev_c1", "product": "firmware", "version": "1.0"},
    {"device": "dev_c1", "package": "libfoo"},
    {"group": "canary"},
    {"group": "canary", "package": "pkg:deb/debian/libfoo"},
    {"product": "firmware", "version": "1.0"},
    {"package": "libfoo"},
    {"package": "pkg:deb/debian/libfoo@1.2", "product": "firmware"},
    {"device": "dev_c1", "product": "firmware", "version": "0.9", "kind": Kind.PIN},
]
WITH_LIBFOO = {"art_1.0_linux-amd64": frozenset({"libfoo", "pkg:deb/debian/libfoo@1.2"})}


def newly_offered(what: dict[str, object], when: str) -> bool:
    """Whether dev_c1 is offered 1.0 once it was excluded before, or while, the rollout ran."""
    house = House(packages=WITH_LIBFOO)
    world = house.world
    if when == "before":
        house.exclude(**what)
        try:
            rollout = world.running("1.0", WHOLE_CANARY)
        except ReleaseBlocked:
            return False
    elif when == "waiting":
        rollout = world.submitted("1.0", WHOLE_CANARY)
        house.exclude(**what)
    else:
        rollout = world.running("1.0", WHOLE_CANARY)
        house.exclude(**what)
        return house.offered(rollout, "dev_c1", "canary")
    world.tick()
    world.tick()
    return house.offered(rollout, "dev_c1", "canary")


@pytest.mark.parametrize("when", ["before", "waiting", "running"])
@pytest.mark.parametrize("what", NOES)
def test_what_is_excluded_is_never_newly_offered(what: dict[str, object], when: str) -> None:
    assert not newly_offered(what, when)


def lists_are_not_signed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exclusions, "_sign", lambda *args: None)


def packages_are_not_matched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(excluding, "contains", lambda packages, wanted: False)


def purls_are_compared_as_they_stand(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(excluding, "contains", lambda packages, wanted: wanted in packages)


def nothing_is_matched_before_a_wave_opens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exclusions, "prepare", lambda *args: None)


def pins_let_everything_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Entry, "forbids", _forbids_but_pins)


def groups_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Entry, "is_for", lambda self, device, groups: self.group is None and self.device in (None, device))


def exclusions_run_out_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exclusion, "stands", lambda self, now: False)


_true_forbids = Entry.forbids


def _forbids_but_pins(self: Entry, version: str, sha256: str, now: object) -> bool:
    return self.kind is not Kind.PIN and _true_forbids(self, version, sha256, NOW)


@pytest.mark.parametrize(
    "mutant",
    [
        lists_are_not_signed,
        packages_are_not_matched,
        purls_are_compared_as_they_stand,
        nothing_is_matched_before_a_wave_opens,
        pins_let_everything_in,
        groups_are_forgotten,
        exclusions_run_out_at_once,
    ],
)
def test_a_planted_mutant_does_not_survive(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    assert any(newly_offered(what, when) for what, when in itertools.product(NOES, ("before", "waiting", "running")))


def test_what_is_excluded_for_all_pauses_and_cannot_be_resumed_until_it_is_lifted(house: House) -> None:
    world = house.world
    rollout = world.running("1.0", WHOLE_CANARY)
    made = house.exclude(product="firmware", version="1.0")
    world.tick()
    assert world.get(rollout).paused_because == "firmware 1.0 is excluded: overheats"
    with pytest.raises(ReleaseBlocked):
        world.service.resume(ORG, rollout.id, reason="try", by=ANN, now=world.now, as_approver=True)

    house.exclusions.lift(ORG, made.id, by=ANN, now=world.now)

    assert house.entries() == ()
    assert world.service.resume(ORG, rollout.id, reason="ok", by=ANN, now=world.now).state is State.RUNNING


def test_an_excluded_device_is_not_waited_for(house: House) -> None:
    house.exclude(device="dev_c1")
    world = house.world
    rollout = world.running("1.0", TWO)
    assert world.service.expected(rollout, 1, world.now) == 2
    for device in ("dev_c2", "dev_c3"):
        world.report(rollout, device, Progress.SUCCEEDED)

    world.tick()

    assert world.get(rollout).waves[0].note == "wave 1: 2 of 2 devices succeeded"


def test_an_excluded_group_is_not_waited_for_wherever_its_devices_are(house: House) -> None:
    house.world.groups.devices["night"] = ["dev_c1", "dev_c2", "dev_f00"]
    rollout = house.world.submitted("1.0", TWO)
    house.exclude(group="night")
    counts = house.world.service.show(ORG, rollout.id, house.world.now).expected
    assert counts == {1: 1, 2: len(FLEET) - 1}


def test_a_new_pin_takes_the_place_of_the_one_before(house: House) -> None:
    pin: dict[str, object] = {"device": "dev_c1", "product": "firmware", "kind": Kind.PIN}
    house.exclude(**pin, version="1.0")
    second = house.exclude(**pin, version="2.0")

    assert [(one.id, one.version) for one in house.entries()] == [(second.id, "2.0")]
    assert house.exclusions.pin_of(ORG, "dev_c1", "firmware") == second
    assert [event.tag for event in house.rows.told] == ["exclusion.added", "exclusion.removed", "exclusion.added"]


def test_an_exclusion_that_ran_out_leaves_the_list_and_blocks_nothing(house: House) -> None:
    house.exclude(product="firmware", version="1.0", until=NOW + timedelta(hours=1))
    house.world.wait(3600)

    house.exclusions.sync(ORG, house.world.now)

    assert house.entries() == ()
    assert house.world.running("1.0", WHOLE_CANARY).state is State.RUNNING


def test_a_process_stopped_between_signing_and_recording_leaves_more_noes_and_a_sync_heals_it(house: House) -> None:
    def stop() -> None:
        raise RuntimeError("gone")

    house.rows.before_add = stop
    with pytest.raises(RuntimeError):
        house.exclude(device="dev_c1")
    assert [one.device for one in house.entries()] == ["dev_c1"]

    house.exclusions.sync(ORG, house.world.now)

    assert house.entries() == ()


def test_a_thousand_exclusions_fit_and_one_more_is_refused(house: House) -> None:
    for number in range(1000):
        device = f"dev_{number:026}"
        house.rows.kept[f"exc_{number:026}"] = Exclusion(
            id=f"exc_{number:026}", org=ORG, reason="é" * 50, by=ANN, at=NOW, device=device
        )
    house.exclusions.sync(ORG, house.world.now)
    assert len(house.world.decisions.documents[PATH]) <= 256 * 1024
    with pytest.raises(TooManyExclusions):
        house.exclude(device="dev_c1")


@pytest.mark.parametrize(
    ("packages", "wanted", "found"),
    [
        ({"libfoo"}, "libfoo", True),
        ({"libfoo2"}, "libfoo", False),
        ({"pkg:npm/a@1"}, "pkg:npm/a", True),
        ({"pkg:npm/ab@1"}, "pkg:npm/a", False),
        ({"pkg:npm/a@1?arch=x"}, "pkg:npm/a@1", True),
        ({"pkg:npm/a@10"}, "pkg:npm/a@1", False),
    ],
)
def test_a_package_is_a_name_or_a_purl_with_or_without_its_version(
    packages: set[str], wanted: str, found: bool
) -> None:
    assert contains(packages, wanted) is found


@pytest.mark.parametrize(
    ("package", "why"),
    [
        ("pkg:nonsense", "is no purl, expected pkg:TYPE/NAME such as pkg:pypi/requests@2.31.0"),
        ("pkg:npm/", "is no purl"),
        ("pkg:npm/two words", "is no purl"),
        ("https://example.com/libfoo", "is neither a package's name nor a purl"),
        (" libfoo", "is neither a package's name nor a purl"),
        ("***", "is neither a package's name nor a purl"),
        ("libfoo@1.2", "is a name with a version, which no SBOM has; write the name alone, or a purl"),
        ("@scope/libfoo@v1.2.3-rc.1", "is a name with a version"),
    ],
)
def test_what_no_sbom_calls_a_package_is_refused(house: House, package: str, why: str) -> None:
    with pytest.raises(InvalidExclusion, match=re.escape(why)):
        house.exclude(package=package)


@pytest.mark.parametrize(
    "package", ["libfoo", "@scope/libfoo", "org.example:lib-foo", "Foo Library", "pkg:npm/%40a/b@1"]
)
def test_what_an_sbom_may_call_a_package_is_taken(house: House, package: str) -> None:
    assert house.exclude(package=package).package == package


def test_a_reason_is_short_and_plain(house: House) -> None:
    for reason in ("", " ", "x" * 101, "a\x00b"):
        with pytest.raises(InvalidExclusion):
            house.exclude(device="dev_c1", reason=reason)


def test_a_wave_by_count_reaches_that_many_and_never_fewer(house: House) -> None:
    world = house.world
    waves = (
        WavePlan(group="fleet", count=5),
        WavePlan(group="fleet", count=20),
        WavePlan(group="fleet", percent=0.01),
    )
    rollout = world.running("1.0", waves)
    first = rollout.waves[0].reach
    assert first is not None
    assert world.service.expected(rollout, 1, world.now) == 5
    for _ in range(2):
        number = world.get(rollout).wave
        for device in FLEET:
            try:
                world.report(world.get(rollout), device, Progress.SUCCEEDED)
            except ReportRefused:  # not reached yet
                continue
        world.tick()
        assert world.get(rollout).waves[number - 1].state.value == "passed"
        world.tick()
    after = world.get(rollout)
    second = after.waves[1].reach
    assert second is not None
    assert second > first
    assert len(world.rollouts.rows) == 20
    # A share in percent behind them may be less; what was reached stays reached.
    cohort = world.decisions.documents["decisions/firmware/fleet.json"].decode()
    assert f'"to":{second}}}' in cohort


def test_a_count_above_the_group_reaches_who_is_in_it_now(house: House) -> None:
    rollout = house.world.running("1.0", (WavePlan(group="canary", count=50),))
    assert house.world.service.expected(rollout, 1, house.world.now) == len(CANARY)
    reach = rollout.waves[0].reach
    assert reach is not None
    assert reach < 10_000
