"""What can be read of a signed repository: records, served bytes, files for clients, roots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repo_signing.blobs import Blobs
from repo_signing.commit import Committer
from repo_signing.errors import RepositoryDamaged
from repo_signing.model import ArtifactRecord
from repo_signing.paths import is_metadata_name, served_sha256
from repo_signing.records import is_artifact, read_artifact, sha256_of
from repo_signing.storage import FarTarget, LocalStorage


class Reading:
    """The readers of :class:`repo_signing.repository.SignedRepository`; they take no lock."""

    def __init__(self, committer: Committer, blobs: Blobs) -> None:
        self._committer: Final = committer
        self._blobs: Final = blobs
        self._metadata: Final = committer.metadata
        self._roots: Final[dict[str, bytes]] = {}

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

    @property
    def storage(self) -> LocalStorage:
        """What keeps the repository."""
        return self._committer.storage

    def blob_path(self, sha256: str) -> Path:
        """The file of a signed artifact or SBOM, for serving; raises RepositoryDamaged when it is missing."""
        path = self._blobs.path(sha256)
        if not self._committer.storage.fetch(path):
            raise RepositoryDamaged(f"the blob {sha256} is missing; restore it from a backup or mirror")
        return path

    def metadata_file(self, name: str) -> Path | None:
        """The file to serve for ``/metadata/<name>``, or None for any name that is not one of a metadata file."""
        if not is_metadata_name(name):
            return None
        self._committer.storage.follow_soon(self._metadata.parent)
        path = self._metadata / name
        return path if path.is_file() else None

    def metadata_elsewhere(self, name: str) -> bytes | None:
        """A metadata file that is not here: of a state that this server has yet to follow, or no longer keeps.

        Behind a load balancer a client is given the timestamp by one server and asks another for the rest. Roots are
        never asked for: every client asks for the next one at every refresh. Unverified, as everything that is served.
        """
        if not is_metadata_name(name) or name == "timestamp.json" or name.endswith(".root.json"):
            return None
        return self._committer.storage.read(self._metadata / name)

    def target_file(self, path: str) -> Path | None:
        """The file to serve for ``/targets/<dir>/<sha256>.<name>``, or None; the digest alone decides."""
        sha256 = served_sha256(path)
        if sha256 is None:
            return None
        blob = self._blobs.path(sha256)
        return blob if self._committer.storage.fetch(blob) else None

    def far_target(self, path: str) -> FarTarget | None:
        """A target that is large and not on this machine, to be handed on or redirected to; None for all others."""
        sha256 = served_sha256(path)
        return None if sha256 is None else self._committer.storage.far(self._blobs.path(sha256))

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
