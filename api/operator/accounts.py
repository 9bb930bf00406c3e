"""Logging in and out, one's own profile, and users."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from flask import Response, request
from pydantic import AfterValidator, BaseModel, Field

from api.auth.gate import COOKIE, check_same_site
from api.auth.login import check_password, log_in
from api.auth.permissions import Permission
from api.auth.second_factor import check_code
from api.codes import LOGS_IN, PASSWORDS
from api.errors import ApiError
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    check_match,
    decode_cursor,
    named_organisation,
    now,
    page,
    reply,
    reply_page,
    services,
    shared,
    source,
    wrong_organisation,
)
from evidence import people
from evidence.ids import new_id
from evidence.model import ActorKind, AuditEvent
from keys.password import password_fault
from keys.secret import SESSION, check_form, digest, random_password
from store.chosen_accounts import Chosen
from store.errors import UnknownSession
from store.order import Order

api = Routes("accounts", "Accounts")

# What a one-time password is good for where `require_password_change` is set.
BEFORE_PASSWORD_CHANGE: Final = frozenset(
    {"accounts.get_me", "accounts.get_profile", "accounts.patch_profile", "accounts.logout"}
)


def _email(text: str) -> str:
    if re.fullmatch(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}", text) is None:
        raise ValueError("is no e-mail address, expected name@host")
    return text


Email = Annotated[str, Field(max_length=254), AfterValidator(_email)]
Password = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class User(BaseModel):
    """A person, or an automation account."""

    id: str
    email: str
    name: str
    kind: ActorKind
    role: people.Role
    disabled: bool
    second_factor: bool
    password_change_required: bool
    created_at: datetime


class NewUserAnswer(User):
    """A user just made; `password` is shown once, when the server chose it."""

    password: str | None


class Login(Body):
    """An e-mail address and a password; `code` of the app, or a recovery code, where a second factor is set up.

    `org` is the organisation's slug, for whoever has the same address and password in several.
    """

    email: str = Field(max_length=254)
    password: Password
    code: str | None = Field(None, max_length=40)
    org: str | None = Field(None, max_length=50)


class LoggedIn(BaseModel):
    """The session is in the cookie."""

    user: User
    password_change_required: bool


class LoginToken(BaseModel):
    """A bearer for programs and the command line."""

    token: str
    expires_at: datetime
    user: User


class Credential(BaseModel):
    """What this request was made with."""

    kind: str
    id: str
    expires_at: datetime


class Me(BaseModel):
    """Who one is, and what one may do."""

    user: User
    org: str
    credential: Credential
    permissions: list[Permission]


class ProfileChange(Body):
    """What one can change of oneself; a new password needs the current one and ends all other sessions."""

    name: Name | None = None
    password: Password | None = None
    current_password: Password | None = None


class UserQuery(PageQuery):
    """Filters of the list; all given must hold."""

    role: people.Role | None = Field(None, description="of this role")
    kind: Literal["user", "service"] | None = Field(None, description="people, or automation accounts")
    disabled: bool | None = Field(None, description="disabled, or not")
    email: str | None = Field(None, max_length=254, description="the whole address, in whatever case")
    sort: Literal["created_at", "-created_at"] = Field("created_at", description="order; `-` for falling")

    def chosen(self) -> Chosen:
        """The filters that were given."""
        kind = None if self.kind is None else ActorKind(self.kind)
        return Chosen(kind=kind, role=self.role, disabled=self.disabled, email=self.email)


class NewUser(Body):
    """A user to make; without a password the server chooses one and shows it once."""

    email: Email
    name: Name
    role: people.Role
    password: Password | None = None


class UserChange(Body):
    """What an administrator can change of a user. Disabled: every credential of theirs is dead at once."""

    name: Name | None = None
    role: people.Role | None = None
    disabled: bool | None = None


@api.on("POST", "/auth/login", LoggedIn, public=True, errors=(*LOGS_IN, "cross_site_request"))
def login(body: Login) -> Response:
    """Log in with a password; the session comes as a cookie"""
    check_same_site(request)  # nobody is logged in as somebody else by a page they happen to visit
    settings = shared().settings
    found, secret, session = _log_in(body, people.SessionKind.SESSION, timedelta(hours=settings.session_hours))
    _end_replaced()
    response = reply(LoggedIn(user=user(found), password_change_required=found.password_change_required))
    response.set_cookie(
        COOKIE, secret, expires=session.expires_at, path="/", secure=True, httponly=True, samesite="Lax"
    )
    return response


@api.on("POST", "/auth/token", LoginToken, public=True, errors=LOGS_IN)
def create_login_token(body: Login) -> Response:
    """Log in to one organisation with a password; the session comes as a bearer token"""
    life = timedelta(hours=shared().settings.token_hours)
    found, secret, session = _log_in(body, people.SessionKind.TOKEN, life)
    return reply(LoginToken(token=secret, expires_at=session.expires_at, user=user(found)))


@api.on("POST", "/auth/logout", None, status=204, errors=("not_a_session", "session_not_found"))
def logout() -> Response:
    """End the session or token that this request was made with"""
    me = caller()
    if not me.is_login:
        raise ApiError(400, "not_a_session", "an API key does not log out; revoke it with DELETE /api/v1/api-keys/{id}")
    event = AuditEvent("user.logged_out", me.user.id, me.actor, now())
    services().accounts.end_session(services().org, me.credential_id, event)
    response = reply(None)
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Lax")
    return response


@api.on("GET", "/auth/me", Me)
def get_me() -> Response:
    """Show who is calling and what they may do"""
    me = caller()
    credential = Credential(kind=me.credential, id=me.credential_id, expires_at=me.expires_at)
    return reply(Me(user=user(me.user), org=services().org, credential=credential, permissions=sorted(me.permissions)))


@api.on("GET", "/profile", User)
def get_profile() -> Response:
    """Show one's own profile"""
    return reply(user(caller().user))


@api.on("PATCH", "/profile", User, person=True, tagged=True, errors=(*PASSWORDS, "weak_password"))
def patch_profile(body: ProfileChange) -> Response:
    """Change one's own name or password"""
    me, accounts, passwords = caller(), services().accounts, services().passwords
    check_match(user(me.user))
    password_hash = None
    if body.password is not None:
        check_own_password(body.current_password or "")
        password_hash = passwords.hash(acceptable(body.password))
    told = {
        "changed": [name for name, value in (("name", body.name), ("password", body.password)) if value is not None]
    }
    event = AuditEvent("user.changed", me.user.id, me.actor, now(), told)
    changed = accounts.update_user(
        services().org,
        me.user.id,
        event,
        name=body.name,
        password_hash=password_hash,
        password_change_required=None if password_hash is None else False,
    )
    if password_hash is not None:
        ended = AuditEvent("user.logged_out_elsewhere", me.user.id, me.actor, now(), {"because": "password changed"})
        accounts.end_sessions_of(services().org, me.user.id, ended, keep=me.credential_id)
    return reply(user(changed))


@api.on("GET", "/users", Page[User], permission=Permission.USERS_ADMIN)
def list_users(query: UserQuery) -> Response:
    """List users and automation accounts"""
    accounts, org, chosen = services().accounts, services().org, query.chosen()
    after, order = decode_cursor(query.cursor), Order.of(query.sort)
    found = accounts.users(org, chosen=chosen, order=order, after=after, limit=query.limit + 1)
    total = accounts.count_users(org, chosen) if query.total else None
    return reply_page(page([user(one) for one in found], query.limit, lambda item: item.id, total))


@api.on(
    "POST",
    "/users",
    NewUserAnswer,
    permission=Permission.USERS_ADMIN,
    status=201,
    shown_once="password",
    errors=("user_exists", "weak_password"),
)
def create_user(body: NewUser) -> Response:
    """Make a user"""
    chosen = random_password() if body.password is None else acceptable(body.password)
    made = people.User(
        id=new_id("usr"),
        org=services().org,
        email=body.email,
        name=body.name,
        kind=ActorKind.USER,
        role=body.role,
        created_at=now(),
        password_hash=services().passwords.hash(chosen),
        password_change_required=body.password is None,
    )
    told = {"name": made.name, "role": made.role.value}
    services().accounts.add_user(made, AuditEvent("user.created", made.id, caller().actor, now(), told))
    password = chosen if body.password is None else None
    return reply(NewUserAnswer(**user(made).model_dump(), password=password), 201)


@api.on("GET", "/users/{id}", User, permission=Permission.USERS_ADMIN, errors=("user_not_found",))
def get_user(path: IdPath) -> Response:
    """Show a user"""
    return reply(user(services().accounts.user(services().org, path.id)))


@api.on(
    "PATCH",
    "/users/{id}",
    User,
    permission=Permission.USERS_ADMIN,
    tagged=True,
    errors=("last_admin", "own_account", "user_not_found"),
)
def patch_user(path: IdPath, body: UserChange) -> Response:
    """Change a user's name or role, or disable them"""
    accounts, org = services().accounts, services().org
    found = accounts.user(org, path.id)
    check_match(user(found))
    if found.id == caller().user.id and (body.disabled or body.role not in {None, found.role}):
        raise ApiError(409, "own_account", "nobody disables or demotes themselves; ask another administrator")
    told: dict[str, object] = {name: value for name, value in body.model_dump(mode="json").items() if value is not None}
    event = AuditEvent("user.changed", found.id, caller().actor, now(), told)
    changed = accounts.update_user(
        org, found.id, event, name=body.name, role=body.role, disabled=body.disabled, keep=people.Role.ADMIN
    )
    if changed.disabled:
        ended = AuditEvent("user.logged_out_elsewhere", found.id, caller().actor, now(), {"because": "disabled"})
        accounts.end_sessions_of(org, changed.id, ended)
    return reply(user(changed))


def user(found: people.User) -> User:
    """A user as the API shows them."""
    return User(
        id=found.id,
        email=found.email,
        name=found.name,
        kind=found.kind,
        role=found.role,
        disabled=found.disabled,
        second_factor=found.second_factor,
        password_change_required=found.password_change_required,
        created_at=found.created_at,
    )


def _log_in(body: Login, kind: people.SessionKind, life: timedelta) -> tuple[people.User, str, people.Session]:
    named = named_organisation()
    if named is not None and body.org not in {None, named}:
        raise wrong_organisation()
    with_all = shared()
    return log_in(
        body.email,
        body.password,
        org=named or body.org,
        source=source(),
        kind=kind,
        life=life,
        accounts=with_all.accounts,
        organisations=with_all.organisations,
        failures=with_all.failures,
        passwords=with_all.passwords,
        check_second=lambda found: check_second(found, body.code),
        now=now(),
    )


def _end_replaced() -> None:
    """End the session whose cookie this login's takes the place of: nobody would ever log out of it."""
    cookie, accounts = request.cookies.get(COOKIE, ""), shared().accounts
    found = accounts.session_by_sha256(digest(cookie)) if check_form(cookie, SESSION) else None
    if found is None:
        return
    session, whose = found
    event = AuditEvent("user.logged_out", whose.id, whose.actor(session.id), now(), {"because": "logged in again"})
    with suppress(UnknownSession):
        accounts.end_session(session.org, session.id, event)


def check_own_password(typed: str) -> None:
    """Ask the caller for their password again; raises ApiError."""
    with_all = shared()
    check_password(
        caller().user, typed, source=source(), failures=with_all.failures, passwords=with_all.passwords, now=now()
    )


def check_second(found: people.User, code: str | None, *, status: int = 401) -> None:
    """Ask for the second factor, if the account has one; raises ApiError."""
    with_all = shared()
    check_code(
        found,
        code,
        source=source(),
        second_factors=with_all.second_factors,
        seal=with_all.seal,
        failures=with_all.failures,
        now=now(),
        status=status,
    )


def acceptable(password: str) -> str:
    """The new password; raises ApiError 400 ``weak_password`` that says what is wrong with it."""
    fault = password_fault(password)
    if fault is not None:
        raise ApiError(400, "weak_password", fault)
    return password
