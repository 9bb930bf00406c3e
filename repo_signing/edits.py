"""What a request changes in a draft: the rules of publishing, attaching, amending and yanking.

Each function runs under the repository lock, and more than once when a commit has to be built again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from repo_signing.draft import Draft
from repo_signing.errors import PathTaken
from repo_signing.model import (
    ArtifactRecord,
    AttestationRecord,
    AttestationUpload,
    Attester,
    NewArtifact,
    SbomRecord,
    SbomUpload,
    StagedBlob,
    Yank,
)
from repo_signing.paths import attestation_path, check_channel, sbom_path
from repo_signing.records import attestation_entry, sbom_entry, sha256_of

_TAB: Final = 4  # columns


def publish(draft: Draft, path: str, new: NewArtifact, now: datetime) -> tuple[ArtifactRecord, bool]:
    """Put a new artifact; False when the same bytes stand there, PathTaken when others do."""
    standing = draft.target(path)
    if standing is not None:
        if sha256_of(standing) != new.staged.sha256:
            raise taken(path, sha256_of(standing), new.staged.sha256)
        attach(draft, path, new.sboms, new.publisher, now)
        return attest(draft, path, new.attestations, new.publisher, now), False
    draft.refuse_withdrawn(path)
    check_channel(new.channel)
    record = ArtifactRecord(
        id=new_id("art"),
        path=path,
        length=new.staged.length,
        sha256=new.staged.sha256,
        product=new.product,
        version=new.version,
        platform=new.platform,
        channel=new.channel,
        file_name=new.file_name,
        publisher=new.publisher,
        created_at=now,
        notes=_lines(new.notes),
        labels=dict(new.labels),
        security=new.security,
        serial=draft.serial,
    )
    record = _with_attestations(draft, _with_sboms(draft, record, new.sboms), new.attestations)
    draft.put_artifact(record, None)
    return record, True


def attach(draft: Draft, path: str, sboms: Sequence[SbomUpload], by: Actor, now: datetime) -> ArtifactRecord:
    """Add those of the SBOMs whose bytes are not there yet."""
    record = draft.artifact(path)
    after = _with_sboms(draft, record, sboms)
    added = after.sboms[len(record.sboms) :]
    if not added:
        return record
    after = replace(after, serial=draft.serial)
    told = {"path": path, "sboms": [{"id": one.id, "path": one.path, "sha256": one.sha256} for one in added]}
    draft.put_artifact(after, AuditEvent("artifact.sbom.attached", record.id, by, now, told))
    return after


def attest(
    draft: Draft, path: str, attestations: Sequence[AttestationUpload], by: Actor, now: datetime
) -> ArtifactRecord:
    """Add those of the attestations whose bytes are not there yet; of the others record what is found of them now."""
    record = draft.artifact(path)
    after = _with_attestations(draft, record, attestations)
    changed = [one for one in after.attestations if one not in record.attestations]
    if not changed:
        return record
    after = replace(after, serial=draft.serial)
    told: dict[str, object] = {
        "path": path,
        "attestations": [{"id": one.id, "path": one.path, "sha256": one.sha256, "state": one.state} for one in changed],
    }
    draft.put_artifact(after, AuditEvent("artifact.attested", record.id, by, now, told))
    return after


def _with_attestations(draft: Draft, record: ArtifactRecord, uploads: Sequence[AttestationUpload]) -> ArtifactRecord:
    for upload in uploads:
        found = list(record.attestations)
        place = next((at for at, one in enumerate(found) if one.sha256 == upload.staged.sha256), len(found))
        standing = found[place] if place < len(found) else None
        path = attestation_path(record.path, place, upload.kind) if standing is None else standing.path
        one = AttestationRecord(
            id=new_id("att") if standing is None else standing.id,
            path=path,
            length=upload.staged.length,
            sha256=upload.staged.sha256,
            kind=upload.kind,
            media_type=upload.media_type,
            state=upload.state,
            subject_matches=upload.subject_matches,
            verified_by=upload.verified_by,
            reason=upload.reason,
            predicate_type=upload.predicate_type,
            builder=upload.builder,
            source=upload.source,
            source_digest=upload.source_digest,
        )
        draft.put(path, attestation_entry(record, one))
        found[place : place + 1] = [one]
        record = replace(record, attestations=tuple(found))
    return record


def _with_sboms(draft: Draft, record: ArtifactRecord, uploads: Sequence[SbomUpload]) -> ArtifactRecord:
    for upload in uploads:
        if any(one.sha256 == upload.staged.sha256 for one in record.sboms):
            continue
        sbom = SbomRecord(
            id=new_id("sbm"),
            path=sbom_path(record.path, len(record.sboms), upload.format),
            length=upload.staged.length,
            sha256=upload.staged.sha256,
            format=upload.format,
            spec_version=upload.spec_version,
            components=upload.components,
            media_type=upload.media_type,
        )
        draft.put(sbom.path, sbom_entry(record, sbom))
        record = replace(record, sboms=(*record.sboms, sbom))
    return record


def amend(
    draft: Draft, path: str, notes: str | None, labels: Mapping[str, str] | None, by: Actor, now: datetime
) -> ArtifactRecord:
    """Replace notes and labels; None leaves them."""
    record = draft.artifact(path)
    after = replace(
        record,
        notes=record.notes if notes is None else _lines(notes),
        labels=record.labels if labels is None else dict(labels),
    )
    if after == record:
        return record
    after = replace(after, serial=draft.serial)
    told: dict[str, object] = {"path": path, "notes": after.notes.split("\n"), "labels": dict(after.labels)}
    draft.put_artifact(after, AuditEvent("artifact.amended", record.id, by, now, told))
    return after


def yank(draft: Draft, path: str, reason: str, by: Actor, now: datetime) -> ArtifactRecord:
    """Mark as not to be installed; the first reason stays."""
    record = draft.artifact(path)
    if record.yanked is not None:
        return record
    said = one_line(reason)
    after = replace(record, yanked=Yank(reason=said, by=by, at=now), serial=draft.serial)
    told: dict[str, object] = {"path": path, "reason": said}
    draft.put_artifact(after, AuditEvent("artifact.yanked", record.id, by, now, told))
    return after


def edit(draft: Draft, asked: Mapping[str, Any]) -> ArtifactRecord:
    """Apply a change that was asked for earlier, of an artifact whose product is claimed; ``asked`` as drafts keep it.

    Of a withdrawal only the team's part: the target goes.
    """
    path, by, at = str(asked["path"]), Actor.from_dict(asked["by"]), datetime.fromisoformat(asked["at"])
    match asked["verb"]:
        case "yank":
            return yank(draft, path, asked["reason"], by, at)
        case "amend":
            return amend(draft, path, asked["notes"], asked["labels"], by, at)
        case "attach-sbom":
            upload = {**asked["upload"], "staged": StagedBlob(**asked["upload"]["staged"])}
            return attach(draft, path, [SbomUpload(**upload)], by, at)
        case "attest":
            upload = {**asked["upload"], "staged": StagedBlob(**asked["upload"]["staged"])}
            upload["verified_by"] = tuple(Attester(**one) for one in upload["verified_by"])
            return attest(draft, path, [AttestationUpload(**upload)], by, at)
        case _:
            record = draft.artifact(path)
            draft.put(path, None)
            return record


def one_line(text: str) -> str:
    """A reason as it is signed: line breaks and tabs cannot be."""
    return " ".join(text.split())


def _lines(text: str) -> str:
    """Line ends as one character and tabs as spaces: of control characters only the line break can be signed."""
    return text.replace("\r\n", "\n").expandtabs(_TAB)


def taken(path: str, standing: str, offered: str) -> PathTaken:
    """The refusal to give a path other bytes."""
    return PathTaken(
        f"{path} is signed with sha256 {standing}, found {offered}; a path keeps its bytes, publish a new version"
    )
