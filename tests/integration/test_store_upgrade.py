"""A home that the first release filled, brought to this release: nothing is lost, and all of it is read."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    LargeBinary,
    MetaData,
    create_engine,
    insert,
    select,
    text,
)

from api.app import create_app
from api.settings import read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from evidence.people import Role
from fleet.history import Wanted, words
from rollout.machine import replay
from rollout.model import Counters, Progress, State
from store.accounts import Accounts
from store.artifacts import ArtifactIndex
from store.audit import AuditLog, leaf_hash
from store.database import Database
from store.errors import DatabaseNotMigrated, DatabaseTooNew
from store.fleet import SqlFleet
from store.history import SqlHistories
from store.models import device_returns
from store.organisations import Organisations
from store.rollouts import SqlRollouts
from tests.databases import new_database

FIRST = json.loads((Path(__file__).parents[1] / "assets" / "upgrade" / "first_release.json").read_text("utf-8"))
TOLD: dict[str, Any] = FIRST["told"]
TABLES: dict[str, list[dict[str, Any]]] = FIRST["tables"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database as the first release left it, brought to this release by one test after the other."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('upgrade') / 'wavegate.db'}"
        return
    with new_database(request.getfixturevalue("postgresql_url")) as made:
        yield made


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[Engine]:
    made = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with made.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "store:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        fill(connection)
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def upgraded(engine: Engine, url: str) -> Iterator[Database]:
    database = Database(url)
    with pytest.raises(DatabaseNotMigrated, match=r"has schema 0001, this program needs \d+; migrate it first"):
        database.check_schema()
    database.migrate()
    yield database
    database.close()


def fill(connection: Connection) -> None:
    tables = MetaData()
    tables.reflect(connection)
    assert {table.name for table in tables.sorted_tables} == {*TABLES, "alembic_version"}, "a table has no data"
    for table in tables.sorted_tables:
        for row in TABLES.get(table.name, []):
            connection.execute(insert(table), {name: value_of(table.c[name], told) for name, told in row.items()})


def value_of(column: Column[Any], told: Any) -> Any:
    """What stands in a column, from JSON."""
    if told is None:
        return None
    if isinstance(column.type, DateTime):
        moment = datetime.fromisoformat(told)
        return moment.replace(tzinfo=UTC) if column.type.timezone else moment
    if isinstance(column.type, LargeBinary):
        return base64.b64decode(told["base64"])
    return bool(told) if isinstance(column.type, Boolean) else told


def test_every_row_of_the_first_release_is_there_with_every_value(upgraded: Database, engine: Engine) -> None:
    tables = MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        for name, rows in TABLES.items():
            table = tables.tables[name]
            found = [dict(row) for row in connection.execute(table.select()).mappings()]
            for row in rows:
                wanted = {column: value_of(table.c[column], told) for column, told in row.items()}
                assert wanted in [{column: one[column] for column in wanted} for one in found], (name, row)
            assert len(found) == len(rows), name


def test_accounts_are_read(upgraded: Database) -> None:
    accounts = Accounts(upgraded)
    assert [one.slug for one in Organisations(upgraded).all()] == ["acme"]
    assert {user.email: user.role for user in accounts.users("acme") if user.email} == {
        "admin@example.com": Role.ADMIN,
        "ann@example.com": Role.APPROVER,
        "ben@example.com": Role.VIEWER,
    }
    found = accounts.key_by_sha256(sha256(TOLD["api_key"]))
    assert found is not None
    assert (found[0].revoked_at, found[1].role) == (None, Role.OPERATOR)
    assert found[0].scope is None, "a key of the first release may do what it could"
    assert [key.name for key, _ in accounts.keys("acme")] == [found[0].name], "the revoked one is not listed"
    session = accounts.session_by_sha256(sha256(TOLD["login"]))
    assert session is not None
    assert session[1].email == "admin@example.com"


def test_artifacts_are_read(upgraded: Database) -> None:
    index = ArtifactIndex(upgraded, "acme")
    one = index.get(TOLD["one"])
    assert (one.path, one.notes, one.labels) == ("fw/1.0/any/fw.bin", "first\nöffentlich", {"line": "a"})
    assert one.sha256 == sha256("firmware 1.0")
    assert [sbom.format for sbom in index.sboms_of(one.id)] == ["cyclonedx-json"]
    assert index.get(TOLD["two"]).security is True
    yanked = [record for record in index.list() if record.yanked is not None]
    assert [(record.version, record.yanked.reason) for record in yanked if record.yanked] == [("0.8", "broken")]
    assert index.projected_serial() == TABLES["repository_state"][0]["projected_serial"]


def test_the_log_is_read_and_its_leaves_are_what_they_were(upgraded: Database) -> None:
    events = AuditLog(upgraded).events("acme", limit=100)
    assert [event.seq for event in events] == list(range(1, 30))
    for row in TABLES["audit_events"]:
        assert leaf_hash(base64.b64decode(row["body"]["base64"])) == base64.b64decode(row["leaf_hash"]["base64"])


def test_the_fleet_is_read(upgraded: Database) -> None:
    fleet = SqlFleet(upgraded)
    devices = fleet.devices("acme", after=None, limit=10, filters={})
    assert [(device.name, device.status) for device in devices] == [
        ("box-0", "active"),
        ("box-1", "active"),
        ("box-2", "active"),
        ("box-3", "revoked"),
    ]
    assert devices[0].labels == {"site": "b"}
    assert devices[0].running["fw"].version == "0.9"
    assert [(group.name, group.devices) for group in fleet.groups("acme", after=None, limit=10)] == [
        ("canary", 4),
        ("everyone", 4),
    ]
    (token,) = fleet.tokens("acme", after=None, limit=10)
    assert (token.name, token.uses, token.max_uses, token.groups) == ("lab", 4, 9, ("canary", "everyone"))
    for row in TABLES["device_certificates"]:
        assert fleet.device_by_fingerprint(row["fingerprint"])[0].id == row["device"]


def test_what_happened_to_a_device_before_stands_in_its_history(upgraded: Database) -> None:
    device, histories = TOLD["devices"][0], SqlHistories(upgraded)
    told = histories.history("acme", device, Wanted(), before=None, limit=50)
    assert [one.kind for one in told] == ["device.online", "device.enrolled"]
    assert words(told[1]) == "enrolled by an enrolment token into canary, everyone"
    assert told[0].details["silent_since"] is None
    revoked = histories.history("acme", TOLD["devices"][3], Wanted(kind="device.revoked"), before=None, limit=50)
    assert len(revoked) == 1
    with upgraded.read() as connection:
        assert not connection.execute(select(device_returns.c.untold).where(device_returns.c.untold.is_(True))).all()


def test_rollouts_are_read_and_are_what_their_history_says(upgraded: Database) -> None:
    rollouts = SqlRollouts(upgraded)
    moving, draft = rollouts.get("acme", TOLD["moving"]), rollouts.get("acme", TOLD["draft"])
    assert (moving.state, moving.plan.version, moving.paused_because) == (State.PAUSED, "1.0", "lunch")
    assert draft.state is State.DRAFT
    for one in (moving, draft):
        assert replay(rollouts.events("acme", one.id)) == one
    assert rollouts.counters(moving.id) == {1: Counters(acting=3, succeeded=1, failed=1, failures=1, finishes=2)}
    kept, counted = rollouts.recount("acme", moving.id)
    assert kept == counted
    found = rollouts.devices("acme", moving.id, after=None, limit=10)
    assert [(one.device, one.progress) for one in found] == [
        (TOLD["devices"][0], Progress.SUCCEEDED),
        (TOLD["devices"][1], Progress.FAILED),
        (TOLD["devices"][2], Progress.DOWNLOADING),
    ]
    (intent,) = rollouts.intents("acme")
    assert (intent.seen, intent.after.state) == (moving.revision, State.RUNNING)


def test_the_api_answers_from_it_and_takes_new_work(upgraded: Database, url: str, tmp_path: Path) -> None:
    settings = read_settings({"WAVEGATE_HOME": str(tmp_path / "home"), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"})
    initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    wiring = open_wavegate(replace(settings, database_url=url))
    client = create_app(wiring).test_client()
    login = client.post("/api/v1/auth/token", json={"email": "ann@example.com", "password": "a long enough password"})
    assert login.status_code == 200, login.text
    headers = {"Authorization": f"Bearer {login.get_json()['token']}"}
    for path, expected in (("artifacts", 4), ("devices", 4), ("groups", 2), ("rollouts", 2)):
        answer = client.get(f"/api/v1/{path}", headers=headers)
        assert answer.status_code == 200, answer.text
        assert len(answer.get_json()["items"]) == expected, path
    shown = client.get(f"/api/v1/rollouts/{TOLD['moving']}", headers=headers)
    assert shown.get_json()["state"] == "paused"
    renamed = client.patch("/api/v1/profile", json={"name": "Ann"}, headers=headers)
    assert (renamed.status_code, renamed.get_json().get("name")) == (200, "Ann"), renamed.text
    assert wiring.audit.events("acme", after_seq=29, limit=10)[-1].event.by.name == "ann"
    wiring.close()


def test_a_database_of_a_later_release_is_refused_and_there_is_no_way_back(upgraded: Database) -> None:
    before = upgraded.schema_version()
    with upgraded.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (upgraded.migrate, upgraded.check_schema):
        with pytest.raises(DatabaseTooNew, match=r"there is no way back but a backup made before"):
            refused()
    with upgraded.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :before"), {"before": before})


def sha256(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()
