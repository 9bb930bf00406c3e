"""Every change that the repository makes to its disk, in one small class.

A file is written under a temporary name, synced, and only then given its name: by ``link`` where the name must be new,
by ``rename`` for ``timestamp.json`` alone. Nothing is written in place and nothing is written over.
"""

from __future__ import annotations

import ctypes
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from repo_signing.errors import CommitFailed, RepositoryMoved
from repo_signing.lock import RepositoryLock

TEMPORARY: Final = ".tmp-"  # how names of unfinished files start

MANY: Final = 16  # files written at once from which one sync of the file system is cheaper than one of each

_FILE_MODE: Final = 0o644  # metadata and blobs are public
_FOLDER_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is kept: where it stands or would stand locally, its length, and when its name was last written."""

    path: Path
    length: int
    changed: datetime


class FarTarget(Protocol):
    """A blob that is kept elsewhere. All methods raise OSError when it cannot be had now."""

    @property
    def name(self) -> str:
        """Its digest."""

    @property
    def length(self) -> int:
        """In bytes."""

    @property
    def is_here(self) -> bool:
        """Whether there is a copy on this machine, too."""

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Its bytes from ``start`` up to, not including, ``end``."""

    def url(self, seconds: int) -> str:
        """Where anybody can download it for so long; raises StorageUnusable."""


class LocalStorage:
    """A folder on a local file system.

    The methods of the first half make one change each; tests stop or fail each of them. OSError is passed on by all,
    and a file whose write or fsync failed is given up: syncing the same descriptor again could report a success that
    never reached the disk.
    """

    trouble: str | None = None  # why readers are given an older state than there is, if they are

    def create(self, path: Path) -> int:
        """Create a file that must be new; returns its descriptor, open for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)

    def reopen(self, path: Path) -> int:
        """Open a file that is there, to be read and written on."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, descriptor: int, content: bytes | memoryview) -> None:
        """Write all of ``content``."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        """Wait until the file's content is on the disk."""
        os.fsync(descriptor)

    def link(self, source: Path, name: Path) -> None:
        """Give a file a second name, which must be new (FileExistsError)."""
        os.link(source, name)

    def rename(self, source: Path, name: Path) -> None:
        """Give a file another name, replacing what had it."""
        os.rename(source, name)

    def remove(self, path: Path) -> None:
        """Remove a name."""
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        """Create a folder that must be new (FileExistsError)."""
        os.mkdir(path, _FOLDER_MODE)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_file_system(self, descriptor: int) -> None:
        """Wait until everything written to the file system of an open folder is on the disk.

        It fails when anything could not be written since the folder was opened.
        """
        if _libc is None or _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    # What follows is composed of the above.

    @contextmanager
    def together(self, folder: Path) -> Iterator[bool]:
        """Make what the block writes below ``folder`` durable at its end, all by one sync.

        Yields True when files need no sync of their own; False on systems on which one sync for all would not tell
        of an error (Linux before 5.8, others). A block that raises is not synced.
        """
        if not _CAN_SYNC_TOGETHER:
            yield False
            return
        # Opened first: the kernel tells of the errors since then.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield True
            self.sync_file_system(descriptor)
        finally:
            os.close(descriptor)

    def temporary(self, folder: Path) -> Path:
        """A fresh name for an unfinished file in this folder."""
        return folder / f"{TEMPORARY}{secrets.token_hex(8)}"

    def create_once(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write files under names that must all be new, and make them durable.

        Raises:
            FileExistsError: A name was there; it is untouched. Files named before it stay.
            OSError: The disk failed; files named before stay.
        """
        if len(files) < MANY:
            self._create_all(folder, files, sync=True)
            self.sync_folder(folder)
            return
        with self.together(folder) as is_synced:
            self._create_all(folder, files, sync=not is_synced)
        if not is_synced:
            self.sync_folder(folder)

    def create_unsynced(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write files under names that must all be new, within a block of :meth:`together` that yielded True."""
        self._create_all(folder, files, sync=False)

    def replace(self, path: Path, content: bytes, *, base: bytes | None) -> None:
        """Put ``content`` in the place of ``base`` at once: readers see the one or the other, whole.

        Each state has a second of its own as its time of change, ahead of the clock if need be: web servers make the
        file's ETag of that second and the length, and states of one second must not look like one.

        Raises:
            RepositoryMoved: What stands at ``path`` is not ``base`` (None: nothing); it is untouched.
            OSError: The disk failed. If only the last step did, ``content`` stands but may not outlive a power cut.
        """
        temporary = self._written(path.parent, content)
        try:
            if read_or_none(path) != base:
                raise RepositoryMoved(
                    f"{path} was replaced by somebody who does not hold the repository's lock; "
                    "find out who writes there, then try again"
                )
            if base is not None:
                _make_younger(temporary, than=path)
            self.rename(temporary, path)
        except BaseException:
            self._discard(temporary)
            raise
        self.sync_folder(path.parent)

    def ensure_folder(self, path: Path) -> None:
        """Create a folder below an existing one, durably; one that is there is taken as it is."""
        if path.is_dir():
            return
        with suppress(FileExistsError):
            self.make_folder(path)
        self.sync_folder(path.parent)

    # What other servers write. A folder has nothing but itself; see repo_signing.shared_storage.

    def repository_lock(self, folder: Path) -> RepositoryLock:
        """The lock of the repository in ``folder``; who enters it sees the newest state."""
        return RepositoryLock(folder / "lock")

    def follow(self, folder: Path) -> None:
        """Bring the repository folder up to what other servers wrote, or raise as entering the lock does."""

    def follow_soon(self, folder: Path) -> None:
        """The same for readers: not at every call, and a state that cannot be had now leaves the one that is there."""

    def survey(self, metadata: Path, serial: int) -> bool:  # noqa: ARG002
        """Look for metadata above ``serial`` that other servers left; says whether a commit must fence it off."""
        return False

    def holds(self, path: Path) -> bool:
        """Say whether a blob is kept, wherever."""
        return path.is_file()

    def confirm(self, paths: Collection[Path]) -> None:
        """Look at many blobs at once, so that :meth:`holds` is quick while the lock is held."""

    def fetch(self, path: Path) -> bool:
        """Have the file of a blob here, whole; False when it is not kept anywhere."""
        return path.is_file()

    def length(self, path: Path) -> int | None:
        """Length of a blob, wherever it is kept; None when it is not."""
        return path.stat().st_size if path.is_file() else None

    def read(self, path: Path) -> bytes | None:
        """A kept file of metadata, or None; raises CommitFailed."""
        return read_or_none(path)

    def share_uploads(self, uploads: Sequence[tuple[Path, str]]) -> None:
        """Let every server know finished uploads: files ``<upload id>.<sha256>``, each with its digest."""

    def find_upload(self, upload_id: str) -> tuple[str, int] | None:  # noqa: ARG002
        """Digest and length of an upload that another server took in; None when there is none."""
        return None

    def drop_upload(self, upload_id: str) -> None:
        """Forget what :meth:`share_uploads` told."""

    def drop_stale_uploads(self, before: datetime) -> None:
        """Forget all that were told before a moment."""

    def gather(self, folder: Path) -> None:
        """Bring a small folder up to what other servers have in it."""

    def listing(self, folder: Path) -> Iterator[Stored]:
        """All files that are kept below a folder, by path."""
        for path in sorted(folder.rglob("*")):
            with suppress(FileNotFoundError):  # finished or collected meanwhile
                if path.is_file():
                    found = path.stat()
                    # The time of the last change of names: that of the content is the upload's.
                    yield Stored(path, found.st_size, datetime.fromtimestamp(found.st_ctime, UTC))

    def far(self, path: Path) -> FarTarget | None:  # noqa: ARG002
        """A large blob that is kept elsewhere; None for one whose file is to be read."""
        return None

    def _create_all(self, folder: Path, files: Mapping[str, bytes], *, sync: bool) -> None:
        for name, content in files.items():
            temporary = self._written(folder, content, sync=sync)
            try:
                self.link(temporary, folder / name)
            finally:
                self._discard(temporary)

    def _written(self, folder: Path, content: bytes, *, sync: bool = True) -> Path:
        temporary = self.temporary(folder)
        descriptor = self.create(temporary)
        try:
            try:
                self.write(descriptor, content)
                if sync:
                    self.sync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            self._discard(temporary)
            raise
        return temporary

    def _discard(self, temporary: Path) -> None:
        # What cannot be removed now is removed by the next recovery; the first error is the one to tell.
        with suppress(OSError):
            self.remove(temporary)


def _make_younger(path: Path, *, than: Path) -> None:
    earliest = int(than.stat().st_mtime) + 1
    if path.stat().st_mtime < earliest:
        os.utime(path, (earliest, earliest))


def _can_sync_together() -> bool:
    """Whether ``syncfs`` is there and tells of write errors: Linux from 5.8."""
    if _libc is None or not hasattr(_libc, "syncfs") or os.uname().sysname != "Linux":
        return False
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 8)


def _load_libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None


_libc: Final = _load_libc()
_CAN_SYNC_TOGETHER: Final = _can_sync_together()


def read_or_none(path: Path) -> bytes | None:
    """The content of a file, or None when there is none; raises CommitFailed when the disk does not give it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommitFailed(
            f"{path.name} could not be read: {error.strerror or error}; nothing was changed, try again"
        ) from error
