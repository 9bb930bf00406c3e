"""Approvals by people's own keys: which products ask for them, what is to be signed, and the signatures coming in."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import DRAFTS, READS
from api.operator.draft_schemas import Draft
from api.operator.drafts import MAX_DEADLINE_DAYS, ProductName, PublicKey
from api.operator.rollout_schemas import ApproverSignature
from api.operator.routes import Body, Routes, caller, now, reply, services
from evidence.model import AuditEvent
from repo_signing.errors import InvalidDraft, SignatureRefused
from repo_signing.offline import OfflineDraft
from repo_signing.paths import artifact_path
from rollout.model import Rollout, State

api = Routes("approvals", "Approvals")


class NewApprovers(Body):
    """Public keys of a product's approvers, and how many of them must sign each wave."""

    keys: list[PublicKey] = Field(min_length=1, max_length=50)
    threshold: int = Field(1, ge=1)
    deadline_days: int | None = Field(None, ge=1, le=MAX_DEADLINE_DAYS)


class ApproversShown(BaseModel):
    """Whose keys sign a product's decisions. What they signed last is valid until `expires`."""

    keyids: list[str]
    threshold: int
    role: str
    version: int
    expires: datetime


class Product(BaseModel):
    """`mode` is `signed` where approvers sign every wave with their own keys, `managed` where the server signs it.

    `claimed`: its artifacts are signed by its team's own keys.
    """

    name: str
    mode: str
    approvers: ApproversShown | None
    claimed: bool


class ServedRole(BaseModel):
    """The role as clients get it now; `file` is base64."""

    version: int
    file: str


class WaveToSign(BaseModel):
    """The next version of the role, which opens this wave; `payload` are the exact bytes to sign, as base64."""

    wave: int
    version: int
    base_version: int
    payload_sha256: str
    payload: str
    signed: list[str]


class ToSign(BaseModel):
    """What approvers sign. `decisions` has every document that a payload names, as text by SHA-256."""

    format: int = 1
    rollout: str
    product: str
    plan_hash: str
    role: str
    threshold: int
    keys: dict[str, dict[str, Any]]
    served: ServedRole
    waves: list[WaveToSign]
    decisions: dict[str, str]


@api.on(
    "GET", "/products/{product}", Product, permission=Permission.REPOSITORY_READ, errors=(*READS, "invalid_target_path")
)
def get_product(path: ProductName) -> Response:
    """Show whether a product's waves are signed by its approvers or by the server"""
    artifact_path(path.product, "1", "any", "x")  # the grammar of products is that of paths
    repository = services().repository
    rule = repository.approvals.rule(path.product)
    shown = None
    if rule is not None:
        [role] = [one for one in repository.status(now=now()).roles if one.name == f"waves-{path.product}"]
        shown = ApproversShown(
            keyids=list(rule.keyids),
            threshold=rule.threshold,
            role=role.name,
            version=role.version,
            expires=role.expires,
        )
    claimed = path.product in repository.drafts.claims()
    mode = "managed" if rule is None else "signed"
    return reply(Product(name=path.product, mode=mode, approvers=shown, claimed=claimed))


@api.on(
    "POST",
    "/repository/products/{product}/approvers",
    Draft,
    permission=Permission.REPOSITORY_WRITE,
    status=201,
    errors=(*DRAFTS, "invalid_target_path", "key_unsuitable"),
)
def appoint_approvers(path: ProductName, body: NewApprovers) -> Response:
    """Draft that a product's waves are signed by these approvers' own keys from now on"""
    keys = [key.model_dump(exclude_none=True) for key in body.keys]
    deadline = None if body.deadline_days is None else now() + timedelta(days=body.deadline_days)
    draft = services().repository.approvals.appoint(
        path.product, keys, body.threshold, by=caller().actor, now=now(), deadline=deadline
    )
    return _drafted(draft)


@api.on(
    "POST",
    "/repository/products/{product}/managed",
    Draft,
    permission=Permission.REPOSITORY_WRITE,
    status=201,
    errors=(*DRAFTS, "invalid_target_path"),
)
def dismiss_approvers(path: ProductName) -> Response:
    """Draft that the server signs a product's waves again"""
    return _drafted(services().repository.approvals.dismiss(path.product, by=caller().actor, now=now()))


def waits_for_signatures(rollout: Rollout, wave: int) -> bool:
    """Say whether the wave's decision is one that approvers have yet to sign."""
    is_pending = rollout.state is State.WAITING and rollout.wave <= wave <= len(rollout.waves)
    return is_pending and services().repository.approvals.rule(rollout.plan.product) is not None


def to_be_signed(rollout: Rollout, wave: int, through: int) -> ToSign:
    """What approvers of these waves sign; the same for all of them until something else of the product is decided."""
    repository, product = services().repository, rollout.plan.product
    waves = services().rollouts.openings.to_sign(rollout, wave, through, now())
    proposal = repository.approvals.propose(rollout.id, product, waves, now=now())
    served = repository.approvals.served(product)
    known = {hashlib.sha256(one).hexdigest(): one.decode() for _, changes in waves for one in changes.values()}
    for path in json.loads(served.file)["signed"]["targets"]:
        if (document := repository.served(path)) is not None:
            known[hashlib.sha256(document).hexdigest()] = document.decode()
    return ToSign(
        rollout=rollout.id,
        product=product,
        plan_hash=rollout.plan_hash,
        role=proposal.parts[0].role,
        threshold=proposal.parts[0].requirements[0].threshold,
        keys={keyid: dict(key) for keyid, key in proposal.keys.items()},
        served=ServedRole(version=served.version, file=base64.b64encode(served.file).decode()),
        waves=[
            WaveToSign(
                wave=number,
                version=part.version,
                base_version=part.base_version,
                payload_sha256=hashlib.sha256(part.payload).hexdigest(),
                payload=base64.b64encode(part.payload).decode(),
                signed=sorted(part.signatures),
            )
            for number, part in zip(proposal.waves, proposal.parts, strict=True)
        ],
        decisions=known,
    )


def take_signature(rollout: Rollout, wave: int, signature: ApproverSignature, plan_hash: str) -> None:
    """Take an approver's signatures, and tell whose key said yes to which wave."""
    approvals = services().repository.approvals
    if approvals.rule(rollout.plan.product) is None:
        raise InvalidDraft(f"the server signs the decisions of {rollout.plan.product!r}; approve without a key")
    proposal = approvals.find(rollout.id)
    versions = {} if proposal is None else dict(zip(proposal.waves, proposal.parts, strict=True))
    if min(signature.waves) != wave:
        raise SignatureRefused(f"the signatures begin with wave {min(signature.waves)}, the request is for wave {wave}")
    # One that was never asked for has no version; what takes the signatures says so.
    told = {
        number: f"{signature.keyid}:{versions[number].version if number in versions else 0}:{sig}"
        for number, sig in signature.waves.items()
    }
    services().rollouts.approve_signed(
        services().org,
        rollout.id,
        told,
        plan_hash=plan_hash,
        by=caller().actor,
        now=now(),
        take=lambda: approvals.sign(rollout.id, signature.keyid, signature.waves, now=now()),
    )


def _drafted(draft: OfflineDraft) -> Response:
    event = AuditEvent("repository.draft.created", draft.id, caller().actor, now(), {"title": draft.title})
    services().audit.append(services().org, [event])
    return reply(Draft.model_validate(draft.described(whole=True)), 201)
