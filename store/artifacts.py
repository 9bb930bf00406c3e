"""The index of the signed metadata: artifacts, their SBOMs and attestations.

Rows are written only by :meth:`ArtifactIndex.project`, which is given what stands in signed metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.sql import Select

from evidence.model import Actor, AuditEvent
from evidence.times import rfc3339
from fleet.version_order import order_key
from repo_signing.model import ArtifactRecord, AttestationRecord, SbomRecord, Withdrawal, Yank
from repo_signing.records import published
from rollout.model import ArtifactRef
from store import attestations
from store.audit import append
from store.columns import AnyRow, insert_if_absent
from store.database import Database
from store.errors import UnknownArtifact, UnknownSbom
from store.models import artifacts as artifact_rows
from store.models import attestations as attestation_rows
from store.models import audit_events, repository_state
from store.models import sboms as sbom_rows
from store.order import Order

_PUBLISHED: Final = "artifact.published"
_BATCH: Final = 500  # values in one IN (…); SQLite before 3.32 took 999 at most


class ArtifactState(StrEnum):
    """What became of an artifact; each has one, the last that holds."""

    PUBLISHED = "published"
    YANKED = "yanked"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFilter:
    """What a list is narrowed to; None does not narrow. ``products`` are those that may be seen at all."""

    product: str | None = None
    version: str | None = None
    platform: str | None = None
    channel: str | None = None
    sha256: str | None = None
    state: ArtifactState | None = None
    products: frozenset[str] | None = None


EVERYTHING: Final = ArtifactFilter()
NEWEST_FIRST: Final = Order.of("-created_at")


class ArtifactIndex:
    """One organisation's index; fulfils ``repo_signing.ports.CountedProjection`` and answers the API's questions."""

    def __init__(self, database: Database, org: str) -> None:
        self._database = database
        self._org = org

    def projected_serial(self) -> int:
        """Serial up to which the index is complete; 0 when nothing has been projected."""
        with self._database.read() as connection:
            return self._serial(connection)

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        """Bring the index up to ``serial`` in one transaction.

        Put in or replace these artifacts with their SBOMs and attestations (by target path), write an
        ``artifact.published`` event for each artifact that was not there before, write ``events``, and set the
        projected serial. A serial that is not above the projected one leaves it as it is; projecting the same records
        again changes nothing. An artifact that comes back after :meth:`clear` was published once and gets no second
        event.
        """
        with self._database.write() as connection:
            insert_if_absent(connection, repository_state, {"org": self._org, "projected_serial": 0})
            # Held to the end: two projectors on PostgreSQL go one after the other, as they do on SQLite.
            self._serial(connection, lock=True)
            known = self._known(connection, [record.path for record in artifacts])
            self._remove(connection, list(known.values()))
            _insert(connection, self._org, artifacts)
            new = self._unpublished(connection, [record for record in artifacts if record.path not in known])
            connection.execute(
                update(repository_state)
                .where(repository_state.c.org == self._org, repository_state.c.projected_serial < serial)
                .values(projected_serial=serial)
            )
            append(connection, self._org, [*(published(record) for record in new), *events])

    def clear(self) -> None:
        """Forget all artifact rows and the projected serial, for a rebuild."""
        with self._database.write() as connection:
            connection.execute(delete(sbom_rows).where(sbom_rows.c.org == self._org))
            connection.execute(delete(attestation_rows).where(attestation_rows.c.org == self._org))
            connection.execute(delete(artifact_rows).where(artifact_rows.c.org == self._org))
            connection.execute(delete(repository_state).where(repository_state.c.org == self._org))

    def get(self, artifact_id: str) -> ArtifactRecord:
        """Raises UnknownArtifact."""
        return self._one(select(artifact_rows).where(artifact_rows.c.id == artifact_id), artifact_id)

    def at_path(self, path: str) -> ArtifactRecord:
        """The artifact with this target path; raises UnknownArtifact."""
        return self._one(select(artifact_rows).where(artifact_rows.c.path == path), path)

    def list(
        self,
        where: ArtifactFilter = EVERYTHING,
        *,
        order: Order = NEWEST_FIRST,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[ArtifactRecord]:
        """Beginning behind the place ``after``, by default newest first."""
        query = order.page(self._filtered(select(artifact_rows), where), artifact_rows, after=after, limit=limit)
        with self._database.read() as connection:
            return self._with_companions(connection, [*connection.execute(query)])

    def count(self, where: ArtifactFilter = EVERYTHING) -> int:
        """How many artifacts the filter leaves."""
        with self._database.read() as connection:
            query = self._filtered(select(func.count()).select_from(artifact_rows), where)
            return int(connection.execute(query).scalar_one())

    def artifact_count(self) -> int:
        """How many artifact rows the index has."""
        return self.count()

    def sboms_of(self, artifact_id: str) -> Sequence[SbomRecord]:
        """In the order of their numbers; raises UnknownArtifact."""
        return self.get(artifact_id).sboms

    def sbom(self, sbom_id: str) -> SbomRecord:
        """Raises UnknownSbom."""
        query = select(sbom_rows).where(sbom_rows.c.org == self._org, sbom_rows.c.id == sbom_id)
        with self._database.read() as connection:
            row = connection.execute(query).first()
            if row is None:
                raise UnknownSbom(f"no SBOM {sbom_id}")
            return _to_sbom(row)

    def attestation(self, attestation_id: str) -> AttestationRecord:
        """Raises UnknownAttestation."""
        with self._database.read() as connection:
            return attestations.found(connection, self._org, attestation_id)

    def _serial(self, connection: Connection, *, lock: bool = False) -> int:
        query = select(repository_state.c.projected_serial).where(repository_state.c.org == self._org)
        return connection.execute(query.with_for_update() if lock else query).scalar_one_or_none() or 0

    def _known(self, connection: Connection, paths: Sequence[str]) -> dict[str, str]:
        known: dict[str, str] = {}
        for start in range(0, len(paths), _BATCH):
            query = select(artifact_rows.c.path, artifact_rows.c.id).where(
                artifact_rows.c.org == self._org, artifact_rows.c.path.in_(paths[start : start + _BATCH])
            )
            known.update((row.path, row.id) for row in connection.execute(query))
        return known

    def _unpublished(self, connection: Connection, records: Sequence[ArtifactRecord]) -> Sequence[ArtifactRecord]:
        told: set[str] = set()
        ids = [record.id for record in records]
        for start in range(0, len(ids), _BATCH):
            query = select(audit_events.c.subject).where(
                audit_events.c.org == self._org,
                audit_events.c.subject.in_(ids[start : start + _BATCH]),
                audit_events.c.tag == _PUBLISHED,
            )
            told.update(connection.execute(query).scalars())
        return [record for record in records if record.id not in told]

    def _remove(self, connection: Connection, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            connection.execute(delete(sbom_rows).where(sbom_rows.c.artifact.in_(some)))
            connection.execute(delete(attestation_rows).where(attestation_rows.c.artifact.in_(some)))
            connection.execute(delete(artifact_rows).where(artifact_rows.c.id.in_(some)))

    def _one(self, query: Select[Any], name: str) -> ArtifactRecord:
        with self._database.read() as connection:
            row = connection.execute(query.where(artifact_rows.c.org == self._org)).first()
            if row is None:
                raise UnknownArtifact(f"no artifact {name}")
            return self._with_companions(connection, [row])[0]

    def _filtered(self, query: Select[Any], where: ArtifactFilter) -> Select[Any]:
        query = query.where(artifact_rows.c.org == self._org)
        for column, wanted in (
            (artifact_rows.c.product, where.product),
            (artifact_rows.c.version, where.version),
            (artifact_rows.c.platform, where.platform),
            (artifact_rows.c.channel, where.channel),
            (artifact_rows.c.sha256, where.sha256),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        if where.products is not None:
            query = query.where(artifact_rows.c.product.in_(sorted(where.products)))
        return query if where.state is None else query.where(*_became(where.state))

    def _with_companions(self, connection: Connection, rows: Sequence[AnyRow]) -> Sequence[ArtifactRecord]:
        found: dict[str, list[SbomRecord]] = {row.id: [] for row in rows}
        attested: dict[str, Sequence[AttestationRecord]] = {}
        ids = list(found)
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            query = select(sbom_rows).where(sbom_rows.c.artifact.in_(some)).order_by(sbom_rows.c.position)
            for sbom in connection.execute(query):
                found[sbom.artifact].append(_to_sbom(sbom))
            attested.update(attestations.found_of(connection, some))
        return [_to_artifact(row, tuple(found[row.id]), tuple(attested.get(row.id, ()))) for row in rows]


class SqlReleases:
    """Fulfils ``rollout.ports.Releases`` from the index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def artifacts(self, org: str, product: str, version: str, channel: str | None) -> Mapping[str, ArtifactRef]:
        """Signed artifacts of a release by platform, the newest where a platform has several; empty without any."""
        query = (
            select(
                artifact_rows.c.id,
                artifact_rows.c.platform,
                artifact_rows.c.path,
                artifact_rows.c.length,
                artifact_rows.c.sha256,
            )
            .where(artifact_rows.c.org == org, artifact_rows.c.product == product, artifact_rows.c.version == version)
            # A withdrawn one only where there is no other: it is then refused by its reason, not as unknown.
            .order_by(artifact_rows.c.platform, artifact_rows.c.withdrawn.is_(None), artifact_rows.c.id)
        )
        if channel is not None:
            query = query.where(artifact_rows.c.channel == channel)
        with self._database.read() as connection:
            return {
                row.platform: ArtifactRef(id=row.id, path=row.path, length=row.length, sha256=row.sha256)
                for row in connection.execute(query)
            }

    def blocked(self, org: str, artifact_ids: Sequence[str]) -> Mapping[str, str]:
        """Of these artifacts, those that may not be offered (yanked, withdrawn), each with the reason."""
        query = select(artifact_rows.c.id, artifact_rows.c.yanked, artifact_rows.c.withdrawn).where(
            artifact_rows.c.org == org,
            artifact_rows.c.id.in_(artifact_ids),
            or_(artifact_rows.c.yanked.is_not(None), artifact_rows.c.withdrawn.is_not(None)),
        )
        with self._database.read() as connection:
            return {row.id: (row.withdrawn or row.yanked)["reason"] for row in connection.execute(query)}


def _became(state: ArtifactState) -> list[ColumnElement[bool]]:
    yanked, withdrawn = artifact_rows.c.yanked, artifact_rows.c.withdrawn
    if state is ArtifactState.PUBLISHED:
        return [withdrawn.is_(None), yanked.is_(None)]
    if state is ArtifactState.YANKED:
        return [withdrawn.is_(None), yanked.is_not(None)]
    # As it is stored. Within a reason, quotes have a backslash before them.
    is_revoked = type_coerce(withdrawn, Text).contains('"revoked":true', autoescape=True)
    return [withdrawn.is_not(None), is_revoked if state is ArtifactState.REVOKED else not_(is_revoked)]


def _insert(connection: Connection, org: str, records: Sequence[ArtifactRecord]) -> None:
    if not records:
        return
    connection.execute(insert(artifact_rows), [_artifact_row(org, record) for record in records])
    rows = [
        _sbom_row(org, record.id, position, sbom) for record in records for position, sbom in enumerate(record.sboms)
    ]
    if rows:
        connection.execute(insert(sbom_rows), rows)
    attestations.insert_of(connection, org, records)


def _artifact_row(org: str, record: ArtifactRecord) -> dict[str, object]:
    yanked, withdrawn = record.yanked, record.withdrawn
    return {
        "id": record.id,
        "org": org,
        "path": record.path,
        "length": record.length,
        "sha256": record.sha256,
        "product": record.product,
        "version": record.version,
        "platform": record.platform,
        "channel": record.channel,
        "file_name": record.file_name,
        "publisher": record.publisher.to_dict(),
        "created_at": record.created_at,
        "notes": record.notes,
        "labels": dict(record.labels),
        "security": record.security,
        "yanked": yanked and {"reason": yanked.reason, "by": yanked.by.to_dict(), "at": rfc3339(yanked.at)},
        "serial": record.serial,
        "order_key": order_key(record.version),
        "withdrawn": withdrawn
        and {
            "reason": withdrawn.reason,
            "by": withdrawn.by.to_dict(),
            "at": rfc3339(withdrawn.at),
            "revoked": withdrawn.revoked,
        },
    }


def _to_artifact(
    row: AnyRow, with_sboms: tuple[SbomRecord, ...], attested: tuple[AttestationRecord, ...]
) -> ArtifactRecord:
    yanked, withdrawn = row.yanked, row.withdrawn
    return ArtifactRecord(
        id=row.id,
        path=row.path,
        length=row.length,
        sha256=row.sha256,
        product=row.product,
        version=row.version,
        platform=row.platform,
        channel=row.channel,
        file_name=row.file_name,
        publisher=Actor.from_dict(row.publisher),
        created_at=row.created_at,
        notes=row.notes,
        labels=row.labels,
        security=row.security,
        yanked=yanked
        and Yank(
            reason=yanked["reason"],
            by=Actor.from_dict(yanked["by"]),
            at=datetime.fromisoformat(yanked["at"]),
        ),
        sboms=with_sboms,
        attestations=attested,
        serial=row.serial,
        withdrawn=withdrawn
        and Withdrawal(
            reason=withdrawn["reason"],
            by=Actor.from_dict(withdrawn["by"]),
            at=datetime.fromisoformat(withdrawn["at"]),
            revoked=withdrawn["revoked"],
        ),
    )


def _sbom_row(org: str, artifact_id: str, position: int, sbom: SbomRecord) -> dict[str, object]:
    return {
        "id": sbom.id,
        "org": org,
        "artifact": artifact_id,
        "position": position,
        "path": sbom.path,
        "length": sbom.length,
        "sha256": sbom.sha256,
        "format": sbom.format,
        "spec_version": sbom.spec_version,
        "components": sbom.components,
        "media_type": sbom.media_type,
    }


def _to_sbom(row: AnyRow) -> SbomRecord:
    return SbomRecord(
        id=row.id,
        path=row.path,
        length=row.length,
        sha256=row.sha256,
        format=row.format,
        spec_version=row.spec_version,
        components=row.components,
        media_type=row.media_type,
    )
