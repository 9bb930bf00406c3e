"""Webhooks: who is told of events, and what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from flask import Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth.permissions import Permission
from api.operator.artifacts import By
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    check_match,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from evidence.webhooks import model
from evidence.webhooks.service import Change

api = Routes("webhooks", "Webhooks")

_EVENTS = ["rollout", "artifact.published"]
Url = Annotated[str, Field(min_length=1, max_length=2048, examples=["https://hooks.example.com/wavegate"])]
Events = Annotated[
    list[Annotated[str, Field(max_length=100)]],
    Field(min_length=1, max_length=50, description="tags, each with all below it; `*` is all", examples=[_EVENTS]),
]


class WebhookSecret(BaseModel):
    """When a secret signs; the secret itself is never shown again."""

    made_at: datetime
    ends_at: datetime | None


class Webhook(BaseModel):
    """A receiver of events. `failing_since` is the first failure after the last success."""

    id: str = Field(examples=["whk_01K9N0ZQ3V8M4S2T6W7X9Y0A1B"])
    url: Url
    description: str
    events: list[str] = Field(examples=[_EVENTS])
    enabled: bool
    disabled_because: str
    failing_since: datetime | None
    secrets: list[WebhookSecret]
    by: By
    created_at: datetime


class WebhookWithSecret(Webhook):
    """A webhook and the secret just made, shown this once."""

    secret: str | None = Field(examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])


class NewWebhook(Body):
    """A receiver to tell of events, from now on."""

    url: Url
    events: Events = Field(default_factory=lambda: [model.ALL_EVENTS])
    description: str = Field("", max_length=500)


class WebhookChange(Body):
    """What to change. Enabled again, it is told of events from then on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    url: Url | None = None
    events: Events | None = None
    description: str | None = Field(None, max_length=500)
    enabled: bool | None = None


class WebhookRotation(Body):
    """How long the secret before signs, too."""

    overlap_hours: int = Field(24, ge=0, le=168)


class WebhookAttempt(BaseModel):
    """One try. `status` is null when no answer came; `trouble` says what was wrong; `answer` is at most 1 KiB."""

    at: datetime
    status: int | None
    trouble: str
    took_ms: int
    answer: str


class WebhookDelivery(BaseModel):
    """One event on its way. `message` is the event's id, sent as `webhook-id`; the last attempts come last."""

    id: str
    webhook: str
    message: str
    type: str = Field(examples=["rollout.paused"])
    state: Literal["waiting", "delivered", "failed"]
    next_at: datetime | None
    created_at: datetime
    attempts: list[WebhookAttempt]


class DeliveryQuery(PageQuery):
    """Filter of the delivery log."""

    state: Literal["waiting", "delivered", "failed"] | None = Field(None, description="in this state")


class DeliveryPath(BaseModel):
    """A delivery of a webhook."""

    id: str = Field(max_length=200, description="id of the webhook")
    delivery: str = Field(max_length=200, description="id of the delivery")


@api.on("GET", "/webhooks", Page[Webhook], permission=Permission.WEBHOOKS_ADMIN)
def list_webhooks(query: PageQuery) -> Response:
    """List webhooks, oldest first"""
    after = decode_cursor(query.cursor) or ""
    found = services().webhooks.rows.all(services().org)
    shown = [_webhook(one) for one in found if one.id > after][: query.limit + 1]
    return reply_page(page(shown, query.limit, lambda item: item.id, len(found) if query.total else None))


@api.on(
    "POST",
    "/webhooks",
    WebhookWithSecret,
    permission=Permission.WEBHOOKS_ADMIN,
    status=201,
    shown_once="secret",
    errors=("invalid_webhook", "seal_broken", "too_many_webhooks"),
)
def create_webhook(body: NewWebhook) -> Response:
    """Have events sent to a URL, signed"""
    made, secret = services().webhooks.create(
        services().org,
        url=body.url,
        events=body.events,
        description=body.description,
        by=caller().actor,
        now=now(),
    )
    return reply(_with_secret(made, secret), 201)


@api.on("GET", "/webhooks/{id}", Webhook, permission=Permission.WEBHOOKS_ADMIN, errors=("webhook_not_found",))
def show_webhook(path: IdPath) -> Response:
    """Show one webhook"""
    return reply(_webhook(_named(path.id)))


@api.on(
    "PATCH",
    "/webhooks/{id}",
    Webhook,
    permission=Permission.WEBHOOKS_ADMIN,
    tagged=True,
    errors=("invalid_webhook", "webhook_changed", "webhook_not_found"),
)
def change_webhook(path: IdPath, body: WebhookChange) -> Response:
    """Change a webhook, disable it, or enable it again"""
    before = _named(path.id)
    check_match(_webhook(before))
    change = Change(url=body.url, description=body.description, events=body.events, enabled=body.enabled)
    return reply(_webhook(services().webhooks.change(before, change, by=caller().actor, now=now())))


@api.on(
    "DELETE",
    "/webhooks/{id}",
    None,
    permission=Permission.WEBHOOKS_ADMIN,
    status=204,
    tagged=True,
    errors=("webhook_not_found",),
)
def delete_webhook(path: IdPath) -> Response:
    """Delete a webhook and its delivery log"""
    check_match(_webhook(_named(path.id)))
    services().webhooks.delete(services().org, path.id, by=caller().actor, now=now())
    return reply(None)


@api.on(
    "POST",
    "/webhooks/{id}/rotate-secret",
    WebhookWithSecret,
    permission=Permission.WEBHOOKS_ADMIN,
    shown_once="secret",
    errors=("invalid_webhook", "seal_broken", "webhook_changed", "webhook_not_found", "webhook_secret_unreadable"),
)
def rotate_webhook_secret(path: IdPath, body: WebhookRotation) -> Response:
    """Make a new secret; both sign for a while"""
    overlap = timedelta(hours=body.overlap_hours)
    changed, secret = services().webhooks.rotate(_named(path.id), overlap=overlap, by=caller().actor, now=now())
    return reply(_with_secret(changed, secret))


@api.on(
    "POST",
    "/webhooks/{id}/test",
    WebhookDelivery,
    permission=Permission.WEBHOOKS_ADMIN,
    status=202,
    errors=("webhook_disabled", "webhook_not_found"),
)
def test_webhook(path: IdPath) -> Response:
    """Send an event `webhook.tested`, within a second or so"""
    return reply(_delivery(services().webhooks.test(_named(path.id), by=caller().actor, now=now())), 202)


@api.on(
    "GET",
    "/webhooks/{id}/deliveries",
    Page[WebhookDelivery],
    permission=Permission.WEBHOOKS_ADMIN,
    errors=("webhook_not_found",),
)
def list_webhook_deliveries(path: IdPath, query: DeliveryQuery) -> Response:
    """List deliveries of the last 30 days, newest first"""
    webhook, rows = _named(path.id), services().deliveries
    found = rows.page(webhook.id, before=decode_cursor(query.cursor), limit=query.limit + 1, state=query.state)
    total = rows.count(webhook.id, state=query.state) if query.total else None
    return reply_page(page([_delivery(one) for one in found], query.limit, lambda item: item.id, total))


@api.on(
    "POST",
    "/webhooks/{id}/deliveries/{delivery}/replay",
    WebhookDelivery,
    permission=Permission.WEBHOOKS_ADMIN,
    status=202,
    errors=("webhook_delivery_not_found", "webhook_disabled", "webhook_not_found"),
)
def replay_webhook_delivery(path: DeliveryPath) -> Response:
    """Send a delivery once more, with the same `webhook-id`"""
    webhook = _named(path.id)
    delivery = services().deliveries.get(services().org, path.delivery)
    return reply(_delivery(services().webhooks.replay(webhook, delivery, by=caller().actor, now=now())), 202)


def _named(webhook: str) -> model.Webhook:
    return services().webhooks.rows.get(services().org, webhook)


def _webhook(one: model.Webhook) -> Webhook:
    return Webhook(
        id=one.id,
        url=one.url,
        description=one.description,
        events=list(one.events),
        enabled=one.enabled,
        disabled_because=one.disabled_because,
        failing_since=one.failing_since,
        secrets=[
            WebhookSecret(made_at=secret.made_at, ends_at=secret.ends_at)
            for secret in one.secrets
            if secret.signs(now())
        ],
        by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name),
        created_at=one.created_at,
    )


def _with_secret(one: model.Webhook, secret: str) -> WebhookWithSecret:
    return WebhookWithSecret(**_webhook(one).model_dump(), secret=secret)


def _delivery(one: model.Delivery) -> WebhookDelivery:
    return WebhookDelivery(
        id=one.id,
        webhook=one.webhook,
        message=one.message,
        type=one.tag,
        state=one.state.value,
        next_at=one.next_at,
        created_at=one.created_at,
        attempts=[
            WebhookAttempt(
                at=attempt.at,
                status=attempt.status,
                trouble=attempt.trouble,
                took_ms=attempt.took_ms,
                answer=attempt.answer,
            )
            for attempt in one.attempts
        ],
    )
