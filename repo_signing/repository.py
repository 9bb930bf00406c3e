"""The signed repository of one organisation: what everybody else calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from evidence.model import REPOSITORY, Actor, AuditEvent
from keys.keyring import Keyring
from repo_signing import edits, roles, upkeep, withdrawal
from repo_signing.approvals import Approvals
from repo_signing.batch import Batch, Outcome, Refused
from repo_signing.blobs import Blobs
from repo_signing.collection import Collected, Sweep, collected
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.errors import (
    CommitRefused,
    InvalidRecord,
    NoRepository,
    UnknownTarget,
)
from repo_signing.model import (
    ArtifactRecord,
    AttestationUpload,
    Finding,
    NewArtifact,
    RepositoryStatus,
    SbomUpload,
    StagedBlob,
)
from repo_signing.offline_drafts import Drafts
from repo_signing.paths import artifact_path, check_document_path
from repo_signing.ports import Projection
from repo_signing.quarantine import Quarantine
from repo_signing.reading import Reading
from repo_signing.rebin import Bins, bins_of, rebin
from repo_signing.records import blob_entry, sha256_of
from repo_signing.sessions import UploadSessions
from repo_signing.storage import LocalStorage

T = TypeVar("T")


class SignedRepository(Reading):
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
        disk.follow(folder)
        if not (folder / "metadata" / "timestamp.json").is_file():
            raise NoRepository(f"no signed repository in {folder}; `publish init` makes one")
        super().__init__(Committer(folder, keyring, projection, disk), Blobs(folder, disk))
        self.uploads: Final = UploadSessions(folder, disk)  # large ones, in pieces
        self._quarantine: Final = Quarantine(folder, self._blobs, disk)
        self.drafts: Final = Drafts(folder, self._committer, self._blobs, self._quarantine)
        self.approvals: Final = Approvals(folder, self._committer, self.drafts)

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

    def stage_all(self, streams: Iterable[BinaryIO], *, limit: int | None = None) -> list[StagedBlob]:
        """Take in many small files, made durable by one sync. Raises UploadTooLarge, CommitFailed; then none counts."""
        return self._blobs.stage_all(streams, limit=limit)

    # Changes

    def publish_batch(
        self, items: Sequence[NewArtifact | Refused], *, partial: bool = False, now: datetime
    ) -> list[Outcome]:
        """Sign up to 10,000 artifacts and their SBOMs in one commit.

        Args:
            items: What :meth:`publish` takes. One that was refused beforehand stands as that.
            partial: Sign the others when some are refused; otherwise all are signed or none is.
            now: The commit's moment.

        Returns:
            Of each item what became of it, in their order. The same bytes again under the same path are no refusal.

        Raises:
            BatchRefused: Some were refused and ``partial`` was not asked for; nothing is signed, uploads stay.
            InvalidRecord: No items, or too many.
        """
        batch = Batch(items, self._committer, self._blobs, self._committer.storage)
        return batch.commit(partial=partial, folder=self._metadata, now=now)

    def publish(self, new: NewArtifact, *, now: datetime) -> tuple[ArtifactRecord, bool]:
        """Sign an artifact, its SBOMs and attestations as targets in one commit.

        The same path with the same bytes again is no error: the record that stands is returned with False, and only
        SBOMs and attestations that it lacks are added. Uploads that were signed are used up.

        Returns:
            The signed record, and whether it is new.

        Raises:
            InvalidTargetPath: Product, version, platform or file name is outside the grammar.
            InvalidRecord: Notes, labels or another field cannot be signed, or the record is too large.
            PathTaken: The path is signed with other bytes; it stays as it is.
            ArtifactWithdrawn: What was published there was withdrawn.
            UnknownUpload: An upload is unknown or was used up.
        """
        path = artifact_path(new.product, new.version, new.platform, new.file_name)
        standing = self._committer.view().target(path)
        if standing is not None and sha256_of(standing) != new.staged.sha256:
            raise edits.taken(path, sha256_of(standing), new.staged.sha256)
        uploads = [new.staged, *new.companions()]
        if standing is None:
            self._refuse_withdrawn(path)
            self._blobs.keep(new.staged)
        for companion in new.companions():
            self._blobs.keep(companion)
        outcome = self._committer.submit(
            lambda draft: self._with_blobs(uploads, edits.publish(draft, path, new, now)),
            now,
            needs=[self._blobs.path(upload.sha256) for upload in uploads],
        )
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
        return self._beside(path, sbom.staged, lambda draft: edits.attach(draft, path, [sbom], by, now), now)

    def attach_attestation(
        self, path: str, attestation: AttestationUpload, *, by: Actor, now: datetime
    ) -> ArtifactRecord:
        """Sign an attestation beside the artifact at ``path``. It stands at ``<path>.att.<n>.<kind>``, n from 0.

        The same bytes again are not added; what was found of them now replaces what was found before. Raises
        UnknownTarget, UnknownUpload, and InvalidRecord when the artifact's record would become too large.
        """
        one = attestation
        return self._beside(path, one.staged, lambda draft: edits.attest(draft, path, [one], by, now), now)

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

    def withdraw(self, path: str, *, reason: str, by: Actor, now: datetime, revoke: bool = False) -> ArtifactRecord:
        """Take an artifact out of the repository: it is not served any more, and its path is closed for good.

        Its bytes are kept aside for 30 days, its record and SBOMs stay signed. With ``revoke`` it is also put on the
        signed list that makes devices leave it. Raises UnknownTarget, InvalidRecord.
        """

        def change(draft: Draft) -> ArtifactRecord:
            record = withdrawal.withdraw(draft, self._blobs, path, reason=reason, revoke=revoke, by=by, now=now)
            self._quarantine.prepare(record.sha256)
            return record

        record = self._committer.submit(change, now)
        self._settle_quarantine()
        return record

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
            ApproversSign: A decision is of a product whose approvers sign, and too few of them signed this one.
        """
        for path in changes:
            check_document_path(path)
        return self._committer.submit(lambda draft: self._documents(draft, changes, only_if), now)

    def exclusively(self, action: Callable[[], None]) -> None:
        """Run ``action`` under the repository lock: no commit is halfway while it runs. It may itself commit."""
        with self.held():
            action()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the repository lock, as :meth:`exclusively` does; for who holds those of several repositories."""
        with self._committer.lock:
            yield

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

    def bins(self) -> Bins:
        """How many bins there are, and how many there should be; raises WrongLayout when there are none."""
        return bins_of(self._committer.view())

    def rebin(self, *, bits: int | None = None, by: Actor = REPOSITORY, now: datetime) -> int | None:
        """Spread all targets over ``2**bits`` bins; None takes the best number, if it is two powers off.

        Publishing waits meanwhile, a second for some ten thousand targets, and goes on; clients notice nothing.

        Returns:
            The serial of the commit; None when there was nothing to do.

        Raises:
            WrongLayout: The repository has no bins.
            InvalidRecord: ``bits`` is not 6 to 14.
        """
        found = self.bins()
        wanted = bits if bits is not None else found.wanted_bits if found.is_off else found.bits
        if not roles.BIN_BITS <= wanted <= roles.MAX_BIN_BITS:
            raise InvalidRecord(f"bits is {wanted}, expected {roles.BIN_BITS} to {roles.MAX_BIN_BITS}")
        if wanted == found.bits:
            return None
        return rebin(self._committer, wanted, by=by, subject=self._name(), now=now)

    @property
    def layout(self) -> str:
        """``bins`` or ``paths``."""
        return self._committer.view().layout

    def recover(self, *, now: datetime, by: Actor = REPOSITORY) -> list[Finding]:
        """Clear away what a crash left and bring the index up to what is signed; to be called at start. Cheap."""
        with self._committer.lock:
            upkeep.fence_off(self._committer, now)
            findings = upkeep.Inspection(self._committer, self._blobs, repair=True, now=now).recover()
            findings += self._settle_quarantine()
            self.drafts.settle(now=now)
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

    def collect(
        self, *, needed: Collection[str] = (), dry_run: bool = False, now: datetime, by: Actor = REPOSITORY
    ) -> Collected:
        """Take away metadata and blobs that no client can ask for any more; see :mod:`repo_signing.collection`.

        Args:
            needed: Digests of blobs that an active rollout names.
            dry_run: Only say what would go.
            now: Ages count from here.
            by: Who is told to have collected, in the event ``repository.collected``.

        Raises:
            RepositoryDamaged: Something that is kept cannot be read; nothing was taken away.
            CommitFailed: The disk failed; what is left goes next time.
        """
        sweep = Sweep(self._committer, self._blobs, self._quarantine, needed=needed, now=now)
        sweep.mark()  # reading everything takes its time, and most of it need not hold up a publish
        with self._committer.lock:
            outcome = sweep.sweep(dry_run=dry_run)
            if not dry_run and not outcome.is_empty():
                event = collected(outcome, self._name(), by, now)
                self._committer.projection.project(self._committer.view().serial, [], [event])
        return outcome

    def jump(
        self, above: int, *, now: datetime, by: Actor = REPOSITORY, told: Mapping[str, object] | None = None
    ) -> int:
        """Sign every online role anew with a serial beyond ``above``, so that clients that saw later states come back.

        An index that knows a later state than the folder is made anew first; one that is behind is brought up. Root and
        targets keep their versions: their keys are offline.

        Args:
            above: At least what any client may have seen.
            now: The commit's moment.
            by: Who is told to have restored, in the event ``repository.restored``.
            told: What else the event says.

        Returns:
            The new serial.
        """
        with self._committer.lock:
            before = self._committer.view().serial
            if self._committer.projected_serial() > before:
                upkeep.rebuild(self._committer)
            self._committer.burn(above)
            self._committer.submit(upkeep.renew_everything, now)
            serial = self._committer.view().serial
            data: dict[str, object] = {"from_serial": before, "serial": serial, **(told or {})}
            event = AuditEvent("repository.restored", self._name(), by, now, data)
            self._committer.projection.project(serial, [], [event])
        return serial

    def rebuild(self) -> int:
        """Make the index anew from signed metadata; returns the number of artifacts."""
        with self._committer.lock:
            return upkeep.rebuild(self._committer)

    def status(self, *, now: datetime) -> RepositoryStatus:
        """The state at ``now``: serials, root, and version, expiry and size of every role."""
        del now  # the state does not depend on it; callers compare the expiries
        return upkeep.status_of(self._committer.view(), self._committer.projected_serial())

    def _documents(self, draft: Draft, changes: Mapping[str, bytes | None], only_if: Callable[[], bool] | None) -> int:
        if only_if is not None and not only_if():
            raise CommitRefused("what the documents were decided on has changed; nothing was signed, look again")
        entries = {
            path: None if content is None else blob_entry(hashlib.sha256(content).hexdigest(), len(content))
            for path, content in sorted(changes.items())
        }
        self.approvals.place(draft, entries)
        for path, entry in entries.items():
            content = changes[path]
            if content is not None and (draft.target(path) != entry or roles.is_waves(draft.holder(path))):
                self._blobs.put(content)
            draft.put(path, entry)
        return draft.view.serial if draft.is_empty() else draft.serial

    def _beside(
        self, path: str, staged: StagedBlob, change: Callable[[Draft], ArtifactRecord], now: datetime
    ) -> ArtifactRecord:
        self._require_artifact(path)
        self._blobs.keep(staged)
        record = self._committer.submit(
            lambda draft: self._with_blobs([staged], change(draft)), now, needs=[self._blobs.path(staged.sha256)]
        )
        self._blobs.drop(staged)
        return record

    def _with_blobs(self, uploads: Sequence[StagedBlob], outcome: T) -> T:
        # Between the upload's naming and this commit a collection or withdrawal may have taken the blob away.
        for upload in uploads:
            if not self._committer.storage.holds(self._blobs.path(upload.sha256)):
                self._blobs.keep(upload)
        return outcome

    def _settle_quarantine(self) -> list[Finding]:
        try:
            with self._committer.lock:
                set_aside = self._quarantine.settle(
                    lambda: upkeep.named_blobs(self._committer.view()) | self.drafts.named_blobs()
                )
        except OSError:
            return []  # it is signed that nobody is to have it; the next recovery takes it away
        return [
            Finding(kind="withdrawn_blob", what=f"{sha256} was withdrawn and still served", repaired=True)
            for sha256 in set_aside
        ]

    def _require_artifact(self, path: str) -> None:
        if self.find(path) is None:
            self._refuse_withdrawn(path)
            raise UnknownTarget(f"no artifact is signed at {path!r}; look it up in the list of artifacts")

    def _refuse_withdrawn(self, path: str) -> None:
        view = self._committer.view()
        Draft(view, view.serial, view.committed_at).refuse_withdrawn(path)

    def _name(self) -> str:
        return self._metadata.parent.parent.name  # the folder is <home>/orgs/<org>/repository
