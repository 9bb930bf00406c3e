"""The repository's part of a backup: what one state needs, and nothing that only later or earlier states do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repo_signing import roles
from repo_signing.blobs import Blobs
from repo_signing.commit import BURNED_FILE
from repo_signing.draft_box import DraftBox
from repo_signing.errors import RepositoryDamaged
from repo_signing.offline_drafts import OVERLAP_FILE
from repo_signing.quarantine import Quarantine
from repo_signing.records import sha256_of
from repo_signing.storage import LocalStorage, read_or_none
from repo_signing.view import View

# Serials that may have been made in a second since the backup, many times what any disk has been seen to sync.
SERIALS_PER_SECOND: Final = 1000
LEAST_JUMP: Final = 1000


def files_of(folder: Path, view: View, disk: LocalStorage | None = None) -> Iterator[tuple[str, bytes | Path]]:
    """Names below the repository's folder with their content, ``timestamp.json`` last.

    Everything is verified through its signatures on the way; blobs are named by their digest, the reader checks them.
    Raises RepositoryDamaged.
    """
    disk = LocalStorage() if disk is None else disk
    blobs = Blobs(folder, disk)
    quarantine = Quarantine(folder, blobs, disk)
    named: set[str] = set()
    for name in view.standing():
        named.update(sha256_of(entry) for entry in view.role(name).body["targets"].values())
        yield from ((f"metadata/{file}", content) for file, content in view.files(name).items())
    # Names that clients no longer reach stay in the snapshot, and who collects reads all it names.
    for name in view.versions.keys() - set(view.standing()):
        yield f"metadata/{view.versions[name]}.{name}.json", view.raw(name)
    drafts = DraftBox(folder, disk)
    named |= drafts.named_blobs()
    yield from drafts.files()
    for sha256 in sorted(named):
        path = blobs.path(sha256)
        if not disk.fetch(path):
            path = quarantine.path(sha256)  # withdrawn since; in this state it was not
        if not disk.fetch(path):
            raise RepositoryDamaged(
                f"the blob {sha256} is missing; restore it from a mirror, then make the backup again"
            )
        yield f"blobs/{sha256[:2]}/{sha256}", path
    for sha256 in quarantine.names():
        if sha256 not in named and disk.fetch(quarantine.path(sha256)):
            yield f"quarantine/{sha256}", quarantine.path(sha256)
    for name in (BURNED_FILE, OVERLAP_FILE):
        content = read_or_none(folder / name)
        if content is not None:
            yield name, content
    for number in range(1, view.root.version + 1):
        yield f"metadata/{number}.{roles.ROOT}.json", (folder / "metadata" / f"{number}.{roles.ROOT}.json").read_bytes()
    yield f"metadata/{view.snapshot.version}.{roles.SNAPSHOT}.json", view.snapshot_bytes
    yield "metadata/timestamp.json", view.timestamp_bytes


def beyond(serial: int, seconds: float) -> int:
    """A serial that cannot have been reached within so many seconds after ``serial``."""
    return serial + LEAST_JUMP + int(SERIALS_PER_SECOND * max(0.0, seconds))
