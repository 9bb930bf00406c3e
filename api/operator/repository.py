"""The signed repository, as operators see it."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from pydantic import BaseModel

from api.auth.permissions import Permission
from api.codes import READS, SIGNS
from api.operator.routes import Body, Routes, caller, now, reply, services
from evidence.model import AuditEvent
from repo_signing.model import Overlap
from repo_signing.offline import OfflineDraft
from repo_signing.outlook import advice, outlook, warnings

api = Routes("repository", "Repository")


class RoleStatus(BaseModel):
    """One TUF role as it stands."""

    name: str
    version: int
    expires: datetime
    expires_in_seconds: int
    targets: int | None
    outlook: str


class MissingSignatures(BaseModel):
    """`need` keys must sign `role`, because `by` says so; `have` did."""

    role: str
    by: str
    have: int
    need: int


class WaitingDraft(BaseModel):
    """A change that waits for signatures until its deadline."""

    id: str
    title: str
    deadline: datetime
    signatures: list[MissingSignatures]


class RotationOverlap(BaseModel):
    """Old keys that still sign beside the new ones, by role; from `ends_from` on the overlap may be ended."""

    keyids: dict[str, list[str]]
    ends_from: datetime


class Repository(BaseModel):
    """State of the repository: its serial, its root, how long every role lasts, what waits for signatures, and the
    overlap of a rotation while there is one."""

    org: str
    serial: int
    projected_serial: int
    root_version: int
    root_sha256: str
    artifacts: int
    metadata_url: str
    targets_url: str
    roles: list[RoleStatus]
    warnings: list[str]
    drafts: list[WaitingDraft]
    overlap: RotationOverlap | None


class Refreshed(BaseModel):
    """What was signed anew."""

    serial: int
    roles: list[str]


class Refresh(Body):
    """`accept_clock` is a person's word that the server's clock is right, though far from the last commit."""

    accept_clock: bool = False


class Check(Body):
    """Whether to mend what is found."""

    repair: bool = False


class Finding(BaseModel):
    """One thing that is not as it should be."""

    kind: str
    what: str
    repaired: bool


class Checked(BaseModel):
    """`ok` is true when nothing is left to mend."""

    ok: bool
    findings: list[Finding]


@api.on("GET", "/repository", Repository, permission=Permission.REPOSITORY_READ, errors=READS)
def get_repository() -> Response:
    """Show the repository's state and the expiry of every role"""
    status = services().repository.status(now=now())
    base = f"{services().settings.public_url}/tuf/{services().org}"
    answer = Repository(
        org=services().org,
        serial=status.serial,
        projected_serial=status.projected_serial,
        root_version=status.root_version,
        root_sha256=status.root_sha256,
        artifacts=status.artifacts,
        metadata_url=f"{base}/metadata",
        targets_url=f"{base}/targets",
        roles=[
            RoleStatus(
                name=role.name,
                version=role.version,
                expires=role.expires,
                expires_in_seconds=int((role.expires - now()).total_seconds()),
                targets=role.targets,
                outlook=outlook(role, now()).value,
            )
            for role in status.roles
        ],
        warnings=[*(line for _, line in warnings(status.roles, now())), *advice(status.roles)],
        drafts=[_waiting(draft) for draft in services().repository.drafts.all()],
        overlap=_overlap(services().repository.drafts.overlap()),
    )
    return reply(answer)


@api.on(
    "GET",
    "/repository/root",
    None,
    permission=Permission.REPOSITORY_READ,
    media_types=("application/json",),
    errors=READS,
)
def get_root() -> Response:
    """Download the current root metadata"""
    repository = services().repository
    return Response(repository.root_with_sha256(repository.root_sha256()), mimetype="application/json")


@api.on("POST", "/repository/refresh", Refreshed, permission=Permission.REPOSITORY_WRITE, errors=SIGNS)
def refresh_repository(body: Refresh) -> Response:
    """Sign anew what is due, and timestamp and snapshot in any case"""
    roles = services().repository.refresh(now=now(), force=True, accept_clock=body.accept_clock)
    if body.accept_clock:
        event = AuditEvent("repository.clock_accepted", services().org, caller().actor, now(), {"roles": len(roles)})
        services().audit.append(services().org, [event])
    return reply(Refreshed(serial=services().repository.serial(), roles=list(roles)))


@api.on("POST", "/repository/check", Checked, permission=Permission.REPOSITORY_WRITE, errors=SIGNS)
def check_repository(body: Check) -> Response:
    """Check the repository against its own metadata and the index, and mend it when asked"""
    by = caller().actor
    findings = services().repository.check(repair=body.repair, now=now(), by=by)
    told = {"repair": body.repair, "findings": len(findings)}
    services().audit.append(services().org, [AuditEvent("repository.checked", services().org, by, now(), told)])
    found = [Finding(kind=one.kind, what=one.what, repaired=one.repaired) for one in findings]
    return reply(Checked(ok=all(one.repaired for one in found), findings=found))


def _waiting(draft: OfflineDraft) -> WaitingDraft:
    signatures = [
        MissingSignatures(
            role=part.role,
            by=one.by,
            have=len(part.signatures.keys() & set(one.keyids)),
            need=one.threshold,
        )
        for part in draft.parts
        for one in part.requirements
    ]
    return WaitingDraft(id=draft.id, title=draft.title, deadline=draft.deadline, signatures=signatures)


def _overlap(found: Overlap | None) -> RotationOverlap | None:
    if found is None:
        return None
    keyids = {role: list(keyids) for role, keyids in found.keyids.items()}
    return RotationOverlap(keyids=keyids, ends_from=found.ends_from)
