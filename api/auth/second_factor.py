"""The second factor at the door: a code of the app, taken once, or a recovery code, used up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from api.errors import ApiError
from evidence.model import AuditEvent
from evidence.people import User
from keys.seal import Seal
from keys.second_factor import matching_step, recovery_digest
from store.login_failures import LoginFailures
from store.second_factors import SecondFactors

_WINDOW: Final = timedelta(minutes=15)
# From all sources together: who guesses codes knows the password already, and three of a million codes fit.
_MOST_FAILURES: Final = 10


def check_code(
    user: User,
    code: str | None,
    *,
    source: str,
    second_factors: SecondFactors,
    seal: Seal,
    failures: LoginFailures,
    now: datetime,
    status: int = 401,
) -> None:
    """Let pass who has no second factor, or shows a code that was not used before.

    Args:
        status: Of a refusal: 401 at the login, 403 for somebody who is logged in.

    Raises:
        ApiError: ``code_required`` without a code, ``code_refused`` for a wrong or used one, 429 after too many.
    """
    if not user.second_factor:
        return
    challenge = {"WWW-Authenticate": 'Bearer realm="wavegate"'} if status == 401 else {}
    if not code:
        raise ApiError(
            status, "code_required", "this account has a second factor; send `code` of the app", headers=challenge
        )
    account = f"{user.id} code"  # a counter beside that of the password, which a right password clears
    if failures.count_failures(user.org, since=now - _WINDOW, account=account) >= _MOST_FAILURES:
        raise ApiError(
            429,
            "too_many_failures",
            f"too many codes were wrong within {_WINDOW.seconds // 60} minutes; wait and try again",
            headers={"Retry-After": str(_WINDOW.seconds)},
        )
    if not _takes(user, code, second_factors, seal, now):
        failures.add_failure(user.org, account, source, now=now)
        raise ApiError(
            status,
            "code_refused",
            "the code is wrong or was used before; wait for the next one of the app, or send a recovery code",
            headers=challenge,
        )
    failures.clear_failures(user.org, account)


def _takes(user: User, code: str, second_factors: SecondFactors, seal: Seal, now: datetime) -> bool:
    sha256 = recovery_digest(code)
    if sha256 is not None:
        event = AuditEvent("user.recovery_code_used", user.id, user.actor("recovery code"), now)
        return second_factors.take_recovery_code(user.org, user.id, sha256, event)
    kept = second_factors.find(user.org, user.id)
    if kept is None:
        return False
    step = matching_step(seal.open(kept.sealed, of=user.id), code, now)
    return step is not None and second_factors.take_step(user.org, user.id, step)
