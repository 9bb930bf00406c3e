"""Groups by selector on real databases: SQL answers as the rule does, and what is kept equals what is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import case, func, insert, select

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.errors import GroupInUse, UnknownGroup, WrongGroupKind
from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Group, Running
from fleet.selector import Fact, Selector, parse
from store.audit import AuditLog
from store.database import Database
from store.fleet import SqlFleet
from store.fleet_rows import device_row, write_labels
from store.models import devices, group_devices, group_sizes, metadata
from tests.simulators.selectors import LABEL_KEYS, LABEL_VALUES, PLATFORMS, PRODUCTS, selectors, versions

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
EVENT = AuditEvent("something.happened", "subject", ADA, NOON)
TOKEN = EnrolToken(
    id="tok_1",
    org="acme",
    name="line 3",
    sha256="0a" * 32,
    created_by="usr_ADA",
    created_at=NOON,
    expires_at=NOON + timedelta(days=365),
    max_uses=1_000,
    labels={"line": "3"},
)
SAID = CheckIn(
    agent_version="1",
    hostname="h",
    os_family="linux",
    os_name="Debian 12",
    platform="linux-amd64",
    running=(),
    state="",
    at=NOON,
)
ON_ONE_DATABASE = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def fleet(database: Database) -> SqlFleet:
    """Two static groups, ``canary`` and ``lab``, and a token."""
    fleet = SqlFleet(database)
    for name in ("canary", "lab"):
        fleet.add_group(a_group(name), EVENT)
    fleet.add_token(TOKEN, EVENT)
    return fleet


facts = st.fixed_dictionaries(
    {
        "labels": st.dictionaries(st.sampled_from(LABEL_KEYS), st.sampled_from(LABEL_VALUES)),
        "platform": st.sampled_from(PLATFORMS),
        "running": st.dictionaries(st.sampled_from(PRODUCTS), versions().filter(bool)),
        "seen": st.sampled_from([None, *(timedelta(hours=hours) for hours in (0.5, 3, 168, 192))]),
        "group": st.sampled_from([None, "canary", "lab"]),
        "revoked": st.booleans(),
    }
)


@ON_ONE_DATABASE
@given(made=st.lists(facts, min_size=1, max_size=8), wanted=st.lists(selectors(), min_size=1, max_size=8))
def test_a_selector_finds_in_sql_whom_it_holds_for_device_by_device(
    fleet: SqlFleet, database: Database, made: list[Mapping[str, object]], wanted: list[Selector]
) -> None:
    empty(database)
    for number, fact in enumerate(made):
        put(fleet, database, number, fact)
    everyone = fleet.devices("acme", after=None, limit=100, filters={})
    for selector in wanted:
        found = fleet.preview("acme", selector, now=NOON, limit=100)
        assert list(found.sample) == [device for device in everyone if selector.holds(device, NOON)], str(selector)
        active = [device for device in found.sample if device.status is DeviceStatus.ACTIVE]
        assert (found.devices, found.active) == (len(found.sample), len(active))


moves = st.lists(
    st.tuples(
        st.sampled_from(["enrol", "label", "check in", "join", "leave", "revoke", "delete", "edit", "sweep"]),
        st.integers(0, 4),
        facts,
        selectors(),
        st.sampled_from([timedelta(0), timedelta(hours=5), timedelta(days=8)]),
    ),
    max_size=14,
)


@ON_ONE_DATABASE
@given(first=selectors(), second=selectors(), moves=moves)
def test_whatever_happens_kept_members_and_sizes_are_true(
    fleet: SqlFleet,
    database: Database,
    first: Selector,
    second: Selector,
    moves: list[tuple[str, int, Mapping[str, object], Selector, timedelta]],
) -> None:
    empty(database)
    for name, selector in (("first", first), ("second", second)):
        fleet.add_group(a_group(name, selector), EVENT)
    now, number = NOON, 0
    for what, which, fact, selector, later in moves:
        now += later
        event = replace(EVENT, at=now)
        there = fleet.devices("acme", after=None, limit=100, filters={})
        if what == "enrol" or not there:
            number += 1
            enrol(fleet, f"dev_{number}", str(fact["platform"]), now)
            continue
        act(fleet, what, there[which % len(there)].id, fact, selector, event)
    for sweep in (False, True):
        if sweep:
            fleet.sweep("acme", now=now)
        everyone = fleet.devices("acme", after=None, limit=100, filters={})
        for name in ("first", "second"):
            selector = parse(fleet.group("acme", name).selector)
            # Between calls, time alone changes who was last seen when; only the sweep sees that.
            if sweep or all(term.fact is not Fact.LAST_SEEN for term in selector.terms):
                kept = [device.id for device in everyone if name in device.groups]
                assert kept == [device.id for device in everyone if selector.holds(device, now)], str(selector)
        assert kept_sizes(database) == counted_sizes(database)


def test_a_device_that_enrols_joins_what_its_labels_select(fleet: SqlFleet) -> None:
    fleet.add_group(a_group("line", parse("labels.line = 3")), EVENT)
    enrol(fleet, "dev_1", "linux-amd64", NOON)
    assert fleet.of_device("acme", "dev_1") == frozenset({"line"})
    assert fleet.device("acme", "dev_1").groups == ("line",)
    assert fleet.device("acme", "dev_1").held_back == ()
    assert fleet.group("acme", "line").devices == fleet.size("acme", "line") == 1
    assert fleet.size("rival", "line") == 0


def test_a_check_in_moves_a_device_between_groups(fleet: SqlFleet) -> None:
    fleet.add_group(a_group("old", parse("version(app) < 1.10")), EVENT)
    fleet.add_group(a_group("new", parse("version(app) >= 1.10")), EVENT)
    enrol(fleet, "dev_1", "linux-amd64", NOON)
    assert fleet.of_device("acme", "dev_1") == frozenset()
    fleet.check_in("acme", "dev_1", replace(SAID, running=(runs("app", "1.9"),)))
    assert fleet.of_device("acme", "dev_1") == frozenset({"old"})
    fleet.check_in("acme", "dev_1", replace(SAID, running=(runs("app", "1.10"),)))
    assert fleet.of_device("acme", "dev_1") == frozenset({"new"})
    assert [fleet.size("acme", name) for name in ("old", "new")] == [0, 1]


def test_a_static_group_and_what_selects_it_move_together(fleet: SqlFleet) -> None:
    fleet.add_group(a_group("rest", parse("labels.line exists and group != canary")), EVENT)
    enrol(fleet, "dev_1", "linux-amd64", NOON)
    assert fleet.of_device("acme", "dev_1") == frozenset({"rest"})
    fleet.join("acme", "grp_canary", "dev_1", EVENT)
    assert fleet.of_device("acme", "dev_1") == frozenset({"canary"})
    fleet.leave("acme", "grp_canary", "dev_1", EVENT)
    assert fleet.of_device("acme", "dev_1") == frozenset({"rest"})


def test_silence_is_noticed_by_the_sweep_and_its_end_by_the_check_in(fleet: SqlFleet) -> None:
    fleet.add_group(a_group("alive", parse("last_seen < 7d")), EVENT)
    fleet.add_group(a_group("silent", parse("last_seen > 7d")), EVENT)
    enrol(fleet, "dev_1", "linux-amd64", NOON)
    assert fleet.of_device("acme", "dev_1") == frozenset({"silent"})
    fleet.check_in("acme", "dev_1", SAID)
    assert fleet.of_device("acme", "dev_1") == frozenset({"alive"})
    assert fleet.sweep("acme", now=NOON + timedelta(days=6)) == 0
    assert fleet.sweep("acme", now=NOON + timedelta(days=8)) == 2
    assert fleet.of_device("acme", "dev_1") == frozenset({"silent"})
    fleet.check_in("acme", "dev_1", replace(SAID, at=NOON + timedelta(days=9)))
    assert fleet.of_device("acme", "dev_1") == frozenset({"alive"})


def test_a_group_keeps_its_kind_and_a_selector_names_static_groups_only(fleet: SqlFleet) -> None:
    fleet.add_group(a_group("field", parse("platform = linux-amd64")), EVENT)
    enrol(fleet, "dev_1", "linux-amd64", NOON)
    for wrong in (
        lambda: fleet.join("acme", "grp_field", "dev_1", EVENT),
        lambda: fleet.leave("acme", "grp_field", "dev_1", EVENT),
        lambda: edit(fleet, "canary", parse("platform = x"), EVENT),
        lambda: fleet.edit_group(replace(fleet.group("acme", "field"), selector=""), EVENT, seen=1),
        lambda: fleet.add_group(a_group("nest", parse("group = field")), EVENT),
        lambda: fleet.preview("acme", parse("group = field"), now=NOON, limit=1),
    ):
        with pytest.raises(WrongGroupKind):
            wrong()
    for missing in (
        lambda: fleet.add_group(a_group("nest", parse("group = nobody")), EVENT),
        lambda: edit(fleet, "field", parse("group = nobody"), EVENT),
        lambda: fleet.preview("rival", parse("group = canary"), now=NOON, limit=1),
    ):
        with pytest.raises(UnknownGroup, match="the selector names the group"):
            missing()
    assert fleet.of_device("acme", "dev_1") == frozenset({"field"})
    assert fleet.missing("acme", ["nest"]) == ["nest"]


def test_a_group_that_tokens_and_selectors_name_stays_and_is_told_by_whom(fleet: SqlFleet) -> None:
    fleet.add_token(replace(TOKEN, id="tok_2", sha256="0b" * 32, name="press", groups=("canary",)), EVENT)
    for number in (3, 4):
        named = replace(TOKEN, id=f"tok_{number}", sha256=f"0{number}" * 32, groups=("canary",))
        spent = replace(named, max_uses=1, uses=1) if number == 3 else replace(named, expires_at=NOON)
        fleet.add_token(spent, EVENT)
    fleet.add_group(a_group("rest", parse("group != canary")), EVENT)
    with pytest.raises(GroupInUse) as refused:
        fleet.delete_group("acme", "grp_canary", EVENT)
    assert str(refused.value) == (
        "the group canary is in use by enrolment token tok_2 (press); the selector of group rest; "
        "end or change that first"
    )
    fleet.delete_token("acme", "tok_2", EVENT)
    fleet.delete_group("acme", "grp_rest", EVENT)
    fleet.delete_group("acme", "grp_canary", EVENT)
    assert fleet.missing("acme", ["canary", "rest"]) == ["canary", "rest"]


def test_labels_that_stay_the_same_are_no_event(fleet: SqlFleet, database: Database) -> None:
    enrol(fleet, "dev_1", "linux-amd64", NOON)
    told = AuditLog(database).count("acme")
    assert fleet.relabel("acme", "dev_1", lambda labels: {**labels}, EVENT) is False
    assert AuditLog(database).count("acme") == told
    assert fleet.relabel("acme", "dev_1", lambda labels: {**labels, "site": "berlin"}, EVENT) is True
    assert fleet.device("acme", "dev_1").labels == {"line": "3", "site": "berlin"}
    assert AuditLog(database).count("acme") == told + 1


def act(
    fleet: SqlFleet, what: str, device: str, fact: Mapping[str, object], selector: Selector, event: AuditEvent
) -> None:
    match what:
        case "label":
            fleet.relabel("acme", device, lambda _: labels_of(fact), event)
        case "check in":
            fleet.check_in("acme", device, said(fact, event.at))
        case "join":
            fleet.join("acme", "grp_canary", device, event)
        case "leave":
            fleet.leave("acme", "grp_canary", device, event)
        case "revoke":
            fleet.revoke("acme", device, event)
        case "delete":
            fleet.delete("acme", device, event)
        case "edit":
            edit(fleet, "second", selector, event)
        case _:
            fleet.sweep("acme", now=event.at)


def empty(database: Database) -> None:
    """Each example begins with the fixture's two groups and nobody in them."""
    with database.write() as connection:
        connection.execute(metadata.tables["devices"].delete())
        group = metadata.tables["groups"]
        connection.execute(group.delete().where(group.c.selector.is_not(None)))
        connection.execute(group_sizes.update().values(devices=0, active=0))


def put(fleet: SqlFleet, database: Database, number: int, fact: Mapping[str, object]) -> None:
    device = a_device(f"dev_{number}", str(fact["platform"]))
    with database.write() as connection:
        connection.execute(insert(devices), device_row(device, labels_of(fact)))
        write_labels(connection, "acme", device.id, labels_of(fact))
    seen = fact["seen"]
    if isinstance(seen, timedelta):
        fleet.check_in("acme", device.id, said(fact, NOON - seen))
    if fact["group"] is not None:
        fleet.join("acme", f"grp_{fact['group']}", device.id, EVENT)
    if fact["revoked"]:
        fleet.revoke("acme", device.id, EVENT)


def labels_of(fact: Mapping[str, object]) -> dict[str, str]:
    labels = fact["labels"]
    assert isinstance(labels, dict)
    return labels


def said(fact: Mapping[str, object], at: datetime) -> CheckIn:
    running = fact["running"]
    assert isinstance(running, dict)
    programs = tuple(runs(product, version) for product, version in running.items())
    return replace(SAID, platform=str(fact["platform"]), running=programs, at=at)


def runs(product: str, version: str) -> Running:
    return Running(product=product, version=version, path="p", sha256="ab" * 32)


def enrol(fleet: SqlFleet, device: str, platform: str, now: datetime) -> None:
    certificate = Certificate(
        fingerprint=f"{device:f>64}", serial="1", device=device, not_before=now, not_after=now + timedelta(days=30)
    )
    fleet.enrol("acme", TOKEN.sha256, a_device(device, platform), certificate, EVENT, now=now)


def edit(fleet: SqlFleet, name: str, selector: Selector, event: AuditEvent) -> None:
    found = fleet.group("acme", name)
    fleet.edit_group(replace(found, selector=str(selector)), event, seen=found.revision)


def a_device(device: str, platform: str) -> Device:
    return Device(
        id=device, org="acme", name=f"n-{device}", status=DeviceStatus.ACTIVE, platform=platform, created_at=NOON
    )


def a_group(name: str, selector: Selector | None = None) -> Group:
    text = "" if selector is None else str(selector)
    return Group(id=f"grp_{name}", org="acme", name=name, description="", created_at=NOON, selector=text)


def kept_sizes(database: Database) -> dict[str, tuple[int, int]]:
    with database.read() as connection:
        return {row.group_id: (row.devices, row.active) for row in connection.execute(select(group_sizes))}


def counted_sizes(database: Database) -> dict[str, tuple[int, int]]:
    active = func.sum(case((devices.c.status == "active", 1), else_=0))
    query = (
        select(group_sizes.c.group_id, func.count(devices.c.id).label("devices"), active.label("active"))
        .join(group_devices, group_devices.c.group_id == group_sizes.c.group_id, isouter=True)
        .join(devices, devices.c.id == group_devices.c.device, isouter=True)
        .group_by(group_sizes.c.group_id)
    )
    with database.read() as connection:
        return {row.group_id: (int(row.devices), int(row.active)) for row in connection.execute(query)}
