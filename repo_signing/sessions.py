"""Uploads in pieces, for large files on bad links: what has arrived stays, and the sender goes on from there.

A session is a file ``staging/<upload id>.part``; its length is where it stands, so a server that died knows as much as
one that did not. The digest is kept up while writing, and made again from the file only by a process that does not
have it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from evidence.ids import is_id, new_id
from repo_signing.blobs import CHUNK, KEPT
from repo_signing.errors import (
    CommitFailed,
    UnknownUpload,
    UploadBusy,
    UploadDamaged,
    UploadTooLarge,
    WrongOffset,
)
from repo_signing.model import StagedBlob
from repo_signing.storage import LocalStorage

_REMEMBERED: Final = 64  # digests of sessions under way; of others they are made again from the file


class UploadSessions:
    """The sessions of one repository folder. Threads and processes may share it; one at a time sends to a session."""

    def __init__(self, folder: Path, storage: LocalStorage) -> None:
        self._staging: Final = folder / "staging"
        self._storage: Final = storage
        self._guard: Final = threading.Lock()
        self._digests: Final[dict[str, tuple[int, Any]]] = {}  # by upload id: bytes taken in, and their SHA-256

    def begin(self) -> str:
        """Open a session; returns its id. It waits 24 hours for the next piece. Raises CommitFailed."""
        upload_id = new_id("upl")
        try:
            os.close(self._storage.create(self._part(upload_id)))
            self._storage.sync_folder(self._staging)
        except OSError as error:
            raise CommitFailed(f"the upload could not be opened: {error.strerror}; try again") from error
        return upload_id

    def offset(self, upload_id: str) -> int:
        """How many bytes have arrived: where to go on. Raises UnknownUpload."""
        try:
            return self._part(upload_id).stat().st_size
        except FileNotFoundError:
            raise _unknown(upload_id) from None

    def append(self, upload_id: str, stream: BinaryIO, *, offset: int, limit: int | None) -> int:
        """Write what ``stream`` gives behind what is there, durably; returns where the session stands then.

        What had arrived when the stream or the disk failed stays; ask :meth:`offset` before going on.

        Raises:
            UnknownUpload: No such session.
            WrongOffset: It stands elsewhere than ``offset``; nothing was written.
            UploadBusy: Somebody else is sending to it.
            UploadTooLarge: It would have more than ``limit`` bytes; it ends at the limit.
            CommitFailed: The stream or the disk failed.
        """
        with self._held(upload_id) as descriptor:
            stands = os.lseek(descriptor, 0, os.SEEK_END)
            if offset != stands:
                raise WrongOffset(
                    f"the upload stands at {stands} bytes, the piece begins at {offset}; go on from there"
                )
            digest = self._digest(upload_id, descriptor, stands)
            try:
                while chunk := stream.read(CHUNK):
                    if limit is not None and stands + len(chunk) > limit:
                        raise UploadTooLarge(f"the upload has more than {limit} bytes, which is the most that is taken")
                    self._storage.write(descriptor, chunk)
                    digest.update(chunk)
                    stands += len(chunk)
                    self._remember(upload_id, stands, digest)
                self._storage.sync(descriptor)
            except OSError as error:
                self._forget(upload_id)  # a write that failed may have left a part of its bytes
                raise CommitFailed(
                    f"the piece did not arrive whole: {error.strerror or error}; ask for the offset and go on"
                ) from error
        return stands

    def complete(self, upload_id: str, *, sha256: str) -> StagedBlob:
        """Make an upload of the session, if its bytes are those that were to be sent.

        Raises:
            UnknownUpload, UploadBusy: As from :meth:`append`.
            UploadDamaged: The bytes have another digest; the session is over.
            CommitFailed: The disk failed; it may be completed again.
        """
        with self._held(upload_id) as descriptor:
            length = os.lseek(descriptor, 0, os.SEEK_END)
            found = self._digest(upload_id, descriptor, length).hexdigest()
            blob = StagedBlob(upload_id=upload_id, sha256=found, length=length)
            try:
                if found != sha256:
                    self._storage.remove(self._part(upload_id))
                    raise UploadDamaged(
                        f"{length} bytes with sha256 {found} came, expected {sha256}; send the file from its start"
                    )
                self._storage.sync(descriptor)
                self._storage.rename(self._part(upload_id), self._staging / f"{upload_id}.{found}")
                self._storage.sync_folder(self._staging)
                self._storage.share_uploads([(self._staging / f"{upload_id}.{found}", found)])
            except OSError as error:
                raise CommitFailed(f"the upload could not be completed: {error.strerror}; try again") from error
            finally:
                self._forget(upload_id)
        return blob

    def _part(self, upload_id: str) -> Path:
        if not is_id(upload_id, "upl"):
            raise _unknown(upload_id)
        return self._staging / f"{upload_id}.part"

    @contextmanager
    def _held(self, upload_id: str) -> Iterator[int]:
        path = self._part(upload_id)
        try:
            descriptor = self._storage.reopen(path)
        except FileNotFoundError:
            raise _unknown(upload_id) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy("somebody is sending to this upload; wait until that has ended, then go on") from None
            if not path.exists():  # completed between the two calls
                raise _unknown(upload_id)
            yield descriptor
        finally:
            os.close(descriptor)

    def _digest(self, upload_id: str, descriptor: int, length: int) -> Any:
        with self._guard:
            known, digest = self._digests.get(upload_id, (-1, None))
        if known == length:
            return digest
        digest, place = hashlib.sha256(), 0
        while place < length and (chunk := os.pread(descriptor, CHUNK, place)):
            digest.update(chunk)
            place += len(chunk)
        return digest

    def _remember(self, upload_id: str, length: int, digest: Any) -> None:
        with self._guard:
            self._digests[upload_id] = (length, digest)
            while len(self._digests) > _REMEMBERED:
                self._digests.pop(next(iter(self._digests)))

    def _forget(self, upload_id: str) -> None:
        with self._guard, suppress(KeyError):
            del self._digests[upload_id]


def _unknown(upload_id: str) -> UnknownUpload:
    return UnknownUpload(
        f"no upload {upload_id[:80]!r} is under way; one waits {KEPT.total_seconds() / 3600:.0f} h for its next piece"
    )
