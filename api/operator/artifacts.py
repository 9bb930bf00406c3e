"""Artifacts: upload, publish, look up, change what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, BinaryIO, Literal, cast

from flask import Response, request, send_file
from pydantic import BaseModel, Field, StringConstraints

from api.auth.permissions import Permission
from api.codes import AMENDS, PUBLISHES, TAKES_IN
from api.operator.attestation_schemas import MAX_ATTESTATIONS, Attestation, attestation, attested
from api.operator.draft_schemas import Draft, shown
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    check_match,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from evidence.ids import is_id
from evidence.model import AuditEvent
from repo_signing.model import ArtifactRecord, AttestationRecord, NewArtifact, SbomRecord, SbomUpload, StagedBlob
from repo_signing.offline import OfflineDraft
from repo_signing.team_drafts import amend, take_out, yank
from sbom.read import read_sbom
from store.artifacts import ArtifactFilter, ArtifactState
from store.errors import UnknownArtifact
from store.order import Order

api = Routes("artifacts", "Artifacts")

Segment = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Labels = Annotated[dict[str, Annotated[str, StringConstraints(max_length=200)]], Field(max_length=50)]
Notes = Annotated[str, StringConstraints(max_length=10_000)]
MAX_SBOMS = 20


class By(BaseModel):
    """Who did it."""

    kind: str
    id: str
    name: str


class Sbom(BaseModel):
    """An SBOM signed beside its artifact; its bytes are kept and returned as they were sent."""

    id: str
    target_path: str
    sha256: str
    length: int
    format: str
    spec_version: str
    components: int
    media_type: str


class Yanked(BaseModel):
    """Why nobody should install it any more."""

    reason: str
    by: By
    at: datetime


class Withdrawn(BaseModel):
    """Why it was taken out of the repository; `revoked`: devices that run it are told to leave it."""

    reason: str
    by: By
    at: datetime
    revoked: bool


class Artifact(BaseModel):
    """A signed artifact. `serial` is the state of the repository that holds this record."""

    id: str
    target_path: str
    sha256: str
    length: int
    serial: int
    product: str
    version: str
    platform: str
    channel: str
    file_name: str
    publisher: By
    created_at: datetime
    notes: str
    labels: dict[str, str]
    security: bool
    yanked: Yanked | None
    withdrawn: Withdrawn | None
    sboms: list[Sbom]
    attestations: list[Attestation]


class Upload(BaseModel):
    """Bytes taken in and safe on disk, not yet signed; kept for a day."""

    upload_id: str
    sha256: str
    length: int


class Publish(Body):
    """What to sign: uploads by their ids, and what they are."""

    upload_id: str = Field(max_length=100)
    product: Segment
    version: Segment
    platform: Segment = "any"
    channel: Segment = "stable"
    file_name: Segment
    sboms: list[str] = Field(default_factory=list, max_length=MAX_SBOMS)
    attestations: list[str] = Field(default_factory=list, max_length=MAX_ATTESTATIONS)
    notes: Notes = ""
    labels: Labels = Field(default_factory=dict)
    security: bool = False


class ArtifactChange(Body):
    """What can be changed of an artifact; what is left out stays."""

    notes: Notes | None = None
    labels: Labels | None = None


class Reason(Body):
    """Why, for the audit trail."""

    reason: str = Field(min_length=1, max_length=1000)


class ArtifactQuery(PageQuery):
    """Filters of the list; all given must hold."""

    product: str | None = Field(None, max_length=100, description="of this product")
    version: str | None = Field(None, max_length=100, description="of this version")
    platform: str | None = Field(None, max_length=100, description="for this platform")
    channel: str | None = Field(None, max_length=100, description="in this channel")
    sha256: str | None = Field(None, max_length=64, description="with this SHA-256, lower-case hex")
    state: ArtifactState | None = Field(None, description="in this state")
    sort: Literal["-created_at", "created_at", "product", "-product"] = Field(
        "-created_at", description="order; `-` for falling"
    )

    def where(self) -> ArtifactFilter:
        """The filters as the index takes them."""
        return ArtifactFilter(
            product=self.product,
            version=self.version,
            platform=self.platform,
            channel=self.channel,
            sha256=self.sha256,
            state=self.state,
            products=caller().products,
        )


class DraftedArtifact(BaseModel):
    """The record to be signed, and its draft; null when it is signed already."""

    artifact: Artifact
    draft: Draft | None


@api.on(
    "PUT",
    "/artifacts/content",
    Upload,
    permission=Permission.ARTIFACTS_PUBLISH,
    status=201,
    raw_body=True,
    errors=TAKES_IN,
)
def upload_content() -> Response:
    """Take in the bytes of an artifact, SBOM or attestation"""
    staged = services().repository.stage(
        cast("BinaryIO", request.stream), limit=services().settings.max_artifact_bytes, expected=request.content_length
    )
    return reply(Upload(upload_id=staged.upload_id, sha256=staged.sha256, length=staged.length), 201)


@api.on(
    "POST", "/artifacts", Artifact, permission=Permission.ARTIFACTS_PUBLISH, status=201, also=(200,), errors=PUBLISHES
)
def publish_artifact(body: Publish) -> Response:
    """Sign an uploaded artifact, its SBOMs and attestations into the repository"""
    record, created = services().repository.publish(wanted(body), now=now())
    return reply(artifact(record), 201 if created else 200)


@api.on("GET", "/artifacts", Page[Artifact], permission=Permission.ARTIFACTS_READ)
def list_artifacts(query: ArtifactQuery) -> Response:
    """List artifacts, newest first unless sorted otherwise"""
    index, order = services().artifacts, Order.of(query.sort)
    after = decode_cursor(query.cursor)
    found = index.list(query.where(), order=order, after=after, limit=query.limit + 1)
    total = index.count(query.where()) if query.total else None
    shown = [artifact(record) for record in found]
    return reply_page(page(shown, query.limit, lambda item: order.place(item.id, item.product), total))


@api.on("GET", "/artifacts/{id}", Artifact, permission=Permission.ARTIFACTS_READ, errors=("artifact_not_found",))
def get_artifact(path: IdPath) -> Response:
    """Show one artifact"""
    return reply(artifact(artifact_named(path.id)))


@api.on(
    "PATCH",
    "/artifacts/{id}",
    Artifact,
    permission=Permission.ARTIFACTS_WRITE,
    accepted=DraftedArtifact,
    tagged=True,
    errors=AMENDS,
)
def patch_artifact(path: IdPath, body: ArtifactChange) -> Response:
    """Change an artifact's notes and labels; of a claimed product as a draft for its team"""
    record = artifact_named(path.id)
    check_match(artifact(record))
    if is_claimed(record):
        return drafted_edit(record, amend(body.notes, body.labels))
    changed = services().repository.amend(
        record.path, notes=body.notes, labels=body.labels, by=caller().actor, now=now()
    )
    return reply(artifact(changed))


@api.on(
    "POST",
    "/artifacts/{id}/yank",
    Artifact,
    permission=Permission.ARTIFACTS_YANK,
    accepted=DraftedArtifact,
    errors=AMENDS,
)
def yank_artifact(path: IdPath, body: Reason) -> Response:
    """Mark an artifact as not to be installed any more; of a claimed product as a draft for its team"""
    record = artifact_named(path.id)
    if is_claimed(record):
        return drafted_edit(record, yank(body.reason))
    yanked = services().repository.yank(record.path, reason=body.reason, by=caller().actor, now=now())
    services().rollouts.tick(services().org, now())
    return reply(artifact(yanked))


@api.on(
    "POST",
    "/artifacts/{id}/withdraw",
    Artifact,
    permission=Permission.ARTIFACTS_YANK,
    accepted=DraftedArtifact,
    errors=AMENDS,
)
def withdraw_artifact(path: IdPath, body: Reason) -> Response:
    """Take an artifact out of the repository for good; its record stays"""
    return _taken_out(path, body, revoke=False)


@api.on(
    "POST",
    "/artifacts/{id}/revoke",
    Artifact,
    permission=Permission.ARTIFACTS_YANK,
    accepted=DraftedArtifact,
    errors=AMENDS,
)
def revoke_artifact(path: IdPath, body: Reason) -> Response:
    """Withdraw an artifact and make devices that run it leave it"""
    return _taken_out(path, body, revoke=True)


def wanted(body: Publish) -> NewArtifact:
    """What a publisher asks for, with its uploads looked up, its SBOMs and attestations read."""
    caller().check_product(body.product)
    repository = services().repository
    staged = repository.staged(body.upload_id)
    return NewArtifact(
        staged=staged,
        product=body.product,
        version=body.version,
        platform=body.platform,
        channel=body.channel,
        file_name=body.file_name,
        publisher=caller().actor,
        notes=body.notes,
        labels=body.labels,
        security=body.security,
        sboms=tuple(examined(repository.staged(upload)) for upload in body.sboms),
        attestations=attested(
            repository, [repository.staged(upload) for upload in body.attestations], artifact_sha256=staged.sha256
        ),
    )


def artifact(record: ArtifactRecord) -> Artifact:
    """An artifact as the API shows it."""
    yanked, withdrawn = record.yanked, record.withdrawn
    return Artifact(
        id=record.id,
        target_path=record.path,
        sha256=record.sha256,
        length=record.length,
        serial=record.serial,
        product=record.product,
        version=record.version,
        platform=record.platform,
        channel=record.channel,
        file_name=record.file_name,
        publisher=_by(record.publisher),
        created_at=record.created_at,
        notes=record.notes,
        labels=dict(record.labels),
        security=record.security,
        yanked=None if yanked is None else Yanked(reason=yanked.reason, by=_by(yanked.by), at=yanked.at),
        withdrawn=None
        if withdrawn is None
        else Withdrawn(reason=withdrawn.reason, by=_by(withdrawn.by), at=withdrawn.at, revoked=withdrawn.revoked),
        sboms=[shown_sbom(one) for one in record.sboms],
        attestations=[attestation(one) for one in record.attestations],
    )


def is_claimed(record: ArtifactRecord) -> bool:
    """Whether the artifact's product is signed by its team's own keys."""
    return record.product in services().repository.drafts.claims()


def drafted_edit(record: ArtifactRecord, edit: Mapping[str, Any]) -> Response:
    """202 with the draft of a change that the product's team is to sign; 200 when there is nothing to change."""
    after, draft = services().repository.drafts.draft_edit(record.path, edit, by=caller().actor, now=now())
    if draft is None:
        return reply(artifact(record))
    told = {"title": draft.title}
    event = AuditEvent("repository.draft.created", draft.id, caller().actor, now(), told)
    services().audit.append(services().org, [event])
    return drafted(after, draft, 202)


def drafted(record: ArtifactRecord, draft: OfflineDraft | None, status: int) -> Response:
    """An artifact as it will be, and the draft that waits for its team."""
    told = None if draft is None else shown(draft, whole=True)
    return reply(DraftedArtifact(artifact=artifact(record), draft=told), status)


def _taken_out(path: IdPath, body: Reason, *, revoke: bool) -> Response:
    record = artifact_named(path.id)
    # One that was withdrawn is in the server's own hands, and can still be revoked.
    if record.withdrawn is None and is_claimed(record):
        return drafted_edit(record, take_out(body.reason, revoke=revoke))
    gone = services().repository.withdraw(record.path, reason=body.reason, revoke=revoke, by=caller().actor, now=now())
    services().rollouts.tick(services().org, now())
    return reply(artifact(gone))


def _by(actor: Any) -> By:
    return By(kind=actor.kind.value, id=actor.id, name=actor.name)


def shown_sbom(record: SbomRecord) -> Sbom:
    """An SBOM as the API shows it."""
    return Sbom(
        id=record.id,
        target_path=record.path,
        sha256=record.sha256,
        length=record.length,
        format=record.format,
        spec_version=record.spec_version,
        components=record.components,
        media_type=record.media_type,
    )


def artifact_named(id_or_path: str) -> ArtifactRecord:
    """By id or target path; raises UnknownArtifact, also for a product that is none of the caller's."""
    index, products = services().artifacts, caller().products
    found = index.get(id_or_path) if is_id(id_or_path, "art") else index.at_path(id_or_path)
    if products is not None and found.product not in products:
        raise UnknownArtifact(f"no artifact {id_or_path}")
    return found


def as_it_was_sent(record: SbomRecord | AttestationRecord) -> Response:
    """The stored bytes of what lies beside an artifact, in their own content type."""
    blob = services().repository.blob_path(record.sha256)
    name = record.path.rsplit("/", 1)[-1]
    return send_file(blob, mimetype=record.media_type, as_attachment=True, download_name=name, etag=record.sha256)


def examined(staged: StagedBlob) -> SbomUpload:
    """A staged SBOM with what is found in it; raises SbomError."""
    with services().repository.open_staged(staged) as stream:
        facts = read_sbom(stream)
    return SbomUpload(
        staged=staged,
        format=facts.format,
        spec_version=facts.spec_version,
        components=facts.components,
        media_type=facts.media_type,
    )
