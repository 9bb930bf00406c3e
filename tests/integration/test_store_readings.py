"""Readings on both databases: what was written last of a wave is what is read, whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from rollout.metrics import Reading
from store.database import Database
from store.readings import SqlReadings
from store.rollouts import SqlRollouts
from tests.integration.test_store_permits import EVENT, NOON, ROLLOUT


def test_the_last_reading_of_each_metric_of_the_wave_is_kept(database: Database) -> None:
    SqlRollouts(database).add(ROLLOUT, EVENT)
    readings = SqlReadings(database)
    assert readings.of(ROLLOUT) == {}
    first = Reading(at=NOON, samples=(0.25, 1e300), violated_since=NOON - timedelta(seconds=1))
    second = Reading(at=NOON + timedelta(microseconds=1), trouble="prod: no answer")
    readings.keep(ROLLOUT, {"errors": first, "queue": first})
    readings.keep(ROLLOUT, {"errors": second})
    readings.keep(ROLLOUT, {})
    assert readings.of(ROLLOUT) == {"errors": second, "queue": first}
    assert readings.of(replace(ROLLOUT, wave=2)) == {}
