"""A crash at every step of a rollout's transitions, over a real database and a real repository.

The steps are those of the two stores together: writing the intent, every change of the repository's disk, projecting,
settling. After each crash everything is opened anew, as a restarted server does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from api.settings import Settings, read_settings
from api.setup import initialise
from api.wiring import SignedDecisions, keys_folder, repository_folder
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Group
from keys.keyring import Keyring
from repo_signing.model import NewArtifact
from repo_signing.repository import SignedRepository
from repo_signing.storage import LocalStorage
from rollout.aftermath import Aftermath
from rollout.documents import documents
from rollout.machine import replay
from rollout.model import AbortMode, Gate, Rollout, State, WavePlan
from rollout.plan import PlanRequest
from rollout.service import RolloutService
from store.artifacts import ArtifactIndex, SqlReleases
from store.database import Database
from store.fleet import SqlFleet
from store.rollouts import SqlRollouts
from tests.databases import Databases
from tests.simulators.repository import StockClient
from tests.simulators.repository_faults import Crash, Faults, FaultyStorage

ANN = Actor(ActorKind.USER, "usr_ann", "Ann")
BEN = Actor(ActorKind.USER, "usr_ben", "Ben")
ORG = "acme"
NOW = datetime.now(UTC)
PATHS = ("decisions/fw/everyone.json", "brakes/fw/everyone.json")


class Stepped:
    """A real part of the store, each of its writing transactions under a fault."""

    def __init__(self, store: SqlRollouts | ArtifactIndex, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in {"propose", "settle", "drop", "save", "add", "project"}:
            return method
        return lambda *args, **kwargs: self._faults.step(name, lambda: method(*args, **kwargs))


class Opened:
    """A home as one process has it open."""

    def __init__(self, settings: Settings, faults: Faults | None = None) -> None:
        self.db = Database(settings.database_url)
        self.store = SqlRollouts(self.db)
        self.fleet = SqlFleet(self.db)
        storage: LocalStorage = LocalStorage() if faults is None else FaultyStorage(faults)
        keyring, folder = Keyring(keys_folder(settings, ORG)), repository_folder(settings, ORG)
        index: Any = ArtifactIndex(self.db, ORG)
        rollouts: Any = self.store
        if faults is not None:
            index, rollouts = Stepped(index, faults), Stepped(self.store, faults)
        self.repository = SignedRepository(folder, keyring, index, storage=storage)
        self.service = RolloutService(
            rollouts=rollouts,
            decisions=SignedDecisions(self.repository),
            releases=SqlReleases(self.db),
            groups=self.fleet,
        )

    def rollout(self) -> Rollout:
        [found] = self.store.list(ORG, after=None, limit=10)
        return found


Move = Callable[[Opened], object]


def open_wave(home: Opened) -> object:
    home.service.tick(ORG, NOW)
    return None


def move(name: str) -> Move:
    def made(home: Opened) -> object:
        rollout, act = home.rollout(), getattr(home.service, name)
        more: dict[str, object] = {"mode": AbortMode.ROLL_BACK} if name == "abort" else {}
        return act(ORG, rollout.id, reason="because", by=BEN, now=NOW, **more)

    return made


def stop(home: Opened) -> object:
    return home.service.abort(ORG, home.rollout().id, reason="because", by=BEN, now=NOW)


def call_back(home: Opened) -> object:
    """Once is enough, and refused a second time."""
    if home.rollout().rolled_back_because is not None:
        return None
    return Aftermath(home.service).roll_back(ORG, home.rollout().id, reason="because", by=BEN, now=NOW)


MOVES: dict[str, tuple[Move, list[Move], State]] = {
    "open": (open_wave, [], State.RUNNING),
    "pause": (move("pause"), [open_wave], State.PAUSED),
    "resume": (move("resume"), [open_wave, move("pause")], State.RUNNING),
    "abort": (move("abort"), [open_wave], State.ABORTED),
    "roll_back": (call_back, [open_wave, stop], State.ABORTED),
}


@pytest.fixture(scope="module")
def base(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one approved rollout whose first wave may open."""
    home = tmp_path_factory.mktemp("base") / "home"
    settings = settings_of(databases, home)
    initialise(settings, org=ORG, admin="a@example.com", now=NOW)
    opened = Opened(settings)
    event = AuditEvent("group.created", "grp_1", ANN, NOW)
    opened.fleet.add_group(Group(id=new_id("grp"), org=ORG, name="everyone", description="", created_at=NOW), event)
    wanted = NewArtifact(
        staged=opened.repository.stage(BytesIO(b"firmware")),
        product="fw",
        version="1",
        platform="any",
        channel="stable",
        file_name="fw.bin",
        publisher=ANN,
    )
    opened.repository.publish(wanted, now=NOW)
    waves = (
        WavePlan(group="everyone", percent=50, gate=Gate(approvals=1, soak_seconds=3600)),
        WavePlan(group="everyone"),
    )
    made = opened.service.create(ORG, PlanRequest(product="fw", version="1", waves=waves), by=ANN, now=NOW)
    opened.service.submit(ORG, made.id, by=ANN, now=NOW)
    opened.service.approve(ORG, made.id, wave=1, plan_hash=made.plan_hash, by=BEN, now=NOW)
    opened.db.close()
    return home


def settings_of(databases: Databases, home: Path) -> Settings:
    return read_settings(
        {"WAVEGATE_HOME": str(home), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192", **databases.environ(home)}
    )


def prepared(databases: Databases, base: Path, folder: Path, moves: list[Move]) -> Settings:
    databases.copy_home(base, folder)
    settings = settings_of(databases, folder)
    opened = Opened(settings)
    for one in moves:
        one(opened)
    opened.db.close()
    return settings


def crash_at(settings: Settings, act: Move, faults: Faults) -> bool:
    opened = Opened(settings, faults)
    try:
        act(opened)
    except Crash:
        return True
    finally:
        opened.db.close()
    return False


def check(settings: Settings, act: Move, reached: State, clients: Path) -> None:
    opened = Opened(settings)
    opened.repository.recover(now=NOW)
    opened.service.recover(ORG, NOW)
    served = {path: opened.repository.served(path) for path in PATHS}
    wanted = documents(opened.rollout())
    assert served == {path: wanted.get(path) for path in PATHS}
    assert replay(opened.store.events(ORG, opened.rollout().id)) == opened.rollout()
    assert opened.store.intents(ORG) == []
    root = (settings.home / "root.json").read_bytes()
    for name in ("old", "new"):
        client = StockClient(opened.repository, clients / name, root)
        assert {path: client.fetch(path) for path in PATHS} == served
    if opened.rollout().state is not reached or act is call_back:
        act(opened)
    assert act is not call_back or opened.rollout().rolled_back_because == "because"
    assert opened.rollout().state is reached
    assert {path: opened.repository.served(path) for path in PATHS} == {
        path: documents(opened.rollout()).get(path) for path in PATHS
    }
    assert not opened.repository.check(now=NOW)
    opened.db.close()


@pytest.mark.parametrize("how", ["before", "after", "torn"])
@pytest.mark.parametrize("name", MOVES)
def test_a_crash_at_any_step_leaves_what_is_served_equal_to_the_state(
    name: str, how: str, databases: Databases, base: Path, tmp_path: Path
) -> None:
    act, before, reached = MOVES[name]
    ready = tmp_path / "ready"
    settings = prepared(databases, base, ready, before)
    opened = Opened(settings)
    StockClient(opened.repository, tmp_path / "old", (ready / "root.json").read_bytes()).refresh()
    opened.db.close()
    counted = Faults()
    trial = tmp_path / "count"
    databases.copy_home(ready, trial)
    assert not crash_at(settings_of(databases, trial), act, counted)
    assert {"propose", "settle", "rename", "project"} <= set(counted.steps)
    points = [at for at, step in enumerate(counted.steps) if how != "torn" or step == "write"]
    assert len(points) >= (3 if how == "torn" else 15)
    for at in points:
        folder = tmp_path / f"at-{at}"
        databases.copy_home(ready, folder)
        shutil.copytree(tmp_path / "old", tmp_path / f"clients-{at}" / "old")
        assert crash_at(settings_of(databases, folder), act, Faults(at, how))
        check(settings_of(databases, folder), act, reached, tmp_path / f"clients-{at}")
        shutil.rmtree(folder)
        databases.forget(folder)


def test_a_refresh_after_weeks_of_sleep_serves_the_same_decision(
    databases: Databases, base: Path, tmp_path: Path
) -> None:
    settings = prepared(databases, base, tmp_path / "home", [open_wave])
    opened = Opened(settings)
    before = opened.repository.served(PATHS[0])
    signed = opened.repository.refresh(now=NOW + timedelta(days=30))
    assert {"decisions", "brakes", "snapshot", "timestamp"} <= set(signed)
    assert opened.repository.served(PATHS[0]) == before
    opened.db.close()
