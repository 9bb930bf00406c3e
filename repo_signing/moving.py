"""Moving a folder's repository into an empty bucket: ``timestamp.json`` last, so that it is there whole or not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from repo_signing.errors import BackupRefused, CommitFailed
from repo_signing.shared_storage import SharedStorage

_TIMESTAMP: Final = "timestamp.json"
_FOLDERS: Final = ("blobs", "quarantine", "metadata", "drafts", "approvals")


def move_in(folder: Path, storage: SharedStorage) -> None:
    """Send everything that a repository keeps. The folder is then the bucket's copy; nobody may write it meanwhile.

    Raises:
        BackupRefused: The bucket holds other bytes under one of the names; a move that was cut short goes on.
        CommitFailed: The bucket or the disk failed; do it again.
    """
    metadata = folder / "metadata"
    below = [
        path
        for part in ("blobs", "quarantine", "metadata", "drafts", "approvals")
        for path in (folder / part).rglob("*")
    ]
    notes = [path for path in folder.iterdir() if path.is_file()]
    files = [path for path in (*below, *notes) if path.is_file() and path != metadata / _TIMESTAMP]
    try:
        storage.each(storage.send_copy, files)
        storage.send_copy(metadata / _TIMESTAMP)
    except FileExistsError as error:
        raise BackupRefused(
            f"{error.filename} in the bucket is another repository's; name an empty prefix in storage_url"
        ) from error
    except OSError as error:
        raise CommitFailed(f"the repository could not be moved: {error.strerror or error}; do it again") from error
