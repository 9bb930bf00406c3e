"""A mirror that hides a revocation: python-tuf, tuf-js and the agent refuse what it serves in the list's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from repo_signing.draft import Draft
from tests.simulators.attacks import Files, body, edited, files_of, instead, unsigned
from tests.simulators.lying_mirror import LyingMirror, honest, lying_mirror
from tests.simulators.repository import ANN, RepositoryHome, publish
from tests.simulators.tuf_clients import CLIENTS, Refused

LIST = "revocations/app/all.json"
BAD = "app/2.0/linux/app.bin"


def renew_documents(draft: Draft) -> None:
    for role in ("decisions", "brakes", "revocations"):
        draft.renew(role)


class Scene:
    """Before and after a revocation. Afterwards all three documents roles have one version, signed in one commit."""

    def __init__(self, folder: Path) -> None:
        self.home = RepositoryHome.create(folder)
        repository = self.home.open()
        publish(repository, "1.0", self.home.now)
        publish(repository, "2.0", self.home.now)
        self.before = files_of(self.home)
        repository.withdraw(BAD, reason="bricks", by=ANN, now=self.home.now, revoke=True)
        repository.refresh(now=self.home.now)
        repository._committer.submit(renew_documents, self.home.now)
        self.after = files_of(self.home)
        self.versions = repository._committer.view().versions
        self.path = f"metadata/{self.versions['revocations']}.revocations.json"

    def lies(self) -> Iterator[tuple[str, bytes | None]]:
        version = self.versions["revocations"]
        yield "missing", None
        yield "the empty one of before", self.after["metadata/1.revocations.json"]
        yield "decisions of the same version", self.after[f"metadata/{version}.decisions.json"]
        yield "brakes of the same version", self.after[f"metadata/{version}.brakes.json"]
        yield "emptied", edited(self.after[self.path], targets={})
        yield "unsigned", unsigned(self.after[self.path])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene") / "home")


@pytest.fixture
def mirror(scene: Scene) -> Iterator[LyingMirror]:
    files: Files = scene.before
    with lying_mirror(files) as served:
        yield served


@pytest.mark.parametrize("kind", CLIENTS)
def test_no_client_takes_anything_for_the_list_but_the_list(
    kind: str, scene: Scene, mirror: LyingMirror, tmp_path: Path
) -> None:
    device = CLIENTS[kind](tmp_path / "device", scene.home.root)
    assert set(device.poll(mirror, (LIST, BAD))) == {BAD}
    believed = []
    for number, (name, content) in enumerate(scene.lies()):
        mirror.files, mirror.lie = scene.after, instead(scene.path, content)
        victim = device.copy(tmp_path / f"victim-{number}")
        try:
            victim.poll(mirror, (LIST,))
            believed.append(name)
        except Refused:
            mirror.lie = honest
            assert set(victim.poll(mirror, (LIST,))) == {LIST}
    assert believed == []


def test_the_lies_are_of_the_kind_that_versions_alone_would_not_show(scene: Scene) -> None:
    assert scene.versions["revocations"] == scene.versions["decisions"] == scene.versions["brakes"]
    empty = body(scene.after[f"metadata/{scene.versions['decisions']}.decisions.json"])
    assert empty["targets"] == {}
