"""Exclusions, freeze windows and templates, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from rollout.errors import InvalidTemplate, UnknownExclusion, UnknownFreeze, UnknownTemplate
from rollout.exclusion import Exclusion, Kind
from rollout.freezing import Freeze
from rollout.model import Gate, WavePlan
from rollout.templates import Template
from rollout.windows import Window
from store.audit import AuditLog
from store.database import Database
from store.rules import SqlExclusions, SqlFreezes, SqlTemplates

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
TOLD = AuditEvent("rule.told", "rule", ADA, NOON)


def an_exclusion(number: int, **more: object) -> Exclusion:
    fields: dict[str, object] = {
        "id": f"exc_{number}",
        "org": "acme",
        "reason": "hot",
        "by": ADA,
        "at": NOON,
        "device": "dev_1",
        "until": NOON + timedelta(days=1),
        **more,
    }
    return Exclusion(**fields)  # type: ignore[arg-type]


def test_exclusions_come_back_as_they_were_and_one_takes_the_place_of_another(database: Database) -> None:
    rows = SqlExclusions(database)
    first = an_exclusion(1, package="libfoo", matched={"ab" * 32: "app"})
    pin = an_exclusion(2, kind=Kind.PIN, product="app", version="1.0", until=None)
    rows.add(first, [TOLD])
    rows.add(an_exclusion(1, id="exc_9", org="rival"), [TOLD])
    rows.add(pin, [TOLD, TOLD], instead_of=["exc_1", "exc_9"])

    assert rows.all("acme") == [pin]
    assert [one.id for one in rows.all("rival")] == ["exc_9"]
    rows.match("acme", "exc_2", {"cd" * 32: "app"})
    assert rows.get("acme", "exc_2").matched == {"cd" * 32: "app"}
    for missing in ("exc_1", "exc_9"):
        with pytest.raises(UnknownExclusion):
            rows.get("acme", missing)
        with pytest.raises(UnknownExclusion):
            rows.remove("acme", missing, TOLD)
    rows.remove("acme", "exc_2", TOLD)
    assert rows.all("acme") == []
    assert len(AuditLog(database).events("acme", after_seq=0, limit=10)) == 4


def test_freezes_come_back_as_they_were(database: Database) -> None:
    rows = SqlFreezes(database)
    weekly = Window(days=("fri", "sat"), start="16:00", minutes=480, zone="Europe/Berlin")
    span = Freeze(id="frz_1", org="acme", reason="x", by=ADA, at=NOON, starts=NOON, ends=NOON + timedelta(1))
    week = Freeze(id="frz_2", org="acme", reason="y", by=ADA, at=NOON, product="app", weekly=weekly)
    rows.add(week, TOLD)
    rows.add(span, TOLD)

    assert rows.all("acme") == [span, week]
    assert rows.get("acme", "frz_2") == week
    rows.remove("acme", "frz_1", TOLD)
    assert rows.all("acme") == [week]
    for owner, freeze in (("acme", "frz_1"), ("rival", "frz_2")):
        with pytest.raises(UnknownFreeze):
            rows.get(owner, freeze)
        with pytest.raises(UnknownFreeze):
            rows.remove(owner, freeze, TOLD)


def test_templates_come_back_as_they_were_and_a_name_is_taken_once(database: Database) -> None:
    rows = SqlTemplates(database)
    waves = (WavePlan(group="*", percent=0.5, gate=Gate(approvals=1)), WavePlan(group="fleet", count=7))
    template = Template(org="acme", name="careful", description="d", waves=waves, by=ADA, at=NOON)
    rows.add(template, TOLD)

    assert rows.get("acme", "careful") == template
    assert rows.all("acme") == [template]
    with pytest.raises(InvalidTemplate):
        rows.add(template, TOLD)
    with pytest.raises(UnknownTemplate):
        rows.get("rival", "careful")
    rows.remove("acme", "careful", TOLD)
    with pytest.raises(UnknownTemplate):
        rows.remove("acme", "careful", TOLD)
