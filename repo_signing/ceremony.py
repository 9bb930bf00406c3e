"""Making a repository: the first signatures of every role.

Either this machine holds all keys for the moment, or root and targets are signed by people elsewhere, from drafts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.canonical import check_signable
from repo_signing.draft import Placed
from repo_signing.errors import RepositoryExists
from repo_signing.proof import Offer, check_acceptable
from repo_signing.signing import sign
from repo_signing.storage import LocalStorage

_FIRST: Final = 1
TOP: Final = (roles.ROOT, roles.TIMESTAMP, roles.SNAPSHOT, roles.TARGETS)


def create_repository(
    folder: Path,
    keyring: Keyring,
    *,
    now: datetime,
    storage: LocalStorage | None = None,
    layout: str = roles.BINS,
    placed: Mapping[str, Placed] | None = None,
) -> bytes:
    """Sign the first version of every role into ``folder`` and return the root file that clients are given.

    The folder gets ``metadata/``, ``blobs/`` and ``staging/``; its parents must exist. Offline keys are used here and
    by nothing else in this package: their folder may be moved away afterwards.

    Args:
        folder: Of the repository; may exist without a signed one in it.
        keyring: Must reach every key, those of root and targets unless these are ``placed``.
        now: Roles expire from here.
        storage: Changes the disk.
        layout: ``bins``, or ``paths`` for clients that read no succinct roles; it is the repository's for ever.
        placed: Root and targets as they were signed elsewhere.

    Raises:
        RepositoryExists: There is one already; it is untouched.
        keys.errors.CustodyError: A key could not be reached; nothing was signed.
        ClientWouldRefuse: What is placed is not signed as it should be, or has expired.
        OSError: The disk failed. ``timestamp.json`` is written last: while it is missing there is no repository, and
            the next call starts over.
    """
    disk = LocalStorage() if storage is None else storage
    files = _signed_files(keyring, {} if placed is None else placed, now, layout)
    make_folders(folder, disk)
    metadata = folder / "metadata"
    with disk.repository_lock(folder):
        if (metadata / "timestamp.json").exists():
            raise RepositoryExists(f"there is a signed repository in {folder} already; nothing was changed")
        for leftover in list(disk.listing(metadata)):
            disk.remove(leftover.path)  # of a ceremony that was cut short: nobody was ever given its root
        timestamp = files.pop("timestamp.json")
        disk.create_once(metadata, files)
        disk.replace(metadata / "timestamp.json", timestamp, base=None)
    return files["1.root.json"]


def make_folders(folder: Path, disk: LocalStorage) -> None:
    """Make the folders of a repository; those that are there are taken as they are."""
    for part in (folder, *(folder / name for name in ("metadata", "blobs", "staging", "drafts"))):
        disk.ensure_folder(part)


def _signed_files(keyring: Keyring, placed: Mapping[str, Placed], now: datetime, layout: str) -> dict[str, bytes]:
    decisions, releases = keyring.public(roles.DECISIONS), keyring.public(roles.RELEASES)
    bodies: dict[str, Mapping[str, Any]] = {
        roles.TARGETS: placed[roles.TARGETS].body
        if roles.TARGETS in placed
        else roles.targets_body(decisions, releases, _FIRST, now),
    }
    for name in roles.DOCUMENTS:
        if roles.rule_of(bodies[roles.TARGETS], name) is not None:  # a ceremony begun long ago knows no revocations
            bodies[name] = roles.holder_body(name, {}, _FIRST, now)
    if layout == roles.PATHS:
        bodies[roles.RELEASES] = roles.paths_body(releases, _FIRST, now)
        holders: Iterable[str] = [roles.WITHDRAWN]
    else:
        bodies[roles.RELEASES] = roles.releases_body(releases, _FIRST, now)
        holders = roles.bin_names()
    bodies |= {name: roles.holder_body(name, {}, _FIRST, now) for name in holders}
    delegated = tuple(bodies)[1:]  # all but targets
    versions = dict.fromkeys(bodies, _FIRST)
    if roles.ROOT not in placed:
        bodies[roles.ROOT] = roles.root_body({role: keyring.public(role) for role in TOP}, now)
    bodies |= {name: one.body for name, one in placed.items()}

    def signed(role: str, body: Mapping[str, Any]) -> bytes:
        check_signable(body, role)
        if role in placed:
            return placed[role].raw
        rule = roles.rule_of(bodies[roles.delegator(role)], role)
        return sign(keyring, role, body, [] if rule is None else [rule])

    files = {role: signed(role, body) for role, body in bodies.items()}
    bodies[roles.SNAPSHOT] = roles.snapshot_body(versions, _FIRST, now, roles.pinned({}, files))
    files[roles.SNAPSHOT] = signed(roles.SNAPSHOT, bodies[roles.SNAPSHOT])
    timestamp = roles.timestamp_body(_FIRST, len(files[roles.SNAPSHOT]), _FIRST, now)
    offer = Offer(
        root=files[roles.ROOT],
        timestamp=signed(roles.TIMESTAMP, timestamp),
        snapshot=files[roles.SNAPSHOT],
        targets=files[roles.TARGETS],
        delegated={role: files[role] for role in delegated},
    )
    check_acceptable(offer, None, now)
    return {f"{_FIRST}.{role}.json": content for role, content in files.items()} | {"timestamp.json": offer.timestamp}
