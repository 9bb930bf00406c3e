"""A mirror that lies about our repository: python-tuf, tuf-js and the agent refuse it and lose nothing by it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.simulators.attacks import TRUTH, WANTED, Attack, Scene, attacks, body
from tests.simulators.lying_mirror import LyingMirror, honest, lying_mirror
from tests.simulators.tuf_clients import CLIENTS, Client, Refused

MOST_READ: Final = 16 * 1024 * 1024  # bytes: stock clients read 5 MB of a bin, and sockets hold what nobody reads


class Field:
    """The scene, the mirror before it, and for each kind of client one that has seen the second state."""

    def __init__(self, folder: Path, mirror: LyingMirror, scene: Scene) -> None:
        self.folder = folder
        self.mirror = mirror
        self.scene = scene
        self.genuine = scene.genuine()
        self._seen: dict[str, Client] = {}
        self._copies = 0

    def client(self, kind: str) -> Client:
        if kind not in self._seen:
            self.mirror.files, self.mirror.lie = self.scene.second, honest
            client = CLIENTS[kind](self.folder / kind, self.scene.home.root)
            assert set(client.poll(self.mirror, WANTED)) == {WANTED[0], WANTED[2]}
            self._seen[kind] = client
        self._copies += 1
        return self._seen[kind].copy(self.folder / f"{kind}-{self._copies}")


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    with lying_mirror(scene.third) as mirror:
        yield Field(tmp_path_factory.mktemp("clients"), mirror, scene)


@pytest.fixture(scope="module")
def every_attack(field: Field) -> dict[str, Attack]:
    return dict(attacks(field.scene))


@pytest.mark.parametrize("kind", CLIENTS)
def test_every_lie_is_refused_leaves_nothing_bad_and_is_forgotten(
    kind: str, field: Field, every_attack: dict[str, Attack]
) -> None:
    """One test for each kind of client over all attacks: what they share is made once, and all failures are told."""
    assert len(every_attack) >= 80
    wrong = [f"{name}: {fault}" for name, attack in every_attack.items() for fault in faults_of(field, kind, attack)]
    assert not wrong, "\n".join(wrong)


def faults_of(field: Field, kind: str, attack: Attack) -> Iterator[str]:
    """What is not as it should be after one attack."""
    client, mirror = field.client(kind), field.mirror
    before = client.trusted()
    mirror.files = field.scene.third if attack.files is None else attack.files
    mirror.lie = attack.lie
    mirror.sent.clear()
    try:
        got = client.poll(mirror, WANTED, ahead=attack.ahead)
        yield f"was not refused, {sorted(got)} came"
    except Refused:
        pass
    after = client.trusted()
    genuine = field.genuine | (set(mirror.files.values()) if attack.by_thief else set())
    for role in attack.kept or before:
        if after.get(role) != before.get(role):
            yield f"{role} is not as before"
    for role, content in after.items():
        if content not in genuine:
            yield f"{role} is nothing that the repository signed"
        elif role in before and body(content)["version"] < body(before[role])["version"]:
            yield f"{role} went back"
    if any(content not in field.genuine for content in client.stored()):
        yield "a file is stored that the repository never served"
    if not all(any(content.startswith(part) for content in field.genuine) for part in client.begun()):
        yield "a download is kept that begins otherwise than anything the repository served"
    if any(sent > MOST_READ for sent in mirror.sent.values()):
        yield f"took {max(mirror.sent.values())} bytes"
    # A lie that was refused must not keep a client from the truth.
    mirror.files, mirror.lie = field.scene.third, honest
    try:
        if attack.by_thief:
            return
        if client.poll(mirror, WANTED) != TRUTH:
            yield "does not get the truth afterwards"
    except Refused as error:
        yield f"refuses the truth afterwards: {error}"
    shutil.rmtree(client.folder)
