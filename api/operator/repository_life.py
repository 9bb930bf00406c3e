"""The life of the signed repository: collecting, and what a device or mirror starts from."""

from __future__ import annotations

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.bundle import bundle_files
from api.codes import READS, SIGNS
from api.life import collect
from api.operator.routes import Body, Routes, caller, now, reply, services

api = Routes("repository_life", "Repository")


class Collect(Body):
    """Whether only to say what would go."""

    dry_run: bool = False


class Collection(BaseModel):
    """What was taken away: metadata files by name, blobs by SHA-256, bytes in all."""

    dry_run: bool
    metadata: list[str]
    blobs: list[str]
    quarantined: list[str] = Field(description="withdrawn bytes whose thirty days are over")
    freed_bytes: int


class Bundle(BaseModel):
    """What a client starts from. `files` holds texts by file name; hash and compare the bytes as they are."""

    org: str
    root_version: int
    root_sha256: str
    metadata_url: str
    targets_url: str
    files: dict[str, str]


@api.on("POST", "/repository/gc", Collection, permission=Permission.REPOSITORY_WRITE, errors=SIGNS)
def collect_repository(body: Collect) -> Response:
    """Take away metadata and bytes that no client can ask for any more"""
    outcome = collect(services(), now=now(), dry_run=body.dry_run, by=caller().actor)
    return reply(
        Collection(
            dry_run=outcome.dry_run,
            metadata=list(outcome.metadata),
            blobs=list(outcome.blobs),
            quarantined=list(outcome.quarantined),
            freed_bytes=outcome.freed,
        )
    )


@api.on("GET", "/repository/bundle", Bundle, permission=Permission.REPOSITORY_READ, errors=READS)
def get_bundle() -> Response:
    """Show what a client starts from: root, addresses, map.json (TAP 4) and the fingerprint to compare"""
    status = services().repository.status(now=now())
    root = services().repository.root_with_sha256(status.root_sha256) or b""
    base = f"{services().settings.public_url}/tuf/{services().org}"
    metadata_url, targets_url = f"{base}/metadata", f"{base}/targets"
    files = bundle_files(services().org, root, status.root_version, metadata_url, targets_url)
    return reply(
        Bundle(
            org=services().org,
            root_version=status.root_version,
            root_sha256=status.root_sha256,
            metadata_url=metadata_url,
            targets_url=targets_url,
            files=files,
        )
    )
