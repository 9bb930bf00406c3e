"""Attestations: attach, list, download."""

from __future__ import annotations

from typing import BinaryIO, cast

from flask import Response, request
from pydantic import BaseModel

from api.auth.permissions import Permission
from api.codes import AMENDS, EXAMINES, READS, TAKES_IN
from api.operator.artifacts import DraftedArtifact, artifact_named, as_it_was_sent, drafted_edit, is_claimed
from api.operator.attestation_schemas import Attestation, attestation, attested
from api.operator.routes import BYTES, IdPath, Routes, caller, now, reply, services
from repo_signing.team_drafts import attach
from sbom.attestation_model import ATTESTATION_LIMITS

api = Routes("attestations", "Artifacts")

MEDIA_TYPES = (
    "application/vnd.dsse.envelope.v1+json",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json",
)


class Attestations(BaseModel):
    """The attestations of one artifact."""

    items: list[Attestation]


@api.on(
    "PUT",
    "/artifacts/{id}/attestations",
    Attestation,
    permission=Permission.ATTESTATIONS_WRITE,
    status=201,
    raw_body=True,
    takes=(BYTES, *MEDIA_TYPES),
    accepted=DraftedArtifact,
    errors=(*AMENDS, *TAKES_IN, *EXAMINES),
)
def attach_attestation(path: IdPath) -> Response:
    """Sign an attestation beside an artifact, of a claimed product as a draft; the same one again is examined anew"""
    record = artifact_named(path.id)
    repository = services().repository
    staged = repository.stage(
        cast("BinaryIO", request.stream), limit=ATTESTATION_LIMITS.length, expected=request.content_length
    )
    (upload,) = attested(repository, [staged], artifact_sha256=record.sha256)
    if is_claimed(record):
        return drafted_edit(record, attach(upload))
    signed = repository.attach_attestation(record.path, upload, by=caller().actor, now=now())
    return reply(attestation(next(one for one in signed.attestations if one.sha256 == staged.sha256)), 201)


@api.on(
    "GET",
    "/artifacts/{id}/attestations",
    Attestations,
    permission=Permission.ATTESTATIONS_READ,
    errors=("artifact_not_found",),
)
def list_attestations(path: IdPath) -> Response:
    """List an artifact's attestations"""
    return reply(Attestations(items=[attestation(one) for one in artifact_named(path.id).attestations]))


@api.on(
    "GET",
    "/attestations/{id}",
    None,
    permission=Permission.ATTESTATIONS_READ,
    media_types=MEDIA_TYPES,
    errors=(*READS, "attestation_not_found", "requested_range_not_satisfiable"),
)
def get_attestation(path: IdPath) -> Response:
    """Download an attestation as it was sent, in its own content type"""
    return as_it_was_sent(services().artifacts.attestation(path.id))
