"""What can be wrong with the repository or a change of it.

RepositoryError
├── NoRepository            there is none in this folder
├── RepositoryExists        there is one already; it is left as it is
├── InvalidTargetPath       outside the grammar, or in somebody else's place
├── InvalidRecord           a field that cannot be signed, or is too large
├── UnknownTarget           nothing is signed under that path
├── UnknownUpload           no staged bytes of that id
├── UploadTooLarge          more bytes than the limit
├── UploadCutShort          fewer bytes than announced
├── PathTaken               the path is signed with other bytes
├── ArtifactWithdrawn       it was taken out for good; its path stays closed
├── CommitRefused           the caller's own condition did not hold any more
├── ClockBehind             the clock is behind the last commit
├── ClockAhead              the clock is months ahead of the last commit
├── ClientWouldRefuse       a stock client would not accept the result
├── RepositoryDamaged       what is on disk is not what was signed
├── RepositoryMoved         somebody wrote without the lock
├── CommitFailed            the disk failed; nothing is promised, try again
├── IndexAhead              the index knows a later state than the folder
├── WrongLayout             asked of a repository that is laid out otherwise
├── BatchRefused            something in a batch was refused, so nothing of it is signed
├── WrongOffset             an upload stands elsewhere
├── UploadBusy              somebody else is sending to that upload
├── UploadDamaged           what came is not what was to be sent
├── IndexFailed             signed, and the index could not be brought up to it
├── MirrorRefused           the mirror folder is another repository's, or ahead of this one
├── BackupRefused           the backup cannot be made there, or not restored from
├── UnknownDraft            no draft of that id waits for signatures
├── InvalidDraft            the change asked for cannot be drafted
├── DraftMoved              what the draft was made from has changed
├── DraftExpired            its deadline has passed
├── SignatureRefused        a signature that is not valid, or of a key that is not asked for
├── RotationNotDue          clients may still need the old key
├── ProductClaimed          only the product's own keys can sign this
├── ApproversSign           only the approvers' own keys can sign this decision
├── StorageUnusable         the object store cannot be used as it is set up
└── LeaseLost               another server took the turn to write
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class RepositoryError(Exception):
    """Root of the room's errors; ``code`` is stable, clients branch on it."""

    code: ClassVar[str] = "repository_error"


class NoRepository(RepositoryError):
    code = "repository_not_found"


class RepositoryExists(RepositoryError):
    code = "repository_exists"


class InvalidTargetPath(RepositoryError):
    code = "invalid_target_path"


class InvalidRecord(RepositoryError):
    code = "invalid_record"


class UnknownTarget(RepositoryError):
    code = "target_not_found"


class UnknownUpload(RepositoryError):
    code = "upload_not_found"


class UploadTooLarge(RepositoryError):
    code = "upload_too_large"


class UploadCutShort(RepositoryError):
    code = "upload_cut_short"


class PathTaken(RepositoryError):
    code = "path_taken"


class ArtifactWithdrawn(RepositoryError):
    code = "artifact_withdrawn"


class CommitRefused(RepositoryError):
    code = "commit_refused"


class ClockBehind(RepositoryError):
    code = "clock_behind"


class ClockAhead(RepositoryError):
    code = "clock_ahead"


class ClientWouldRefuse(RepositoryError):
    code = "client_would_refuse"


class RepositoryDamaged(RepositoryError):
    code = "repository_damaged"


class RepositoryMoved(RepositoryError):
    code = "repository_moved"


class CommitFailed(RepositoryError):
    code = "commit_failed"


class IndexAhead(RepositoryError):
    code = "index_ahead"


class IndexFailed(RepositoryError):
    code = "index_failed"


class WrongLayout(RepositoryError):
    code = "wrong_layout"


class BatchRefused(RepositoryError):
    """``details`` names the items: place in the batch and why."""

    code = "batch_refused"

    def __init__(self, message: str, details: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.details = list(details)


class WrongOffset(RepositoryError):
    code = "upload_offset_mismatch"


class UploadBusy(RepositoryError):
    code = "upload_busy"


class UploadDamaged(RepositoryError):
    code = "upload_damaged"


class MirrorRefused(RepositoryError):
    code = "mirror_refused"


class BackupRefused(RepositoryError):
    code = "backup_refused"


class UnknownDraft(RepositoryError):
    code = "draft_not_found"


class InvalidDraft(RepositoryError):
    code = "invalid_draft"


class DraftMoved(RepositoryError):
    code = "draft_moved"


class DraftExpired(RepositoryError):
    code = "draft_expired"


class SignatureRefused(RepositoryError):
    code = "signature_refused"


class RotationNotDue(RepositoryError):
    code = "rotation_not_due"


class ProductClaimed(RepositoryError):
    code = "product_claimed"


class ApproversSign(RepositoryError):
    code = "approvers_sign"


class StorageUnusable(RepositoryError):
    code = "storage_unusable"


class LeaseLost(RepositoryError):
    code = "lease_lost"
