"""The bytes behind the targets: taken in to ``staging/``, kept under their digest in ``blobs/``.

An upload is a file ``staging/<upload id>.<sha256>``, so any process of the same home can sign what another one took in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from evidence.ids import is_id, new_id
from repo_signing.errors import CommitFailed, RepositoryDamaged, UnknownUpload, UploadCutShort, UploadTooLarge
from repo_signing.model import StagedBlob
from repo_signing.paths import is_sha256
from repo_signing.storage import TEMPORARY, LocalStorage, Stored

CHUNK: Final = 128 * 1024  # bytes; larger writes cost more time in the kernel than they save
KEPT: Final = timedelta(hours=24)  # how long an upload waits to be signed


class Blobs:
    """Staged and kept bytes of one repository folder."""

    def __init__(self, folder: Path, storage: LocalStorage) -> None:
        self._blobs: Final = folder / "blobs"
        self._staging: Final = folder / "staging"
        self._storage: Final = storage

    def stage(self, stream: BinaryIO, *, limit: int | None, expected: int | None) -> StagedBlob:
        """Take in ``stream``: one pass that hashes and writes, then fsync. Nothing is left behind on any error.

        Raises:
            UploadTooLarge: More than ``limit`` bytes.
            UploadCutShort: Other than ``expected`` bytes.
            CommitFailed: The disk failed.
        """
        if limit is not None and expected is not None and expected > limit:
            raise UploadTooLarge(f"the upload has {expected} bytes, at most {limit} are taken")
        temporary = self._storage.temporary(self._staging)
        try:
            try:
                sha256, length = self._copy(stream, temporary, limit)
                if expected is not None and length != expected:
                    raise UploadCutShort(f"{length} of {expected} announced bytes came; send the file again")
                blob = StagedBlob(upload_id=new_id("upl"), sha256=sha256, length=length)
                self._storage.rename(temporary, self._staged(blob))
                self._storage.share_uploads([(self._staged(blob), blob.sha256)])
            except BaseException:
                self._forget(temporary)
                raise
            self._storage.sync_folder(self._staging)
        except OSError as error:
            # Also what a stream of a lost client raises is an OSError; both mean: not taken in.
            raise CommitFailed(f"the upload could not be taken in: {error.strerror or error}; send it again") from error
        return blob

    def stage_all(self, streams: Iterable[BinaryIO], *, limit: int | None) -> list[StagedBlob]:
        """Take in many small files, each held in memory whole, made durable together.

        On an error none of them counts; what was written is swept when stale.

        Raises:
            UploadTooLarge: One has more than ``limit`` bytes.
            CommitFailed: A stream or the disk failed.
        """
        staged = []
        try:
            with self._storage.together(self._staging) as is_synced:
                for stream in streams:
                    # Small enough to be hashed before its file is made, so that the file has its name from the start.
                    content = stream.read() if limit is None else stream.read(limit + 1)
                    if limit is not None and len(content) > limit:
                        raise UploadTooLarge(f"a file has more than {limit} bytes, which is the most that is taken")
                    sha256 = hashlib.sha256(content).hexdigest()
                    blob = StagedBlob(upload_id=new_id("upl"), sha256=sha256, length=len(content))
                    # Nobody is told its id before the whole is durable.
                    self._write_whole(self._staged(blob), content, sync=not is_synced)
                    staged.append(blob)
            if not is_synced:
                self._storage.sync_folder(self._staging)
            self._storage.share_uploads([(self._staged(blob), blob.sha256) for blob in staged])
        except OSError as error:
            raise CommitFailed(f"the uploads could not be taken in: {error.strerror or error}; send again") from error
        return staged

    def staged(self, upload_id: str) -> StagedBlob:
        """Look up an upload by its id; raises UnknownUpload."""
        if is_id(upload_id, "upl"):
            for path in self._staging.glob(f"{upload_id}.*"):
                sha256 = path.name.removeprefix(f"{upload_id}.")
                if is_sha256(sha256):
                    return StagedBlob(upload_id=upload_id, sha256=sha256, length=path.stat().st_size)
            try:
                elsewhere = self._storage.find_upload(upload_id)
            except OSError as error:
                raise CommitFailed(f"uploads cannot be looked up: {error.strerror or error}; try again") from error
            if elsewhere is not None:
                return StagedBlob(upload_id=upload_id, sha256=elsewhere[0], length=elsewhere[1])
        raise UnknownUpload(
            f"no upload {upload_id[:80]!r}; uploads are kept for {KEPT / timedelta(hours=1):.0f} hours and used once"
        )

    def open(self, blob: StagedBlob) -> BinaryIO:
        """Open an upload, or what was signed of it, for reading; raises UnknownUpload."""
        for path, is_here in ((self._staged(blob), Path.is_file), (self.path(blob.sha256), self._storage.fetch)):
            if is_here(path):
                return path.open("rb")
        raise UnknownUpload(f"the bytes of upload {blob.upload_id} are gone; send them again")

    def keep(self, blob: StagedBlob, *, sync: bool = True) -> None:
        """Give an upload its name among the blobs, durably unless the caller syncs. The same bytes twice are one blob.

        Raises:
            UnknownUpload: It is neither staged nor kept.
            RepositoryDamaged: The blob that is there has another length.
            CommitFailed: The disk failed.
        """
        name = self.path(blob.sha256)
        try:
            self._storage.ensure_folder(name.parent)
            try:
                self._storage.link(self._staged(blob), name)
            except FileExistsError:
                self._check_length(name, blob.length)
            except FileNotFoundError as error:
                if not self._storage.holds(name):
                    raise UnknownUpload(f"the bytes of upload {blob.upload_id} are gone; send them again") from error
                self._check_length(name, blob.length)
            if sync:
                self._storage.sync_folder(name.parent)
        except OSError as error:
            raise CommitFailed(f"the blob could not be written: {error.strerror}; try again") from error

    def put(self, content: bytes) -> str:
        """Keep a small document; returns its digest. Raises CommitFailed when the disk failed."""
        sha256 = hashlib.sha256(content).hexdigest()
        name = self.path(sha256)
        try:
            self._storage.ensure_folder(name.parent)
            if self._storage.holds(name):
                self._check_length(name, len(content))
                self._storage.sync_folder(name.parent)
            else:
                self._storage.create_once(name.parent, {name.name: content})
        except OSError as error:
            raise CommitFailed(f"the document could not be written: {error.strerror}; try again") from error
        return sha256

    def drop(self, blob: StagedBlob) -> None:
        """Remove an upload that was signed; one that cannot be removed goes when it is stale."""
        self._forget(self._staged(blob))
        with suppress(OSError):
            self._storage.drop_upload(blob.upload_id)

    def path(self, sha256: str) -> Path:
        """Where a blob stands, or would stand; ``sha256`` is 64 lower-case hex digits (ValueError)."""
        if not is_sha256(sha256):
            raise ValueError("a blob is named by 64 lower-case hex digits")
        return self._blobs / sha256[:2] / sha256

    def read(self, sha256: str) -> bytes:
        """A blob's bytes, checked against their digest; raises RepositoryDamaged."""
        try:
            self._storage.fetch(self.path(sha256))
            content = self.path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise RepositoryDamaged(f"the blob {sha256} is missing; restore it from a backup or mirror") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise RepositoryDamaged(f"the blob {sha256} holds other bytes; restore it from a backup or mirror")
        return content

    def all(self) -> Iterator[Stored]:
        """Every kept blob, and what else lies beside them."""
        yield from self._storage.listing(self._blobs)

    def temporary(self) -> list[Path]:
        """Unfinished files among the blobs; to be asked under the repository lock, where nobody is writing."""
        return sorted(self._blobs.glob(f"*/{TEMPORARY}*"))

    def stale(self, now: datetime) -> list[Path]:
        """Uploads, finished or not, that nobody touched for 24 hours."""
        with suppress(OSError):
            self._storage.drop_stale_uploads(now - KEPT)
        return [path for path in sorted(self._staging.iterdir()) if now - _touched(path) > KEPT]

    def _staged(self, blob: StagedBlob) -> Path:
        if not is_id(blob.upload_id, "upl") or not is_sha256(blob.sha256):
            raise UnknownUpload(f"no upload {blob.upload_id[:80]!r}")
        return self._staging / f"{blob.upload_id}.{blob.sha256}"

    def _copy(self, stream: BinaryIO, name: Path, limit: int | None) -> tuple[str, int]:
        digest, length = hashlib.sha256(), 0
        descriptor = self._storage.create(name)
        try:
            while chunk := stream.read(CHUNK):
                length += len(chunk)
                if limit is not None and length > limit:
                    raise UploadTooLarge(f"the upload has more than {limit} bytes, which is the most that is taken")
                digest.update(chunk)
                self._storage.write(descriptor, chunk)
            self._storage.sync(descriptor)
        finally:
            os.close(descriptor)
        return digest.hexdigest(), length

    def _write_whole(self, name: Path, content: bytes, *, sync: bool) -> None:
        descriptor = self._storage.create(name)
        try:
            self._storage.write(descriptor, content)
            if sync:
                self._storage.sync(descriptor)
        finally:
            os.close(descriptor)

    def _forget(self, path: Path) -> None:
        try:
            self._storage.remove(path)
        except OSError:
            return  # gone already, or found again as stale

    def _check_length(self, name: Path, length: int) -> None:
        found = self._storage.length(name)
        if found != length:
            raise RepositoryDamaged(
                f"the blob {name.name} has {found} bytes, expected {length}; restore it from a backup or mirror"
            )


def _touched(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
