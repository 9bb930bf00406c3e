"""The proof: what was published, fetched by python-tuf's own client, which was given a root and nothing else.

Nothing of Wavegate is used here, so a fault in our signing cannot be hidden by the same fault in our checking.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tuf.ngclient import Updater


@dataclass(frozen=True, slots=True)
class Fetched:
    """A target as the client accepted it; ``sha256`` is of the bytes on disk, lower-case hex, ``length`` in bytes."""

    path: str
    sha256: str
    length: int


def fetch(root: bytes, paths: list[str], *, metadata_url: str, targets_url: str, folder: Path) -> list[Fetched]:
    """Fetch and verify ``paths``; ``folder`` must be empty and keeps the client's metadata and files.

    Raises:
        tuf.api.exceptions.RepositoryError: A signature, version, expiry, length or hash is wrong.
        LookupError: The signed metadata knows no such path.
    """
    for name in ("metadata", "targets"):
        (folder / name).mkdir(parents=True)
    updater = Updater(
        metadata_dir=str(folder / "metadata"),
        metadata_base_url=metadata_url,
        target_dir=str(folder / "targets"),
        target_base_url=targets_url,
        bootstrap=root,
    )
    updater.refresh()
    fetched = []
    for path in paths:
        target = updater.get_targetinfo(path)
        if target is None:
            raise LookupError(f"the signed metadata knows no {path}")
        file = Path(updater.download_target(target))
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        fetched.append(Fetched(path, digest, file.stat().st_size))
    return fetched
