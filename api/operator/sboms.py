"""SBOMs: attach, list, download."""

from __future__ import annotations

from typing import BinaryIO, cast

from flask import Response, request
from pydantic import BaseModel

from api.auth.permissions import Permission
from api.codes import AMENDS, EXAMINES, READS, TAKES_IN
from api.operator.artifacts import (
    DraftedArtifact,
    Sbom,
    artifact_named,
    as_it_was_sent,
    drafted_edit,
    examined,
    is_claimed,
    shown_sbom,
)
from api.operator.routes import BYTES, IdPath, Routes, caller, now, reply, services
from repo_signing.team_drafts import attach
from sbom.model import SbomLimits

api = Routes("sboms", "Artifacts")

SBOM_MEDIA_TYPES = (
    "application/vnd.cyclonedx+json",
    "application/vnd.cyclonedx+xml",
    "application/spdx+json",
    "text/spdx",
)


class Sboms(BaseModel):
    """The SBOMs of one artifact."""

    items: list[Sbom]


@api.on(
    "PUT",
    "/artifacts/{id}/sboms",
    Sbom,
    permission=Permission.SBOMS_WRITE,
    status=201,
    raw_body=True,
    takes=(BYTES, *SBOM_MEDIA_TYPES),
    accepted=DraftedArtifact,
    errors=(*AMENDS, *TAKES_IN, *EXAMINES),
)
def attach_sbom(path: IdPath) -> Response:
    """Sign an SBOM beside an artifact that stands; of a claimed product as a draft for its team"""
    record = artifact_named(path.id)
    repository = services().repository
    staged = repository.stage(
        cast("BinaryIO", request.stream), limit=SbomLimits().length, expected=request.content_length
    )
    upload = examined(staged)
    if is_claimed(record):
        return drafted_edit(record, attach(upload))
    signed = repository.attach_sbom(record.path, upload, by=caller().actor, now=now())
    return reply(shown_sbom(next(one for one in signed.sboms if one.sha256 == staged.sha256)), 201)


@api.on("GET", "/artifacts/{id}/sboms", Sboms, permission=Permission.SBOMS_READ, errors=("artifact_not_found",))
def list_sboms(path: IdPath) -> Response:
    """List an artifact's SBOMs"""
    return reply(Sboms(items=[shown_sbom(one) for one in artifact_named(path.id).sboms]))


@api.on(
    "GET",
    "/sboms/{id}",
    None,
    permission=Permission.SBOMS_READ,
    media_types=SBOM_MEDIA_TYPES,
    errors=(*READS, "requested_range_not_satisfiable", "sbom_not_found"),
)
def get_sbom(path: IdPath) -> Response:
    """Download an SBOM as it was sent, in its own content type"""
    return as_it_was_sent(services().artifacts.sbom(path.id))
