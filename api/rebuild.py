"""Making the index anew, and holding it against what is signed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from api.backup import OPERATOR
from api.wiring import Wavegate
from evidence.model import AuditEvent
from repo_signing.model import ArtifactRecord

_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """An index made anew; ``equal``: every row is what is signed, and there is no other."""

    serial: int
    artifacts: int
    equal: bool


def rebuild_index(wiring: Wavegate, *, now: datetime) -> Rebuilt:
    """Forget the index, make it from signed metadata, and compare. Raises RepositoryDamaged, and what the store can."""
    outcome: list[Rebuilt] = []

    def run() -> None:
        artifacts = wiring.repository.rebuild()
        signed = {record.path: _plain(record) for record in wiring.repository.artifacts()}
        indexed = {record.path: _plain(record) for record in _rows(wiring)}
        outcome.append(Rebuilt(serial=wiring.repository.serial(), artifacts=artifacts, equal=signed == indexed))

    wiring.repository.exclusively(run)  # a publish in between would be a difference that is none
    (done,) = outcome
    told = {"serial": done.serial, "artifacts": done.artifacts, "equal": done.equal}
    wiring.audit.append(wiring.org, [AuditEvent("repository.rebuilt", wiring.org, OPERATOR, now, told)])
    return done


def _rows(wiring: Wavegate) -> Iterator[ArtifactRecord]:
    after: str | None = None
    while page := wiring.artifacts.list(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _plain(record: ArtifactRecord) -> ArtifactRecord:
    """Mappings of one kind and times of one zone, so that records compare by what they say."""
    return replace(record, labels=dict(record.labels), created_at=record.created_at.astimezone(UTC))
