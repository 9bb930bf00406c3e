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
├── CommitRefused           the caller's own condition did not hold any more
├── ClockBehind             the clock is behind the last commit
├── ClockAhead              the clock is months ahead of the last commit
├── ClientWouldRefuse       a stock client would not accept the result
├── RepositoryDamaged       what is on disk is not what was signed
├── RepositoryMoved         somebody wrote without the lock
├── CommitFailed            the disk failed; nothing is promised, try again
├── IndexAhead              the index knows a later state than the folder
└── IndexFailed             signed, and the index could not be brought up to it
"""

from __future__ import annotations

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
