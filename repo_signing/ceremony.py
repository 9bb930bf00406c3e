"""Making a repository: the first signatures of every role, for a machine that holds all keys for the moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.canonical import check_signable
from repo_signing.commit import sign
from repo_signing.errors import RepositoryExists
from repo_signing.lock import RepositoryLock
from repo_signing.proof import Offer, check_acceptable
from repo_signing.storage import LocalStorage

_FIRST: Final = 1


def create_repository(folder: Path, keyring: Keyring, *, now: datetime, storage: LocalStorage | None = None) -> bytes:
    """Sign the first version of every role into ``folder`` and return the root file that clients are given.

    The folder gets ``metadata/``, ``blobs/`` and ``staging/``; its parents must exist. Offline keys are used here and
    by nothing else in this package: their folder may be moved away afterwards.

    Args:
        folder: Of the repository; may exist without a signed one in it.
        keyring: Must reach every key, root and targets included.
        now: Roles expire from here.
        storage: Changes the disk.

    Raises:
        RepositoryExists: There is one already; it is untouched.
        keys.errors.CustodyError: A key could not be reached; nothing was signed.
        OSError: The disk failed. ``timestamp.json`` is written last: while it is missing there is no repository, and
            the next call starts over.
    """
    disk = LocalStorage() if storage is None else storage
    files = _signed_files(keyring, now)
    for part in (folder, folder / "metadata", folder / "blobs", folder / "staging"):
        disk.ensure_folder(part)
    metadata = folder / "metadata"
    with RepositoryLock(folder / "lock"):
        if (metadata / "timestamp.json").exists():
            raise RepositoryExists(f"there is a signed repository in {folder} already; nothing was changed")
        for leftover in sorted(metadata.iterdir()):
            disk.remove(leftover)  # of a ceremony that was cut short: nobody was ever given its root
        timestamp = files.pop("timestamp.json")
        disk.create_once(metadata, files)
        disk.replace(metadata / "timestamp.json", timestamp, base=None)
    return files["1.root.json"]


def _signed_files(keyring: Keyring, now: datetime) -> dict[str, bytes]:
    top = (roles.ROOT, roles.TIMESTAMP, roles.SNAPSHOT, roles.TARGETS)
    decisions, releases = keyring.public(roles.DECISIONS), keyring.public(roles.RELEASES)
    bodies = {
        roles.TARGETS: roles.targets_body(decisions, releases, _FIRST, now),
        roles.DECISIONS: roles.holder_body(roles.DECISIONS, {}, _FIRST, now),
        roles.BRAKES: roles.holder_body(roles.BRAKES, {}, _FIRST, now),
        roles.RELEASES: roles.releases_body(releases, _FIRST, now),
    }
    bodies |= {name: roles.holder_body(name, {}, _FIRST, now) for name in roles.bin_names()}
    versions = dict.fromkeys(bodies, _FIRST)
    bodies[roles.ROOT] = roles.root_body({role: keyring.public(role) for role in top}, now)
    signed = {role: _signed(keyring, role, body) for role, body in bodies.items()}
    snapshot = roles.snapshot_body(versions, _FIRST, now, roles.pinned({}, signed))
    signed[roles.SNAPSHOT] = _signed(keyring, roles.SNAPSHOT, snapshot)
    timestamp = roles.timestamp_body(_FIRST, len(signed[roles.SNAPSHOT]), _FIRST, now)
    offer = Offer(
        root=signed[roles.ROOT],
        timestamp=sign(keyring, roles.TIMESTAMP, timestamp),
        snapshot=signed[roles.SNAPSHOT],
        targets=signed[roles.TARGETS],
        delegated={role: signed[role] for role in versions if role != roles.TARGETS},
    )
    check_acceptable(offer, None, now)
    return {f"{_FIRST}.{role}.json": content for role, content in signed.items()} | {"timestamp.json": offer.timestamp}


def _signed(keyring: Keyring, role: str, body: Mapping[str, Any]) -> bytes:
    check_signable(body, role)
    return sign(keyring, role, body)
