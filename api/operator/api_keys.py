"""API keys: made by a person for a program, narrowed, rotated with an overlap, revoked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission, of_key
from api.errors import ApiError
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from evidence import people
from evidence.ids import new_id
from evidence.model import ActorKind, AuditEvent
from keys.secret import API_KEY, NewSecret, new_secret, shown_prefix

api = Routes("api_keys", "API keys")

MAX_KEY_DAYS: Final = 366
MAX_OVERLAP_HOURS: Final = 720  # thirty days; who needs longer makes a second key

Days = Annotated[int, Field(ge=1, le=MAX_KEY_DAYS)]


class ApiKey(BaseModel):
    """An API key; its text is shown once, in the answer that made it.

    `permissions` is what it may do now, `scope` what it was narrowed to (null: all that a key of its owner may).
    """

    id: str
    name: str
    prefix: str
    key: str | None = None
    user: str
    scope: list[str] | None
    permissions: list[Permission]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    replaced_by: str | None


class KeyQuery(PageQuery):
    """Filters of the list."""

    user: str | None = Field(None, max_length=100, description="id of the account that they speak for")


class NewApiKey(Body):
    """An API key to make; it speaks for who makes it, with an operator's permissions at most.

    `permissions` narrows it further. It loses whatever its owner loses, at once.
    """

    name: str = Field(min_length=1, max_length=100)
    expires_in_days: Days = 90
    permissions: list[Permission] | None = Field(None, min_length=1)


class KeyRotation(Body):
    """How a key is replaced: for how long the old one still works, and how long the new one lasts.

    Without `expires_in_days` the new key lasts as long as the old one was meant to when it was made.
    """

    overlap_hours: int = Field(24, ge=0, le=MAX_OVERLAP_HOURS)
    expires_in_days: Days | None = None


@api.on("GET", "/api-keys", Page[ApiKey], permission=Permission.API_KEYS_ADMIN)
def list_api_keys(query: KeyQuery) -> Response:
    """List API keys"""
    accounts, org = services().accounts, services().org
    found = accounts.keys(org, of=query.user, after=decode_cursor(query.cursor), limit=query.limit + 1)
    total = accounts.count_keys(org, of=query.user) if query.total else None
    return reply_page(page([_shown(key, owner) for key, owner in found], query.limit, lambda item: item.id, total))


@api.on(
    "POST",
    "/api-keys",
    ApiKey,
    permission=Permission.API_KEYS_ADMIN,
    status=201,
    shown_once="key",
    errors=("scope_too_wide",),
)
def create_api_key(body: NewApiKey) -> Response:
    """Make an API key"""
    owner = caller().user
    secret = new_secret(API_KEY)
    key = people.ApiKey(
        id=new_id("key"),
        org=services().org,
        user=owner.id,
        name=body.name,
        prefix=shown_prefix(secret.text),
        sha256=secret.sha256,
        created_by=owner.id,
        created_at=now(),
        expires_at=now() + timedelta(days=body.expires_in_days),
        scope=_scope(body.permissions, owner),
    )
    told: dict[str, object] = {"name": key.name, "prefix": key.prefix}
    if key.scope is not None:
        told["scope"] = sorted(key.scope)
    services().accounts.add_key(key, AuditEvent("api_key.created", key.id, caller().actor, now(), told))
    return reply(_shown(key, owner, secret), 201)


@api.on(
    "POST",
    "/api-keys/{id}/rotate",
    ApiKey,
    permission=Permission.API_KEYS_ADMIN,
    status=201,
    shown_once="key",
    errors=("account_disabled", "api_key_not_found", "api_key_replaced", "not_your_key"),
)
def rotate_api_key(path: IdPath, body: KeyRotation) -> Response:
    """Replace an API key; the old one works for the overlap"""
    accounts = services().accounts
    old, owner = accounts.key(services().org, path.id)
    if owner.kind is ActorKind.USER and owner.id != caller().user.id:
        # The answer shows a secret that speaks for the owner: nobody gets to act in another person's name.
        raise ApiError(
            403, "not_your_key", "this key speaks for another person: they rotate it themselves, or you revoke it"
        )
    if owner.disabled:
        raise ApiError(
            409, "account_disabled", "the account that this key speaks for is disabled, so no key of it works"
        )
    life = old.expires_at - old.created_at if body.expires_in_days is None else timedelta(days=body.expires_in_days)
    secret = new_secret(API_KEY)
    new = replace(
        old,
        id=new_id("key"),
        prefix=shown_prefix(secret.text),
        sha256=secret.sha256,
        created_by=caller().user.id,
        created_at=now(),
        expires_at=now() + life,
        last_used_at=None,
        replaced_by=None,
    )
    until = now() + timedelta(hours=body.overlap_hours)
    told = {"name": new.name, "prefix": new.prefix, "by": new.id, "old_until": min(until, old.expires_at).isoformat()}
    accounts.rotate_key(old, new, AuditEvent("api_key.rotated", old.id, caller().actor, now(), told), until=until)
    return reply(_shown(new, owner, secret), 201)


@api.on(
    "DELETE", "/api-keys/{id}", None, permission=Permission.API_KEYS_ADMIN, status=204, errors=("api_key_not_found",)
)
def revoke_api_key(path: IdPath) -> Response:
    """Revoke an API key; it stops at once"""
    event = AuditEvent("api_key.revoked", path.id, caller().actor, now())
    services().accounts.revoke_key(services().org, path.id, event)
    return reply(None)


def _scope(asked: list[Permission] | None, owner: people.User) -> frozenset[str] | None:
    if asked is None:
        return None
    beyond = sorted(set(asked) - of_key(owner.role))
    if beyond:
        raise ApiError(
            403,
            "scope_too_wide",
            f"an API key of yours cannot have {', '.join(beyond)}; `permissions` takes away from what it has without",
            permission=beyond[0].value,
        )
    return frozenset(permission.value for permission in asked)


def _shown(key: people.ApiKey, owner: people.User, secret: NewSecret | None = None) -> ApiKey:
    return ApiKey(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        key=None if secret is None else secret.text,
        user=key.user,
        scope=None if key.scope is None else sorted(key.scope),
        permissions=sorted(of_key(owner.role, key.scope)),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        replaced_by=key.replaced_by,
    )
