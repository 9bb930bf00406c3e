"""An administrator's help for who forgot their password."""

from __future__ import annotations

from flask import Response

from api.auth.permissions import Permission
from api.errors import ApiError
from api.operator import accounts
from api.operator.routes import IdPath, Routes, caller, now, reply, services
from evidence.model import ActorKind, AuditEvent
from keys.secret import random_password

api = Routes("resets", "Accounts")


@api.on(
    "POST",
    "/users/{id}/reset-password",
    accounts.NewUserAnswer,
    permission=Permission.USERS_ADMIN,
    shown_once="password",
    errors=("no_password", "own_account", "user_not_found"),
)
def reset_password(path: IdPath) -> Response:
    """Give somebody a one-time password; their logins end"""
    kept, org, me = services().accounts, services().org, caller()
    found = kept.user(org, path.id)
    if found.id == me.user.id:
        raise ApiError(409, "own_account", "your own is changed with PATCH /profile, or by another administrator")
    if found.kind is not ActorKind.USER:
        raise ApiError(409, "no_password", f"{found.name} is an automation account and logs in by no password")
    password = random_password()
    changed = kept.update_user(
        org,
        found.id,
        AuditEvent("user.password_reset", found.id, me.actor, now()),
        password_hash=services().passwords.hash(password),
        password_change_required=True,
    )
    ended = AuditEvent("user.logged_out_elsewhere", found.id, me.actor, now(), {"because": "password reset"})
    kept.end_sessions_of(org, found.id, ended)
    return reply(accounts.NewUserAnswer(**accounts.user(changed).model_dump(), password=password))
