"""Permissions, and which role holds which: one table, published in the documentation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from evidence.people import Role


class Permission(StrEnum):
    """``resource:action``; the refusal of a request names the one that is missing."""

    ARTIFACTS_READ = "artifacts:read"
    ARTIFACTS_PUBLISH = "artifacts:publish"
    ARTIFACTS_WRITE = "artifacts:write"
    ARTIFACTS_YANK = "artifacts:yank"
    SBOMS_READ = "sboms:read"
    SBOMS_WRITE = "sboms:write"
    ATTESTATIONS_READ = "attestations:read"
    ATTESTATIONS_WRITE = "attestations:write"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    DEVICES_READ = "devices:read"
    DEVICES_ENROLL = "devices:enroll"
    DEVICES_REVOKE = "devices:revoke"
    DEVICES_DELETE = "devices:delete"
    DEVICE_LOGS_READ = "device-logs:read"
    DEVICE_LOGS_REQUEST = "device-logs:request"
    DEVICE_LOGS_DOWNLOAD = "device-logs:download"
    REBOOTS_READ = "reboots:read"
    REBOOTS_WRITE = "reboots:write"
    ENROLL_TOKENS_ADMIN = "enroll-tokens:admin"
    ROLLOUTS_READ = "rollouts:read"
    ROLLOUTS_CREATE = "rollouts:create"
    ROLLOUTS_APPROVE = "rollouts:approve"
    ROLLOUTS_PAUSE = "rollouts:pause"
    ROLLOUTS_RESUME = "rollouts:resume"
    ROLLOUTS_ABORT = "rollouts:abort"
    ROLLOUTS_RETRY = "rollouts:retry"
    EXCLUSIONS_READ = "exclusions:read"
    EXCLUSIONS_WRITE = "exclusions:write"
    FREEZES_WRITE = "freezes:write"
    AUDIT_READ = "audit:read"
    METERING_READ = "metering:read"
    REPOSITORY_READ = "repository:read"
    REPOSITORY_WRITE = "repository:write"
    REPOSITORY_SIGN = "repository:sign"
    USERS_ADMIN = "users:admin"
    API_KEYS_ADMIN = "api-keys:admin"
    WEBHOOKS_ADMIN = "webhooks:admin"
    TRUSTED_PUBLISHERS_ADMIN = "trusted-publishers:admin"


_VIEWER: Final = frozenset(p for p in Permission if p.value.endswith(":read"))
_OPERATOR: Final = _VIEWER | {
    Permission.ARTIFACTS_PUBLISH,
    Permission.ARTIFACTS_WRITE,
    Permission.ARTIFACTS_YANK,
    Permission.SBOMS_WRITE,
    Permission.ATTESTATIONS_WRITE,
    Permission.GROUPS_WRITE,
    Permission.DEVICES_ENROLL,
    Permission.DEVICES_REVOKE,
    Permission.DEVICES_DELETE,
    # What a device writes down may be more than everybody should read.
    Permission.DEVICE_LOGS_REQUEST,
    Permission.DEVICE_LOGS_DOWNLOAD,
    Permission.REBOOTS_WRITE,
    Permission.ROLLOUTS_CREATE,
    Permission.ROLLOUTS_PAUSE,
    Permission.ROLLOUTS_RESUME,
    Permission.ROLLOUTS_ABORT,
    Permission.ROLLOUTS_RETRY,
    Permission.EXCLUSIONS_WRITE,
    Permission.FREEZES_WRITE,
    Permission.REPOSITORY_WRITE,
    Permission.REPOSITORY_SIGN,
}

HOLDS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    # Approvers sign drafts of what they take over or renew; a signature proves itself, and drafting is another thing.
    Role.APPROVER: _VIEWER
    | {
        Permission.ROLLOUTS_APPROVE,
        Permission.ROLLOUTS_PAUSE,
        Permission.ROLLOUTS_RESUME,
        Permission.REPOSITORY_SIGN,
    },
    Role.ADMIN: frozenset(Permission),
}

# A key can never mint keys, users or enrolment tokens, nor be a person's yes; nor have all that happens sent elsewhere.
SESSION_ONLY: Final = frozenset(
    {
        Permission.ENROLL_TOKENS_ADMIN,
        Permission.USERS_ADMIN,
        Permission.API_KEYS_ADMIN,
        Permission.WEBHOOKS_ADMIN,
        Permission.TRUSTED_PUBLISHERS_ADMIN,
    }
)

# Of a CI job that showed its identity; and of the products named for it only, see `Caller.check_product`.
OF_A_JOB: Final = frozenset({Permission.ARTIFACTS_PUBLISH, Permission.ARTIFACTS_READ, Permission.SBOMS_WRITE})


def of_key(owner: Role, scope: Collection[str] | None = None) -> frozenset[Permission]:
    """What an API key may do: what its owner may, as an operator at most, and nothing that makes credentials.

    Asked anew at every request, so that a key loses with its owner. ``scope`` takes away and never adds; a name in it
    that this release does not know is worth nothing.
    """
    most = (HOLDS[owner] & _OPERATOR) - SESSION_ONLY
    return most if scope is None else frozenset(permission for permission in most if permission.value in scope)


def inviters(role: Role) -> frozenset[Role]:
    """The roles that may invite somebody as ``role``: nobody gives what they do not have."""
    return frozenset(giver for giver in Role if Permission.USERS_ADMIN in HOLDS[giver] and HOLDS[role] <= HOLDS[giver])
