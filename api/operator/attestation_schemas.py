"""Attestations as the API shows them, and what is found of those that come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel

from api.operator.routes import services
from repo_signing.model import AttestationRecord, AttestationUpload, Attester, StagedBlob
from repo_signing.repository import SignedRepository
from sbom.attestation import read_attestation
from sbom.attestation_trust import read_trust

MAX_ATTESTATIONS: Final = 20


class VerifiedBy(BaseModel):
    """Who signed it: the id of a trusted key, or an identity and its issuer."""

    keyid: str | None
    identity: str | None
    issuer: str | None


class Attestation(BaseModel):
    """An attestation signed beside its artifact; its bytes are kept and returned as they were sent.

    `state` says whether somebody the server trusts signed it. It is a fact and refuses nothing: `unverified` ones are
    anybody's claim. `builder` and `source` are SLSA provenance's words.
    """

    id: str
    target_path: str
    sha256: str
    length: int
    kind: Literal["dsse", "sigstore-bundle"]
    media_type: str
    state: Literal["verified", "unverified", "failed"]
    verified_by: list[VerifiedBy]
    reason: str | None
    subject_matches: bool
    predicate_type: str | None
    builder: str | None
    source: str | None
    source_digest: str | None


def attestation(record: AttestationRecord) -> Attestation:
    """An attestation as the API shows it."""
    return Attestation(
        id=record.id,
        target_path=record.path,
        sha256=record.sha256,
        length=record.length,
        kind=record.kind,
        media_type=record.media_type,
        state=record.state,
        verified_by=[VerifiedBy(keyid=by.keyid, identity=by.identity, issuer=by.issuer) for by in record.verified_by],
        reason=record.reason,
        subject_matches=record.subject_matches,
        predicate_type=record.predicate_type,
        builder=record.builder,
        source=record.source,
        source_digest=record.source_digest,
    )


def attested(
    repository: SignedRepository, staged: Sequence[StagedBlob], *, artifact_sha256: str
) -> tuple[AttestationUpload, ...]:
    """Examine attestations with the trust of this moment: keys that are put into the folder count at once."""
    if not staged:
        return ()
    trust = read_trust(services().settings.attestation_keys)
    uploads = []
    for one in staged:
        with repository.open_staged(one) as stream:
            facts = read_attestation(
                stream, artifact_sha256=artifact_sha256, keys=trust.keys, sigstore_policy=trust.sigstore_policy
            )
        provenance = facts.provenance
        uploads.append(
            AttestationUpload(
                staged=one,
                kind=facts.kind,
                media_type=facts.media_type,
                state=facts.state,
                subject_matches=facts.subject_matches,
                verified_by=tuple(
                    Attester(keyid=by.keyid, identity=by.identity, issuer=by.issuer) for by in facts.verified_by
                ),
                reason=facts.reason,
                predicate_type=facts.predicate_type,
                builder=None if provenance is None else provenance.builder_id,
                source=None if provenance is None else provenance.source,
                source_digest=None if provenance is None else provenance.source_digest,
            )
        )
    return tuple(uploads)
