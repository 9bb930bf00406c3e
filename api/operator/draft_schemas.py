"""Drafts as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints

from repo_signing.offline import OfflineDraft

Keyid = Annotated[str, StringConstraints(min_length=1, max_length=128)]
RoleName = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class DraftBy(BaseModel):
    """Who made the draft."""

    kind: str
    id: str
    name: str
    credential: str | None = None


class Requirement(BaseModel):
    """`threshold` of `keyids` must sign, because `by` says so; `signed` have."""

    by: str
    keyids: list[str]
    threshold: int
    signed: list[str]


class Part(BaseModel):
    """One role of the draft. `payload` are the exact bytes to sign and `base` the file they were made from, as base64;
    both are null in lists."""

    role: str
    version: int
    base_version: int
    payload_sha256: str
    difference: list[str]
    requirements: list[Requirement]
    payload: str | None = None
    base: str | None = None


class Draft(BaseModel):
    """A change that waits for signatures; all its parts take effect in one commit."""

    format: int
    id: str
    title: str
    state: str
    created_by: DraftBy
    created_at: datetime
    deadline: datetime
    parts: list[Part]
    keys: dict[str, dict[str, Any]]


def shown(draft: OfflineDraft, *, whole: bool) -> Draft:
    """A draft; ``whole`` with the bytes to sign."""
    return Draft.model_validate(draft.described(whole=whole))
