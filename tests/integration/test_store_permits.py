"""Permits on both databases: never more than the budget, whoever asks when, and none is lost for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, update

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Device, DeviceStatus, Group
from rollout.budget import Budget
from rollout.model import ArtifactRef, Plan, Progress, Report, RetryPolicy, Rollout, State, Wave, WavePlan, WaveState
from rollout.permits import PermitAnswer, Permits
from rollout.progress import advance
from store.database import Database
from store.fleet import SqlFleet
from store.fleet_rows import device_row, write_labels
from store.models import devices, group_devices
from store.permits import SqlPermits
from store.rollouts import SqlRollouts

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
EVENT = AuditEvent("something.happened", "subject", ADA, NOON)
RACERS = 8
ROUNDS = 6
BUDGET = Budget(label="site", max_updating=3)


class Bench:
    """``canary`` with sixteen devices: eight in Berlin, four in Oslo, four without a site."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fleet = SqlFleet(database)
        self.rollouts = SqlRollouts(database)
        self.permits = Permits(rows=SqlPermits(database), rollouts=self.rollouts, groups=self.fleet)
        self.fleet.add_group(Group(id="grp_1", org="acme", name="canary", description="", created_at=NOON), EVENT)
        sites = ["berlin"] * 8 + ["oslo"] * 4 + [""] * 4
        with database.write() as connection:
            for number, site in enumerate(sites):
                labels = {"site": site} if site else {}
                device = Device(
                    id=f"dev_{number:02}",
                    org="acme",
                    name=f"press-{number:02}",
                    status=DeviceStatus.ACTIVE,
                    platform="any",
                    created_at=NOON,
                )
                connection.execute(insert(devices), device_row(device, labels))
                write_labels(connection, "acme", device.id, labels)
                connection.execute(insert(group_devices), {"group_id": "grp_1", "device": device.id, "org": "acme"})

    def running(self, budget: Budget = BUDGET, rollout_id: str = "rol_1") -> Rollout:
        plan = replace(PLAN, budget=budget)
        rollout = replace(ROLLOUT, id=rollout_id, plan=plan, plan_hash=plan.hash())
        self.rollouts.add(rollout, EVENT)
        return rollout

    def ask(
        self, number: int, *, rollout: str = "rol_1", attempt: int = 1, after: timedelta = timedelta(0)
    ) -> PermitAnswer:
        return self.permits.ask("acme", f"dev_{number:02}", rollout, attempt, now=NOON + after)

    def report(self, rollout: Rollout, number: int, progress: Progress, attempt: int = 1) -> bool:
        device = f"dev_{number:02}"
        said = Report(
            id=f"rep_{number}_{attempt}_{progress}", rollout=rollout.id, attempt=attempt, progress=progress, at=NOON
        )
        groups = frozenset({"canary"})
        return self.rollouts.update_progress(
            "acme", rollout.id, device, lambda found, row: advance(found, row, said, device, groups)
        )

    def updating(self, *, after: timedelta = timedelta(0)) -> dict[str, int]:
        return dict(self.permits.rows.updating("acme", "site", now=NOON + after))

    def set_status(self, number: int, status: DeviceStatus) -> None:
        change = update(devices).where(devices.c.id == f"dev_{number:02}").values(status=status.value)
        with self.database.write() as connection:
            connection.execute(change)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def test_of_eight_that_race_exactly_as_many_as_the_budget_says_get_a_permit(bench: Bench) -> None:
    for round_ in range(ROUNDS):
        rollout = bench.running(rollout_id=f"rol_{round_}")
        start = threading.Barrier(RACERS)

        def race(number: int, rollout: Rollout = rollout, start: threading.Barrier = start) -> bool:
            start.wait()
            return bench.ask(number, rollout=rollout.id).granted

        with ThreadPoolExecutor(RACERS) as pool:
            granted = [*pool.map(race, range(RACERS))]
        assert sum(granted) == 3
        assert bench.updating() == {"berlin": 3}
        for number in range(RACERS):
            bench.permits.give_back("acme", f"dev_{number:02}", rollout.id)


def test_two_sites_race_beside_each_other_and_one_device_asks_many_times(bench: Bench) -> None:
    bench.running(Budget(label="site", max_updating=1))
    asked = [0, 0, 0, 8, 8, 8, 9, 12] * 2

    with ThreadPoolExecutor(RACERS) as pool:
        granted = [*pool.map(lambda number: bench.ask(number).granted, asked)]

    assert {number for number, yes in zip(asked, granted, strict=True) if yes} <= {0, 8, 9, 12}
    assert bench.updating() == {"berlin": 1, "oslo": 1, "": 1}


def test_all_but_two_of_a_site_update_at_once(bench: Bench) -> None:
    bench.running(Budget(label="site", min_available=2))
    assert [bench.ask(number).granted for number in (8, 9, 10, 11)] == [True, True, False, False]
    assert [bench.ask(number).granted for number in (12, 13, 14, 15)] == [True, True, False, False]
    bench.permits.give_back("acme", "dev_08", "rol_1")
    bench.set_status(11, DeviceStatus.REVOKED)
    assert bench.ask(10).reason == "1 of 3 devices with site=oslo are updating, 2 must stay available"


def test_a_device_that_never_reports_holds_others_up_no_longer_than_its_lease(bench: Bench) -> None:
    bench.running(Budget(label="site", max_updating=1, lease_seconds=600))
    assert bench.ask(0).granted
    almost = timedelta(seconds=599)
    assert bench.ask(1, after=almost).reason == "1 of at most 1 devices with site=berlin are updating"
    over = timedelta(seconds=600)
    assert bench.updating(after=over) == {}
    assert bench.ask(1, after=over).granted
    assert not bench.ask(0, after=over).granted


def test_a_device_switched_off_between_permit_and_install_finds_its_permit_again(bench: Bench) -> None:
    bench.running(Budget(label="site", max_updating=1, lease_seconds=600))
    bench.ask(0)
    later = timedelta(seconds=500)
    assert bench.ask(0, after=later).granted
    [permit] = bench.permits.rows.held("acme", "site", now=NOON + later, after=None, limit=9)
    assert (permit.granted_at, permit.expires_at) == (NOON, NOON + timedelta(seconds=1_100))
    assert not bench.ask(1, after=timedelta(seconds=1_099)).granted


@pytest.mark.parametrize(
    ("progress", "is_back"),
    [
        (Progress.DOWNLOADING, False),
        (Progress.INSTALLING, False),
        (Progress.SUCCEEDED, True),
        (Progress.FAILED, False),
        (Progress.ROLLED_BACK, True),
    ],
)
def test_the_report_of_a_result_ends_the_permit_but_a_failure_not_before_the_device_has_gone_back(
    bench: Bench, progress: Progress, is_back: bool
) -> None:
    rollout = bench.running(Budget(label="site", max_updating=1))
    bench.ask(0)
    assert bench.report(rollout, 0, progress)
    assert bench.ask(1).granted is is_back
    bench.permits.give_back("acme", "dev_00", "rol_1")
    bench.permits.give_back("acme", "dev_00", "rol_1")
    assert bench.ask(1).granted


def test_a_late_report_of_an_earlier_attempt_ends_no_later_permit(bench: Bench) -> None:
    rollout = bench.running(Budget(label="site", max_updating=1))
    bench.report(rollout, 0, Progress.FAILED)
    assert bench.ask(0, attempt=2).granted
    bench.report(rollout, 0, Progress.INSTALLING, attempt=2)
    assert not bench.report(rollout, 0, Progress.SUCCEEDED, attempt=1)
    assert bench.updating() == {"berlin": 1}
    assert bench.ask(0).reason == "attempt 1 of rol_1 is over for the device"


def test_a_revoked_device_s_permit_does_not_count_and_a_deleted_one_s_goes_with_it(bench: Bench) -> None:
    bench.running(Budget(label="site", max_updating=1))
    bench.ask(0)
    bench.set_status(0, DeviceStatus.REVOKED)
    assert bench.updating() == {}
    assert bench.ask(1).granted
    bench.fleet.delete("acme", "dev_01", EVENT)
    assert bench.updating() == {}
    assert bench.ask(2).granted


def test_permits_are_listed_by_value_and_paged(bench: Bench) -> None:
    bench.running(Budget(label="site", max_updating=2))
    for number in (0, 1, 8, 12):
        bench.ask(number)
    rows = bench.permits.rows
    first = rows.held("acme", "site", now=NOON, after=None, limit=3)
    assert [(one.value, one.device) for one in first] == [("", "dev_12"), ("berlin", "dev_00"), ("berlin", "dev_01")]
    last = first[-1]
    rest = rows.held("acme", "site", now=NOON, after=(last.value, last.device, last.rollout), limit=3)
    assert [(one.value, one.device) for one in rest] == [("oslo", "dev_08")]
    assert rows.held("rival", "site", now=NOON, after=None, limit=3) == []
    assert rows.give_back("rival", "rol_1", "dev_00") is False


PLAN = Plan(
    product="app",
    version="1.0",
    channel="stable",
    artifacts={"any": ArtifactRef(id="art_1", path="app/1.0/any/app.bin", length=1, sha256="ab" * 32)},
    waves=(WavePlan(group="canary"),),
    retry=RetryPolicy(count=1),
)
ROLLOUT = Rollout(
    id="rol_1",
    org="acme",
    plan=PLAN,
    plan_hash=PLAN.hash(),
    created_by=ADA,
    created_at=NOON,
    salt="00" * 16,
    state=State.RUNNING,
    wave=1,
    waves=(Wave(state=WaveState.OPEN, opened_at=NOON, opened_revision=3),),
    submitted_at=NOON,
)
