"""Artifacts and SBOMs as their signed records tell them.

The whole record of an artifact stands in its target's ``custom`` field, so every database row can be made anew from
signed metadata alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from evidence.model import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomRecord:
    """One SBOM beside an artifact. ``format`` is ``cyclonedx-json`` or ``cyclonedx-xml``; ``path`` its target path."""

    id: str
    path: str
    length: int
    sha256: str
    format: str
    spec_version: str
    components: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attester:
    """Who signed an attestation, as verified: the id of a trusted key, or an identity and its issuer."""

    keyid: str | None = None
    identity: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRecord:
    """One attestation beside an artifact, and what was found when it was examined last.

    ``kind`` is ``dsse`` or ``sigstore-bundle``. ``state`` is ``verified`` (by ``verified_by``), ``unverified`` or
    ``failed``, for which ``reason`` says why. ``builder`` and ``source`` are what SLSA provenance says of the build,
    ``subject_matches`` whether it speaks of this artifact at all.
    """

    id: str
    path: str
    length: int
    sha256: str
    kind: str
    media_type: str
    state: str
    subject_matches: bool
    verified_by: tuple[Attester, ...] = ()
    reason: str | None = None
    predicate_type: str | None = None
    builder: str | None = None
    source: str | None = None
    source_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Yank:
    """Why an artifact is not to be installed any more, who said so and when."""

    reason: str
    by: Actor
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """Why an artifact was taken out of the repository; ``revoked``: devices that run it are to leave it as well."""

    reason: str
    by: Actor
    at: datetime
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """What is signed of an artifact. ``length`` in bytes, ``sha256`` lower-case hex, ``path`` its target path.

    ``serial`` is the repository serial of the role version that this record was read from, i.e. of its last change.
    """

    id: str
    path: str
    length: int
    sha256: str
    product: str
    version: str
    platform: str
    channel: str
    file_name: str
    publisher: Actor
    created_at: datetime
    notes: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    security: bool = False
    yanked: Yank | None = None
    sboms: tuple[SbomRecord, ...] = ()
    serial: int = 0
    withdrawn: Withdrawal | None = None
    attestations: tuple[AttestationRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedBlob:
    """Bytes taken in and safe on disk, not yet signed. ``upload_id`` is ``upl_…``; ``sha256`` lower-case hex."""

    upload_id: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomUpload:
    """An SBOM to be signed beside an artifact: the staged bytes and what validation said of them."""

    staged: StagedBlob
    format: str
    spec_version: str
    components: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationUpload:
    """An attestation to be signed beside an artifact: the staged bytes and what was found; see AttestationRecord."""

    staged: StagedBlob
    kind: str
    media_type: str
    state: str
    subject_matches: bool
    verified_by: tuple[Attester, ...] = ()
    reason: str | None = None
    predicate_type: str | None = None
    builder: str | None = None
    source: str | None = None
    source_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """What a publisher asks for. The target path is ``product/version/platform/file_name``."""

    staged: StagedBlob
    product: str
    version: str
    platform: str
    channel: str
    file_name: str
    publisher: Actor
    notes: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    security: bool = False
    sboms: tuple[SbomUpload, ...] = ()
    attestations: tuple[AttestationUpload, ...] = ()

    def companions(self) -> tuple[StagedBlob, ...]:
        """The bytes that are signed beside the artifact's own."""
        return (*(one.staged for one in self.sboms), *(one.staged for one in self.attestations))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    """One role as it stands: version, expiry, number of targets (None for roles without)."""

    name: str
    version: int
    expires: datetime
    targets: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryStatus:
    """The repository as it stands. ``serial`` names its state, ``projected_serial`` the one the index has.

    ``roles`` starts with root, timestamp, snapshot and targets; the others follow by name.
    """

    serial: int
    projected_serial: int
    root_version: int
    root_sha256: str
    artifacts: int
    roles: tuple[RoleStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Old keys that still sign beside those that root names: their ids by role, and from when on that may end."""

    keyids: Mapping[str, tuple[str, ...]]
    ends_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found not as it should be.

    ``kind`` is one of ``damaged_metadata``, ``expired_role``, ``orphan_metadata``, ``temporary_file``,
    ``stale_upload``, ``withdrawn_blob``, ``missing_blob``, ``damaged_blob``, ``index_behind``, ``index_ahead`` and
    ``index_differs``; ``what`` says it in words.
    """

    kind: str
    what: str
    repaired: bool = False
