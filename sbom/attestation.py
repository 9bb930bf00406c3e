"""Read an attestation as somebody sent it: what it claims, of which artifact, and whether a trusted signer signed."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from securesystemslib.signer import Key

from sbom.attestation_dsse import Envelope, parse_envelope, signers_of
from sbom.attestation_model import (
    ATTESTATION_LIMITS,
    AttestationFacts,
    AttestationKind,
    AttestationSubject,
    SigstorePolicy,
    VerifiedBy,
)
from sbom.attestation_sigstore import BUNDLES, Outcome, verify_bundle
from sbom.attestation_statement import parse_object, read_statement
from sbom.errors import AttestationTooLarge, InvalidAttestation, UnsupportedAttestation
from sbom.faults import shown
from sbom.model import SbomLimits
from sbom.read import bytes_of

_DSSE_MEDIA_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHA2_256: Final = ("SHA2_256", 1)  # the name and the number are both JSON of the same protobuf value


def read_attestation(
    source: bytes | Path | BinaryIO,
    *,
    artifact_sha256: str,
    keys: Sequence[Key] = (),
    sigstore_policy: SigstorePolicy | None = None,
    limits: SbomLimits = ATTESTATION_LIMITS,
) -> AttestationFacts:
    """Verify an attestation first, then read it: an in-toto statement in a DSSE envelope, or a Sigstore bundle.

    No address is fetched. Whether it is verified is a fact among others: a wrong key, a changed payload or an identity
    nobody trusts is an answer, not an error.

    Args:
        source: The bytes, a file to open, or a binary stream, which is read to its end or one byte past the limit.
        artifact_sha256: Of the artifact it should be about, 64 lower-case hex digits.
        keys: Those that may sign envelopes, see :func:`sbom.attestation_dsse.load_public_key`; one is enough.
        sigstore_policy: Who may sign bundles; without one they stay unverified, as they do without the library.
        limits: What may be read at all; ``components`` is not looked at.

    Raises:
        InvalidAttestation: No envelope and no bundle, or what it signs is no statement.
        UnsupportedAttestation: A payload, statement or bundle type that is not read.
        AttestationTooLarge: Beyond ``limits``.
        InvalidTrust: The policy's trusted root is none.
        ValueError: ``artifact_sha256`` is no SHA-256.
        OSError: ``source`` cannot be read.
    """
    if _SHA256.fullmatch(artifact_sha256) is None:
        raise ValueError(f"artifact_sha256 is {artifact_sha256[:80]!r}; expected 64 lower-case hex digits")
    data = bytes_of(source, limits.length + 1)
    if len(data) > limits.length:
        raise AttestationTooLarge(f"the attestation is longer than {limits.length} bytes")
    document = parse_object(data, limits, what="attestation")
    if "payloadType" in document:
        envelope = parse_envelope(document)
        outcome = _verify_envelope(envelope, keys)
        return _facts("dsse", _DSSE_MEDIA_TYPE, outcome, envelope, limits, artifact_sha256)
    if "mediaType" in document:
        return _read_bundle(data, document, limits, artifact_sha256, keys, sigstore_policy)
    raise InvalidAttestation("neither a DSSE envelope (payloadType) nor a Sigstore bundle (mediaType)")


def _verify_envelope(envelope: Envelope, keys: Sequence[Key]) -> Outcome:
    if not keys:
        return Outcome("unverified", reason="no public key was given to verify it with")
    signers = signers_of(envelope, keys)
    if not signers:
        return Outcome("failed", reason=f"no signature is of a given key; {len(keys)} tried")
    return Outcome("verified", verified_by=tuple(VerifiedBy(keyid=keyid) for keyid in signers))


def _read_bundle(
    data: bytes,
    document: dict[str, Any],
    limits: SbomLimits,
    artifact_sha256: str,
    keys: Sequence[Key],
    policy: SigstorePolicy | None,
) -> AttestationFacts:
    media_type = document["mediaType"]
    if media_type not in BUNDLES:
        raise UnsupportedAttestation(f"mediaType is {shown(media_type)}; Sigstore bundles 0.1 to 0.3 are read")
    material, inner, signature = (
        document.get(name) for name in ("verificationMaterial", "dsseEnvelope", "messageSignature")
    )
    if not isinstance(material, dict):
        raise InvalidAttestation("the bundle has no verificationMaterial")
    if isinstance(inner, dict) == isinstance(signature, dict):
        raise InvalidAttestation("the bundle has not exactly one of dsseEnvelope and messageSignature")
    envelope = parse_envelope(inner) if isinstance(inner, dict) else None
    if "publicKey" in material:
        # Signed with a key of one's own: no certificate says whose, so the given keys decide, as for a bare envelope.
        outcome = _ARTIFACT_BY_KEY if envelope is None else _verify_envelope(envelope, keys)
    elif policy is None:
        outcome = _NO_POLICY
    else:
        outcome = verify_bundle(
            data, holds_envelope=envelope is not None, artifact_sha256=artifact_sha256, policy=policy
        )
    if envelope is not None:
        return _facts("sigstore-bundle", media_type, outcome, envelope, limits, artifact_sha256)
    digest = None
    if outcome.state == "verified":
        digest = artifact_sha256
    elif outcome.state == "unverified" and isinstance(signature, dict):
        digest = _digest(signature)
    return AttestationFacts(
        kind="sigstore-bundle",
        media_type=media_type,
        state=outcome.state,
        verified_by=outcome.verified_by,
        reason=outcome.reason,
        subjects=(AttestationSubject(name=None, sha256=digest),) if digest else (),
        subject_count=1 if digest else 0,
        subject_matches=digest == artifact_sha256,
    )


_ARTIFACT_BY_KEY: Final = Outcome("unverified", reason="signatures of the artifact itself by a key are not verified")
_NO_POLICY: Final = Outcome("unverified", reason="no trusted identity was given to verify a Sigstore bundle with")


def _digest(signature: dict[str, Any]) -> str | None:
    """The SHA-256 a message signature carries as a hint, in hex."""
    carried = signature.get("messageDigest")
    if not isinstance(carried, dict) or carried.get("algorithm") not in _SHA2_256:
        return None
    text = carried.get("digest")
    try:
        digest = binascii.a2b_base64(text, strict_mode=True) if isinstance(text, str) and text.isascii() else b""
    except binascii.Error:
        return None
    return digest.hex() if len(digest) == 32 else None


def _facts(
    kind: AttestationKind,
    media_type: str,
    outcome: Outcome,
    envelope: Envelope,
    limits: SbomLimits,
    artifact_sha256: str,
) -> AttestationFacts:
    if outcome.state == "failed":
        return AttestationFacts(kind=kind, media_type=media_type, state="failed", reason=outcome.reason)
    # Where the verifier parsed the bytes anew, what it saw counts, lest the two of us saw different envelopes.
    payload = envelope.payload if outcome.payload is None else outcome.payload
    statement = read_statement(payload, limits, artifact_sha256=artifact_sha256)
    return AttestationFacts(
        kind=kind,
        media_type=media_type,
        state=outcome.state,
        verified_by=outcome.verified_by,
        reason=outcome.reason,
        predicate_type=statement.predicate_type,
        subjects=statement.subjects,
        subject_count=statement.subject_count,
        subject_matches=statement.subject_matches,
        provenance=statement.provenance,
    )
