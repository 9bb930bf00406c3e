"""A repository whose truth is a bucket and whose folder is this server's copy of it.

Names in a repository never change their content, but for ``timestamp.json`` and the few notes beside it, so what was
copied once stays right. What is written goes to the bucket first: versioned names are created there and never written
over, ``timestamp.json`` is replaced only if it still is what the commit started from. What others wrote is fetched when
the lock is entered, and for readers once a second: one look at ``timestamp.json`` tells whether anything changed, and
the snapshot tells what.

Source: docs/adr/0060-the-bucket-is-the-truth.md
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from repo_signing import roles
from repo_signing.blob_copies import BlobCopies
from repo_signing.bucket import AT_ONCE, Bucket, BucketFailed, Content, NotAsExpected
from repo_signing.errors import CommitFailed, RepositoryError, RepositoryMoved
from repo_signing.following import Following
from repo_signing.lease import SharedLock
from repo_signing.lock import RepositoryLock
from repo_signing.paths import is_sha256, versioned_name
from repo_signing.ports import Lease
from repo_signing.storage import TEMPORARY, FarTarget, LocalStorage, Stored, read_or_none

log: Final = logging.getLogger("wavegate.repository")

FOLLOW_SECONDS: Final = 1.0  # how far behind a reader may be
_LEFT_ALONE: Final = timedelta(hours=1)  # files of the copy that are younger may be of a commit under way
_UPLOADS: Final = "uploads"  # one small object for each upload that waits to be signed
_FOLDERS: Final = ("metadata", "blobs", "quarantine", "drafts", "approvals")

T = TypeVar("T")
R = TypeVar("R")


class SharedStorage(LocalStorage):
    """Changes the bucket, and the copy after it. One instance per process and repository; threads may share it.

    Args:
        folder: The copy, of this server alone; processes of one server share it.
        bucket: The repository's own prefix.
        lease: Among the servers; None when no other server writes.
        first_root: What ``1.root.json`` must be, known from elsewhere: an empty copy believes no other.
    """

    def __init__(
        self, folder: Path, bucket: Bucket, lease: Lease | None = None, *, first_root: bytes | None = None
    ) -> None:
        self.bucket: Final = bucket
        self._folder: Final = folder
        self._metadata: Final = folder / "metadata"
        self._pool: Final = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="wavegate-bucket")
        # Between the look at a name in the bucket and the writing of its copy nobody else may write the copy.
        self._copying: Final = RepositoryLock(folder / "copy.lock")
        self._following: Final = Following(folder, bucket, self.each, first_root)
        self._blobs: Final = BlobCopies(folder / "staging", bucket)
        self._lock: Final = SharedLock(folder / "lock", lease, lambda: self.follow(folder))
        self._looking: Final = threading.Lock()
        self._looked_at = -FOLLOW_SECONDS
        self._orphans: set[str] = set()  # files of commits that never became visible

    # One change each

    def link(self, source: Path, name: Path) -> None:
        """Give a file a second name, which must be new (FileExistsError); in the bucket first.

        An upload is sent; a blob that is set aside is copied there without coming here.
        """
        key = self._key(name)
        if key is None or source.name.startswith(TEMPORARY):
            super().link(source, name)
            return
        origin = self._key(source)
        if origin is None:
            if not source.is_file():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
            self._blobs.send(key, source)
            super().link(source, name)
            return
        if self.bucket.head(key) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(name))
        self.bucket.copy(origin, key)
        with suppress(FileExistsError, FileNotFoundError):
            super().link(source, name)

    def remove(self, path: Path) -> None:
        """Remove a name from bucket and copy; one that is shared may be gone already."""
        key = self._key(path)
        if key is None:
            super().remove(path)
            return
        self.bucket.remove(key)
        with suppress(FileNotFoundError):
            super().remove(path)

    # Composed

    def create_once(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write files under names that must all be new in the bucket; the copy follows.

        Raises:
            FileExistsError: A name was there with other bytes. Others of ``files`` stay, and what a dead server left
                above the current state has been copied, so that its numbers show.
            OSError: The bucket or the disk failed; some of ``files`` may stay.
        """
        self._create(folder, files, super().create_once)

    def create_unsynced(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """The same within a block of :meth:`together` that yielded True."""
        self._create(folder, files, super().create_unsynced)

    def replace(self, path: Path, content: bytes, *, base: bytes | None) -> None:
        """Put ``content`` in the place of ``base`` at once, if the bucket still has ``base``; the copy follows.

        Raises:
            RepositoryMoved: The bucket has something else; it is untouched.
            LeaseLost: ``path`` is the timestamp and another server has the turn; nothing was written.
            StorageUnusable: The store has no conditional writes.
            OSError: The bucket or the disk failed; ``content`` may stand.
        """
        key = self._key(path)
        if key is None:
            super().replace(path, content, base=base)
            return
        is_commit = path == self._metadata / "timestamp.json"
        if is_commit:
            self._lock.check()
        with self._copying:
            self._swap(key, content, base)
            super().replace(path, content, base=read_or_none(path))
        if is_commit and base is not None and self._orphans:
            orphans, self._orphans = self._orphans, set()
            with suppress(OSError):
                self.each(
                    lambda name: self.remove(self._metadata / name), self._following.unreachable(orphans, base, content)
                )

    # Other servers

    def repository_lock(self, folder: Path) -> RepositoryLock:  # noqa: ARG002
        """The lock among threads, processes and servers."""
        return self._lock

    def follow(self, folder: Path) -> None:
        """Bring the copy up to the bucket.

        Raises:
            CommitFailed: The bucket or the disk failed; the copy is a whole state, the old one.
            RepositoryDamaged: The bucket holds an older state than the copy, or one that was not signed as it should
                be; the copy stays.
        """
        try:
            for part in (folder, *(folder / name for name in ("metadata", "blobs", "staging", "drafts", "approvals"))):
                self.ensure_folder(part)
            with self._copying:
                self._following.bring_up()
        except OSError as error:
            raise CommitFailed(
                f"the state in the bucket could not be read: {error.strerror or error}; nothing was changed, try again"
            ) from error
        self._looked_at, self.trouble = time.monotonic(), None

    def follow_soon(self, folder: Path) -> None:
        """Bring the copy up unless that was done a moment ago or is being done; readers go on with what there is."""
        if time.monotonic() - self._looked_at < FOLLOW_SECONDS or not self._looking.acquire(blocking=False):
            return
        try:
            self.follow(folder)
        except RepositoryError as error:
            self._looked_at = time.monotonic()
            if self.trouble is None:
                log.warning("readers are given the state that is here: %s", error)
            self.trouble = str(error)
        finally:
            self._looking.release()

    def survey(self, metadata: Path, serial: int) -> bool:
        """Copy what the bucket has above ``serial``; it is removed after the next commit, which makes it unreachable.

        A server that stalled on the last step of a commit might still make it visible, and must not find its files
        gone then. To be called under the lock.
        """
        names = {entry.key.rpartition("/")[2] for entry in self.bucket.list("metadata")}
        named = {name: versioned_name(name) for name in names}
        above = {name for name, one in named.items() if one is not None and one[1] != roles.ROOT and one[0] > serial}
        for name in above:
            content = self.bucket.get(f"metadata/{name}")
            if content is not None:
                self._copy(metadata, {name: content.raw}, super().create_once)
        self._orphans |= above
        return bool(above)

    def holds(self, path: Path) -> bool:
        """Ask the bucket whether it has a blob, unless that was just asked under this lock."""
        return self._blobs.holds(self._required_key(path), path)

    def confirm(self, paths: Collection[Path]) -> None:
        """Ask for many blobs at once."""
        self._blobs.forget_confirmed()
        self.each(self.holds, set(paths))

    def fetch(self, path: Path) -> bool:
        """Have a blob here; what the bucket does not have any more goes from the copy, too, within a minute."""
        return self._blobs.fetch(self._required_key(path), path)

    def length(self, path: Path) -> int | None:
        """Length of a blob in the bucket."""
        entry = self.bucket.head(self._required_key(path))
        return None if entry is None else entry.length

    def read(self, path: Path) -> bytes | None:
        """A file of metadata from the copy, else from the bucket."""
        content = read_or_none(path)
        if content is not None:
            return content
        try:
            found = self.bucket.get(self._required_key(path))
        except OSError as error:
            raise CommitFailed(f"{path.name} could not be read: {error.strerror or error}; try again") from error
        return None if found is None else found.raw

    def share_uploads(self, uploads: Sequence[tuple[Path, str]]) -> None:
        """Send uploads to where they will stand, and note each, so that whichever server is asked can sign them."""

        def share(upload: tuple[Path, str]) -> None:
            path, sha256 = upload
            blob = f"blobs/{sha256[:2]}/{sha256}"
            self._blobs.send(blob, path)
            noted = f"{sha256} {path.stat().st_size}".encode()
            self.bucket.create(f"{_UPLOADS}/{path.name.partition('.')[0]}", noted)

        self.each(share, uploads)

    def find_upload(self, upload_id: str) -> tuple[str, int] | None:
        """Digest and length of an upload that another server took in."""
        found = self.bucket.get(f"{_UPLOADS}/{upload_id}")
        if found is None:
            return None
        sha256, _, length = found.raw.decode(errors="replace").partition(" ")
        return (sha256, int(length)) if is_sha256(sha256) and length.isdecimal() else None

    def drop_upload(self, upload_id: str) -> None:
        """Forget the note of an upload, in its own time."""
        self._pool.submit(self.bucket.remove, f"{_UPLOADS}/{upload_id}")  # a failure leaves it to the stale ones

    def close(self) -> None:
        """Wait for what is done in its own time; nothing can be stored afterwards."""
        self._pool.shutdown()

    def drop_stale_uploads(self, before: datetime) -> None:
        """Forget notes from before a moment; bytes that nobody signed go with the next collection."""
        stale = [entry.key for entry in self.bucket.list(_UPLOADS) if entry.modified < before]
        self.each(self.bucket.remove, stale)

    def send_copy(self, path: Path) -> None:
        """Send a file of the copy as it is; one that is this server's own is left. Raises FileExistsError, OSError."""
        key = self._key(path)
        if key is None:
            return
        if key.startswith(("blobs/", "quarantine/")):
            self._blobs.send(key, path)
        else:
            self.bucket.create(key, path.read_bytes())

    def gather(self, folder: Path) -> None:
        """Bring a folder of small files up to the bucket, those that were removed there included."""
        try:
            with self._copying:
                there = sorted(entry.key.rpartition("/")[2] for entry in self.bucket.list(folder.name))
                contents = self.each(lambda name: self.bucket.get(f"{folder.name}/{name}"), there)
                for name, found in zip(there, contents, strict=True):
                    standing = read_or_none(folder / name)
                    if found is not None and found.raw != standing:
                        super().replace(folder / name, found.raw, base=standing)
                for path in folder.iterdir():
                    if path.name not in there and not path.name.startswith(TEMPORARY):
                        super().remove(path)
        except OSError as error:
            raise CommitFailed(f"{folder.name} could not be read: {error.strerror or error}; try again") from error

    def listing(self, folder: Path) -> Iterator[Stored]:
        """All files that the bucket has below a folder, by path. What only the copy has goes from there."""
        key = self._required_key(folder)
        there = {self._folder / entry.key: entry for entry in self.bucket.list(key)}
        young = datetime.now(UTC) - _LEFT_ALONE
        for local in super().listing(folder):
            if local.path not in there and local.changed < young and not local.path.name.startswith(TEMPORARY):
                with suppress(FileNotFoundError):
                    super().remove(local.path)
        for path, entry in sorted(there.items()):
            yield Stored(path, entry.length, entry.modified)

    def far(self, path: Path) -> FarTarget | None:
        """A blob of the bucket, if it is large; small ones are fetched once and served from here."""
        return self._blobs.far(self._required_key(path), path)

    def each(self, action: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Do something with many objects at once; raises the first error after all have ended."""
        running = [self._pool.submit(action, item) for item in items]
        failures = [error for one in running if (error := one.exception()) is not None]
        # Somebody else's file says more than a request that failed.
        for error in sorted(failures, key=lambda one: not isinstance(one, FileExistsError)):
            raise error
        return [one.result() for one in running]

    def _create(
        self, folder: Path, files: Mapping[str, bytes], create: Callable[[Path, Mapping[str, bytes]], None]
    ) -> None:
        key = self._key(folder)
        if key is None:
            create(folder, files)
            return
        try:
            self.each(lambda name: self.bucket.create(f"{key}/{name}", files[name]), files)
        except FileExistsError:
            if folder == self._metadata:
                known = read_or_none(folder / "timestamp.json")
                self.survey(folder, 0 if known is None else self._following.serial_of(known))
            raise
        self._copy(folder, files, create)

    def _copy(
        self, folder: Path, files: Mapping[str, bytes], create: Callable[[Path, Mapping[str, bytes]], None]
    ) -> None:
        missing = dict(files)
        while missing:
            for name, content in files.items():
                standing = read_or_none(folder / name)
                if standing == content:
                    missing.pop(name, None)
                elif standing is not None:
                    super().remove(folder / name)  # a copy of what was never signed into the bucket
            try:
                create(folder, missing)
            except FileExistsError:
                continue  # another process of this server fetched one of them meanwhile
            return

    def _swap(self, key: str, content: bytes, base: bytes | None) -> None:
        moved = RepositoryMoved(
            f"{key} in the bucket was replaced meanwhile by another server; nothing was written, try again"
        )
        try:
            if base is None:
                mark = self.bucket.create(key, content)
            else:
                known = self._following.known(key)
                if known is None or known.raw != base:
                    known = self.bucket.get(key)
                if known is None or known.raw != base:
                    raise moved
                mark = self.bucket.swap(key, content, known)
        except (NotAsExpected, FileExistsError) as error:
            self._following.forget(key)
            raise moved from error
        self._following.note(key, Content(content, mark))

    def _key(self, path: Path) -> str | None:
        """The object of a path; None when it is of this server alone."""
        if path.name.startswith(TEMPORARY) or not path.is_relative_to(self._folder):
            return None
        parts = path.relative_to(self._folder).parts
        shared = bool(parts) and (parts[0] in _FOLDERS or (len(parts) == 1 and parts[0] in Following.NOTES))
        return "/".join(parts) if shared else None

    def _required_key(self, path: Path) -> str:
        key = self._key(path)
        if key is None:
            raise BucketFailed(f"{path.name} is not kept in a bucket")
        return key
