"""A repository of as many artifacts as wished for, made in seconds: the bins are written as if re-binned into them.

Its serial is as high as if each artifact had been published by itself: versions of seven digits make a longer snapshot.
The records are those of real artifacts without notes and SBOMs; their bytes are not there, for nothing here reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from keys.keyring import Keyring, create_keyring
from repo_signing import roles
from repo_signing.blobs import Blobs
from repo_signing.ceremony import create_repository
from repo_signing.commit import Committer, Prepared
from repo_signing.model import ArtifactRecord
from repo_signing.ports import Projection
from repo_signing.records import artifact_entry
from repo_signing.repository import SignedRepository
from repo_signing.role_cache import Role, RoleFacts
from repo_signing.sheets import divided, sheet_name
from repo_signing.storage import LocalStorage
from repo_signing.view import View

# As long as real ones are.
_ULID: Final = "01KAM6P5S0BENCHBENCHBENCH0"
BENCH: Final = Actor(ActorKind.SERVICE, f"usr_{_ULID}", "automation", f"key_{_ULID}")


class Forgetful:
    """An index that keeps the serial only: what the signed repository costs by itself is measured."""

    def __init__(self, serial: int = 0) -> None:
        self._serial = serial

    def projected_serial(self) -> int:
        return self._serial

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        self._serial = max(serial, self._serial)

    def clear(self) -> None:
        self._serial = 0


def synthetic(folder: Path, artifacts: int, *, bits: int | None = None) -> bytes:
    """Make ``folder/repository`` with its keys; ``bits`` other than the best on demand. Returns the root file."""
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    keyring = create_keyring(folder / "keys", folder / "offline-keys")
    root = create_repository(folder / "repository", keyring, now=now)
    committer = Committer(folder / "repository", keyring, Forgetful(), LocalStorage())
    chosen = roles.wanted_bits(artifacts) if bits is None else bits
    spread: list[list[int]] = [[] for _ in range(2**chosen)]
    for number in range(artifacts):
        spread[roles.bin_number(path_of(number), chosen)].append(number)
    sample = artifact_entry(record(0, now), [])

    def prepare(view: View, serial: int, moment: datetime) -> Prepared:
        body = roles.rebinned_body(view.role(roles.RELEASES).body, serial, moment, prefix="r2", bits=chosen)
        facts: dict[str, RoleFacts] = {}
        with committer.storage.together(committer.metadata):
            for name, numbers in zip(roles.bin_names("r2", chosen), spread, strict=True):
                targets = {path_of(number): entry(number, sample) for number in numbers}
                holder = roles.holder_body(name, targets, serial, moment)
                told, sheet = divided(name, holder)
                files = {f"{serial}.{name}.json": committer.signed_file(name, told, [roles.rule_of(body, name)])}
                files |= {} if sheet is None else {sheet_name(serial, name): sheet}
                committer.storage.create_unsynced(committer.metadata, files)
                facts[name] = RoleFacts.of(Role.of(name, holder))
        return Prepared({roles.RELEASES: body}, facts, [])

    committer.burn(artifacts)
    committer.install_alone(now, prepare)
    return root


def opened(folder: Path, index: Projection | None = None) -> SignedRepository:
    """Open what :func:`synthetic` made, as a server would."""
    timestamp = orjson.loads((folder / "repository" / "metadata" / "timestamp.json").read_bytes())
    projected = index or Forgetful(timestamp["signed"]["version"])
    return SignedRepository(folder / "repository", Keyring(folder / "keys"), projected)


def blobs_of(folder: Path) -> Blobs:
    """The bytes of a synthetic repository."""
    return Blobs(folder / "repository", LocalStorage())


def path_of(number: int) -> str:
    """An artifact's path; 45 characters, as the yardsticks have it."""
    return f"product-{number % 997:03}/1.{number:07}.0/linux-arm64/app.bin"


def record(number: int, now: datetime) -> ArtifactRecord:
    product, version, platform, file_name = path_of(number).split("/")
    return ArtifactRecord(
        id=new_id("art"),
        path=path_of(number),
        length=4096,
        sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        product=product,
        version=version,
        platform=platform,
        channel="stable",
        file_name=file_name,
        publisher=BENCH,
        created_at=now,
        serial=2,
    )


def entry(number: int, sample: dict[str, Any]) -> dict[str, Any]:
    """The entry of one artifact, quicker than through its record."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    identity = f"art_{digest[:26].upper()}"
    custom = sample["custom"] | {"id": identity, "serial": number + 2}
    return sample | {"hashes": {"sha256": digest}, "custom": custom}
