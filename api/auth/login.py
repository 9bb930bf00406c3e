"""Logging in: a password against its hash, slowed down for who guesses, the same answer for who does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from api.errors import ApiError
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import Session, SessionKind, User
from keys.password import Passwords
from keys.secret import LOGIN_TOKEN, SESSION, new_secret
from store.accounts import Accounts
from store.login_failures import LoginFailures
from store.organisations import Organisations

_WINDOW: Final = timedelta(minutes=15)
# Per account and source together: a guesser is stopped, and nobody elsewhere can lock an administrator out.
_MOST_FAILURES: Final = 10
_MOST_OF_SOURCE: Final = 100  # one source trying many accounts, in all organisations together
_MOST_TRIED: Final = 8  # organisations that one login looks in; each costs a password hash


def log_in(
    email: str,
    password: str,
    *,
    org: str | None,
    source: str,
    kind: SessionKind,
    life: timedelta,
    accounts: Accounts,
    organisations: Organisations,
    failures: LoginFailures,
    passwords: Passwords,
    check_second: Callable[[User], None],
    now: datetime,
) -> tuple[User, str, Session]:
    """Check a password and make a session.

    Args:
        org: Where the account is. None: wherever the address has an account with this password, if that is one.
        source: Address of the caller, for the count of failures.
        kind: A cookie's session or a program's token.
        life: How long the session lasts at most.
        check_second: Asked for the second factor of who gave the right password; raises what refuses the login.

    Returns:
        The user, the secret to hand out once, and the session as stored.

    Raises:
        ApiError: 401 ``login_failed`` for a wrong password, an unknown or disabled account or organisation, alike;
            400 ``organization_required`` when the password is right in several organisations; 429 after too many.
    """
    found = accounts.users_by_email(email, org=org, limit=_MOST_TRIED + 1)
    if len(found) > _MOST_TRIED:
        raise _which("this address has accounts in many organisations; name yours as `org`")
    # What is nobody's is counted, too, at the same place every time.
    counted = [one.org for one in found] or organisations.nearest(org)
    for slug in counted:
        _slow_down(slug, email, source, failures, now)
    # All of them are tried: the time must not tell which was the right one.
    right = [one for one in found if passwords.verify(one.password_hash, password)]
    if not found:
        passwords.verify(None, password)
    matching = [one for one in right if not one.disabled]
    if not matching:
        for slug in counted:
            failures.add_failure(slug, email, source, now=now)
        raise ApiError(
            401,
            "login_failed",
            "the e-mail address and the password do not belong together, or the account is disabled",
            headers={"WWW-Authenticate": 'Bearer realm="wavegate"'},
        )
    if len(matching) > 1:
        several = ", ".join(sorted(one.org for one in matching))
        raise _which(f"this address and password are right in {several}; name one as `org`")
    (user,) = matching
    check_second(user)
    failures.clear_failures(user.org, email)
    session, text = begin_session(user, kind=kind, life=life, accounts=accounts, now=now)
    return user, text, session


def begin_session(
    user: User,
    *,
    kind: SessionKind,
    life: timedelta,
    accounts: Accounts,
    now: datetime,
    data: Mapping[str, object] | None = None,
) -> tuple[Session, str]:
    """Make a session of somebody who has shown who they are; with its secret, to hand out once.

    Args:
        data: What the event tells besides the kind.
    """
    secret = new_secret(SESSION if kind is SessionKind.SESSION else LOGIN_TOKEN)
    session = Session(
        id=new_id("ses"),
        org=user.org,
        user=user.id,
        kind=kind,
        sha256=secret.sha256,
        created_at=now,
        expires_at=now + life,
    )
    by = Actor(ActorKind.USER, user.id, user.name, session.id)
    told = {"kind": kind.value, **(data or {})}
    accounts.add_session(session, AuditEvent("user.logged_in", user.id, by, now, told))
    return session, secret.text


def check_password(
    user: User, typed: str, *, source: str, failures: LoginFailures, passwords: Passwords, now: datetime
) -> None:
    """Ask somebody who is logged in for their password again; counted as at the login, for stolen sessions guess, too.

    Raises:
        ApiError: 403 ``wrong_password``; 429 after too many.
    """
    _slow_down(user.org, user.email, source, failures, now)
    if not passwords.verify(user.password_hash, typed):
        failures.add_failure(user.org, user.email, source, now=now)
        raise ApiError(403, "wrong_password", "current_password is not the account's password")


def _slow_down(org: str, email: str, source: str, failures: LoginFailures, now: datetime) -> None:
    since = now - _WINDOW
    counted = failures.count_failures(org, since=since, account=email, source=source)
    if counted >= _MOST_FAILURES or failures.count_failures(None, since=since, source=source) >= _MOST_OF_SOURCE:
        raise ApiError(
            429,
            "too_many_failures",
            f"too many logins failed within {_WINDOW.seconds // 60} minutes; wait and try again",
            headers={"Retry-After": str(_WINDOW.seconds)},
        )


def _which(message: str) -> ApiError:
    return ApiError(400, "organization_required", message)
