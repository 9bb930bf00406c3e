"""Logging in by a provider of OpenID Connect: in a browser, from the command line, by device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from flask import Response, redirect, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.auth.federation import account_of, admission_of, linked
from api.auth.gate import COOKIE
from api.auth.login import begin_session
from api.auth.oidc import LOGIN_LIFE, Finished, OidcClient
from api.codes import ASKS_PROVIDER, COMES_BY_PROVIDER, PASSWORDS
from api.errors import ApiError
from api.operator.accounts import LoginToken, Password, check_own_password, user
from api.operator.routes import PREFIX, Body, Routes, caller, installation, now, reply, serve_as, services, shared
from evidence.federation import Newcomer, introduce
from evidence.model import AuditEvent
from evidence.people import Session, SessionKind, User

api = Routes("oidc", "Accounts")

_FLOW_COOKIE = "__Host-wavegate-oidc"
# RFC 8252 section 7.3: by address, for `localhost` may be somebody else; any port.
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]):[0-9]{1,5}/callback")
_PLACE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,499}")
_MANY = 4096  # characters of what a provider sends back


def _loopback(text: str) -> str:
    if _LOOPBACK.fullmatch(text) is None:
        raise ValueError("is not http://127.0.0.1:PORT/callback")
    return text


def _place(text: str) -> str:
    if _PLACE.fullmatch(text) is None:
        raise ValueError("is no path of this server")
    return text


class BrowserLogin(Body):
    """Where to go after the login: a path of this server."""

    next: Annotated[
        str, Field(max_length=500, description="path of this server to go on at"), AfterValidator(_place)
    ] = f"{PREFIX}/auth/me"


class ProviderAnswer(BaseModel):
    """What the provider sends the browser back with; what else it adds is left alone."""

    model_config = ConfigDict(extra="ignore")

    code: str | None = Field(None, max_length=_MANY, description="what the provider gives for a login that went well")
    state: str | None = Field(None, max_length=_MANY, description="what the login was begun with")
    iss: str | None = Field(None, max_length=2048, description="the provider itself (RFC 9207)")
    error: str | None = Field(None, max_length=200, description="why there is no login")


class NativeLogin(Body):
    """A program on the person's machine that listens there for the provider's answer."""

    redirect_uri: Annotated[
        str, Field(max_length=100, examples=["http://127.0.0.1:51004/callback"]), AfterValidator(_loopback)
    ]


class NativeLoginBegun(BaseModel):
    """The page to open in a browser, and what to send along with the answer."""

    authorization_url: str
    handle: str
    expires_at: datetime


class NativeAnswer(Body):
    """The provider's answer, and the handle of the login it belongs to."""

    handle: str = Field(max_length=_MANY)
    code: str = Field(max_length=_MANY)
    state: str = Field(max_length=_MANY)
    iss: str | None = Field(None, max_length=2048)


class NewIdentity(NativeAnswer):
    """As for a token, with the account's password: whoever has only a session must not make a way in of their own."""

    current_password: Password | None = None


class DeviceLogin(Body):
    """Nothing needs to be known beforehand."""


class DeviceLoginBegun(BaseModel):
    """What to show: a code, and the page of the provider to type it in. Ask every `interval` seconds."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval: int
    handle: str
    expires_at: datetime


class DeviceAnswer(Body):
    """The handle of a login that goes on elsewhere."""

    handle: str = Field(max_length=_MANY)


class LinkedIdentity(BaseModel):
    """Who one is at a provider."""

    issuer: str
    subject: str
    linked_at: datetime


class LinkedIdentities(BaseModel):
    """What one can log in by besides the password."""

    items: list[LinkedIdentity]


class Unlink(Body):
    """The identity to be logged in by no more."""

    issuer: str = Field(max_length=2048)
    subject: str = Field(max_length=255)


@api.on("GET", "/auth/oidc", None, public=True, status=302, errors=ASKS_PROVIDER)
def begin_oidc_login(query: BrowserLogin) -> Response:
    """Send the browser to the provider"""
    begun = _client().begin(_callback(), org=services().org, now=now(), then=query.next)
    response = _redirect(begun.url, 302)
    response.set_cookie(
        _FLOW_COOKIE, begun.handle, max_age=LOGIN_LIFE, path="/", secure=True, httponly=True, samesite="Lax"
    )
    return response


@api.on("GET", "/auth/oidc/callback", None, public=True, status=303, errors=COMES_BY_PROVIDER)
def finish_oidc_login(query: ProviderAnswer) -> Response:
    """Take the provider's answer; the session comes as a cookie"""
    client, handle = _client(), request.cookies.get(_FLOW_COOKIE)
    if query.error is not None:
        raise ApiError(403, "login_refused", f"the provider refuses the login: {query.error[:100]!r}; begin again")
    if handle is None or query.code is None or query.state is None:
        raise ApiError(403, "oidc_login_over", "no login was begun in this browser, or it took too long; begin again")
    finished = client.finish(handle, code=query.code, state=query.state, issuer=query.iss, now=now())
    life = timedelta(hours=shared().settings.session_hours)
    _, session, secret = _logged_in(finished, SessionKind.SESSION, life)
    response = _redirect(finished.then, 303)
    response.set_cookie(
        COOKIE, secret, expires=session.expires_at, path="/", secure=True, httponly=True, samesite="Lax"
    )
    response.delete_cookie(_FLOW_COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    return response


@api.on("POST", "/auth/oidc/authorize", NativeLoginBegun, public=True, errors=ASKS_PROVIDER)
def begin_native_login(body: NativeLogin) -> Response:
    """Begin a login of a program on the person's machine (RFC 8252)"""
    begun = _client().begin(body.redirect_uri, org=services().org, now=now())
    return reply(NativeLoginBegun(authorization_url=begun.url, handle=begun.handle, expires_at=now() + LOGIN_LIFE))


@api.on("POST", "/auth/oidc/token", LoginToken, public=True, errors=COMES_BY_PROVIDER)
def finish_native_login(body: NativeAnswer) -> Response:
    """Exchange the provider's answer for a bearer token"""
    return _token(_answered(body))


@api.on("POST", "/auth/oidc/device", DeviceLoginBegun, public=True, errors=(*ASKS_PROVIDER, "login_refused"))
def begin_device_login(body: DeviceLogin) -> Response:
    """Begin a login that goes on in a browser elsewhere (RFC 8628)"""
    del body
    begun = _client().begin_by_device(org=services().org, now=now())
    return reply(
        DeviceLoginBegun(
            user_code=begun.user_code,
            verification_uri=begun.verification_uri,
            verification_uri_complete=begun.verification_uri_complete,
            interval=begun.interval,
            handle=begun.handle,
            expires_at=now() + begun.life,
        )
    )


@api.on(
    "POST",
    "/auth/oidc/device/token",
    LoginToken,
    public=True,
    errors=(*COMES_BY_PROVIDER, "authorization_pending", "slow_down"),
)
def finish_device_login(body: DeviceAnswer) -> Response:
    """Get a bearer token once the person said yes; 400 `authorization_pending` until then"""
    return _token(_client().finish_by_device(body.handle, now=now()))


@api.on("GET", "/profile/identities", LinkedIdentities, person=True)
def list_own_identities() -> Response:
    """List what one can log in by besides the password"""
    me = caller().user
    found = services().identities.of(me.org, me.id)
    shown = [LinkedIdentity(issuer=one.issuer, subject=one.subject, linked_at=one.linked_at) for one in found]
    return reply(LinkedIdentities(items=shown))


@api.on("POST", "/profile/identities", LinkedIdentity, status=201, person=True, errors=(*PASSWORDS, *COMES_BY_PROVIDER))
def link_own_identity(body: NewIdentity) -> Response:
    """Link one's account to who one is at the provider; needs the password, if there is one"""
    me = caller()
    if me.user.password_hash is not None:
        check_own_password(body.current_password or "")
    newcomer = _introduced(_answered(body).claims)
    services().identities.link(me.user, newcomer, linked(newcomer, me.user, me.actor, now()))
    return reply(LinkedIdentity(issuer=newcomer.issuer, subject=newcomer.subject, linked_at=now()), 201)


@api.on(
    "POST", "/profile/identities/unlink", None, status=204, person=True, errors=("identity_not_found", "last_way_in")
)
def unlink_own_identity(body: Unlink) -> Response:
    """Log in by this identity no more; needs a password to log in by"""
    me = caller()
    if me.user.password_hash is None:
        raise ApiError(409, "last_way_in", "the account has no password; without this identity nobody could log in")
    event = AuditEvent("user.unlinked", me.user.id, me.actor, now(), body.model_dump())
    services().identities.unlink(me.user.org, me.user.id, body.issuer, body.subject, event)
    return reply(None)


def _client() -> OidcClient:
    client = shared().oidc
    if client is None:
        raise ApiError(
            404, "oidc_not_configured", "no provider is set up here; log in with a password, or set oidc_issuer"
        )
    return client


def _callback() -> str:
    return f"{shared().settings.public_url}{PREFIX}/auth/oidc/callback"


def _answered(body: NativeAnswer) -> Finished:
    return _client().finish(body.handle, code=body.code, state=body.state, issuer=body.iss, now=now())


def _introduced(claims: Mapping[str, Any]) -> Newcomer:
    settings, known = shared().settings, installation().slugs()
    # What a claim gives is given in one organisation: people of another must not come in by it.
    makes_accounts = services().org == settings.oidc_organization or (
        not settings.oidc_organization and known == (services().org,)
    )
    return introduce(claims, admission_of(settings, makes_accounts=makes_accounts), issuer=settings.oidc_issuer)


def _logged_in(finished: Finished, kind: SessionKind, life: timedelta) -> tuple[User, Session, str]:
    wiring = serve_as(finished.org)
    found = account_of(
        _introduced(finished.claims),
        org=wiring.org,
        accounts=wiring.accounts,
        identities=wiring.identities,
        now=now(),
    )
    told = {"by": wiring.settings.oidc_issuer}
    session, secret = begin_session(found, kind=kind, life=life, accounts=wiring.accounts, now=now(), data=told)
    return found, session, secret


def _token(finished: Finished) -> Response:
    life = timedelta(hours=shared().settings.token_hours)
    found, session, secret = _logged_in(finished, SessionKind.TOKEN, life)
    return reply(LoginToken(token=secret, expires_at=session.expires_at, user=user(found)))


def _redirect(place: str, status: int) -> Response:
    response = redirect(place, status)
    assert isinstance(response, Response)
    return response
