"""What stands in a device's timeline, in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent, device_of
from fleet.command import TAGS
from fleet.history import Entry, Wanted, words

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
STEP = {"rollout_id": "rol_1", "product": "app", "version": "1.3", "wave": 2, "attempt": 1, "code": "", "detail": ""}


@pytest.mark.parametrize(
    ("kind", "details", "said"),
    [
        ("device.enrolled", {"token": "tok_1", "groups": ["canary"]}, "enrolled by an enrolment token into canary"),
        ("device.enrolled", {"code": "cod_1", "groups": []}, "enrolled by its code"),
        (
            "device.labelled",
            {"labels": {"site": "oslo", "line": None}, "kept": True},
            "labelled site=oslo, without line",
        ),
        ("device.labelled", {"labels": {}, "kept": False}, "labelled with nothing, and no other"),
        ("device.revoked", {"reason": "stolen"}, "revoked: stolen"),
        ("group.device.added", {"group": "canary"}, "put into group canary"),
        ("exclusion.added", {"kind": "exclude", "reason": "on the bench"}, "excluded from all updates: on the bench"),
        (
            "exclusion.removed",
            {"kind": "pin", "product": "app", "version": "1.2"},
            "no longer pinned to app 1.2",
        ),
        ("device.update.installing", STEP, "installs app 1.3 (wave 2)"),
        ("device.update.succeeded", STEP | {"attempt": 2}, "runs app 1.3 (wave 2, attempt 2)"),
        (
            "device.update.failed",
            STEP | {"code": "health_failed", "detail": "port 80 is closed"},
            "failed to update to app 1.3 (wave 2): health_failed: port 80 is closed",
        ),
        (
            "device.online",
            {"silent_since": None, "last_at": "2026-11-21T12:00:00Z"},
            "online; last call 2026-11-21T12:00:00Z",
        ),
        (
            "device.online",
            {"silent_since": "2026-11-20T12:00:00Z", "last_at": "2026-11-21T12:00:00Z"},
            "online again, silent since 2026-11-20T12:00:00Z; last call 2026-11-21T12:00:00Z",
        ),
        (
            "device.imported",
            {"name": "press-1", "joined": ["canary"], "left": ["lab"], "labels": {"site": "oslo"}},
            "changed by an imported list: into canary, out of lab, with other labels",
        ),
        (
            "device.reboot_failed",
            {"command": "rbt_1", "code": "no_reboot_command", "detail": ""},
            "could not restart: no_reboot_command",
        ),
        ("device.danced", {"with": "wolves"}, "device.danced"),
    ],
)
def test_an_entry_is_said_in_plain_words_and_an_unknown_one_as_it_is(
    kind: str, details: dict[str, Any], said: str
) -> None:
    assert words(Entry(id="evt_1", at=NOON, kind=kind, details=details)) == said


def test_whatever_becomes_of_a_command_has_words() -> None:
    asked = ("device.logs_requested", "device.logs_deleted", "device.reboot_scheduled")
    said = {tag: words(Entry(id="evt_1", at=NOON, kind=tag)) for tag in (*TAGS.values(), *asked)}
    assert [tag for tag, line in said.items() if line == tag] == []
    assert len(set(said.values())) == len(said)


def test_an_event_that_is_named_like_a_step_is_none() -> None:
    named = Entry(id="evt_1", at=NOON, kind="device.update.dreamt", by=ADA, details={"rollout_id": "rol_1"})
    assert words(named) == "device.update.dreamt"


def test_an_event_stands_in_the_history_of_its_subject_or_of_the_device_it_tells_of() -> None:
    device, group = new_id("dev"), new_id("grp")
    assert device_of(AuditEvent("device.rebooted", device, ADA, NOON)) == device
    assert device_of(AuditEvent("group.device.added", group, ADA, NOON, {"device": device})) == device
    assert device_of(AuditEvent("exclusion.added", "exc_1", ADA, NOON, {"device": None})) is None
    assert device_of(AuditEvent("login.refused", "dev_mouth", ADA, NOON)) is None
    assert device_of(AuditEvent("device.online", device, ADA, NOON)) is None
    assert device_of(AuditEvent("device.update.failed", device, ADA, NOON)) is None


def test_a_kind_is_asked_for_with_all_below_it() -> None:
    assert [Wanted(kind=kind).takes("device.online") for kind in (None, "device", "device.online", "device.on")] == [
        True,
        True,
        True,
        False,
    ]
