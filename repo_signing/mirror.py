"""Copies the repository to a folder that any web server can hand out, while clients read it there.

The order is that of dependence: bytes, the roles that name them, snapshot, roots, and ``timestamp.json`` last and at
once. Whatever moment the copy is cut short, clients of the mirror see the state before, whole; the next run goes on.
Versioned names are written once and never again. What was withdrawn is removed when the mirror says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from repo_signing import roles
from repo_signing.blobs import CHUNK, Blobs
from repo_signing.errors import CommitFailed, MirrorRefused, RepositoryDamaged
from repo_signing.lock import RepositoryLock
from repo_signing.records import sha256_of
from repo_signing.storage import TEMPORARY, LocalStorage, read_or_none
from repo_signing.view import View, read_root, verified

_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a run did: the state that the mirror has now, files and bytes written, files removed."""

    serial: int
    files: int
    length: int
    removed: int


class Mirror:
    """One mirror folder: ``metadata/`` and ``targets/`` below it, as they are served.

    Args:
        folder: Of the repository; only read.
        destination: Of the mirror; made when missing, its parent must exist.
        deep: Hash again what the mirror has already, instead of comparing lengths.
        storage: Changes the mirror's disk.
        kept_by: What keeps the repository, if that is not the folder alone.
    """

    def __init__(
        self,
        folder: Path,
        destination: Path,
        *,
        deep: bool = False,
        storage: LocalStorage | None = None,
        kept_by: LocalStorage | None = None,
    ) -> None:
        self._source: Final = folder / "metadata"
        self._kept_by: Final = LocalStorage() if kept_by is None else kept_by
        self._disk: Final = LocalStorage() if storage is None else storage
        self._blobs: Final = Blobs(folder, self._disk)
        self._destination: Final = destination
        self._metadata: Final = destination / "metadata"
        self._targets: Final = destination / "targets"
        self._deep: Final = deep
        self._files = 0
        self._length = 0

    def sync(self) -> Synced:
        """Bring the mirror up to the repository's state of now.

        Raises:
            NoRepository: There is none in the folder.
            RepositoryDamaged: What is to be copied is not what was signed; the mirror keeps the state it had.
            MirrorRefused: The mirror is another repository's, has a later state, or holds other bytes under a name.
            CommitFailed: The mirror's disk failed; run it again.
        """
        try:
            for part in (self._destination, self._metadata, self._targets):
                self._disk.ensure_folder(part)
            with RepositoryLock(self._destination / ".lock"):
                for leftover in self._destination.rglob(f"{TEMPORARY}*"):
                    self._disk.remove(leftover)
                return self._follow()
        except OSError as error:
            raise CommitFailed(f"the mirror could not be written: {error.strerror or error}; run it again") from error

    def _follow(self) -> Synced:
        for attempt in range(_TRIES):
            self._kept_by.follow(self._source.parent)
            view = View.load(self._source)
            try:
                return self._copy(view)
            except RepositoryDamaged:
                # An artifact that was withdrawn meanwhile is gone; the newer state does not name it.
                if attempt + 1 == _TRIES or View.load(self._source).serial == view.serial:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _copy(self, view: View) -> Synced:
        standing = read_or_none(self._metadata / "timestamp.json")
        self._check_ours(view, standing)
        self._copy_targets(dict(self._served_targets(view)))
        below = [name for name in view.standing() if name != roles.TARGETS]
        below.sort(key=lambda name: roles.delegator(name) == roles.TARGETS)  # bins before the role that delegates
        files = {name: content for role in (*below, roles.TARGETS) for name, content in view.files(role).items()}
        files[f"{view.snapshot.version}.{roles.SNAPSHOT}.json"] = view.snapshot_bytes
        roots = {
            f"{number}.{roles.ROOT}.json": (self._source / f"{number}.{roles.ROOT}.json").read_bytes()
            for number in range(1, view.root.version + 1)
        }
        self._create(files)
        roots_last = self._is_accepted(view)
        if not roots_last:
            self._create(roots)
        if standing != view.timestamp_bytes:
            self._disk.replace(self._metadata / "timestamp.json", view.timestamp_bytes, base=standing)
            self._files, self._length = self._files + 1, self._length + len(view.timestamp_bytes)
        if roots_last:
            self._create(roots)
        removed = self._remove_withdrawn(view)
        return Synced(serial=view.serial, files=self._files, length=self._length, removed=removed)

    def _is_accepted(self, view: View) -> bool:
        """Say whether clients of the mirror's root accept the new state: in an overlap there is no moment at which any
        client refuses the mirror if the new root comes last, as in the repository itself.
        """
        try:
            root, _ = read_root(self._metadata)
            verified(view.timestamp_bytes, root, roles.TIMESTAMP)
            verified(view.snapshot_bytes, root, roles.SNAPSHOT)
            verified(view.raw(roles.TARGETS), root, roles.TARGETS)
        except RepositoryDamaged:
            return False
        return True

    def _check_ours(self, view: View, standing: bytes | None) -> None:
        first = read_or_none(self._metadata / f"1.{roles.ROOT}.json")
        if first is not None and first != (self._source / f"1.{roles.ROOT}.json").read_bytes():
            raise MirrorRefused(f"{self._destination} is a mirror of another repository; name another folder")
        if standing is not None:
            try:
                version = int(orjson.loads(standing)["signed"]["version"])
            except (ValueError, KeyError, TypeError) as error:
                raise MirrorRefused(
                    f"{self._metadata / 'timestamp.json'} is garbled; remove it and sync again"
                ) from error
            if version > view.timestamp.version:
                raise MirrorRefused(
                    f"the mirror has serial {version}, the repository {view.timestamp.version}: the repository was "
                    "restored from an older copy; `publish repo restore` makes one that is past it"
                )

    def _served_targets(self, view: View) -> Iterator[tuple[str, tuple[str, int]]]:
        for name in view.standing():
            for path, entry in view.role(name).body["targets"].items():
                sha256 = sha256_of(entry)
                yield _served(path, sha256), (sha256, entry["length"])

    def _copy_targets(self, wanted: dict[str, tuple[str, int]]) -> None:
        folders = set()
        for name, (sha256, length) in sorted(wanted.items()):
            place = self._targets / name
            if place.is_file():
                if place.stat().st_size != length or (self._deep and _digest(place) != sha256):
                    raise MirrorRefused(f"{place} holds other bytes than were signed; remove it and sync again")
                continue
            self._make_folders(place.parent)
            self._copy_blob(sha256, length, place)
            folders.add(place.parent)
        for folder in sorted(folders):
            self._disk.sync_folder(folder)

    def _copy_blob(self, sha256: str, length: int, place: Path) -> None:
        temporary, digest, copied = self._disk.temporary(place.parent), hashlib.sha256(), 0
        try:
            self._kept_by.fetch(self._blobs.path(sha256))
            source = self._blobs.path(sha256).open("rb")
        except FileNotFoundError as error:
            raise RepositoryDamaged(f"the blob {sha256} is missing; restore it from a backup or mirror") from error
        with source:
            descriptor = self._disk.create(temporary)
            try:
                try:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        copied += len(chunk)
                        self._disk.write(descriptor, chunk)
                    self._disk.sync(descriptor)
                finally:
                    os.close(descriptor)
                if digest.hexdigest() != sha256 or copied != length:
                    raise RepositoryDamaged(f"the blob {sha256} holds other bytes; restore it from a backup or mirror")
                self._disk.link(temporary, place)
            finally:
                with suppress(OSError):
                    self._disk.remove(temporary)
        self._files, self._length = self._files + 1, self._length + length

    def _create(self, files: dict[str, bytes]) -> None:
        missing = {}
        for name, content in files.items():
            standing = read_or_none(self._metadata / name)
            if standing is None:
                missing[name] = content
            elif standing != content:
                raise MirrorRefused(
                    f"{self._metadata / name} holds other bytes than were signed; remove it, sync again"
                )
        if missing:
            self._disk.create_once(self._metadata, missing)
            self._files += len(missing)
            self._length += sum(map(len, missing.values()))

    def _remove_withdrawn(self, view: View) -> int:
        removed = 0
        for record in view.artifacts():
            place = self._targets / _served(record.path, record.sha256)
            if record.withdrawn is not None and place.is_file():
                self._disk.remove(place)
                removed += 1
        return removed

    def _make_folders(self, folder: Path) -> None:
        if folder != self._targets:
            self._make_folders(folder.parent)
        self._disk.ensure_folder(folder)


def _served(path: str, sha256: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
