"""A person's own second factor, and an administrator's help for who lost theirs."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import PASSWORDS
from api.errors import ApiError
from api.operator import accounts
from api.operator.accounts import Password
from api.operator.routes import Body, IdPath, Routes, caller, now, reply, services
from evidence.model import AuditEvent
from keys.second_factor import matching_step, new_recovery_codes, new_totp_secret, otpauth_uri, recovery_digest

api = Routes("second_factor", "Accounts")

ISSUER: Final = "Wavegate"


class SecondFactor(BaseModel):
    """Whether a code is asked for at the login, since when, and how many recovery codes are left."""

    enabled: bool
    since: datetime | None
    recovery_codes_left: int


class SecondFactorSecret(BaseModel):
    """What an authenticator app reads; it counts from the first code that is confirmed on."""

    otpauth_uri: str | None


class RecoveryCodes(BaseModel):
    """Each is good for one login in place of a code; shown once."""

    recovery_codes: list[str] | None


class CurrentPassword(Body):
    """The account's password, asked again where a stolen session must not be enough."""

    current_password: Password


class Code(Body):
    """A code that the app shows."""

    code: str = Field(max_length=40)


class PasswordAndCode(CurrentPassword):
    """The account's password, and a code of the app or a recovery code."""

    code: str = Field(max_length=40)


@api.on("GET", "/profile/second-factor", SecondFactor)
def get_second_factor() -> Response:
    """Show whether one's login needs a code"""
    kept = services().second_factors.find(services().org, caller().user.id)
    if kept is None or kept.confirmed_at is None:
        return reply(SecondFactor(enabled=False, since=None, recovery_codes_left=0))
    return reply(SecondFactor(enabled=True, since=kept.confirmed_at, recovery_codes_left=kept.codes_left))


@api.on(
    "POST",
    "/profile/second-factor",
    SecondFactorSecret,
    status=201,
    shown_once="otpauth_uri",
    person=True,
    errors=(*PASSWORDS, "second_factor_exists"),
)
def begin_second_factor(body: CurrentPassword) -> Response:
    """Begin to set up a second factor"""
    me = caller()
    accounts.check_own_password(body.current_password)
    secret = new_totp_secret()
    services().second_factors.begin(services().org, me.user.id, services().seal.close(secret, of=me.user.id))
    uri = otpauth_uri(secret, account=me.user.email, issuer=f"{ISSUER} {services().org}")
    return reply(SecondFactorSecret(otpauth_uri=uri), 201)


@api.on(
    "POST",
    "/profile/second-factor/confirm",
    RecoveryCodes,
    shown_once="recovery_codes",
    person=True,
    errors=(
        "code_refused",
        "no_second_factor",
        "seal_broken",
        "second_factor_exists",
        "second_factor_not_begun",
        "session_required",
    ),
)
def confirm_second_factor(body: Code) -> Response:
    """Confirm a second factor by its first code; other logins end"""
    me, org = caller(), services().org
    kept = services().second_factors.find(org, me.user.id)
    if kept is None or kept.confirmed_at is not None:
        raise ApiError(
            409, "second_factor_not_begun", "there is none to confirm; begin with POST /profile/second-factor"
        )
    step = matching_step(services().seal.open(kept.sealed, of=me.user.id), body.code, now())
    if step is None:
        raise ApiError(403, "code_refused", "the code is wrong; check the clock of the app's device and send the next")
    codes = new_recovery_codes()
    digests = [digest for code in codes if (digest := recovery_digest(code)) is not None]
    event = AuditEvent("user.second_factor_enabled", me.user.id, me.actor, now())
    services().second_factors.confirm(org, me.user.id, kept.sealed, step=step, codes=digests, event=event)
    ended = AuditEvent("user.logged_out_elsewhere", me.user.id, me.actor, now(), {"because": "second factor enabled"})
    services().accounts.end_sessions_of(org, me.user.id, ended, keep=me.credential_id)
    return reply(RecoveryCodes(recovery_codes=codes))


@api.on(
    "POST",
    "/profile/second-factor/remove",
    None,
    status=204,
    person=True,
    errors=(*PASSWORDS, "code_refused", "code_required", "no_second_factor", "seal_broken"),
)
def remove_second_factor(body: PasswordAndCode) -> Response:
    """Remove one's second factor"""
    me = caller()
    accounts.check_own_password(body.current_password)
    accounts.check_second(me.user, body.code, status=403)
    event = AuditEvent("user.second_factor_removed", me.user.id, me.actor, now())
    services().second_factors.remove(services().org, me.user.id, event)
    return reply(None)


@api.on(
    "POST",
    "/users/{id}/reset-second-factor",
    accounts.User,
    permission=Permission.USERS_ADMIN,
    errors=("no_second_factor", "own_account", "user_not_found"),
)
def reset_second_factor(path: IdPath) -> Response:
    """Remove the second factor of who lost it; their logins end"""
    org, me = services().org, caller()
    found = services().accounts.user(org, path.id)
    if found.id == me.user.id:
        raise ApiError(
            409, "own_account", "your own is removed with your password and a code, or by another administrator"
        )
    services().second_factors.remove(org, found.id, AuditEvent("user.second_factor_reset", found.id, me.actor, now()))
    ended = AuditEvent("user.logged_out_elsewhere", found.id, me.actor, now(), {"because": "second factor reset"})
    services().accounts.end_sessions_of(org, found.id, ended)
    return reply(accounts.user(services().accounts.user(org, found.id)))
