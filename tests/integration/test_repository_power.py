"""The power goes at any moment of a commit, and the disk keeps what it likes of what was not synced."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from repo_signing.repository import SignedRepository
from tests.simulators.power import PowerStorage, Tree, materialise
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish
from tests.simulators.repository_faults import Faults, FaultyStorage

OLD = "app/1.0/linux/app.bin"
NEW = "app/2.0/linux/app.bin"
DECISION = "decisions/app/pilot.json"

Action = Callable[[SignedRepository, datetime], object]

# What is done, what clients get of it, and how many states of the disk are looked at, at least, in `make test`.
ACTIONS: dict[str, tuple[Action, dict[str, bytes], int]] = {
    "publish": (
        lambda repository, now: publish(repository, "2.0", now, sboms=(b"sbom of 2.0",)),
        {NEW: b"app 2.0", f"{NEW}.sbom.0.cyclonedx-json": b"sbom of 2.0"},
        90,
    ),
    "refresh": (lambda repository, now: repository.refresh(now=now, force=True), {OLD: b"app 1.0"}, 11),
    "decide": (
        lambda repository, now: repository.commit_documents({DECISION: b'{"open": 1}'}, now=now),
        {DECISION: b'{"open": 1}'},
        30,
    ),
    "yank": (
        lambda repository, now: repository.yank(OLD, reason="bad", by=ANN, now=now),
        {OLD: b"app 1.0"},
        25,
    ),
}


class World:
    """A repository with one artifact, and a client that has seen it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = RepositoryHome.create(folder / "home")
        publish(self.home.open(), "1.0", self.home.now)
        StockClient(self.home.open(), folder / "client", self.home.root).fetch(OLD)

    def states(self, action: Action, most: int) -> list[tuple[Tree, ProjectionSimulator, bool]]:
        """Each distinct state that the power may leave, with the index at that moment, and whether the action had
        been acknowledged."""
        home = self.folder / "run"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self.home.folder, home)
        index = copy.deepcopy(self.home.projection)
        found: dict[str, tuple[Tree, ProjectionSimulator, bool]] = {}

        def look(*, done: bool = False) -> None:
            # The index is a database of its own, which syncs what it has answered.
            for tree in storage.states(most):
                seen = hashlib.sha256(repr((sorted(tree.items()), index.projected_serial(), done)).encode()).hexdigest()
                found.setdefault(seen, (tree, copy.deepcopy(index), done))

        storage = PowerStorage(home / "repository", look)
        here = RepositoryHome(home, index, self.home.root, self.home.now)
        action(here.open(storage), self.home.later(seconds=1))
        look(done=True)
        return list(found.values())

    def check(self, action: Action, expected: dict[str, bytes], state: tuple[Tree, ProjectionSimulator, bool]) -> None:
        """What must hold after the power is back, and after the next publisher and a second try."""
        tree, index, done = state
        folder = self.folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "client", folder / "client", symlinks=True)
        for name in ("keys", "offline-keys"):
            shutil.copytree(self.home.folder / name, folder / "home" / name)
        materialise(tree, folder / "home" / "repository", self.home.repository_folder)
        home = RepositoryHome(folder / "home", index, self.home.root, self.home.now)
        storage = FaultyStorage(Faults())
        reader = home.open(storage)
        for name in ("client", "new-client"):
            device = StockClient(reader, folder / name, home.root)
            assert device.fetch(OLD) == b"app 1.0"
            if done:
                assert {path: device.fetch(path) for path in expected} == expected, "acknowledged and lost"
        signed = {record.path: record.sha256 for record in reader.artifacts()}
        assert all(signed.get(path) == row.sha256 for path, row in index.rows.items()), "a row without a signature"
        before = versioned(home)
        home.open(storage).recover(now=home.later(seconds=2))
        publish(home.open(storage), "3.0", home.later(seconds=2))
        action(home.open(storage), home.later(seconds=3))
        after = versioned(home)
        assert all(after[name] == digest for name, digest in before.items() if name in after), "rewritten"
        for name in ("client", "new-client"):
            device = StockClient(home.open(), folder / name, home.root)
            assert device.fetch("app/3.0/linux/app.bin") == b"app 3.0"
            assert {path: device.fetch(path) for path in expected} == expected
        assert index.rows == {record.path: record for record in home.open().artifacts()}
        assert [one for one in home.open().check(now=home.later(seconds=4)) if one.kind != "stale_upload"] == []


def versioned(home: RepositoryHome) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.metadata.iterdir()
        if path.name[0].isdigit()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("power"))


def run(world: World, name: str, *, per_moment: int, each: int = 1) -> int:
    """Look at the states found with at most so many of each moment, every one or every n-th; returns how many there
    were."""
    action, expected, _ = ACTIONS[name]
    states = world.states(action, per_moment)
    wrong = []
    for number, state in list(enumerate(states))[::each]:
        try:
            world.check(action, expected, state)
        except Exception as error:  # noqa: BLE001 - every state is to be judged
            wrong.append(f"state {number}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
    return len(states)


@pytest.mark.parametrize("name", ACTIONS)
def test_whatever_the_disk_kept_clients_and_publishers_go_on(name: str, world: World) -> None:
    assert run(world, name, per_moment=60, each=3) >= ACTIONS[name][2]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ACTIONS)
def test_every_state_that_the_disk_may_be_left_in(name: str, world: World) -> None:
    assert run(world, name, per_moment=4_000) >= ACTIONS[name][2]


def test_a_disk_that_keeps_nothing_unsynced_would_show_a_commit_that_forgets_to_sync(world: World) -> None:
    """The model has teeth: without the folder's sync, some timestamp names files that are not there."""

    class Forgetful(PowerStorage):
        def sync_folder(self, path: Path) -> None:
            if path.name != "metadata":
                super().sync_folder(path)

    home = world.folder / "forgetful"
    shutil.copytree(world.home.folder, home)
    here = RepositoryHome(home, copy.deepcopy(world.home.projection), world.home.root, world.home.now)
    found: list[Tree] = []
    storage = Forgetful(home / "repository", lambda: found.extend(storage.states(60)))
    publish(here.open(storage), "2.0", world.home.later(seconds=1))
    action, expected, _ = ACTIONS["publish"]

    def is_wrong(tree: Tree) -> bool:
        try:
            world.check(action, expected, (tree, copy.deepcopy(world.home.projection), False))
        except Exception:  # noqa: BLE001 - whatever a client or publisher says of it
            return True
        return False

    assert any(is_wrong(tree) for tree in found[-60:])
