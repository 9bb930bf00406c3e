"""A mirror that is slow on purpose: the agent ends in bounded time, whatever it was asked and however it drips."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import RepositoryAway
from agent.home import Home
from agent.partial import Terms
from agent.trust import Repository
from agent.web import Limits
from tests.simulators.attacks import NEW, TIMESTAMP, Scene
from tests.simulators.lying_mirror import Answer, LyingMirror, lying_mirror

AT_MOST = 15.0  # seconds for what has a deadline of one; a busy machine is forgiven, a hang is not


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def mirror(scene: Scene) -> Iterator[LyingMirror]:
    with lying_mirror(scene.third) as mirror:
        yield mirror


def reader(folder: Path, scene: Scene, mirror: LyingMirror, limits: Limits, whole: float) -> Repository:
    home = Home(folder)
    home.create()
    home.identity.mkdir()
    (home.identity / "root.json").write_bytes(scene.home.root)
    return Repository(
        home,
        metadata_url=mirror.metadata_url,
        targets_url=mirror.targets_url,
        agent="slow",
        terms=Terms(limits=limits),
        metadata_limits=limits,
        refresh_seconds=whole,
    )


def files(folder: Path) -> list[str]:
    """What lies in the cache and the stores."""
    found = [path for name in ("metadata", "documents", "artifacts", "downloads") for path in (folder / name).iterdir()]
    return sorted(path.name for path in found if path.is_file())


@pytest.mark.parametrize("how", ["drip", "stall"])
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot"])
def test_metadata_that_drips_or_never_comes_is_left_at_the_deadline(
    role: str, how: str, scene: Scene, mirror: LyingMirror, tmp_path: Path
) -> None:
    path = {"root": "metadata/2.root.json", "timestamp": TIMESTAMP, "snapshot": scene.name("snapshot")}[role]
    content = scene.rotated[path]
    said = Answer(content, drip=0.02) if how == "drip" else Answer(content, stall=True)
    mirror.lie = lambda asked, true: said if asked == path else true
    repository = reader(tmp_path / "home", scene, mirror, Limits(seconds=0.5), 60)
    began = time.monotonic()
    with pytest.raises(RepositoryAway, match="in time"):
        repository.refresh()
    assert time.monotonic() - began < AT_MOST
    repository.close()
    assert f"{role}.json" not in files(tmp_path / "home") or role == "root"


def test_a_target_that_drips_is_left_at_the_deadline_and_is_no_artifact(
    scene: Scene, mirror: LyingMirror, tmp_path: Path
) -> None:
    path = scene.served(NEW)
    mirror.lie = lambda asked, true: Answer(true or b"", drip=0.3) if asked == path else true
    repository = reader(tmp_path / "home", scene, mirror, Limits(seconds=1), 60)
    view = repository.refresh()
    target = view.target(NEW)
    assert target is not None
    began = time.monotonic()
    with pytest.raises(RepositoryAway):
        view.download(target, lambda: None)
    assert time.monotonic() - began < AT_MOST
    repository.close()
    assert not list((tmp_path / "home" / "artifacts").iterdir())


def test_a_mirror_below_the_least_speed_is_left_before_the_deadline(
    scene: Scene, mirror: LyingMirror, tmp_path: Path
) -> None:
    mirror.lie = lambda asked, true: Answer(b" " * 30, drip=0.05) if asked == TIMESTAMP else true
    limits = Limits(seconds=600, least_speed=1_000_000, grace=0.2)
    repository = reader(tmp_path / "home", scene, mirror, limits, 600)
    began = time.monotonic()
    with pytest.raises(RepositoryAway, match="below 1000000 bytes per second"):
        repository.refresh()
    assert time.monotonic() - began < 60
    repository.close()


def test_answers_that_are_each_in_time_are_not_so_all_together(
    scene: Scene, mirror: LyingMirror, tmp_path: Path
) -> None:
    """Every file takes 0.6 s of the 60 s it may take, and the refresh is over after 1 s all the same."""

    def late(asked: str, true: bytes | None) -> bytes | None:
        time.sleep(0.6)
        return true

    mirror.lie = late
    repository = reader(tmp_path / "home", scene, mirror, Limits(seconds=60), 1.0)
    began = time.monotonic()
    with pytest.raises(RepositoryAway, match="time"):
        repository.refresh()
    assert time.monotonic() - began < AT_MOST
    repository.close()
    assert "snapshot.json" not in files(tmp_path / "home")


@pytest.mark.nightly
def test_with_the_limits_of_production_a_drip_ends_within_two_minutes(
    scene: Scene, mirror: LyingMirror, tmp_path: Path
) -> None:
    mirror.lie = lambda asked, true: Answer(true or b"", drip=5) if asked == TIMESTAMP else true
    home = Home(tmp_path / "home")
    home.create()
    home.identity.mkdir()
    (home.identity / "root.json").write_bytes(scene.home.root)
    repository = Repository(home, metadata_url=mirror.metadata_url, targets_url=mirror.targets_url, agent="slow")
    began = time.monotonic()
    with pytest.raises(RepositoryAway):
        repository.refresh()
    assert time.monotonic() - began < 120
    repository.close()
