"""The rows of attestations, which come and go with their artifact's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, insert, select

from repo_signing.model import ArtifactRecord, AttestationRecord, Attester
from store.columns import AnyRow
from store.errors import UnknownAttestation
from store.models import attestations as rows


def insert_of(connection: Connection, org: str, records: Sequence[ArtifactRecord]) -> None:
    """Write the rows of artifacts that have none."""
    values = [
        {
            **{name: getattr(one, name) for name in _PLAIN},
            "org": org,
            "artifact": record.id,
            "position": position,
            "verified_by": [asdict(by) for by in one.verified_by],
        }
        for record in records
        for position, one in enumerate(record.attestations)
    ]
    if values:
        connection.execute(insert(rows), values)


def found_of(connection: Connection, artifact_ids: Sequence[str]) -> Mapping[str, Sequence[AttestationRecord]]:
    """By artifact, in the order of their numbers. At most some hundred ids."""
    found: dict[str, list[AttestationRecord]] = {}
    query = select(rows).where(rows.c.artifact.in_(artifact_ids)).order_by(rows.c.position)
    for row in connection.execute(query):
        found.setdefault(row.artifact, []).append(_to_attestation(row))
    return found


def found(connection: Connection, org: str, attestation_id: str) -> AttestationRecord:
    """Raises UnknownAttestation."""
    row = connection.execute(select(rows).where(rows.c.org == org, rows.c.id == attestation_id)).first()
    if row is None:
        raise UnknownAttestation(f"no attestation {attestation_id}")
    return _to_attestation(row)


_PLAIN = (
    "id",
    "path",
    "length",
    "sha256",
    "kind",
    "media_type",
    "state",
    "subject_matches",
    "reason",
    "predicate_type",
    "builder",
    "source",
    "source_digest",
)


def _to_attestation(row: AnyRow) -> AttestationRecord:
    plain = {name: getattr(row, name) for name in _PLAIN}
    return AttestationRecord(**plain, verified_by=tuple(Attester(**by) for by in row.verified_by))
