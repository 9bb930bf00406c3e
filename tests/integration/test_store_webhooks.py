"""Webhooks on both databases: positions, revisions, limits, and what a delivery is when two are at it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.errors import TooManyWebhooks, UnknownWebhook, WebhookChanged
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.webhooks.model import Attempt, Delivery, DeliveryState, Secret, Webhook
from store.audit import AuditLog
from store.database import Database
from store.webhook_deliveries import SqlDeliveries
from store.webhooks import SqlWebhooks

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_1", "Ada")
HOOK = Webhook(
    id="whk_1",
    org="acme",
    url="https://hooks.example.com/",
    description="a shop",
    events=("*",),
    secrets=(Secret("s1:new", NOON), Secret("s1:old", NOON, NOON + timedelta(hours=1))),
    by=ADA,
    created_at=NOON,
)


def event(tag: str = "webhook.changed") -> AuditEvent:
    return AuditEvent(tag, "whk_1", ADA, NOON)


def delivery(number: int, *, hook: str = "whk_1", at: datetime = NOON) -> Delivery:
    return Delivery(
        id=f"dlv_{number}",
        org="acme",
        webhook=hook,
        message=f"evt_{number}",
        seq=number,
        tag="a.b",
        created_at=NOON,
        next_at=at,
    )


def test_a_webhook_comes_back_whole_and_begins_at_the_end_of_the_log(database: Database) -> None:
    AuditLog(database).append("acme", [event("group.created")])
    rows = SqlWebhooks(database)
    assert rows.add(HOOK, event("webhook.created"), most=1) == replace(HOOK, position=2)
    assert rows.all("acme") == [replace(HOOK, position=2)]
    assert rows.all("rival") == []
    with pytest.raises(TooManyWebhooks):
        rows.add(replace(HOOK, id="whk_2"), event("webhook.created"), most=1)
    with pytest.raises(UnknownWebhook):
        rows.get("rival", "whk_1")
    assert AuditLog(database).count("acme") == 2


def test_the_second_change_of_one_revision_loses(database: Database) -> None:
    rows = SqlWebhooks(database)
    made = rows.add(HOOK, event("webhook.created"), most=9)
    changed = rows.save(replace(made, description="first"), event(), from_now=False)
    assert (changed.description, changed.revision, changed.position) == ("first", 2, 1)
    with pytest.raises(WebhookChanged):
        rows.save(replace(made, description="second"), event(), from_now=False)
    assert rows.save(changed, event(), from_now=True).position == 3
    rows.remove("acme", "whk_1", event("webhook.deleted"))
    with pytest.raises(UnknownWebhook):
        rows.save(changed, event(), from_now=False)


def test_events_become_deliveries_once_however_many_look(database: Database) -> None:
    rows, deliveries = SqlWebhooks(database), SqlDeliveries(database)
    made = rows.add(HOOK, event("webhook.created"), most=9)
    AuditLog(database).append("acme", [event("a.b"), event("a.c")])
    unseen = deliveries.unseen(made, 10)
    assert [(told.seq, told.event.tag) for told in unseen] == [(2, "a.b"), (3, "a.c")]
    assert deliveries.queue(made, 3, [delivery(2)]) is True
    assert deliveries.queue(made, 3, [delivery(3)]) is False
    assert deliveries.page("whk_1", before=None, limit=9, state=None) == [delivery(2)]
    assert deliveries.unseen(rows.get("acme", "whk_1"), 10) == []


def test_the_longest_waiting_are_due_first_and_few_of_each(database: Database) -> None:
    rows, deliveries = SqlWebhooks(database), SqlDeliveries(database)
    made = rows.add(HOOK, event("webhook.created"), most=9)
    other = rows.add(replace(HOOK, id="whk_2"), event("webhook.created"), most=9)
    later = NOON + timedelta(seconds=1)
    deliveries.queue(made, 9, [delivery(1, at=later), delivery(2), delivery(3), delivery(4)])
    deliveries.queue(other, 9, [delivery(5, hook="whk_2"), delivery(6, hook="whk_2", at=NOON + timedelta(days=1))])
    due = deliveries.due("acme", later, limit=9, each=3)
    assert [one.id for one in due] == ["dlv_2", "dlv_3", "dlv_4", "dlv_5"]
    assert deliveries.due("rival", later, limit=9, each=3) == []


def test_an_outcome_is_stored_once_and_disabling_fails_what_waits(database: Database) -> None:
    rows, deliveries = SqlWebhooks(database), SqlDeliveries(database)
    made = rows.add(HOOK, event("webhook.created"), most=9)
    deliveries.queue(made, 9, [delivery(1), delivery(2)])
    after = replace(
        delivery(1),
        state=DeliveryState.DELIVERED,
        next_at=None,
        tries=1,
        revision=2,
        attempts=(Attempt(NOON, 200, "", 12, "ok\x00\ufffd"),),
    )
    assert deliveries.save(delivery(1), after, [event("webhook.replayed")]) is True
    assert deliveries.save(delivery(1), after, [event("webhook.replayed")]) is False
    assert deliveries.get("acme", "dlv_1") == after
    deliveries.failing(made, NOON)
    deliveries.failing(made, NOON + timedelta(days=1))
    failing = rows.get("acme", "whk_1")
    assert (failing.failing_since, failing.revision) == (NOON, 1)
    rows.save(replace(failing, enabled=False, disabled_because="gone"), event("webhook.disabled"), from_now=False)
    assert deliveries.get("acme", "dlv_2") == replace(delivery(2), state=DeliveryState.FAILED, next_at=None, revision=2)
    assert deliveries.queue(rows.get("acme", "whk_1"), 10, []) is False
    assert AuditLog(database).count("acme") == 3
    rows.remove("acme", "whk_1", event("webhook.deleted"))
    assert deliveries.count("whk_1", state=None) == 0


def test_a_test_event_and_its_delivery_are_stored_together(database: Database) -> None:
    rows, deliveries = SqlWebhooks(database), SqlDeliveries(database)
    rows.add(HOOK, event("webhook.created"), most=9)
    made = deliveries.add("acme", event("webhook.tested"), replace(delivery(1), message="", seq=0))
    told = deliveries.told(made)
    assert (told.seq, told.id, told.event.tag) == (2, made.message, "webhook.tested")
    assert deliveries.get("acme", "dlv_1") == made
