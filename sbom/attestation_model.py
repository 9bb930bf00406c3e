"""What is known of an attestation once it has been read, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sbom.model import SbomLimits

AttestationKind = Literal["dsse", "sigstore-bundle"]
AttestationState = Literal["verified", "unverified", "failed"]

# A predicate may hold a whole SBOM, in base64.
ATTESTATION_LIMITS: Final = SbomLimits(length=16 * 1024 * 1024, values=1_000_000)
MAX_SUBJECTS_TOLD: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SigstoreIdentity:
    """One signer an organisation trusts; both are compared letter by letter.

    ``identity`` is the certificate's subject alternative name: an e-mail address, or the URI of a workflow.
    ``issuer`` is the URL of the OpenID provider that vouched for it, without which anybody's provider could.
    """

    identity: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SigstorePolicy:
    """Whose Sigstore signatures count. ``trusted_root`` is a ``trusted_root.json`` kept beside it; none is fetched."""

    identities: tuple[SigstoreIdentity, ...]
    trusted_root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedBy:
    """Who signed, as verified: the id of a given key, or an identity and its issuer."""

    keyid: str | None = None
    identity: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationSubject:
    """What a statement is about. ``sha256`` is as the statement has it, 64 hex digits if it is right."""

    name: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What SLSA provenance 0.2 or 1 says of a build; all of it the builder's own words.

    ``source`` is a URI; its digest reads ``sha1:0123…``, or ``gitCommit:…``.
    """

    slsa: Literal["0.2", "1"]
    builder_id: str | None
    build_type: str | None
    source: str | None
    source_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationFacts:
    """What an attestation claims, and whether somebody trusted signed it: data for a policy, never a gate by itself.

    ``verified``: ``verified_by`` signed what the other fields tell. ``unverified``: there was nothing to verify with,
    and what is told is anybody's claim. ``failed``: there was, and it did not hold; the payload was not even parsed
    then, so nothing of it is told. ``reason`` says why it is not verified.

    ``subject_matches`` says whether the artifact's SHA-256 is among the subjects; without it the attestation, however
    well signed, speaks of something else. ``subjects`` holds the first 100 of ``subject_count``. A bundle that signs
    the artifact itself has no predicate; its subject is the digest it carries. Texts are as in
    :class:`sbom.model.SbomFacts`: printable, and at most 500 characters.
    """

    kind: AttestationKind
    media_type: str
    state: AttestationState
    verified_by: tuple[VerifiedBy, ...] = ()
    reason: str | None = None
    predicate_type: str | None = None
    subjects: tuple[AttestationSubject, ...] = ()
    subject_count: int = 0
    subject_matches: bool = False
    provenance: Provenance | None = None
