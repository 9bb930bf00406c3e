"""Backup of a home while it serves, and restoring one so that every client comes back.

A backup is one state: the database is copied and the repository's state is noted under the repository lock, so neither
is ahead of the other. ``backup.json`` is its last file; without it there is no backup. Offline keys are never in it.

===================  =======================================================
``database/``        the SQLite database, by SQLite's own backup (PostgreSQL has ``pg_dump`` for it)
``repository/``      the signed state and its blobs
``keys/``            online keys, encrypted, with their passphrase; left out on demand
``device-ca/``       the same for the CA of device certificates
``root.json``        the trusted root
===================  =======================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from api.archive import members, sink_for
from api.settings import Settings
from api.wiring import (
    MARKER,
    ROOT_FILE,
    Wavegate,
    bucket_address,
    keys_folder,
    open_database,
    repository_folder,
    repository_storage,
)
from evidence.model import Actor, ActorKind, AuditEvent
from keys.files import make_private_folder, write_private
from keys.keyring import Keyring
from repo_signing.backup import beyond, files_of
from repo_signing.bucket import Bucket
from repo_signing.errors import BackupRefused, CommitFailed
from repo_signing.moving import move_in
from repo_signing.repository import SignedRepository
from repo_signing.shared_storage import SharedStorage
from repo_signing.storage import LocalStorage
from repo_signing.view import View
from store.artifacts import ArtifactIndex
from store.backup import copy_sqlite, sqlite_file

FORMAT: Final = 1
MANIFEST: Final = "backup.json"
OPERATOR: Final = Actor(ActorKind.SYSTEM, "system:operator", "operator on the server")

_DATABASE: Final = "database/wavegate.db"
_CHUNK: Final = 1024 * 1024  # bytes
_BY_DIGEST: Final = re.compile(r"repository/(?:blobs/[0-9a-f]{2}|quarantine)/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished backup."""

    destination: Path
    serial: int
    files: int
    database: bool
    keys: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restored home. ``serial_in_backup`` is the state it was, ``serial`` the one that clients are given."""

    home: Path
    org: str
    serial_in_backup: int
    serial: int
    artifacts: int


def back_up(wiring: Wavegate, destination: Path, *, keys: bool, database: bool, now: datetime) -> Made:
    """Write a backup, a ``.tar`` file or a folder by the name. The home may serve and publish meanwhile.

    Raises:
        BackupRefused: Something is at ``destination``, or the database is PostgreSQL and was not left out.
        RepositoryDamaged: What is signed is not whole; a backup would keep the damage.
        OSError: The disk failed. On any error nothing is left behind.
    """
    settings, org = wiring.settings, wiring.org
    folder, file = repository_folder(settings, org), sqlite_file(settings.database_url)
    if database and file is None:
        raise BackupRefused("the database is PostgreSQL: back it up with pg_dump right before, and give --no-database")
    sink = sink_for(destination)
    digests: dict[str, str] = {}
    count = 0
    try:
        with tempfile.TemporaryDirectory(dir=destination.absolute().parent, prefix=".wavegate-backup-") as scratch:
            copied = Path(scratch) / "wavegate.db"
            state: list[View] = []

            def freeze() -> None:
                if database and file is not None:
                    copy_sqlite(file, copied)
                state.append(View.load(folder / "metadata"))

            wiring.repository.exclusively(freeze)
            (view,) = state
            parts: list[Iterator[tuple[str, bytes | Path]]] = []
            if database:
                parts.append(iter([(_DATABASE, copied)]))
            parts.append(
                (f"repository/{name}", content) for name, content in files_of(folder, view, wiring.repository.storage)
            )
            if keys:
                parts.append(_below(keys_folder(settings, org), "keys"))
                parts.append(_below(settings.home / "device-ca", "device-ca"))
            parts.append(iter([(ROOT_FILE, settings.home / ROOT_FILE)]))
            for part in parts:
                for name, content in part:
                    sink.add(name, content)
                    count += 1
                    if _BY_DIGEST.fullmatch(name) is None:
                        digests[name] = _sha256(content)
        manifest = {
            "format": FORMAT,
            "version": wiring.version,
            "org": org,
            "created_at": now.isoformat().replace("+00:00", "Z"),
            "serial": view.serial,
            "root_sha256": view.root_sha256,
            "database": database,
            "keys": keys,
            "digests": digests,
            "blobs": count - len(digests),
        }
        sink.add(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
        sink.finish()
    except BaseException:
        sink.abandon()
        raise
    told = {"serial": view.serial, "keys": keys, "database": database}
    wiring.audit.append(org, [AuditEvent("repository.backed_up", org, OPERATOR, now, told)])
    return Made(destination=destination, serial=view.serial, files=count + 1, database=database, keys=keys)


def restore(
    settings: Settings,
    source: Path,
    *,
    keys: Path | None = None,
    above: int = 0,
    now: datetime,
    disk: LocalStorage | None = None,
) -> Restored:
    """Make a home from a backup, and sign a state that every client accepts, whatever it has seen since.

    Clients refuse what is older than they know. How far the lost server had come is not known, but bounded by the time
    since the backup; the serial jumps past that bound and past ``above``.

    With a bucket the repository is restored in the home and moved in last; this is also how a folder's repository
    comes into a bucket.

    Args:
        settings: Of the new home, which must be absent or empty. A PostgreSQL database was restored before.
        source: The backup.
        keys: A folder with ``keys/`` and ``device-ca/``, for a backup without them.
        above: The highest serial that somebody is known to have seen.
        now: Must not be before the backup was made.
        disk: Changes the disk.

    Raises:
        BackupRefused: No whole backup, a home that is not empty, keys missing, or a clock behind the backup. A home
            whose restoring was cut short is no home: remove the folder and begin again.
        CommitFailed: The disk failed.
    """
    try:
        return _restored(settings, source, keys, above, now, disk)
    except OSError as error:
        raise CommitFailed(
            f"{settings.home} could not be restored: {error.strerror or error}; see to the disk, remove the folder and "
            "begin again"
        ) from error


def _restored(
    settings: Settings, source: Path, keys: Path | None, above: int, now: datetime, disk: LocalStorage | None
) -> Restored:
    home = settings.home
    if home.exists() and any(home.iterdir()):
        raise BackupRefused(f"{home} is not empty; name a new folder with WAVEGATE_HOME, or remove a half-restored one")
    manifest = _manifest(source)
    if settings.bucket and _holds_one(settings, str(manifest["org"])):
        raise BackupRefused(f"{settings.bucket} holds a repository already; name an empty prefix in storage_url")
    org, made_at = str(manifest["org"]), datetime.fromisoformat(manifest["created_at"])
    if now < made_at:
        raise BackupRefused(f"the clock says {now.isoformat()}, the backup was made at {made_at.isoformat()}; set it")
    file = sqlite_file(settings.database_url)
    if file is not None and not manifest["database"]:
        raise BackupRefused("the backup has no database: restore PostgreSQL from its dump, name WAVEGATE_DATABASE_URL")
    if file is not None and file.exists():
        raise BackupRefused(f"{file} is there already; nothing is written over, name another WAVEGATE_DATABASE_URL")
    if not manifest["keys"] and keys is None:
        raise BackupRefused("the backup has no keys: give --keys FOLDER with `keys` and `device-ca` in it")
    places = {"repository": repository_folder(settings, org), "keys": keys_folder(settings, org)}
    places["device-ca"] = home / "device-ca"
    make_private_folder(home)
    _unpack(source, manifest, places, home, file, disk or LocalStorage())
    if not manifest["keys"] and keys is not None:
        for part in ("keys", "device-ca"):
            for name, content in _below(keys / part, part):
                path = places[part] / name.removeprefix(f"{part}/")
                make_private_folder(path.parent)
                write_private(path, content.read_bytes())
    make_private_folder(places["repository"] / "staging")
    make_private_folder(places["repository"] / "blobs")
    return _settle(settings, manifest, made_at, above, now, disk)


def _holds_one(settings: Settings, org: str) -> bool:
    return Bucket(bucket_address(settings).below(org)).head("metadata/timestamp.json") is not None


def _settle(
    settings: Settings,
    manifest: dict[str, Any],
    made_at: datetime,
    above: int,
    now: datetime,
    disk: LocalStorage | None,
) -> Restored:
    org, serial = str(manifest["org"]), int(manifest["serial"])
    db = open_database(settings)
    try:
        db.migrate()
        index = ArtifactIndex(db, org)
        repository = SignedRepository(
            repository_folder(settings, org), Keyring(keys_folder(settings, org)), index, storage=disk
        )
        goal = max(above, index.projected_serial(), beyond(serial, (now - made_at).total_seconds()))
        told = {"backup_of": manifest["created_at"]}
        reached = repository.jump(goal, now=now, by=OPERATOR, told=told)
        artifacts = repository.status(now=now).artifacts
        kept = repository_storage(settings, org, db)
        if isinstance(kept, SharedStorage):
            move_in(repository_folder(settings, org), kept)
    finally:
        db.close()
    write_private(settings.home / MARKER, f"{org}\n".encode())
    return Restored(home=settings.home, org=org, serial_in_backup=serial, serial=reached, artifacts=artifacts)


def _manifest(source: Path) -> dict[str, Any]:
    for name, stream in members(source):
        if name == MANIFEST:
            try:
                found: dict[str, Any] = json.loads(stream.read())
                if found["format"] != FORMAT:
                    raise BackupRefused(f"the backup has format {found['format']!r}, this version reads {FORMAT}")
                if not {"org", "created_at", "serial", "database", "keys", "digests", "blobs"} <= found.keys():
                    raise KeyError("a field")
            except (ValueError, KeyError, TypeError) as error:
                raise BackupRefused(f"{MANIFEST} of {source} cannot be read: {error!r}") from error
            return found
    raise BackupRefused(f"{source} has no {MANIFEST}: it is no backup, or its making was cut short")


def _unpack(
    source: Path, manifest: dict[str, Any], places: dict[str, Path], home: Path, file: Path | None, disk: LocalStorage
) -> None:
    left, blobs = dict(manifest["digests"]), 0
    for name, stream in members(source):
        by_digest = _BY_DIGEST.fullmatch(name)
        expected = by_digest[1] if by_digest is not None else left.pop(name, None)
        blobs += by_digest is not None
        if name == MANIFEST:
            continue
        if expected is None:
            raise BackupRefused(f"{source} holds {name[:200]!r}, which its {MANIFEST} does not name")
        part, _, rest = name.partition("/")
        if name == _DATABASE:
            if file is None:
                continue  # another database was restored in its place
            path = file
        elif part in places and rest:
            path = places[part] / rest
        elif name == ROOT_FILE:
            path = home / ROOT_FILE
        else:
            raise BackupRefused(f"{source} holds {name[:200]!r}, which has no place in a home")
        make_private_folder(path.parent)
        _write(disk, path, stream, expected, name)
    if left or blobs != manifest["blobs"]:
        missing = next(iter(left), "some blobs")
        raise BackupRefused(f"{source} lacks {missing}; it is not whole, use another backup")


def _write(disk: LocalStorage, path: Path, stream: BinaryIO, expected: str, name: str) -> None:
    digest, descriptor = hashlib.sha256(), disk.create(path)
    try:
        is_public = name.startswith("repository/") or name == ROOT_FILE
        os.fchmod(descriptor, 0o644 if is_public else 0o600)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            disk.write(descriptor, chunk)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    disk.sync_folder(path.parent)
    if digest.hexdigest() != expected:
        raise BackupRefused(f"{name} in the backup is damaged (sha256 {digest.hexdigest()}, expected {expected})")


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise BackupRefused(f"{folder} is missing")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{prefix}/{path.relative_to(folder).as_posix()}", path


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
