"""Disruption budgets: what a plan may say of one, and who gets a permit when."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from rollout.budget import Budget
from rollout.decision import MalformedDocument, decode_decision
from rollout.documents import documents
from rollout.errors import InvalidPlan, UnknownRollout
from rollout.model import Gate, Progress, RetryPolicy, Rollout, WavePlan
from rollout.permits import PermitAnswer, Permits
from rollout.plan import plan_faults, plan_from_dict
from tests.simulators.permits import PermitRowsSimulator
from tests.unit.rollout.world import ANN, CREATOR, ORG, World, artifact, request

ONE_A_SITE = Budget(label="site", max_updating=1)
SITES = {"dev_c1": {"site": "berlin"}, "dev_c2": {"site": "berlin"}, "dev_c3": {"site": "oslo"}}
TOLERANT = Gate(max_failure_rate_percent=None, min_reports=3)


@dataclass
class Site:
    """The small world with permits: dev_c1 and dev_c2 are in Berlin, dev_c3 in Oslo, the others nowhere."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.rows = PermitRowsSimulator(labels=SITES, members=self.world.groups.devices, rows=self.world.rollouts.rows)
        self.permits = Permits(rows=self.rows, rollouts=self.world.rollouts, groups=self.world.groups)

    def running(self, budget: Budget | None = ONE_A_SITE, version: str = "1.0", **more: object) -> Rollout:
        waves = (WavePlan(group="canary", gate=TOLERANT), WavePlan(group="fleet"))
        return self.world.running(version, waves, budget=budget, **more)

    def ask(self, rollout: Rollout, device: str, attempt: int = 1) -> PermitAnswer:
        return self.permits.ask(ORG, device, rollout.id, attempt, now=self.world.now)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize(
    ("budget", "devices", "limit"),
    [
        (Budget(label="site", max_updating=2), 0, 2),
        (Budget(label="site", min_available=2), 5, 3),
        (Budget(label="site", min_available=2), 2, 0),
        (Budget(label="site", min_available=2), 1, 0),
    ],
)
def test_a_budget_is_at_most_so_many_or_all_but_so_many(budget: Budget, devices: int, limit: int) -> None:
    assert budget.limit(devices) == limit


@pytest.mark.parametrize(
    ("budget", "where"),
    [
        (Budget(label="Site", max_updating=1), "budget.label"),
        (Budget(label="", max_updating=1), "budget.label"),
        (Budget(label="site"), "budget"),
        (Budget(label="site", max_updating=1, min_available=1), "budget"),
        (Budget(label="site", max_updating=0), "budget.max_updating"),
        (Budget(label="site", min_available=-1), "budget.min_available"),
        (Budget(label="site", max_updating=1, lease_seconds=59), "budget.lease_seconds"),
        (Budget(label="site", max_updating=1, lease_seconds=2_592_001), "budget.lease_seconds"),
    ],
)
def test_budgets_that_cannot_be_are_told(budget: Budget, where: str) -> None:
    plan = request(budget=budget).with_artifacts({"linux-amd64": artifact("1.0")})
    assert [fault[0] for fault in plan_faults(plan)] == [where]


def test_a_garbled_budget_is_an_invalid_plan(site: Site) -> None:
    told = json.loads(json.dumps({"label": 1, "max_updating": "1", "lease_seconds": 60, "more": 1}))
    with pytest.raises(InvalidPlan) as refused:
        plan_from_dict({"budget": told})
    found = {where for where, _ in refused.value.details if where.startswith("budget")}
    assert found == {"budget.label", "budget.max_updating", "budget.min_available", "budget.more"}


def test_the_budget_is_signed_in_a_format_that_agents_without_permits_leave_out(site: Site) -> None:
    document = documents(site.running())["decisions/firmware/canary.json"]
    told = json.loads(document)
    assert told["format"] == 2
    assert told["budget"] == {"label": "site", "lease_seconds": 3600, "max_updating": 1, "min_available": None}
    assert decode_decision(document).budget == ONE_A_SITE
    for broken in (b'"max_updating":0', b'"max_updating":"1"', b'"max_updating":1,"most":1'):
        with pytest.raises(MalformedDocument, match="budget"):
            decode_decision(document.replace(b'"max_updating":1', broken))


def test_without_a_budget_a_decision_has_the_bytes_it_always_had(site: Site) -> None:
    document = documents(site.running(budget=None))["decisions/firmware/canary.json"]
    assert b"budget" not in document
    assert json.loads(document)["format"] == 1


def test_one_device_of_a_site_gets_the_permit_and_another_site_is_not_asked(site: Site) -> None:
    rollout = site.running()
    assert site.ask(rollout, "dev_c1") == PermitAnswer(granted=True, lease_seconds=3600)
    assert site.ask(rollout, "dev_c2") == PermitAnswer(
        granted=False, reason="1 of at most 1 devices with site=berlin are updating"
    )
    assert site.ask(rollout, "dev_c3").granted
    assert site.permits.words(rollout, site.world.now) == "; hold a permit: 1 at site=berlin, 1 at site=oslo"


def test_asked_again_it_is_the_same_permit_with_its_time_begun_anew(site: Site) -> None:
    rollout = site.running()
    first = site.world.now
    site.ask(rollout, "dev_c1")
    site.world.wait(3_000)
    assert site.ask(rollout, "dev_c1").granted
    permit = site.rows.kept[rollout.id, "dev_c1"]
    assert (permit.granted_at, permit.expires_at) == (first, first + timedelta(seconds=6_600))
    site.world.wait(3_599)
    assert not site.ask(rollout, "dev_c2").granted
    site.world.wait(1)
    assert site.ask(rollout, "dev_c2").granted


def test_a_device_that_was_given_another_label_counts_where_it_began(site: Site) -> None:
    rollout = site.running()
    site.ask(rollout, "dev_c1")
    site.rows.labels = SITES | {"dev_c1": {"site": "oslo"}}
    assert site.ask(rollout, "dev_c1").granted
    assert not site.ask(rollout, "dev_c2").granted
    assert site.ask(rollout, "dev_c3").granted


def test_devices_without_the_label_count_together(site: Site) -> None:
    site.rows.labels = {}
    rollout = site.running()
    assert site.ask(rollout, "dev_c1").granted
    assert site.ask(rollout, "dev_c2").reason == "1 of at most 1 devices with no site are updating"


def test_all_but_so_many_counts_active_devices_of_the_plan_s_groups(site: Site) -> None:
    site.rows.labels = {name: {"site": "berlin"} for name in ("dev_c1", "dev_c2", "dev_c3", "dev_stranger")}
    rollout = site.running(Budget(label="site", min_available=2))
    assert site.ask(rollout, "dev_c1").granted
    assert site.ask(rollout, "dev_c2").reason == ("1 of 3 devices with site=berlin are updating, 2 must stay available")
    site.permits.give_back(ORG, "dev_c1", rollout.id)
    site.rows.inactive = {"dev_c3"}
    assert site.ask(rollout, "dev_c1").reason == ("0 of 2 devices with site=berlin are updating, 2 must stay available")


def test_rollouts_over_one_label_share_their_permits(site: Site) -> None:
    first = site.running()
    second = replace(first, id="rol_of_another_product")
    site.world.rollouts.stored[second.id] = second
    assert site.ask(first, "dev_c1").granted
    assert not site.ask(second, "dev_c2").granted
    assert site.ask(second, "dev_c1").granted, "one device updates once, whatever it updates"


def test_who_is_not_reached_or_was_not_offered_the_attempt_gets_none(site: Site) -> None:
    rollout = site.running()
    assert site.ask(rollout, "dev_f00").reason == f"no opened wave of {rollout.id} reaches the device"
    assert site.ask(rollout, "dev_c1", attempt=2).reason == (f"attempt 2 of {rollout.id} was not offered to the device")
    with pytest.raises(UnknownRollout):
        site.permits.ask(ORG, "dev_c1", "rol_none", 1, now=site.world.now)
    with pytest.raises(UnknownRollout):
        site.permits.ask("rival", "dev_c1", rollout.id, 1, now=site.world.now)
    assert site.rows.kept == {}


def test_a_stopped_rollout_gives_no_permit_and_a_resumed_one_does(site: Site) -> None:
    rollout = site.running()
    service, world = site.world.service, site.world
    service.pause(ORG, rollout.id, reason="wait", by=CREATOR, now=world.now)
    assert site.ask(rollout, "dev_c1").reason == f"{rollout.id} is stopped: wait"
    service.resume(ORG, rollout.id, reason="go", by=ANN, now=world.now)
    assert site.ask(rollout, "dev_c1").granted


@pytest.mark.parametrize("result", [Progress.SUCCEEDED, Progress.FAILED, Progress.ROLLED_BACK])
def test_a_call_that_comes_after_the_result_takes_no_permit(site: Site, result: Progress) -> None:
    rollout = site.running(retry=RetryPolicy(count=1))
    site.world.report(rollout, "dev_c1", result)
    assert site.ask(rollout, "dev_c1").reason == f"attempt 1 of {rollout.id} is over for the device"
    assert site.ask(rollout, "dev_c1", attempt=2).granted


def test_a_plan_without_a_budget_needs_no_permit_and_keeps_none(site: Site) -> None:
    rollout = site.running(budget=None)
    assert site.ask(rollout, "dev_c1") == PermitAnswer(granted=True, reason="the plan has no budget")
    assert site.rows.kept == {}
    assert site.permits.words(rollout, site.world.now) == ""


def test_the_line_names_a_few_places_and_says_how_many_more(site: Site) -> None:
    site.rows.labels = {f"dev_f{number:02}": {"site": f"s{number % 5}"} for number in range(40)}
    world = site.world
    rollout = world.running("1.0", (WavePlan(group="fleet"),), budget=Budget(label="site", max_updating=9))
    assert site.permits.words(rollout, world.now) == "; no device holds a permit"
    for number in (0, 1, 2, 3, 4, 5, 6, 10):
        assert site.ask(rollout, f"dev_f{number:02}").granted
    assert site.permits.words(rollout, world.now) == (
        "; hold a permit: 3 at site=s0, 2 at site=s1, 1 at site=s2 and 2 more places"
    )
