"""Artifacts, SBOMs and attestations to target entries and back: the ``custom`` field carries the whole record.

``custom.serial`` is the serial of the record's last change and ``custom.changes`` tells what that change was, so that
the audit events of a commit whose index update was cut short can be told again from signed metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from evidence.model import Actor, AuditEvent
from repo_signing.canonical import canonical
from repo_signing.errors import InvalidRecord, RepositoryDamaged
from repo_signing.model import ArtifactRecord, AttestationRecord, Attester, SbomRecord, Withdrawal, Yank
from repo_signing.paths import split_artifact_path

# A bin of python-tuf's default limit (5 MB) then holds at least 30 of the largest records.
MAX_RECORD_BYTES: Final = 128 * 1024

_ARTIFACT: Final = "artifact"
_SBOM: Final = "sbom"
_ATTESTATION: Final = "attestation"
_WITHDRAWN: Final = "withdrawn"

Entry = dict[str, Any]


def published(record: ArtifactRecord) -> AuditEvent:
    """The event that an index writes when it meets an artifact for the first time."""
    data = {
        "path": record.path,
        "sha256": record.sha256,
        "length": record.length,
        "product": record.product,
        "version": record.version,
        "platform": record.platform,
        "channel": record.channel,
        "sboms": [sbom.sha256 for sbom in record.sboms],
        "attestations": [one.sha256 for one in record.attestations],
        "serial": record.serial,
    }
    return AuditEvent("artifact.published", record.id, record.publisher, record.created_at, data)


def blob_entry(sha256: str, length: int) -> Entry:
    """A target entry without a record."""
    return {"hashes": {"sha256": sha256}, "length": length}


def sha256_of(entry: Mapping[str, Any]) -> str:
    """The digest of a target entry."""
    return str(entry["hashes"]["sha256"])


def artifact_entry(record: ArtifactRecord, changes: Sequence[AuditEvent]) -> Entry:
    """The target entry of an artifact; raises InvalidRecord when it cannot be signed."""
    return blob_entry(record.sha256, record.length) | {"custom": _checked(_record_out(record), changes)}


def withdrawn_entry(record: ArtifactRecord, changes: Sequence[AuditEvent], notice: bytes) -> Entry:
    """The entry that keeps the record of a withdrawn artifact; its own bytes are ``notice``, for anybody to read."""
    custom = _record_out(record) | {
        "kind": _WITHDRAWN,
        "path": record.path,
        "length": record.length,
        "sha256": record.sha256,
        "withdrawn": None if record.withdrawn is None else _withdrawal_out(record.withdrawn),
    }
    digest = hashlib.sha256(notice).hexdigest()
    return blob_entry(digest, len(notice)) | {"custom": _checked(custom, changes)}


def withdrawn_path(path: str) -> str:
    """Where the record of a withdrawn artifact is kept. From the path alone, so that a look-up needs no search."""
    return f"revocations/{path.partition('/')[0]}/{hashlib.sha256(path.encode()).hexdigest()}.json"


def _record_out(record: ArtifactRecord) -> dict[str, Any]:
    custom: dict[str, Any] = {
        "kind": _ARTIFACT,
        "id": record.id,
        "product": record.product,
        "version": record.version,
        "platform": record.platform,
        "channel": record.channel,
        "publisher": record.publisher.to_dict(),
        "created_at": _time_out(record.created_at),
        "serial": record.serial,
    }
    # What is usual is left out: every client that fetches a bin reads the records of all its neighbours.
    if record.notes:
        custom["notes"] = record.notes.split("\n")  # a line break is a control character and cannot be signed
    if record.labels:
        custom["labels"] = dict(record.labels)
    if record.security:
        custom["security"] = True
    if record.yanked is not None:
        custom["yanked"] = _yank_out(record.yanked)
    if record.sboms:
        custom["sboms"] = [_sbom_out(sbom) for sbom in record.sboms]
    if record.attestations:
        custom["attestations"] = [_attestation_out(one) for one in record.attestations]
    return custom


def _checked(custom: dict[str, Any], changes: Sequence[AuditEvent]) -> dict[str, Any]:
    if changes:
        custom["changes"] = [_event_out(event) for event in changes]
    length = len(canonical(custom))
    if length > MAX_RECORD_BYTES:
        raise InvalidRecord(
            f"the record has {length} bytes, at most {MAX_RECORD_BYTES} can be signed; shorten the notes"
        )
    return custom


def sbom_entry(artifact: ArtifactRecord, sbom: SbomRecord) -> Entry:
    """The target entry of an SBOM, which names its artifact."""
    custom = {"kind": _SBOM, "artifact": artifact.path, "artifact_id": artifact.id} | _sbom_out(sbom)
    canonical(custom)
    return blob_entry(sbom.sha256, sbom.length) | {"custom": custom}


def attestation_entry(artifact: ArtifactRecord, one: AttestationRecord) -> Entry:
    """The target entry of an attestation, which names its artifact. What was found of it is in the artifact's record.

    So an examination with other keys changes one entry, and the two cannot contradict each other.
    """
    custom = {
        "kind": _ATTESTATION,
        "artifact": artifact.path,
        "artifact_id": artifact.id,
        "id": one.id,
        "form": one.kind,
        "media_type": one.media_type,
    }
    canonical(custom)
    return blob_entry(one.sha256, one.length) | {"custom": custom}


def is_artifact(entry: Mapping[str, Any]) -> bool:
    """Say whether a target entry is an artifact's (an SBOM's, an attestation's and a document's are not)."""
    custom = entry.get("custom")
    return isinstance(custom, dict) and custom.get("kind") == _ARTIFACT


def is_record(entry: Mapping[str, Any]) -> bool:
    """Say whether a target entry carries an artifact's record: a standing one's, or a withdrawn one's."""
    custom = entry.get("custom")
    return isinstance(custom, dict) and custom.get("kind") in (_ARTIFACT, _WITHDRAWN)


def read_artifact(path: str, entry: Mapping[str, Any]) -> ArtifactRecord:
    """Read the record back; a withdrawn artifact's has the path it had, not ``path``.

    Raises RepositoryDamaged when a field is missing or garbled.
    """
    try:
        custom = entry["custom"]
        yanked, withdrawn = custom.get("yanked"), custom.get("withdrawn")
        if custom["kind"] == _WITHDRAWN:
            path, length, sha256 = custom["path"], custom["length"], custom["sha256"]
        else:
            length, sha256 = entry["length"], sha256_of(entry)
        return ArtifactRecord(
            id=custom["id"],
            path=path,
            length=length,
            sha256=sha256,
            product=custom["product"],
            version=custom["version"],
            platform=custom["platform"],
            channel=custom["channel"],
            file_name=split_artifact_path(path).file_name,
            publisher=Actor.from_dict(custom["publisher"]),
            created_at=_time_in(custom["created_at"]),
            notes="\n".join(custom.get("notes", [])),
            labels=dict(custom.get("labels", {})),
            security=custom.get("security", False),
            yanked=None if yanked is None else _yank_in(yanked),
            sboms=tuple(_sbom_in(stored) for stored in custom.get("sboms", [])),
            serial=custom["serial"],
            attestations=tuple(_attestation_in(stored) for stored in custom.get("attestations", [])),
            withdrawn=None if withdrawn is None else _withdrawal_in(withdrawn),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RepositoryDamaged(f"the signed record of {path} lacks or garbles a field: {error!r}") from error


def read_changes(entry: Mapping[str, Any]) -> list[AuditEvent]:
    """The events of the record's last change; none when that was its publishing."""
    return [_event_in(stored) for stored in entry["custom"].get("changes", [])]


def _sbom_out(sbom: SbomRecord) -> dict[str, Any]:
    return {
        "id": sbom.id,
        "path": sbom.path,
        "length": sbom.length,
        "sha256": sbom.sha256,
        "format": sbom.format,
        "spec_version": sbom.spec_version,
        "components": sbom.components,
        "media_type": sbom.media_type,
    }


def _sbom_in(stored: Mapping[str, Any]) -> SbomRecord:
    return SbomRecord(**stored)


def _attestation_out(one: AttestationRecord) -> dict[str, Any]:
    # What there is nothing to say of is left out, as of the artifact itself.
    told = {field.name: value for field in fields(one) if (value := getattr(one, field.name)) not in (None, ())}
    if one.verified_by:
        told["verified_by"] = [
            {field.name: value for field in fields(by) if (value := getattr(by, field.name)) is not None}
            for by in one.verified_by
        ]
    return told


def _attestation_in(stored: Mapping[str, Any]) -> AttestationRecord:
    verified_by = tuple(Attester(**by) for by in stored.get("verified_by", ()))
    return AttestationRecord(**{**stored, "verified_by": verified_by})


def _yank_out(yank: Yank) -> dict[str, Any]:
    return {"reason": yank.reason, "by": yank.by.to_dict(), "at": _time_out(yank.at)}


def _yank_in(stored: Mapping[str, Any]) -> Yank:
    return Yank(reason=stored["reason"], by=Actor.from_dict(stored["by"]), at=_time_in(stored["at"]))


def _withdrawal_out(one: Withdrawal) -> dict[str, Any]:
    return {"reason": one.reason, "by": one.by.to_dict(), "at": _time_out(one.at), "revoked": one.revoked}


def _withdrawal_in(stored: Mapping[str, Any]) -> Withdrawal:
    return Withdrawal(
        reason=stored["reason"],
        by=Actor.from_dict(stored["by"]),
        at=_time_in(stored["at"]),
        revoked=stored["revoked"],
    )


def _event_out(event: AuditEvent) -> dict[str, Any]:
    return {
        "tag": event.tag,
        "subject": event.subject,
        "by": event.by.to_dict(),
        "at": _time_out(event.at),
        "data": dict(event.data),
    }


def _event_in(stored: Mapping[str, Any]) -> AuditEvent:
    by = Actor.from_dict(stored["by"])
    return AuditEvent(stored["tag"], stored["subject"], by, _time_in(stored["at"]), stored["data"])


def _time_out(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time_in(text: str) -> datetime:
    return datetime.fromisoformat(text)
