"""Uploads in pieces: what has arrived stays, and the sender goes on from there."""

from __future__ import annotations

import re
from typing import BinaryIO, Final, cast

from flask import Response, request
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import TAKES_IN
from api.errors import ApiError
from api.operator.artifacts import Upload
from api.operator.routes import Body, IdPath, Routes, reply, services

api = Routes("uploads", "Artifacts")

_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:[0-9]{1,18}|\*)")


class Begin(Body):
    """Nothing needs to be known beforehand."""


class Session(BaseModel):
    """An upload under way: `offset` bytes have arrived. It waits a day for the next piece."""

    upload_id: str
    offset: int


class Complete(Body):
    """The SHA-256 of the whole file, lower-case hex; without it nobody would notice what a bad link did."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")


@api.on("POST", "/artifacts/uploads", Session, permission=Permission.ARTIFACTS_PUBLISH, status=201, errors=TAKES_IN)
def begin_upload(body: Begin) -> Response:
    """Open an upload that can be sent in pieces"""
    del body
    return reply(Session(upload_id=services().repository.uploads.begin(), offset=0), 201)


@api.on(
    "GET",
    "/artifacts/uploads/{id}",
    Session,
    permission=Permission.ARTIFACTS_PUBLISH,
    errors=("upload_busy", "upload_not_found", "storage_unusable"),
)
def show_upload(path: IdPath) -> Response:
    """Show where an upload stands"""
    return reply(Session(upload_id=path.id, offset=services().repository.uploads.offset(path.id)))


@api.on(
    "PATCH",
    "/artifacts/uploads/{id}",
    Session,
    permission=Permission.ARTIFACTS_PUBLISH,
    raw_body=True,
    errors=(*TAKES_IN, "content_range_missing", "upload_busy", "upload_not_found", "upload_offset_mismatch"),
)
def continue_upload(path: IdPath) -> Response:
    """Send the next piece; Content-Range says where it begins"""
    match = _RANGE.fullmatch(request.headers.get("Content-Range", ""))
    if match is None:
        raise ApiError(
            400, "content_range_missing", "Content-Range is missing or garbled, expected: bytes <first>-<last>/*"
        )
    offset = services().repository.uploads.append(
        path.id,
        cast("BinaryIO", request.stream),
        offset=int(match[1]),
        limit=services().settings.max_artifact_bytes,
    )
    return reply(Session(upload_id=path.id, offset=offset))


@api.on(
    "POST",
    "/artifacts/uploads/{id}/complete",
    Upload,
    permission=Permission.ARTIFACTS_PUBLISH,
    errors=(*TAKES_IN, "upload_busy", "upload_damaged", "upload_not_found"),
)
def complete_upload(path: IdPath, body: Complete) -> Response:
    """Close an upload whose bytes have all arrived"""
    staged = services().repository.uploads.complete(path.id, sha256=body.sha256)
    return reply(Upload(upload_id=staged.upload_id, sha256=staged.sha256, length=staged.length))
