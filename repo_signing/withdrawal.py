"""Taking an artifact out again: withdrawn from its role, or revoked on the devices as well.

Its target goes; its record stays signed at ``revocations/<product>/<sha256 of its path>.json``, so the index can be
made anew and the path is never given to other bytes. What was revoked is also listed for devices in
``revocations/<product>/all.json``. The SBOMs stay signed: they are what an investigation asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import orjson

from evidence.model import Actor, AuditEvent
from repo_signing import edits, roles
from repo_signing.blobs import Blobs
from repo_signing.canonical import canonical
from repo_signing.draft import Draft
from repo_signing.errors import InvalidRecord
from repo_signing.model import ArtifactRecord, Withdrawal
from repo_signing.records import blob_entry, sha256_of

MAX_LIST_BYTES: Final = 256 * 1024  # what devices read of a document; room for about a thousand revoked artifacts
VERBS: Final = ("withdraw", "revoke")
_FORMAT: Final = 1


def revocations_path(product: str) -> str:
    """Target path of a product's list of revoked artifacts."""
    return f"revocations/{product}/all.json"


def withdraw(
    draft: Draft, blobs: Blobs, path: str, *, reason: str, revoke: bool, by: Actor, now: datetime
) -> ArtifactRecord:
    """Take the artifact out. A withdrawn one can still be revoked; what was done already stays with its first reason.

    Raises UnknownTarget, InvalidRecord, CommitFailed.
    """
    gone = draft.withdrawn(path)
    if gone is not None and gone.withdrawn is not None and (gone.withdrawn.revoked or not revoke):
        return gone
    record = draft.artifact(path) if gone is None else gone
    said = edits.one_line(reason)
    after = replace(record, withdrawn=Withdrawal(reason=said, by=by, at=now, revoked=revoke), serial=draft.serial)
    told: dict[str, object] = {"path": path, "sha256": record.sha256, "reason": said}
    notice = _notice(after, said, now, revoked=revoke)
    blobs.put(notice)
    tag = "artifact.revoked" if revoke else "artifact.withdrawn"
    draft.put_withdrawn(after, AuditEvent(tag, record.id, by, now, told), notice)
    if revoke:
        _list(draft, blobs, after, said, now)
    return after


def _notice(record: ArtifactRecord, reason: str, now: datetime, *, revoked: bool) -> bytes:
    return canonical(
        {
            "_type": "wavegate-withdrawal",
            "format": _FORMAT,
            "path": record.path,
            "sha256": record.sha256,
            "revoked": revoked,
            "reason": reason,
            "at": roles.time_out(now),
        }
    )


def _list(draft: Draft, blobs: Blobs, record: ArtifactRecord, reason: str, now: datetime) -> None:
    path = revocations_path(record.product)
    standing = draft.target(path)
    listed: Sequence[dict[str, Any]] = (
        [] if standing is None else orjson.loads(blobs.read(sha256_of(standing)))["revoked"]
    )
    one = {
        "path": record.path,
        "version": record.version,
        "sha256": record.sha256,
        "reason": reason,
        "at": roles.time_out(now),
    }
    document = canonical(
        {
            "_type": "wavegate-revocations",
            "format": _FORMAT,
            "product": record.product,
            "revoked": sorted([*listed, one], key=lambda entry: str(entry["path"])),
        }
    )
    if len(document) > MAX_LIST_BYTES:
        raise InvalidRecord(
            f"the list of revoked artifacts of {record.product} would have {len(document)} bytes, devices read at most "
            f"{MAX_LIST_BYTES}; withdraw this one, and bring the devices on by a rollout"
        )
    blobs.put(document)
    draft.put(path, blob_entry(hashlib.sha256(document).hexdigest(), len(document)))
