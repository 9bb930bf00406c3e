"""Backup of a home while it serves, and restoring one so that every client comes back.

A backup is one state: the database is copied and the repositories' states are noted under all repository locks, so none
is ahead of another. ``backup.json`` is its last file; without it there is no backup. Offline keys are never in it.

===================  =======================================================
``database/``        the SQLite database, by SQLite's own backup (PostgreSQL has ``pg_dump`` for it)
``repository/``      the signed state and its blobs
``keys/``            online keys, encrypted, with their passphrase; left out on demand
``device-ca/``       the same for the CA of device certificates
``root.json``        the trusted root
``orgs/SLUG/``       ``repository/``, ``keys/`` and ``root.json`` of every further organisation
===================  =======================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from api.archive import members, sink_for
from api.organisations import SLUG
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
    root_file,
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
SEVERAL: Final = 2  # the format with further organisations: a release that knows of one must not pass over them
MANIFEST: Final = "backup.json"
OPERATOR: Final = Actor(ActorKind.SYSTEM, "system:operator", "operator on the server")

_DATABASE: Final = "database/wavegate.db"
_CHUNK: Final = 1024 * 1024  # bytes
_PUBLIC: Final = re.compile(r"(?:orgs/[a-z0-9-]+/)?(?:repository/.*|root\.json)", re.DOTALL)
_FURTHER: Final = "orgs"
_BY_DIGEST: Final = re.compile(r"(?:orgs/[a-z0-9-]+/)?repository/(?:blobs/[0-9a-f]{2}|quarantine)/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished backup. ``serial`` is the home's first organisation's, ``further`` says that of each other."""

    destination: Path
    serial: int
    further: Mapping[str, int]
    files: int
    database: bool
    keys: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restored organisation. ``serial_in_backup`` is the state it was, ``serial`` the one that clients are given.

    ``further`` are those beside the first.
    """

    home: Path
    org: str
    serial_in_backup: int
    serial: int
    artifacts: int
    further: Sequence[Restored] = ()


def back_up(
    wiring: Wavegate,
    destination: Path,
    *,
    further: Sequence[Wavegate] = (),
    keys: bool,
    database: bool,
    now: datetime,
    without: Collection[str] = (),
) -> Made:
    """Write a backup, a ``.tar`` file or a folder by the name. The home may serve and publish meanwhile.

    Args:
        wiring: Of the home's first organisation.
        destination: Free.
        further: Its other organisations.
        keys: Whether keys are in it.
        database: Whether the database is in it.
        now: When.
        without: Organisations that are left out though the database knows them.

    Raises:
        BackupRefused: Something is at ``destination``, an organisation is missing, or the database is PostgreSQL and
            was not left out.
        RepositoryDamaged: What is signed is not whole; a backup would keep the damage.
        OSError: The disk failed. On any error nothing is left behind.
    """
    settings, each = wiring.settings, (wiring, *further)
    file = sqlite_file(settings.database_url)
    if database and file is None:
        raise BackupRefused("the database is PostgreSQL: back it up with pg_dump right before, and give --no-database")
    missing = {one.slug for one in wiring.organisations.all()} - {one.org for one in each} - set(without)
    if missing:
        raise BackupRefused(
            f"{', '.join(sorted(missing))} would not be in the backup; open it, or leave it out by name"
        )
    sink = sink_for(destination)
    digests: dict[str, str] = {}
    count = 0
    try:
        with tempfile.TemporaryDirectory(dir=destination.absolute().parent, prefix=".wavegate-backup-") as scratch:
            copied = Path(scratch) / "wavegate.db"
            with ExitStack() as locks:
                for one in sorted(each, key=lambda one: one.org):  # one order, so that no two wait for each other
                    locks.enter_context(one.repository.held())
                if database and file is not None:
                    copy_sqlite(file, copied)
                views = {one.org: View.load(repository_folder(settings, one.org) / "metadata") for one in each}
            parts: list[Iterator[tuple[str, bytes | Path]]] = []
            if database:
                parts.append(iter([(_DATABASE, copied)]))
            if keys:
                parts.append(_below(settings.home / "device-ca", "device-ca"))
            for one in each:
                parts.append(_of_organisation(one, views[one.org], "" if one is wiring else _place(one.org), keys=keys))
            for part in parts:
                for name, content in part:
                    sink.add(name, content)
                    count += 1
                    if _BY_DIGEST.fullmatch(name) is None:
                        digests[name] = _sha256(content)
        view = views[wiring.org]
        manifest: dict[str, Any] = {
            "format": SEVERAL if further else FORMAT,
            "version": wiring.version,
            "org": wiring.org,
            "created_at": now.isoformat().replace("+00:00", "Z"),
            "serial": view.serial,
            "root_sha256": view.root_sha256,
            "database": database,
            "keys": keys,
            "digests": digests,
            "blobs": count - len(digests),
        }
        if further:
            manifest["further"] = {one.org: views[one.org].serial for one in further}
        sink.add(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
        sink.finish()
    except BaseException:
        sink.abandon()
        raise
    for one in each:
        told = {"serial": views[one.org].serial, "keys": keys, "database": database}
        one.audit.append(one.org, [AuditEvent("repository.backed_up", one.org, OPERATOR, now, told)])
    return Made(
        destination=destination,
        serial=view.serial,
        further={one.org: views[one.org].serial for one in further},
        files=count + 1,
        database=database,
        keys=keys,
    )


def _place(org: str) -> str:
    return f"{_FURTHER}/{org}/"


def _of_organisation(one: Wavegate, view: View, prefix: str, *, keys: bool) -> Iterator[tuple[str, bytes | Path]]:
    folder = repository_folder(one.settings, one.org)
    for name, content in files_of(folder, view, one.repository.storage):
        yield f"{prefix}repository/{name}", content
    if keys:
        yield from _below(keys_folder(one.settings, one.org), f"{prefix}keys")
    yield f"{prefix}{ROOT_FILE}", root_file(one.settings, one.org)


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
        keys: A folder with ``keys/`` and ``device-ca/``, and ``orgs/SLUG/keys/`` of further organisations, for a backup
            without them.
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
    org, made_at = str(manifest["org"]), datetime.fromisoformat(manifest["created_at"])
    serials = {org: int(manifest["serial"]), **manifest.get("further", {})}
    if settings.bucket and any(_holds_one(settings, one) for one in serials):
        raise BackupRefused(f"{settings.bucket} holds a repository already; name an empty prefix in storage_url")
    if now < made_at:
        raise BackupRefused(f"the clock says {now.isoformat()}, the backup was made at {made_at.isoformat()}; set it")
    file = sqlite_file(settings.database_url)
    if file is not None and not manifest["database"]:
        raise BackupRefused("the backup has no database: restore PostgreSQL from its dump, name WAVEGATE_DATABASE_URL")
    if file is not None and file.exists():
        raise BackupRefused(f"{file} is there already; nothing is written over, name another WAVEGATE_DATABASE_URL")
    if not manifest["keys"] and keys is None:
        raise BackupRefused("the backup has no keys: give --keys FOLDER with `keys` and `device-ca` in it")
    places = {"device-ca": home / "device-ca", ROOT_FILE: home / ROOT_FILE}
    for one in serials:
        prefix = "" if one == org else _place(one)
        places[f"{prefix}repository"] = repository_folder(settings, one)
        places[f"{prefix}keys"] = keys_folder(settings, one)
        if prefix:
            places[f"{prefix}{ROOT_FILE}"] = keys_folder(settings, one).parent / ROOT_FILE
    make_private_folder(home)
    _unpack(source, manifest, places, file, disk or LocalStorage())
    if not manifest["keys"] and keys is not None:
        for part in (one for one in places if one.rpartition("/")[2] in {"keys", "device-ca"}):
            for name, content in _below(keys / part, part):
                path = places[part] / name.removeprefix(f"{part}/")
                make_private_folder(path.parent)
                write_private(path, content.read_bytes())
    for one in serials:
        make_private_folder(repository_folder(settings, one) / "staging")
        make_private_folder(repository_folder(settings, one) / "blobs")
    first, *further = [_settle(settings, one, serials[one], made_at, above, now, disk) for one in serials]
    write_private(settings.home / MARKER, f"{org}\n".encode())
    return replace(first, further=further)


def _holds_one(settings: Settings, org: str) -> bool:
    return Bucket(bucket_address(settings).below(org)).head("metadata/timestamp.json") is not None


def _settle(
    settings: Settings,
    org: str,
    serial: int,
    made_at: datetime,
    above: int,
    now: datetime,
    disk: LocalStorage | None,
) -> Restored:
    db = open_database(settings)
    try:
        db.migrate()
        index = ArtifactIndex(db, org)
        repository = SignedRepository(
            repository_folder(settings, org), Keyring(keys_folder(settings, org)), index, storage=disk
        )
        goal = max(above, index.projected_serial(), beyond(serial, (now - made_at).total_seconds()))
        told = {"backup_of": made_at.isoformat().replace("+00:00", "Z")}
        reached = repository.jump(goal, now=now, by=OPERATOR, told=told)
        artifacts = repository.status(now=now).artifacts
        kept = repository_storage(settings, org, db)
        if isinstance(kept, SharedStorage):
            move_in(repository_folder(settings, org), kept)
    finally:
        db.close()
    return Restored(home=settings.home, org=org, serial_in_backup=serial, serial=reached, artifacts=artifacts)


def _manifest(source: Path) -> dict[str, Any]:
    for name, stream in members(source):
        if name == MANIFEST:
            try:
                found: dict[str, Any] = json.loads(stream.read())
                if found["format"] not in {FORMAT, SEVERAL}:
                    raise BackupRefused(
                        f"the backup has format {found['format']!r}, this version reads {FORMAT} and {SEVERAL}"
                    )
                slugs = [found["org"], *found.get("further", {})]
                if not all(isinstance(one, str) and re.fullmatch(SLUG, one) for one in slugs):
                    raise ValueError(f"{slugs!r} are no organisations")
                if not {"org", "created_at", "serial", "database", "keys", "digests", "blobs"} <= found.keys():
                    raise KeyError("a field")
            except (ValueError, KeyError, TypeError) as error:
                raise BackupRefused(f"{MANIFEST} of {source} cannot be read: {error!r}") from error
            return found
    raise BackupRefused(f"{source} has no {MANIFEST}: it is no backup, or its making was cut short")


def _unpack(
    source: Path, manifest: dict[str, Any], places: dict[str, Path], file: Path | None, disk: LocalStorage
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
        part = next((one for one in places if name.startswith(f"{one}/") or name == one == _root_of(one)), None)
        if name == _DATABASE:
            if file is None:
                continue  # another database was restored in its place
            path = file
        elif part is not None:
            path = places[part] / name[len(part) + 1 :]
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
        is_public = _PUBLIC.fullmatch(name) is not None
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


def _root_of(part: str) -> str:
    return f"{part.rpartition('/')[0]}/{ROOT_FILE}".lstrip("/")


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
