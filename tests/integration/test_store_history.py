"""What is kept of a device on both databases: when it came back, its steps, its events; and nights from the log."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import event, func, insert, select, text

from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from fleet.history import Entry, Place, Wanted
from fleet.metering import active_at, count_nights
from fleet.model import CheckIn, Device, DeviceStatus
from fleet.tidings import Tidings
from rollout.model import ArtifactRef, DeviceProgress, Plan, Progress, Rollout, State, Wave, WavePlan
from store.audit import AuditLog, encode_body
from store.database import Database
from store.fleet import SqlFleet
from store.fleet_rows import device_row
from store.history import SqlHistories
from store.metering import SqlMeter
from store.models import audit_events, device_returns, device_steps, devices
from store.returns import SqlTidings
from store.rollouts import SqlRollouts

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
PRESS, OTHER = new_id("dev"), new_id("dev")
SAID = CheckIn(
    agent_version="1",
    hostname="h",
    os_family="linux",
    os_name="Debian 12",
    platform="linux-arm64",
    running=(),
    state="idle",
    at=NOON,
)
EVERYTHING = Wanted()


@pytest.fixture
def fleet(database: Database) -> SqlFleet:
    """Two devices that have not called yet."""
    fleet = SqlFleet(database)
    with database.write() as connection:
        connection.execute(insert(devices), [device_row(a_device(one), {}) for one in (PRESS, OTHER)])
    return fleet


def a_device(device: str) -> Device:
    return Device(
        id=device,
        org="acme",
        name=f"gw-{device[-6:]}",
        status=DeviceStatus.ACTIVE,
        platform="linux-arm64",
        created_at=NOON,
    )


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def entries(database: Database, wanted: Wanted = EVERYTHING, limit: int = 50) -> list[Entry]:
    return [*SqlHistories(database).history("acme", PRESS, wanted, before=None, limit=limit)]


def calls(fleet: SqlFleet, *at: float) -> None:
    for minute in at:
        fleet.check_in("acme", PRESS, replace(SAID, at=minutes(minute)))


def test_calls_between_two_silences_are_one_entry(fleet: SqlFleet, database: Database) -> None:
    calls(fleet, 0, 5, 20, 40)
    fleet.seen_many("acme", {PRESS: minutes(45)})
    assert [(one.at, one.kind, one.details) for one in entries(database)] == [
        (
            minutes(40),
            "device.online",
            {
                "first_at": "2026-11-21T12:40:00Z",
                "last_at": "2026-11-21T12:45:00Z",
                "silent_since": "2026-11-21T12:20:00Z",
            },
        ),
        (
            NOON,
            "device.online",
            {"first_at": "2026-11-21T12:00:00Z", "last_at": "2026-11-21T12:20:00Z", "silent_since": None},
        ),
    ]


def test_a_call_within_the_span_of_the_fleet_is_no_return(fleet: SqlFleet, database: Database) -> None:
    slow = SqlFleet(database, online_within=timedelta(hours=3))
    calls(slow, 0, 170, 351)
    assert [one.at for one in entries(database)] == [minutes(351), NOON]


def test_a_device_that_calls_two_servers_at_once_is_back_once(fleet: SqlFleet, database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        for number in range(8):
            threads.submit(fleet.check_in, "acme", PRESS, replace(SAID, at=NOON + timedelta(milliseconds=number)))
    assert len(entries(database)) == 1


def test_a_heartbeat_writes_nothing_but_the_device_s_own_row(fleet: SqlFleet, database: Database) -> None:
    calls(fleet, 0)
    written: list[str] = []
    database.observe(lambda statement, _seconds: written.append(statement.split()[0] + " " + statement.split()[1]))
    fleet.seen_many("acme", {PRESS: minutes(5)})
    calls(fleet, 10)
    assert [one for one in written if not one.startswith(("SELECT", "BEGIN", "SAVEPOINT", "RELEASE", "SET"))] == [
        "UPDATE devices",
        "UPDATE devices",
    ]


def test_every_step_is_kept_with_its_artifact_and_a_repeated_report_is_none(
    fleet: SqlFleet, database: Database
) -> None:
    rollouts = SqlRollouts(database)
    rollouts.add(a_rollout(), AuditEvent("rollout.created", "rol_1", ADA, NOON))
    for minute, progress, code in ((1, Progress.DOWNLOADING, ""), (2, Progress.FAILED, "disk_full")):
        assert step(rollouts, minute, progress, code)
    assert not rollouts.update_progress("acme", "rol_1", PRESS, lambda _rollout, _row: None)
    failed, begun = entries(database)
    assert (failed.kind, failed.at, begun.kind) == ("device.update.failed", minutes(2), "device.update.downloading")
    assert failed.details == {
        "rollout_id": "rol_1",
        "wave": 1,
        "attempt": 1,
        "code": "disk_full",
        "detail": "",
        "product": "app",
        "version": "1.3.0",
        "artifact_id": "art_1",
        "target_path": "app/1.3.0/linux-arm64/app",
        "sha256": "cd" * 32,
        "serial": None,
    }


def test_a_step_of_a_device_that_is_gone_still_counts_and_leaves_nothing_of_it(
    fleet: SqlFleet, database: Database
) -> None:
    rollouts = SqlRollouts(database)
    rollouts.add(a_rollout(), AuditEvent("rollout.created", "rol_1", ADA, NOON))
    calls(fleet, 0)
    step(rollouts, 1, Progress.DOWNLOADING)
    fleet.delete("acme", PRESS, AuditEvent("device.deleted", PRESS, ADA, minutes(2)))
    assert step(rollouts, 3, Progress.SUCCEEDED)
    with database.read() as connection:
        for table in (device_returns, device_steps):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0
    assert rollouts.counters("rol_1")[1].succeeded == 1


def test_pages_go_through_all_three_sources_by_time_and_hold_still(fleet: SqlFleet, database: Database) -> None:
    rollouts, log = SqlRollouts(database), AuditLog(database)
    rollouts.add(a_rollout(), AuditEvent("rollout.created", "rol_1", ADA, NOON))
    calls(fleet, 0, 60)
    step(rollouts, 30, Progress.DOWNLOADING)
    step(rollouts, 60, Progress.SUCCEEDED)  # at the very moment of another entry
    told = [AuditEvent(f"device.told.{number}", PRESS, ADA, minutes(number)) for number in (10, 60, 90)]
    log.append("acme", [*told, AuditEvent("device.told", OTHER, ADA, NOON), AuditEvent("login", "usr_1", ADA, NOON)])
    log.append("rival", [AuditEvent("device.told", PRESS, ADA, NOON)])
    whole = entries(database)
    assert [one.kind for one in whole if one.at != minutes(60)] == [
        "device.told.90",
        "device.update.downloading",
        "device.told.10",
        "device.online",
    ]
    assert {one.kind for one in whole if one.at == minutes(60)} == {
        "device.told.60",
        "device.update.succeeded",
        "device.online",
    }
    for size in (1, 2, 3):
        paged: list[Entry] = []
        while True:
            place = Place(paged[-1].at, paged[-1].id) if paged else None
            page = SqlHistories(database).history("acme", PRESS, EVERYTHING, before=place, limit=size)
            if not page:
                break
            paged += page
            log.append("acme", [AuditEvent("device.told.later", PRESS, ADA, minutes(100))])
        assert [one.id for one in paged if one.kind != "device.told.later"] == [one.id for one in whole]


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        (Wanted(kind="device.update"), ["device.update.succeeded", "device.update.downloading"]),
        (Wanted(kind="device.update.downloading"), ["device.update.downloading"]),
        (Wanted(kind="device.online"), ["device.online"]),
        (Wanted(kind="device.tol"), []),
        (Wanted(kind="device.told"), ["device.told.a"]),
        (Wanted(since=minutes(1), until=minutes(3)), ["device.told.a", "device.update.downloading"]),
        (Wanted(kind="device", until=minutes(1)), ["device.online"]),
    ],
)
def test_entries_are_filtered_by_kind_and_time_and_counted(
    fleet: SqlFleet, database: Database, wanted: Wanted, kinds: list[str]
) -> None:
    rollouts = SqlRollouts(database)
    rollouts.add(a_rollout(), AuditEvent("rollout.created", "rol_1", ADA, NOON))
    calls(fleet, 0)
    step(rollouts, 1, Progress.DOWNLOADING)
    AuditLog(database).append("acme", [AuditEvent("device.told.a", PRESS, ADA, minutes(2))])
    step(rollouts, 3, Progress.SUCCEEDED)
    assert [one.kind for one in entries(database, wanted)] == kinds
    assert SqlHistories(database).count_history("acme", PRESS, wanted) == len(kinds)
    assert SqlHistories(database).history("rival", PRESS, wanted, before=None, limit=9) == []


def test_a_page_reads_along_indexes_and_sorts_nothing(fleet: SqlFleet, database: Database) -> None:
    """Of a device with many entries, so that the planner of PostgreSQL has something to plan."""
    body = encode_body("acme", 1, "evt_1", AuditEvent("device.told", PRESS, ADA, NOON))
    row = {"org": "acme", "tag": "device.told", "subject": PRESS, "device": PRESS, "body": body, "leaf_hash": b""}
    by = {"actor_kind": "user", "actor_id": "u", "actor_name": "U", "actor_credential": None}
    with database.write() as connection:
        for start in range(0, 5_000, 1_000):
            numbers = range(start + 10, start + 1_010)
            told = [row | by | {"seq": n, "id": f"evt_{n:06}", "at": minutes(n)} for n in numbers]
            connection.execute(insert(audit_events), told)
            back = [{"device": PRESS, "at": minutes(n), "id": f"ret_{n:06}", "org": "acme"} for n in numbers]
            connection.execute(insert(device_returns), [one | {"silent_since": None, "untold": False} for one in back])
    with database.write() as connection:
        connection.execute(text("ANALYZE"))
    plans = []
    engine = database._engine  # the plan of what is really asked, with its values
    prefix = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "

    def explain(connection, cursor, statement, parameters, context, executemany):  # type: ignore[no-untyped-def]
        if statement.startswith(("SELECT audit_events.id", "SELECT device_returns.id")):
            asked = connection.connection.cursor()
            asked.execute(prefix + statement, parameters)
            plans.append("\n".join(str(line[-1]) for line in asked.fetchall()))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        place = Place(minutes(2_500), "evt_002500")
        found = SqlHistories(database).history("acme", PRESS, EVERYTHING, before=place, limit=50)
    finally:
        event.remove(engine, "before_cursor_execute", explain)
    assert len(found) == 50
    events, returns = plans
    assert "ix_audit_events_device" in events
    assert "TEMP B-TREE FOR ORDER BY" not in events
    assert "Sort" not in events, events
    assert "pk_device_returns" in returns or "sqlite_autoindex_device_returns_1" in returns
    assert "TEMP B-TREE FOR ORDER BY" not in returns, returns
    assert "SCAN device_returns" not in returns
    assert "Seq Scan on device_returns" not in returns, returns


def test_a_return_is_told_once_by_whichever_process_comes_first(fleet: SqlFleet, database: Database) -> None:
    calls(fleet, 0, 5, 60)
    fleet.check_in("acme", OTHER, SAID)
    before = AuditLog(database).count("acme")
    both = [Tidings("acme", SqlTidings(database)) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        told = [*threads.map(lambda one: one.turn(minutes(61)), both)]
    assert sum(told) == 3
    events = AuditLog(database).events("acme", after_seq=before)
    assert sorted((one.event.subject, one.event.at) for one in events) == sorted(
        [(PRESS, NOON), (PRESS, minutes(60)), (OTHER, NOON)]
    )
    assert {one.event.tag for one in events} == {"device.online"}
    assert both[0].turn(minutes(62)) == 0
    assert Tidings("rival", SqlTidings(database)).turn(minutes(62)) == 0
    assert len(entries(database)) == 2, "the timeline has the calls summed up, and not the events again"


def test_a_failure_is_told_once_an_attempt(fleet: SqlFleet, database: Database) -> None:
    rollouts, tidings = SqlRollouts(database), Tidings("acme", SqlTidings(database))
    rollouts.add(a_rollout(), AuditEvent("rollout.created", "rol_1", ADA, NOON))
    step(rollouts, 1, Progress.DOWNLOADING)
    assert tidings.turn(minutes(1)) == 0
    step(rollouts, 2, Progress.FAILED, "disk_full")
    assert tidings.turn(minutes(2)) == 1
    step(rollouts, 3, Progress.ROLLED_BACK)
    assert tidings.turn(minutes(3)) == 0
    (told,) = [one.event for one in AuditLog(database).events("acme") if one.event.tag == "device.update.failed"]
    assert (told.subject, told.at, told.data["rollout"], told.data["code"]) == (PRESS, minutes(2), "rol_1", "disk_full")


def test_nights_counted_in_the_database_are_those_that_the_log_gives(database: Database) -> None:
    log, meter = AuditLog(database), SqlMeter(database)
    story = [
        (18, "device.created", PRESS),
        (18, "device.enrolled", PRESS),
        (19, "device.enrolled", OTHER),
        (19, "device.certificate.renewed", PRESS),
        (20, "device.revoked", PRESS),
        (20, "device.enrolled", PRESS),
        (21, "device.revoked", OTHER),
        (22, "device.deleted", OTHER),
        (23, "device.deleted", PRESS),
    ]
    for day, tag, device in story:
        at = datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC)
        log.append("acme", [AuditEvent(tag, device, ADA, at)])
    log.append("rival", [AuditEvent("device.enrolled", new_id("dev"), ADA, NOON)])
    # The first turn finds three nights over, the second all others: it makes up for two that were missed.
    count_nights(meter, "acme", datetime(2026, 11, 21, 0, 10, tzinfo=UTC))
    count_nights(meter, "acme", datetime(2026, 11, 24, 3, 0, tzinfo=UTC))
    count_nights(meter, "acme", datetime(2026, 11, 24, 4, 0, tzinfo=UTC))
    kept = meter.counted("acme", date(2026, 11, 1), date(2026, 11, 30))
    assert [(one.night.day, one.active) for one in kept] == [(18, 1), (19, 2), (20, 2), (21, 1), (22, 1), (23, 0)]
    recorded = [one.event for one in log.events("acme", limit=200)]
    for one in kept:
        assert active_at((told.tag, told.subject) for told in recorded if told.at < one.ended) == one.active
    assert meter.counted("rival", date(2026, 11, 1), date(2026, 11, 30)) == []


def test_a_night_is_kept_once_however_many_servers_count_it(database: Database) -> None:
    AuditLog(database).append("acme", [AuditEvent("device.enrolled", PRESS, ADA, NOON)])
    meter, later = SqlMeter(database), NOON + timedelta(days=1)
    with ThreadPoolExecutor(4) as threads:
        made = [*threads.map(lambda _: len(count_nights(meter, "acme", later)), range(4))]
    assert sorted(made) == [0, 0, 0, 1]
    assert [one.active for one in meter.counted("acme", NOON.date(), NOON.date())] == [1]


def a_rollout() -> Rollout:
    artifact = ArtifactRef(id="art_1", path="app/1.3.0/linux-arm64/app", length=7, sha256="cd" * 32)
    plan = Plan(
        product="app",
        version="1.3.0",
        channel="stable",
        artifacts={"linux-arm64": artifact},
        waves=(WavePlan(group="field"),),
    )
    return Rollout(
        id="rol_1",
        org="acme",
        plan=plan,
        plan_hash=plan.hash(),
        created_by=ADA,
        created_at=NOON,
        salt="ab" * 16,
        state=State.RUNNING,
        waves=(Wave(),),
    )


def step(rollouts: SqlRollouts, minute: float, progress: Progress, code: str = "") -> bool:
    def change(_rollout: Rollout, row: DeviceProgress | None) -> DeviceProgress:
        failures = (row.failures if row else 0) + int(progress is Progress.FAILED)
        return DeviceProgress(
            device=PRESS,
            wave=1,
            attempt=1,
            progress=progress,
            at=minutes(minute),
            code=code,
            detail="",
            failures=failures,
            finishes=0,
            last_report=f"rep_{minute}",
        )

    return rollouts.update_progress("acme", "rol_1", PRESS, change)


@pytest.fixture(autouse=True)
def closed(database: Database) -> Iterator[None]:
    yield
    database.close()
