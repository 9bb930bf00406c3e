"""Many artifacts in one commit."""

from __future__ import annotations

from typing import BinaryIO, Literal, cast

from flask import Response, request
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import PUBLISHES, TAKES_IN
from api.operator.artifacts import Publish, Upload, wanted
from api.operator.frames import frames
from api.operator.routes import Body, Routes, now, reply, services
from repo_signing.batch import LARGEST, OF_AN_ITEM, Outcome, Refused
from repo_signing.errors import RepositoryError
from repo_signing.model import NewArtifact
from sbom.errors import SbomError

api = Routes("batches", "Artifacts")

MAX_BODY_BYTES = 64 * 1024**2  # 10,000 items of the usual size are three MiB; long notes take more
MAX_FRAME_BYTES = 1024**2  # larger files go one by one, each with a progress of its own


class Batch(Body):
    """Artifacts to be signed in one commit. With `partial` the others are signed when some are refused."""

    items: list[Publish] = Field(min_length=1, max_length=LARGEST)
    partial: bool = False


class ItemSbom(BaseModel):
    """An SBOM signed beside its artifact."""

    id: str
    target_path: str
    sha256: str


class ItemArtifact(BaseModel):
    """What is signed of one item; all of it is at `/artifacts/{id}`."""

    id: str
    target_path: str
    sha256: str
    length: int
    serial: int
    sboms: list[ItemSbom]


class ItemError(BaseModel):
    """Why an item was refused; `code` is stable."""

    code: str
    message: str


class Item(BaseModel):
    """One item of the batch, in the order sent: an artifact, or why there is none."""

    status: Literal["created", "existing", "refused"]
    artifact: ItemArtifact | None = None
    error: ItemError | None = None


class Published(BaseModel):
    """What became of the batch. `serial` is the state of the repository afterwards."""

    serial: int
    created: int
    existing: int
    refused: int
    items: list[Item]


class Uploads(BaseModel):
    """The files taken in, in the order sent."""

    items: list[Upload]


@api.on(
    "POST",
    "/artifacts/batch",
    Published,
    permission=Permission.ARTIFACTS_PUBLISH,
    body_limit=MAX_BODY_BYTES,
    errors=(*PUBLISHES, "batch_refused"),
)
def publish_batch(body: Batch) -> Response:
    """Sign up to 10,000 uploaded artifacts and their SBOMs in one commit"""
    repository = services().repository
    outcomes = repository.publish_batch([_wanted(item) for item in body.items], partial=body.partial, now=now())
    items = [_item(outcome) for outcome in outcomes]
    answer = Published(
        serial=repository.serial(),
        created=sum(item.status == "created" for item in items),
        existing=sum(item.status == "existing" for item in items),
        refused=sum(item.status == "refused" for item in items),
        items=items,
    )
    return reply(answer)


@api.on(
    "PUT",
    "/artifacts/contents",
    Uploads,
    permission=Permission.ARTIFACTS_PUBLISH,
    status=201,
    raw_body=True,
    errors=(*TAKES_IN, "invalid_record"),
)
def upload_contents() -> Response:
    """Take in many small files at once, each behind its length as 8 bytes, big-endian"""
    stream = cast("BinaryIO", request.stream)
    most = min(MAX_FRAME_BYTES, services().settings.max_artifact_bytes)
    staged = services().repository.stage_all(frames(stream, longest=most, most=LARGEST), limit=most)
    return reply(
        Uploads(items=[Upload(upload_id=one.upload_id, sha256=one.sha256, length=one.length) for one in staged]), 201
    )


def _wanted(item: Publish) -> NewArtifact | Refused:
    try:
        return wanted(item)
    except (RepositoryError, SbomError) as error:
        if type(error) not in OF_AN_ITEM and not isinstance(error, SbomError):
            raise  # the repository's own fault, and not this item's
        return Refused(error.code, str(error))


def _item(outcome: Outcome) -> Item:
    record = outcome.record
    if record is None:
        refused = outcome.refused or Refused("repository_error", "refused")
        return Item(status="refused", error=ItemError(code=refused.code, message=refused.message))
    artifact = ItemArtifact(
        id=record.id,
        target_path=record.path,
        sha256=record.sha256,
        length=record.length,
        serial=record.serial,
        sboms=[ItemSbom(id=one.id, target_path=one.path, sha256=one.sha256) for one in record.sboms],
    )
    return Item(status="created" if outcome.is_new else "existing", artifact=artifact)
