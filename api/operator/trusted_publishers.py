"""Trusted publishers: CI jobs that publish by their own identity, without a key to keep."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from api.auth.permissions import OF_A_JOB, Permission
from api.auth.publishing import exchange
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
from evidence import publishing
from evidence.errors import InvalidPublisher
from evidence.ids import new_id
from evidence.model import AuditEvent
from keys.id_token import MAX_TOKEN
from repo_signing.errors import InvalidTargetPath
from repo_signing.paths import artifact_path

api = Routes("trusted_publishers", "Trusted publishers")

_CLAIMS: dict[str, JsonValue] = {
    "repository_id": "74",
    "repository_owner_id": "65",
    "workflow": "release.yml",
    "environment": "release",
}
_PRODUCTS = Field(
    min_length=1,
    max_length=publishing.MOST_PRODUCTS,
    description="products that its jobs may publish",
    examples=[["gateway"]],
)


class TrustedPublisher(BaseModel):
    """Which CI jobs may publish which products, by what their CI system says of them."""

    id: str = Field(examples=["pub_01K9N0ZQ3V8M4S2T6W7X9Y0A1B"])
    name: str = Field(examples=["gateway releases"])
    provider: publishing.Provider
    issuer: str = Field(examples=["https://token.actions.githubusercontent.com"])
    audience: str = Field(examples=["https://wavegate.example.com"])
    claims: dict[str, str] = Field(examples=[_CLAIMS])
    products: list[str] = Field(examples=[["gateway"]])
    lifetime_minutes: int
    by: By
    created_at: datetime
    last_used_at: datetime | None


class NewTrustedPublisher(Body):
    """A publisher to trust.

    `claims` must all be in a job's identity token. `github` needs `repository_id`, `repository_owner_id` (the numbers,
    for names can be registered anew) and `workflow`, the file in `.github/workflows`; `gitlab` needs `project_id` and
    `namespace_id`. `environment` and `ref` narrow it further; any other claim may be named, too.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "gateway releases", "provider": "github", "claims": _CLAIMS, "products": ["gateway"]},
            ]
        }
    )

    name: str = Field(min_length=1, max_length=100)
    provider: publishing.Provider
    issuer: str | None = Field(
        None, max_length=2048, description="needed of `generic`; else that of the public service"
    )
    audience: str | None = Field(None, max_length=500, description="`public_url` of the server when left out")
    claims: dict[str, Annotated[str, Field(max_length=500)]]
    products: Annotated[list[Annotated[str, Field(max_length=100)]], _PRODUCTS]
    lifetime_minutes: int = Field(15, ge=1, le=15, description="how long a publish token is good")


class Exchange(Body):
    """A CI job's identity token. Of several publishers that trust it, one that may publish all `products` is taken."""

    id_token: str = Field(min_length=1, max_length=MAX_TOKEN)
    products: list[Annotated[str, Field(max_length=100)]] = Field(
        default_factory=list, max_length=publishing.MOST_PRODUCTS, examples=[["gateway"]]
    )


class PublishTokenAnswer(BaseModel):
    """A bearer for this job, shown this once. It ends by itself, or with its publisher."""

    token: str
    expires_at: datetime
    publisher: str = Field(examples=["pub_01K9N0ZQ3V8M4S2T6W7X9Y0A1B"])
    products: list[str] = Field(examples=[["gateway"]])
    permissions: list[Permission]


@api.on("GET", "/trusted-publishers", Page[TrustedPublisher], permission=Permission.TRUSTED_PUBLISHERS_ADMIN)
def list_trusted_publishers(query: PageQuery) -> Response:
    """List trusted publishers, oldest first"""
    rows, org = services().publishers, caller().user.org
    found = rows.page(org, after=decode_cursor(query.cursor), limit=query.limit + 1)
    total = rows.count(org) if query.total else None
    return reply_page(page([_shown(one) for one in found], query.limit, lambda item: item.id, total))


@api.on(
    "POST",
    "/trusted-publishers",
    TrustedPublisher,
    permission=Permission.TRUSTED_PUBLISHERS_ADMIN,
    status=201,
    errors=("invalid_trusted_publisher", "too_many_trusted_publishers"),
)
def create_trusted_publisher(body: NewTrustedPublisher) -> Response:
    """Let CI jobs publish by their own identity"""
    wiring = services()
    issuer = body.issuer or publishing.ISSUERS.get(body.provider)
    if issuer is None:
        raise InvalidPublisher("a generic publisher has to name its issuer, https://host[:port][/path]")
    made = publishing.Publisher(
        id=new_id("pub"),
        org=caller().user.org,
        name=body.name,
        provider=body.provider,
        issuer=issuer,
        audience=wiring.settings.public_url if body.audience is None else body.audience,
        claims=body.claims,
        products=tuple(sorted({_checked(product) for product in body.products})),
        life=timedelta(minutes=body.lifetime_minutes),
        by=caller().actor,
        created_at=now(),
    )
    publishing.check_publisher(
        made.provider, made.issuer, made.audience, made.claims, made.life, allowed=wiring.settings.oidc_allow
    )
    told = {"name": made.name, "issuer": made.issuer, "claims": dict(made.claims), "products": list(made.products)}
    event = AuditEvent("trusted_publisher.created", made.id, caller().actor, now(), told)
    wiring.publishers.add(made, event, most=publishing.MOST_PUBLISHERS)
    return reply(_shown(made), 201)


@api.on(
    "GET",
    "/trusted-publishers/{id}",
    TrustedPublisher,
    permission=Permission.TRUSTED_PUBLISHERS_ADMIN,
    errors=("trusted_publisher_not_found",),
)
def show_trusted_publisher(path: IdPath) -> Response:
    """Show one trusted publisher"""
    return reply(_shown(services().publishers.get(caller().user.org, path.id)))


@api.on(
    "DELETE",
    "/trusted-publishers/{id}",
    None,
    permission=Permission.TRUSTED_PUBLISHERS_ADMIN,
    status=204,
    tagged=True,
    errors=("trusted_publisher_not_found",),
)
def delete_trusted_publisher(path: IdPath) -> Response:
    """Trust a publisher no more; its jobs' tokens are dead at once"""
    found = services().publishers.get(caller().user.org, path.id)
    check_match(_shown(found))
    event = AuditEvent("trusted_publisher.deleted", found.id, caller().actor, now(), {"name": found.name})
    services().publishers.remove(found.org, found.id, event)
    return reply(None)


@api.on(
    "POST",
    "/auth/publish-token",
    PublishTokenAnswer,
    public=True,
    status=201,
    errors=("id_token_invalid", "id_token_key_unknown", "id_token_spent", "issuer_unreachable", "no_trusted_publisher"),
)
def create_publish_token(body: Exchange) -> Response:
    """Exchange a CI job's identity token for a publish token, once"""
    wiring = services()
    publisher, token, secret = exchange(
        body.id_token,
        org=request.environ.get("wavegate.org"),
        products=body.products,
        publishers=wiring.publishers,
        issuers=wiring.issuers,
        now=now(),
    )
    answer = PublishTokenAnswer(
        token=secret,
        expires_at=token.expires_at,
        publisher=publisher.id,
        products=list(publisher.products),
        permissions=sorted(OF_A_JOB),
    )
    return reply(answer, 201)


def _checked(product: str) -> str:
    try:
        artifact_path(product, "0", "any", "file")
    except InvalidTargetPath as error:
        raise InvalidPublisher(str(error)) from None
    return product


def _shown(one: publishing.Publisher) -> TrustedPublisher:
    return TrustedPublisher(
        id=one.id,
        name=one.name,
        provider=one.provider,
        issuer=one.issuer,
        audience=one.audience,
        claims=dict(one.claims),
        products=list(one.products),
        lifetime_minutes=int(one.life.total_seconds()) // 60,
        by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name),
        created_at=one.created_at,
        last_used_at=one.last_used_at,
    )
