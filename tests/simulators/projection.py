"""An index in memory: a second, honest implementation of ``repo_signing.ports.Projection``."""

from __future__ import annotations

from collections.abc import Sequence

from evidence.model import AuditEvent
from repo_signing.model import ArtifactRecord
from repo_signing.records import published


class ProjectionSimulator:
    """Keeps rows by target path and events in order; both are there to be looked at."""

    def __init__(self) -> None:
        self.rows: dict[str, ArtifactRecord] = {}
        self.events: list[AuditEvent] = []
        self._serial = 0

    def projected_serial(self) -> int:
        return self._serial

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        for record in artifacts:
            if record.path not in self.rows:
                self.events.append(published(record))
            self.rows[record.path] = record
        self.events.extend(events)
        self._serial = max(self._serial, serial)

    def clear(self) -> None:
        self.rows.clear()
        self._serial = 0

    def artifact_count(self) -> int:
        return len(self.rows)
