"""Metric readings at rest: what the process that measures wrote last, for all that judge and show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from rollout.metrics import Reading
from rollout.model import Rollout
from store.columns import upsert
from store.database import Database
from store.models import metric_readings


class SqlReadings:
    """Readings of one rollout's wave, by the metric's name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, rollout: Rollout) -> Mapping[str, Reading]:
        """The readings of the wave that the rollout is at."""
        query = select(metric_readings.c.name, metric_readings.c.document).where(
            metric_readings.c.rollout == rollout.id, metric_readings.c.wave == rollout.wave
        )
        with self._database.read() as connection:
            return {row.name: _reading(row.document) for row in connection.execute(query)}

    def keep(self, rollout: Rollout, readings: Mapping[str, Reading]) -> None:
        """Put these in place of what was read before of the same wave."""
        rows = [
            {
                "rollout": rollout.id,
                "wave": rollout.wave,
                "name": name,
                "org": rollout.org,
                "document": {
                    "at": reading.at.astimezone(UTC).isoformat(),
                    "samples": list(reading.samples),
                    "trouble": reading.trouble,
                    "violated_since": None if reading.violated_since is None else reading.violated_since.isoformat(),
                },
            }
            for name, reading in sorted(readings.items())
        ]
        if not rows:
            return
        with self._database.write() as connection:
            put = upsert(connection, metric_readings)
            put = put.on_conflict_do_update(
                index_elements=["rollout", "wave", "name"], set_={"document": put.excluded.document}
            )
            connection.execute(put, rows)


def _reading(document: dict[str, Any]) -> Reading:
    since = document["violated_since"]
    return Reading(
        at=datetime.fromisoformat(document["at"]),
        samples=tuple(float(sample) for sample in document["samples"]),
        trouble=document["trouble"],
        violated_since=None if since is None else datetime.fromisoformat(since),
    )
