"""Lies about a real repository: what a mirror, or a thief of an online key, may try on its clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, SSlibKey

from keys.keyring import Keyring
from repo_signing.canonical import encode
from tests.simulators.lying_mirror import Answer, Lie, honest
from tests.simulators.repository import RepositoryHome, publish

Files = dict[str, bytes]
Signer = Callable[[bytes], Mapping[str, Any]]

OLD: Final = "app/1.0/linux/app.bin"
NEW: Final = "app/3.0/linux/app.bin"
DECISION: Final = "decisions/app/pilot.json"
BRAKE: Final = "brakes/app/pilot.json"
WANTED: Final = (OLD, NEW, DECISION, BRAKE)
TIMESTAMP: Final = "metadata/timestamp.json"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """``lie`` over ``files``, by default the newest state.

    ``kept`` are the roles that the client must hold as before, every role when empty.
    """

    lie: Lie = honest
    files: Files | None = None
    kept: tuple[str, ...] = ()
    ahead: timedelta = timedelta(0)
    by_thief: bool = False  # of online keys: what is rightly signed may be trusted, and what is true then looks old


class Scene:
    """A real repository in three states, and one of somebody else with the same names.

    Clients have seen ``second``; the attacks are on the step to ``third``, which has a new artifact, no decision any
    more, and a brake, the latter two changed by one commit. ``rotated`` is the third under a second root, which
    replaced the timestamp key.
    """

    def __init__(self, folder: Path) -> None:
        self.home = RepositoryHome.create(folder / "home")
        repository = self.home.open()
        publish(repository, "1.0", self.home.now)
        self.first = files_of(self.home)
        publish(repository, "2.0", self.home.now)
        repository.commit_documents({DECISION: b'{"open": 1}'}, now=self.home.now)
        self.second = files_of(self.home)
        publish(repository, "3.0", self.home.now)
        repository.commit_documents({DECISION: None, BRAKE: b'{"stop": 1}'}, now=self.home.now)
        self.third = files_of(self.home)
        rival = RepositoryHome.create(folder / "rival")
        for number in (1, 2, 3):
            publish(rival.open(), f"{number}.0", rival.now, content=f"evil {number}".encode())
        self.rival, self.rival_keys = files_of(rival), Keyring(rival.folder / "keys")
        self.keys = Keyring(self.home.folder / "keys")
        self.new_key = CryptoSigner.generate_ed25519()
        self.rotated = self.third | {
            "metadata/2.root.json": self.signed(self.second_root(), self.by("root")),
            TIMESTAMP: self.signed(body(self.third[TIMESTAMP]) | {"version": 99}, self.by_new_key),
        }

    def name(self, role: str, files: Files | None = None) -> str:
        """Path of the version of a role that a state's snapshot names; bins go by the artifact in them."""
        state = self.third if files is None else files
        snapshot = f"{body(state[TIMESTAMP])['meta']['snapshot.json']['version']}.snapshot.json"
        if role == "snapshot":
            return f"metadata/{snapshot}"
        return f"metadata/{body(state[f'metadata/{snapshot}'])['meta'][f'{role}.json']['version']}.{role}.json"

    @property
    def bin(self) -> str:
        """The role that holds the new artifact."""
        return self.home.open()._committer.view().holder(NEW)

    def served(self, path: str) -> str:
        """Path of a target as clients ask for it."""
        folder, _, file = path.rpartition("/")
        [found] = [name for name in self.third if name.startswith(f"targets/{folder}/") and name.endswith(f".{file}")]
        return found

    def by(self, key: str, keys: Keyring | None = None) -> Signer:
        signer = (keys or self.keys).signer(key)
        return lambda payload: signer.sign(payload).to_dict()

    def by_new_key(self, payload: bytes) -> Mapping[str, Any]:
        return self.new_key.sign(payload).to_dict()

    def signed(self, content: Mapping[str, Any], *signers: Signer) -> bytes:
        payload = encode(content)
        return encode({"signatures": [dict(sign(payload)) for sign in signers], "signed": json.loads(payload)})

    def second_root(self, *, role: str = "timestamp", threshold: int = 1) -> dict[str, Any]:
        """A root version 2 in which ``role`` has the new key: in place of its own, or beside it with a threshold."""
        root = body(self.third["metadata/1.root.json"])
        public = self.new_key.public_key
        assert isinstance(public, SSlibKey)
        before = root["roles"][role]["keyids"] if threshold > 1 else []
        root["keys"][public.keyid] = public.to_dict()
        root["roles"][role] = {"keyids": [*before, public.keyid], "threshold": threshold}
        return root | {"version": 2}

    def stolen(self, edit: Callable[[dict[str, Any]], None], more: Files | None = None) -> Files:
        """The third state, its snapshot edited and signed anew with the snapshot and timestamp keys of the server."""
        snapshot = body(self.third[self.name("snapshot")])
        snapshot["version"] = 50
        edit(snapshot)
        content = self.signed(snapshot, self.by("snapshot"))
        timestamp = body(self.third[TIMESTAMP])
        timestamp |= {
            "version": 50,
            "meta": {"snapshot.json": {"version": snapshot["version"], "length": len(content)}},
        }
        files = self.third | {f"metadata/{snapshot['version']}.snapshot.json": content} | (more or {})
        return files | {TIMESTAMP: self.signed(timestamp, self.by("timestamp"))}

    def genuine(self) -> set[bytes]:
        """Every file that the repository itself ever signed or served."""
        return {content for files in (self.first, self.second, self.third, self.rotated) for content in files.values()}


def files_of(home: RepositoryHome) -> Files:
    """All that the repository serves, by the paths that clients ask for."""
    files = {f"metadata/{path.name}": path.read_bytes() for path in home.metadata.glob("*.json")}
    view = home.open()._committer.view()
    for name in view.versions:
        for path, entry in view.role(name).body["targets"].items():
            folder, _, file = path.rpartition("/")
            sha256 = entry["hashes"]["sha256"]
            blob = home.open().blob_path(sha256)
            files[f"targets/{folder}/{sha256}.{file}"] = blob.read_bytes()
    return files


def body(content: bytes) -> dict[str, Any]:
    """The signed part of a metadata file."""
    signed: dict[str, Any] = json.loads(content)["signed"]
    return signed


def edited(content: bytes, **fields: object) -> bytes:
    """A metadata file with fields changed and the signatures left as they were."""
    envelope = json.loads(content)
    envelope["signed"] |= fields
    return encode(envelope)


def unsigned(content: bytes) -> bytes:
    """A metadata file without signatures."""
    return encode(json.loads(content) | {"signatures": []})


def instead(path: str, said: Answer | bytes | None) -> Lie:
    """Lie about one path."""
    return lambda asked, content: said if asked == path else content


def ways_to_spoil(path: str, content: bytes) -> Iterator[tuple[str, Lie]]:
    """What can be done to any file without looking into it."""
    yield "missing", instead(path, None)
    yield "error 500", instead(path, Answer(b"oops", 500))
    yield "redirected", instead(path, Answer(b"", 302, headers={"Location": "http://127.0.0.1:9/elsewhere"}))
    yield "empty", instead(path, b"")
    yield "a page in HTML", instead(path, b"<html>hotel wifi</html>")
    yield "endless", instead(path, Answer(content, endless=True))
    yield "cut off", instead(path, Answer(content[: len(content) // 2], declared=len(content)))
    yield "half, said to be whole", instead(path, content[: len(content) // 2])


def attacks(scene: Scene) -> Iterator[tuple[str, Attack]]:
    """Name and attack; names say what is done, the client is to refuse every one."""
    third = scene.third
    yield from _on_timestamp(scene, third)
    yield from _on_snapshot(scene, third)
    yield from _on_roles(scene, third)
    yield from _on_root(scene, third)
    target = scene.served(NEW)
    for how, lie in ways_to_spoil(target, third[target]):
        yield f"target {how}", Attack(lie=lie, kept=("root",))
    old = third[scene.served(OLD)]
    assert len(old) == len(third[target])
    yield "target swapped with an older one", Attack(lie=instead(target, old), kept=("root",))
    yield "target with one bit turned", Attack(lie=instead(target, third[target][:-1] + b"1"), kept=("root",))
    yield "target with one byte more", Attack(lie=instead(target, third[target] + b"!"), kept=("root",))


def _on_timestamp(scene: Scene, third: Files) -> Iterator[tuple[str, Attack]]:
    true = third[TIMESTAMP]
    for how, lie in ways_to_spoil(TIMESTAMP, true):
        yield f"timestamp {how}", Attack(lie=lie)
    said: dict[str, bytes] = {
        "rolled back": scene.first[TIMESTAMP],
        "edited": edited(true, version=1000),
        "living longer": edited(true, expires="2099-01-01T00:00:00Z"),
        "unsigned": unsigned(true),
        "of another repository": scene.rival[TIMESTAMP],
        "signed by the snapshot key": scene.signed(body(true), scene.by("snapshot")),
        "signed by somebody": scene.signed(body(true), scene.by("timestamp", scene.rival_keys)),
        "of another type": third[scene.name("snapshot")],
        "of 20,000 bytes": b" " * 20_000 + true,
        "garbage": b'{"signatures": [], "signed": {"_type": "timestamp"',
        "nested without end": b"[" * 16_000,
    }
    for how, content in said.items():
        yield f"timestamp {how}", Attack(lie=instead(TIMESTAMP, content))
    yield "frozen past its life", Attack(files=scene.second, ahead=timedelta(hours=49))
    yield "frozen for a month", Attack(files=scene.second, ahead=timedelta(days=30))
    yield "everything of another repository", Attack(files=scene.rival)


def _on_snapshot(scene: Scene, third: Files) -> Iterator[tuple[str, Attack]]:
    path = scene.name("snapshot")
    for how, lie in ways_to_spoil(path, third[path]):
        yield f"snapshot {how}", Attack(lie=lie, kept=("root", "snapshot", "targets"))
    before = scene.second[scene.name("snapshot", scene.second)]
    said = {
        "of the state before (mix and match)": before,
        "edited": edited(third[path], expires="2099-01-01T00:00:00Z"),
        "unsigned": unsigned(third[path]),
        "signed by the timestamp key": scene.signed(body(third[path]), scene.by("timestamp")),
    }
    for how, content in said.items():
        yield f"snapshot {how}", Attack(lie=instead(path, content), kept=("root", "snapshot", "targets"))
    role = f"{scene.bin}.json"
    kept = ("root", "snapshot", "targets")

    def older(snapshot: dict[str, Any]) -> None:
        snapshot["meta"]["decisions.json"]["version"] = 1

    def lost(snapshot: dict[str, Any]) -> None:
        del snapshot["meta"][role]

    def lower(snapshot: dict[str, Any]) -> None:
        snapshot["version"] = 2

    yield "a role rolled back with stolen online keys", Attack(files=scene.stolen(older), kept=kept, by_thief=True)
    yield "a role lost with stolen online keys", Attack(files=scene.stolen(lost), kept=kept, by_thief=True)
    yield (
        "a snapshot rolled back with a stolen timestamp key",
        Attack(files=scene.stolen(lower), kept=kept, by_thief=True),
    )


def _on_roles(scene: Scene, third: Files) -> Iterator[tuple[str, Attack]]:
    role = scene.bin
    path = scene.name(role)
    for how, lie in ways_to_spoil(path, third[path]):
        yield f"bin {how}", Attack(lie=lie, kept=("root", role))
    said = {
        "of an older state (mix and match)": third[f"metadata/1.{role}.json"],
        "edited": edited(third[path], targets={}),
        "unsigned": unsigned(third[path]),
        "signed by the decisions key": scene.signed(body(third[path]), scene.by("decisions")),
    }
    for how, content in said.items():
        yield f"bin {how}", Attack(lie=instead(path, content), kept=("root", role))
    decisions, brakes = scene.name("decisions"), scene.name("brakes")
    yield "decisions served as brakes", Attack(lie=instead(brakes, third[decisions]), kept=("root", "brakes"))
    yield "brakes served as decisions", Attack(lie=instead(decisions, third[brakes]), kept=("root", "decisions"))
    yield "the brake taken out", Attack(lie=instead(brakes, edited(third[brakes], targets={})), kept=("root", "brakes"))
    document = scene.served(BRAKE)
    yield "the brake's document edited", Attack(lie=instead(document, b'{"stop": 0}'), kept=("root",))


def _on_root(scene: Scene, third: Files) -> Iterator[tuple[str, Attack]]:
    path = "metadata/2.root.json"
    true = scene.rotated[path]
    for how, lie in ways_to_spoil(path, true):
        # Who is told that there is no second root goes on with the first, and refuses what the new key has signed.
        yield f"second root {how}", Attack(lie=lie, files=scene.rotated)
    mine, new = scene.by("root"), scene.by_new_key
    two = scene.second_root(role="root", threshold=2)
    loose = scene.second_root(role="root", threshold=2)
    loose["roles"]["timestamp"]["threshold"] = 0
    foreign = body(scene.rival["metadata/1.root.json"]) | {"version": 2}
    said = {
        "of another repository": scene.rival["metadata/1.root.json"],
        "of another repository, as version 2": scene.signed(foreign, scene.by("root", scene.rival_keys)),
        "handed to another repository by our timestamp key": scene.signed(foreign, scene.by("timestamp")),
        "of version 3": scene.signed(scene.second_root() | {"version": 3}, mine),
        "that is the first again": third["metadata/1.root.json"],
        "unsigned": unsigned(true),
        "edited": edited(true, expires="2099-01-01T00:00:00Z"),
        "with its threshold stripped to one signature": scene.signed(two, mine),
        "with one signature given twice": scene.signed(two, mine, mine),
        "signed by its new key alone": scene.signed(two, new),
        "with a threshold of none": scene.signed(loose, mine, new),
        "of 600,000 bytes": b" " * 600_000 + true,
    }
    for how, content in said.items():
        yield f"second root {how}", Attack(lie=instead(path, content), files=scene.rotated)


# What no client may take for good news: the newest state as the repository means it.
TRUTH: Final = {OLD: b"app 1.0", NEW: b"app 3.0", BRAKE: b'{"stop": 1}'}
