"""Drafts for holders of offline keys, rotation of online keys, and products that sign for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated

from flask import Response, request
from pydantic import BaseModel, Field, StringConstraints

from api.auth.permissions import Permission
from api.codes import DRAFTS, PUBLISHES, READS, SIGNS
from api.operator.artifacts import DraftedArtifact, Publish, drafted, wanted
from api.operator.draft_schemas import Draft, Keyid, RoleName, shown
from api.operator.routes import Body, IdPath, Routes, caller, check_match, now, reply, services
from evidence.model import AuditEvent
from repo_signing.errors import UnknownDraft

api = Routes("drafts", "Drafts")

MAX_DEADLINE_DAYS = 365


class PublicKey(Body):
    """A public key as `publish repo key new` writes it; the keyid is made from the key itself."""

    keyid: Keyid | None = None
    keytype: str = Field(max_length=40)
    scheme: str = Field(max_length=60)
    keyval: dict[str, str]


class Drafts(BaseModel):
    """All drafts, oldest first."""

    items: list[Draft]


class NewDraft(Body):
    """What shall change: `role` is root, targets or product-<name>; keys and thresholds are root's to name."""

    role: RoleName
    add: dict[RoleName, list[PublicKey]] = Field(default_factory=dict, max_length=4)
    remove: dict[RoleName, list[Keyid]] = Field(default_factory=dict, max_length=4)
    thresholds: dict[RoleName, int] = Field(default_factory=dict, max_length=4)
    deadline_days: int | None = Field(None, ge=1, le=MAX_DEADLINE_DAYS)


class Signatures(Body):
    """Signatures as hex, by keyid, by role."""

    signatures: dict[RoleName, dict[Keyid, Annotated[str, StringConstraints(max_length=20_000)]]] = Field(
        min_length=1, max_length=4
    )


class Signed(BaseModel):
    """The draft after the signatures; `serial` is null while others are missing, else the commit's."""

    draft: Draft
    serial: int | None


class Rotation(Body):
    """Online roles that get new keys. They are made where the old ones are, in files or in the signer process; for any
    other store `keys` names by role the one that was made there, such as `hsm:3?label=online`. `compromised`: without
    overlap; `past`: the commit's serial is above it."""

    roles: list[RoleName] = Field(min_length=1, max_length=4)
    keys: dict[RoleName, Annotated[str, StringConstraints(min_length=1, max_length=500)]] = Field(
        default_factory=dict, max_length=4
    )
    compromised: bool = False
    past: int = Field(0, ge=0)


class OverlapEnded(BaseModel):
    """`retired`: for each key that left the keyring the name of its role."""

    serial: int
    retired: list[str]


class NewClaim(Body):
    """The product, its team's public keys, and how many must sign each publish."""

    product: str = Field(min_length=1, max_length=100)
    keys: list[PublicKey] = Field(min_length=1, max_length=50)
    threshold: int = Field(1, ge=1)
    deadline_days: int | None = Field(None, ge=1, le=MAX_DEADLINE_DAYS)


class Claim(BaseModel):
    """A product whose artifacts are signed by its team."""

    product: str
    keyids: list[str]
    threshold: int


class Claims(BaseModel):
    """All claimed products, by name."""

    items: list[Claim]


class ProductName(BaseModel):
    """A product named in the path."""

    product: str = Field(max_length=100, description="name of the product")


class PayloadPath(BaseModel):
    """One role of one draft."""

    id: str = Field(max_length=200, description="id of the draft")
    role: str = Field(max_length=120, description="a role of its parts, such as `root`")


@api.on("GET", "/repository/drafts", Drafts, permission=Permission.REPOSITORY_READ, errors=READS)
def list_drafts() -> Response:
    """List what waits for signatures"""
    return reply(Drafts(items=[shown(one, whole=False) for one in services().repository.drafts.all()]))


@api.on(
    "POST",
    "/repository/drafts",
    Draft,
    permission=Permission.REPOSITORY_WRITE,
    status=201,
    errors=(*DRAFTS, "key_unsuitable"),
)
def create_draft(body: NewDraft) -> Response:
    """Draft a new version of root, targets or a product's role"""
    drafts = services().repository.drafts
    deadline = _deadline(body.deadline_days)
    if body.role == "root":
        add = {role: [key.model_dump(exclude_none=True) for key in keys] for role, keys in body.add.items()}
        draft = drafts.draft_root(
            add=add,
            remove=body.remove,
            thresholds=body.thresholds,
            by=caller().actor,
            now=now(),
            deadline=deadline,
        )
    else:
        draft = drafts.draft_renewal(body.role, by=caller().actor, now=now(), deadline=deadline)
    _tell("repository.draft.created", draft.id, {"title": draft.title})
    return reply(shown(draft, whole=True), 201)


@api.on(
    "GET", "/repository/drafts/{id}", Draft, permission=Permission.REPOSITORY_READ, errors=(*READS, "draft_not_found")
)
def get_draft(path: IdPath) -> Response:
    """Show a draft with the exact bytes to sign"""
    return reply(shown(services().repository.drafts.get(path.id), whole=True))


@api.on(
    "GET",
    "/repository/drafts/{id}/payloads/{role}",
    None,
    permission=Permission.REPOSITORY_READ,
    media_types=("application/octet-stream",),
    errors=(*READS, "draft_not_found"),
)
def get_payload(path: PayloadPath) -> Response:
    """Download the exact bytes to sign of one role"""
    for part in services().repository.drafts.get(path.id).parts:
        if part.role == path.role:
            return Response(part.payload, mimetype="application/octet-stream")
    raise UnknownDraft(f"the draft {path.id} has no role {path.role!r}; `publish repo draft show` names its roles")


@api.on(
    "POST",
    "/repository/drafts/{id}/signatures",
    Signed,
    permission=Permission.REPOSITORY_SIGN,
    errors=(*DRAFTS, "approvers_sign", "signature_refused"),
)
def sign_draft(path: IdPath, body: Signatures) -> Response:
    """Add signatures; the last one that was missing commits the change"""
    draft, serial = services().repository.drafts.sign(path.id, body.signatures, now=now())
    signers = sorted({keyid for signed in body.signatures.values() for keyid in signed})
    _tell("repository.draft.signed", path.id, {"signers": signers, "serial": serial})
    return reply(Signed(draft=shown(draft, whole=False), serial=serial))


@api.on("POST", "/repository/drafts/{id}/rebase", Draft, permission=Permission.REPOSITORY_WRITE, errors=DRAFTS)
def rebase_draft(path: IdPath) -> Response:
    """Make a draft anew from the repository as it is; its signatures are dropped"""
    draft = services().repository.drafts.rebase(path.id, now=now())
    _tell("repository.draft.rebased", path.id, {"title": draft.title})
    return reply(shown(draft, whole=True))


@api.on(
    "DELETE",
    "/repository/drafts/{id}",
    None,
    permission=Permission.REPOSITORY_WRITE,
    status=204,
    tagged=True,
    errors=(*READS, "draft_not_found"),
)
def drop_draft(path: IdPath) -> Response:
    """Forget a draft"""
    if request.if_match and not request.if_match.star_tag:  # else one that cannot be read could not be dropped
        check_match(shown(services().repository.drafts.get(path.id), whole=True))
    services().repository.drafts.drop(path.id)
    _tell("repository.draft.dropped", path.id, {})
    return reply(None)


@api.on(
    "POST",
    "/repository/rotations",
    Drafts,
    permission=Permission.REPOSITORY_WRITE,
    status=201,
    errors=(*DRAFTS, "key_exists", "key_unsuitable"),
)
def rotate_keys(body: Rotation) -> Response:
    """Make new online keys and draft that they replace the old ones"""
    drafts = services().repository.drafts.rotate(
        body.roles, compromised=body.compromised, past=body.past, by=caller().actor, now=now(), keys=body.keys
    )
    for draft in drafts:
        _tell("repository.draft.created", draft.id, {"title": draft.title, "compromised": body.compromised})
    return reply(Drafts(items=[shown(one, whole=True) for one in drafts]), 201)


@api.on(
    "POST",
    "/repository/rotations/end",
    OverlapEnded,
    permission=Permission.REPOSITORY_WRITE,
    errors=(*SIGNS, "rotation_not_due"),
)
def end_overlap() -> Response:
    """End the overlap of a rotation: the old online keys sign no more"""
    serial, retired = services().repository.drafts.end_overlap(by=caller().actor, now=now())
    return reply(OverlapEnded(serial=serial, retired=retired))


@api.on("GET", "/repository/products", Claims, permission=Permission.REPOSITORY_READ, errors=READS)
def list_claims() -> Response:
    """List products that are signed by their teams' own keys"""
    found = services().repository.drafts.claims()
    items = [Claim(product=name, keyids=list(rule.keyids), threshold=rule.threshold) for name, rule in found.items()]
    return reply(Claims(items=items))


@api.on(
    "POST",
    "/repository/products",
    Draft,
    permission=Permission.REPOSITORY_WRITE,
    status=201,
    errors=(*DRAFTS, "invalid_target_path", "key_unsuitable"),
)
def claim_product(body: NewClaim) -> Response:
    """Draft that a product is signed by its team's own keys, or by other ones"""
    keys = [key.model_dump(exclude_none=True) for key in body.keys]
    draft = services().repository.drafts.claim(
        body.product, keys, body.threshold, by=caller().actor, now=now(), deadline=_deadline(body.deadline_days)
    )
    _tell("repository.draft.created", draft.id, {"title": draft.title})
    return reply(shown(draft, whole=True), 201)


@api.on(
    "POST",
    "/repository/products/{product}/release",
    Draft,
    permission=Permission.REPOSITORY_WRITE,
    status=201,
    errors=(*DRAFTS, "invalid_target_path"),
)
def release_product(path: ProductName) -> Response:
    """Draft that the server signs a product again"""
    draft = services().repository.drafts.release(path.product, by=caller().actor, now=now())
    _tell("repository.draft.created", draft.id, {"title": draft.title})
    return reply(shown(draft, whole=True), 201)


@api.on(
    "POST",
    "/artifacts/drafts",
    DraftedArtifact,
    permission=Permission.ARTIFACTS_PUBLISH,
    status=201,
    also=(200,),
    errors=(*PUBLISHES, *DRAFTS),
)
def draft_artifact(body: Publish) -> Response:
    """Draft an artifact of a claimed product for its team to sign"""
    record, draft = services().repository.drafts.draft_publish(wanted(body), now=now())
    return drafted(record, draft, 200 if draft is None else 201)


def _deadline(days: int | None) -> datetime | None:
    return None if days is None else now() + timedelta(days=days)


def _tell(tag: str, subject: str, data: Mapping[str, object]) -> None:
    services().audit.append(services().org, [AuditEvent(tag, subject, caller().actor, now(), data)])
