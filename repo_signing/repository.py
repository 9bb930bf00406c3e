"""The signed repository of one organisation: what everybody else calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from evidence.model import REPOSITORY, Actor
from keys.keyring import Keyring
from repo_signing import edits, upkeep
from repo_signing.blobs import Blobs
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.errors import CommitRefused, NoRepository, RepositoryDamaged, UnknownTarget
from repo_signing.model import (
    ArtifactRecord,
    Finding,
    NewArtifact,
    RepositoryStatus,
    SbomUpload,
    StagedBlob,
)
from repo_signing.paths import artifact_path, check_document_path, is_metadata_name, served_sha256
from repo_signing.ports import Projection
from repo_signing.records import blob_entry, is_artifact, read_artifact, sha256_of
from repo_signing.storage import LocalStorage


class SignedRepository:
    """Publishes into one repository folder and reads it. Threads may share an instance, processes the folder.

    Methods that change something return once it is signed, durable, visible to clients and in the index; their common
    errors are those of :meth:`repo_signing.commit.Committer.submit`. ``now`` is an aware UTC time.

    Args:
        folder: Made by :func:`repo_signing.ceremony.create_repository`.
        keyring: Must reach the online keys when something is signed.
        projection: The index.
        storage: Changes the disk.

    Raises:
        NoRepository: There is no signed repository in ``folder``.
    """

    def __init__(
        self, folder: Path, keyring: Keyring, projection: Projection, *, storage: LocalStorage | None = None
    ) -> None:
        disk = LocalStorage() if storage is None else storage
        if not (folder / "metadata" / "timestamp.json").is_file():
            raise NoRepository(f"no signed repository in {folder}; `publish init` makes one")
        self._committer: Final = Committer(folder, keyring, projection, disk)
        self._blobs: Final = Blobs(folder, disk)
        self._metadata: Final = folder / "metadata"
        self._roots: Final[dict[str, bytes]] = {}

    # Uploads

    def stage(self, stream: BinaryIO, *, limit: int | None = None, expected: int | None = None) -> StagedBlob:
        """Take in bytes, hashed while written and durable on return; they wait 24 hours to be signed.

        Args:
            stream: Read to its end in pieces of 128 KiB.
            limit: The most bytes taken.
            expected: How many bytes were announced, if known.

        Raises:
            UploadTooLarge: More than ``limit``.
            UploadCutShort: Not ``expected``.
            CommitFailed: The disk failed. On any error nothing is left behind.
        """
        return self._blobs.stage(stream, limit=limit, expected=expected)

    def staged(self, upload_id: str) -> StagedBlob:
        """Look up an upload, also one of another process; raises UnknownUpload."""
        return self._blobs.staged(upload_id)

    def open_staged(self, blob: StagedBlob) -> BinaryIO:
        """Open an upload for reading; raises UnknownUpload."""
        return self._blobs.open(blob)

    # Changes

    def publish(self, new: NewArtifact, *, now: datetime) -> tuple[ArtifactRecord, bool]:
        """Sign an artifact and its SBOMs as targets in one commit.

        The same path with the same bytes again is no error: the record that stands is returned with False, and only
        SBOMs that it lacks are added. Uploads that were signed are used up.

        Returns:
            The signed record, and whether it is new.

        Raises:
            InvalidTargetPath: Product, version, platform or file name is outside the grammar.
            InvalidRecord: Notes, labels or another field cannot be signed, or the record is too large.
            PathTaken: The path is signed with other bytes; it stays as it is.
            UnknownUpload: An upload is unknown or was used up.
        """
        path = artifact_path(new.product, new.version, new.platform, new.file_name)
        standing = self._committer.view().target(path)
        if standing is not None and sha256_of(standing) != new.staged.sha256:
            raise edits.taken(path, sha256_of(standing), new.staged.sha256)
        uploads = [new.staged, *(sbom.staged for sbom in new.sboms)]
        if standing is None:
            self._blobs.keep(new.staged)
        for sbom in new.sboms:
            self._blobs.keep(sbom.staged)
        outcome = self._committer.submit(lambda draft: edits.publish(draft, path, new, now), now)
        for upload in uploads:
            self._blobs.drop(upload)
        return outcome

    def attach_sbom(self, path: str, sbom: SbomUpload, *, by: Actor, now: datetime) -> ArtifactRecord:
        """Sign an SBOM beside the artifact at ``path``. It stands at ``<path>.sbom.<n>.<format>``, n counting from 0.

        The same bytes again change nothing.

        Raises:
            UnknownTarget: No artifact is signed there.
            UnknownUpload: The upload is unknown or was used up.
        """
        self._require_artifact(path)
        self._blobs.keep(sbom.staged)
        record = self._committer.submit(lambda draft: edits.attach(draft, path, [sbom], by, now), now)
        self._blobs.drop(sbom.staged)
        return record

    def amend(
        self, path: str, *, notes: str | None = None, labels: Mapping[str, str] | None = None, by: Actor, now: datetime
    ) -> ArtifactRecord:
        """Replace notes or labels of an artifact; None leaves them. Raises UnknownTarget, InvalidRecord."""
        return self._committer.submit(lambda draft: edits.amend(draft, path, notes, labels, by, now), now)

    def yank(self, path: str, *, reason: str, by: Actor, now: datetime) -> ArtifactRecord:
        """Mark an artifact as not to be installed any more; its bytes stay.

        One that is yanked already stays so with its first reason. Raises UnknownTarget, InvalidRecord.
        """
        return self._committer.submit(lambda draft: edits.yank(draft, path, reason, by, now), now)

    def commit_documents(
        self, changes: Mapping[str, bytes | None], *, only_if: Callable[[], bool] | None = None, now: datetime
    ) -> int:
        """Sign documents under ``decisions/*/*`` and ``brakes/*/*`` in one commit; None removes one.

        Args:
            changes: By target path. Documents that stand as asked make no commit.
            only_if: Asked under the repository lock before anything is written; it may be asked in another thread, and
                again if the commit has to be built again.
            now: The commit's moment.

        Returns:
            The serial of the commit, or the current one when nothing differed.

        Raises:
            InvalidTargetPath: A path is outside those places.
            CommitRefused: ``only_if`` said False; nothing has changed.
        """
        for path in changes:
            check_document_path(path)
        return self._committer.submit(lambda draft: self._documents(draft, changes, only_if), now)

    def exclusively(self, action: Callable[[], None]) -> None:
        """Run ``action`` under the repository lock: no commit is halfway while it runs. It may itself commit."""
        with self._committer.lock:
            action()

    def refresh(self, *, now: datetime, force: bool = False, accept_clock: bool = False) -> list[str]:
        """Sign anew the online roles that are due; works after all of them expired, too.

        Args:
            now: A role is due by its age: timestamp 6 h, bins two thirds of their life, the others half.
            force: Take snapshot and timestamp in any case.
            accept_clock: Somebody has looked at the clock: sign although ``now`` is before the last commit, or long
                after it. Roles that were signed for a later time than ``now`` are due.

        Returns:
            Names of the roles that were signed, timestamp last; empty when none was due.
        """
        return self._committer.submit(
            lambda draft: upkeep.renew_due(draft, now, force=force), now, accept_clock=accept_clock
        )

    # Upkeep

    def recover(self, *, now: datetime, by: Actor = REPOSITORY) -> list[Finding]:
        """Clear away what a crash left and bring the index up to what is signed; to be called at start. Cheap."""
        with self._committer.lock:
            findings = upkeep.Inspection(self._committer, self._blobs, repair=True, now=now).recover()
            upkeep.tell_repairs(self._committer, findings, by=by, subject=self._name(), now=now)
        return findings

    def check(self, *, repair: bool = False, now: datetime, by: Actor = REPOSITORY, deep: bool = True) -> list[Finding]:
        """Check everything that is signed against what is on disk and in the index.

        Args:
            repair: Mend what can be: leftovers and stale uploads are removed, the index is brought up or made anew.
                Damaged metadata and blobs are only told; they come back from a backup or mirror.
            now: For expiry and the age of uploads.
            by: Who is told to have repaired, in the event ``repository.repaired``.
            deep: Hash every blob; otherwise only presence and length are compared.
        """
        with self._committer.lock:
            inspection = upkeep.Inspection(self._committer, self._blobs, repair=repair, now=now)
            findings = inspection.full()
            upkeep.tell_repairs(self._committer, findings, by=by, subject=self._name(), now=now)
            if any(one.kind == "damaged_metadata" for one in findings):
                return findings
            view = self._committer.view()
        # Without the lock: hashing gigabytes must not hold up a publish, and blobs that are signed do not change.
        return [*findings, *inspection.blob_faults(view, deep=deep)]

    def rebuild(self) -> int:
        """Make the index anew from signed metadata; returns the number of artifacts."""
        with self._committer.lock:
            return upkeep.rebuild(self._committer)

    def status(self, *, now: datetime) -> RepositoryStatus:
        """The state at ``now``: serials, root, and version, expiry and size of every role."""
        del now  # the state does not depend on it; callers compare the expiries
        return upkeep.status_of(self._committer.view(), self._committer.projected_serial())

    # Reading

    def serial(self) -> int:
        """The number of the current state."""
        return self._committer.view().serial

    def artifacts(self) -> Iterator[ArtifactRecord]:
        """All artifacts from signed metadata, in no order that means anything."""
        return self._committer.view().artifacts()

    def find(self, path: str) -> ArtifactRecord | None:
        """The artifact at a target path, from signed metadata; None when there is none."""
        entry = self._committer.view().target(path)
        return read_artifact(path, entry) if entry is not None and is_artifact(entry) else None

    def served(self, path: str) -> bytes | None:
        """The bytes that clients get for a target path now, their hash checked; None when nothing is signed there.

        Meant for documents: the whole is read into memory. Raises RepositoryDamaged.
        """
        entry = self._committer.view().target(path)
        return None if entry is None else self._blobs.read(sha256_of(entry))

    def blob_path(self, sha256: str) -> Path:
        """The file of a signed artifact or SBOM, for serving; raises RepositoryDamaged when it is missing."""
        path = self._blobs.path(sha256)
        if not path.is_file():
            raise RepositoryDamaged(f"the blob {sha256} is missing; restore it from a backup or mirror")
        return path

    def metadata_file(self, name: str) -> Path | None:
        """The file to serve for ``/metadata/<name>``, or None for any name that is not one of a metadata file."""
        if not is_metadata_name(name):
            return None
        path = self._metadata / name
        return path if path.is_file() else None

    def target_file(self, path: str) -> Path | None:
        """The file to serve for ``/targets/<dir>/<sha256>.<name>``, or None; the digest alone decides."""
        sha256 = served_sha256(path)
        if sha256 is None:
            return None
        blob = self._blobs.path(sha256)
        return blob if blob.is_file() else None

    def root_sha256(self) -> str:
        """Digest of the current root file, as people compare it."""
        return self._committer.view().root_sha256

    def root_with_sha256(self, sha256: str) -> bytes | None:
        """The root file, of any version, with this digest: what a device that was given the digest starts from."""
        if sha256 not in self._roots:
            for path in sorted(self._metadata.glob("*.root.json")):
                content = path.read_bytes()
                self._roots[hashlib.sha256(content).hexdigest()] = content
        return self._roots.get(sha256)

    def _documents(self, draft: Draft, changes: Mapping[str, bytes | None], only_if: Callable[[], bool] | None) -> int:
        if only_if is not None and not only_if():
            raise CommitRefused("what the documents were decided on has changed; nothing was signed, look again")
        for path, content in sorted(changes.items()):
            entry = None if content is None else blob_entry(hashlib.sha256(content).hexdigest(), len(content))
            if content is not None and draft.target(path) != entry:
                self._blobs.put(content)
            draft.put(path, entry)
        return draft.view.serial if draft.is_empty() else draft.serial

    def _require_artifact(self, path: str) -> None:
        if self.find(path) is None:
            raise UnknownTarget(f"no artifact is signed at {path!r}; look it up in the list of artifacts")

    def _name(self) -> str:
        return self._metadata.parent.parent.name  # the folder is <home>/orgs/<org>/repository
