"""The gate before every route: who is calling, may they, and does a cookie's request come from our own pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from flask import Request

from api.auth.permissions import HOLDS, OF_A_JOB, SESSION_ONLY, Permission, of_key
from api.errors import ApiError
from evidence.model import Actor, ActorKind
from evidence.people import Role, SessionKind, User
from keys.secret import API_KEY, LOGIN_TOKEN, PUBLISH_TOKEN, SESSION, check_form, digest
from store.accounts import Accounts
from store.publishers import Publishers

COOKIE: Final = "__Host-wavegate"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling and with what. ``credential`` is ``session``, ``token``, ``api_key`` or ``publish_token``.

    ``user`` of a CI job stands for its trusted publisher and is no account. ``products`` None: all of them.
    """

    user: User
    credential: str
    credential_id: str
    expires_at: datetime
    permissions: frozenset[Permission]
    products: frozenset[str] | None = None

    @property
    def is_login(self) -> bool:
        """Whether it is a login, of a person or with a person's password, and no key or job."""
        return self.credential in {SessionKind.SESSION.value, SessionKind.TOKEN.value}

    def check_product(self, product: str) -> None:
        """Refuse with 403 who may publish other products only."""
        if self.products is not None and product not in self.products:
            raise ApiError(
                403,
                "permission_denied",
                f"this trusted publisher may publish {', '.join(sorted(self.products))}, not {product[:100]!r}",
                permission=Permission.ARTIFACTS_PUBLISH.value,
            )

    @property
    def actor(self) -> Actor:
        """The caller as the doer of something."""
        return self.user.actor(self.credential_id)


def identify(request: Request, accounts: Accounts, publishers: Publishers, now: datetime, *, idle: timedelta) -> Caller:
    """Find out who is calling.

    A bearer counts before a cookie. A cookie counts for unsafe methods only when the browser says that the request
    comes from our own pages.

    Raises:
        ApiError: 401 when there is no credential or it does not count (unknown, expired, revoked, its account disabled:
            one answer for all); 403 ``cross_site_request`` for a cookie sent from elsewhere.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer" or len(text) > 200:
            raise _unauthenticated("the Authorization header is no bearer; send `Authorization: Bearer KEY`")
        if check_form(text, API_KEY):
            return _by_key(text, accounts, now)
        if check_form(text, LOGIN_TOKEN):
            return _by_session(text, SessionKind.TOKEN, accounts, now, idle=None)
        if check_form(text, PUBLISH_TOKEN):
            return _by_publish_token(text, publishers, now)
        raise _unauthenticated("the bearer is neither an API key nor a login token of ours")
    cookie = request.cookies.get(COOKIE)
    if cookie is not None and check_form(cookie, SESSION):
        if request.method not in _SAFE_METHODS:
            check_same_site(request)
        return _by_session(cookie, SessionKind.SESSION, accounts, now, idle=idle)
    raise _unauthenticated("no credential was sent; send an API key as `Authorization: Bearer KEY`, or log in")


def check_person(caller: Caller) -> None:
    """Refuse keys and jobs with 403 ``session_required`` where a person speaks for themselves."""
    if not caller.is_login:
        raise ApiError(403, "session_required", "this is the person's own, by their login and not by an API key")


def check_permission(caller: Caller, permission: Permission | None) -> None:
    """Refuse with 403 when the caller lacks the permission, naming it, or holds it but not by this credential."""
    if permission is None:
        return
    if permission in SESSION_ONLY and not caller.is_login:
        raise ApiError(
            403,
            "session_required",
            f"{permission.value} needs a person's login, an API key never has it; run `publish login`",
            permission=permission.value,
        )
    if permission not in caller.permissions:
        raise ApiError(
            403,
            "permission_denied",
            f"missing permission: {permission.value}; ask an administrator for a role that has it",
            permission=permission.value,
        )


def check_password_changed(caller: Caller) -> None:
    """Refuse with 403 who logged in with a one-time password and still has it; API keys know no password."""
    if caller.user.password_change_required and caller.is_login:
        raise ApiError(
            403,
            "password_change_required",
            "this password was for one time only; change it first with PATCH /api/v1/profile",
        )


def check_same_site(request: Request) -> None:
    """Refuse a cookie's unsafe request that another site made the browser send (fetch metadata, else Origin)."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site in {"same-origin", "none"}:
            return
    else:
        origin = request.headers.get("Origin")
        if origin is None or urlsplit(origin).netloc == request.host:
            return
    raise ApiError(403, "cross_site_request", "this request comes from another site; open the console itself")


def _by_key(text: str, accounts: Accounts, now: datetime) -> Caller:
    found = accounts.key_by_sha256(digest(text))
    if found is None:
        raise _refused()
    key, user = found
    if not key.is_live(now) or user.disabled:
        raise _refused()
    accounts.touch_key(key, now=now)
    return Caller(user, "api_key", key.id, key.expires_at, of_key(user.role, key.scope))


def _by_publish_token(text: str, publishers: Publishers, now: datetime) -> Caller:
    found = publishers.token_by_sha256(digest(text))
    if found is None or not found[0].is_live(now):
        raise _refused()
    token, publisher = found
    job = User(
        id=publisher.id,
        org=publisher.org,
        email="",
        name=publisher.name,
        kind=ActorKind.SERVICE,
        role=Role.VIEWER,
        created_at=publisher.created_at,
    )
    return Caller(job, "publish_token", token.id, token.expires_at, OF_A_JOB, frozenset(publisher.products))


def _by_session(text: str, kind: SessionKind, accounts: Accounts, now: datetime, *, idle: timedelta | None) -> Caller:
    found = accounts.session_by_sha256(digest(text))
    if found is None:
        raise _refused()
    session, user = found
    if session.kind is not kind or not session.is_live(now) or user.disabled:
        raise _refused()
    if idle is not None and now - (session.last_used_at or session.created_at) >= idle:
        raise _refused()
    accounts.touch_session(session, now=now)
    return Caller(user, kind.value, session.id, session.expires_at, HOLDS[user.role])


def _refused() -> ApiError:
    return _unauthenticated("the credential is unknown, expired or revoked, or its account is disabled; log in again")


def _unauthenticated(message: str) -> ApiError:
    return ApiError(401, "unauthenticated", message, headers={"WWW-Authenticate": 'Bearer realm="wavegate"'})
