"""What can go wrong in the command, the exit code each error gives, and the hint that goes with it.

CliError
├── UsageFault              the call itself is wrong
├── ApiRefusal              the server said no, with a code of its own
├── Unreachable             no answer from the server
├── UnexpectedAnswer        an answer, but not Wavegate's
├── NotLoggedIn             no credential to send
├── VerificationFailed      bytes, signatures or trust do not add up
├── NotApproved             the person at the terminal said no
├── SimulationFailed        a simulated fleet could not enrol, or its process broke down
├── RolloutStopped          the rollout waited for is paused, aborted or superseded
├── WaitTimedOut            the rollout waited for is not over in time
└── LogsNotHere             the log bundle is not here, or will not come
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, ClassVar, Final

import click

from cli.text import encode, styled, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURE: Final = 1
USAGE: Final = 2
NOT_AUTHENTICATED: Final = 3
PERMISSION: Final = 4
CONFLICT: Final = 5  # also what cannot be found
STOPPED: Final = 6
TIMED_OUT: Final = 7
UNVERIFIED: Final = 8

EXIT_BY_STATUS: Final[dict[int, int]] = {
    400: USAGE,
    401: NOT_AUTHENTICATED,
    403: PERMISSION,
    404: CONFLICT,
    409: CONFLICT,
    410: CONFLICT,
    412: CONFLICT,
    428: CONFLICT,
}

# Every code a room or the API can answer with; a code goes before its status, which covers what is newer than us.
EXIT_BY_CODE: Final[dict[str, int]] = {
    # the API itself
    "unauthenticated": NOT_AUTHENTICATED,
    "login_failed": NOT_AUTHENTICATED,
    "wrong_password": NOT_AUTHENTICATED,
    "too_many_failures": NOT_AUTHENTICATED,
    "permission_denied": PERMISSION,
    "session_required": PERMISSION,
    "wrong_organization": PERMISSION,
    "organization_required": USAGE,
    "organization_unavailable": FAILURE,
    "registration_closed": PERMISSION,
    "setup_code_refused": PERMISSION,
    "own_account": CONFLICT,
    "no_password": CONFLICT,
    "role_too_high": PERMISSION,
    "password_change_required": PERMISSION,
    "code_required": NOT_AUTHENTICATED,
    "code_refused": NOT_AUTHENTICATED,
    "second_factor_not_begun": CONFLICT,
    "oidc_not_configured": CONFLICT,
    "oidc_login_over": NOT_AUTHENTICATED,
    "last_way_in": CONFLICT,
    "scope_too_wide": PERMISSION,
    "not_your_key": PERMISSION,
    "account_disabled": CONFLICT,
    "precondition_failed": CONFLICT,
    "precondition_required": CONFLICT,
    "rate_limited": FAILURE,
    # rollout
    "rollout_error": FAILURE,
    "rollout_not_found": CONFLICT,
    "invalid_command": USAGE,
    "broken_history": FAILURE,
    "invalid_plan": USAGE,
    "release_not_found": CONFLICT,
    "release_blocked": CONFLICT,
    "group_unknown": CONFLICT,
    "group_busy": CONFLICT,
    "transition_not_allowed": CONFLICT,
    "approval_refused": CONFLICT,
    "plan_changed": CONFLICT,
    "rollout_changed": CONFLICT,
    "signatures_needed": CONFLICT,
    "exclusion_not_found": CONFLICT,
    "invalid_exclusion": USAGE,
    "too_many_exclusions": CONFLICT,
    "freeze_not_found": CONFLICT,
    "invalid_freeze": USAGE,
    "template_not_found": CONFLICT,
    "invalid_template": USAGE,
    "report_refused": CONFLICT,
    # fleet
    "fleet_error": FAILURE,
    "device_not_found": CONFLICT,
    "device_exists": CONFLICT,
    "device_revoked": CONFLICT,
    "group_not_found": CONFLICT,
    "group_exists": CONFLICT,
    "group_in_use": CONFLICT,
    "group_changed": CONFLICT,
    "wrong_group_kind": CONFLICT,
    "invalid_selector": USAGE,
    "enroll_token_not_found": CONFLICT,
    "enrolment_refused": PERMISSION,
    "invalid_fleet_input": USAGE,
    "invalid_device_list": USAGE,
    "command_not_found": CONFLICT,
    "command_over": CONFLICT,
    "logs_not_here": CONFLICT,
    "logs_damaged": FAILURE,
    "logs_too_large": FAILURE,
    "log_quota_reached": CONFLICT,
    # repo_signing
    "repository_error": FAILURE,
    "repository_not_found": FAILURE,
    "repository_exists": CONFLICT,
    "invalid_target_path": USAGE,
    "invalid_record": USAGE,
    "target_not_found": CONFLICT,
    "upload_not_found": CONFLICT,
    "upload_too_large": FAILURE,
    "upload_cut_short": FAILURE,
    "path_taken": CONFLICT,
    "commit_refused": CONFLICT,
    "clock_behind": FAILURE,
    "clock_ahead": FAILURE,
    "client_would_refuse": FAILURE,
    "repository_damaged": FAILURE,
    "repository_moved": FAILURE,
    "commit_failed": FAILURE,
    "storage_unusable": FAILURE,
    "lease_lost": FAILURE,
    "index_ahead": FAILURE,
    "index_failed": FAILURE,
    "wrong_layout": CONFLICT,
    "batch_refused": CONFLICT,
    "upload_offset_mismatch": CONFLICT,
    "upload_busy": CONFLICT,
    "upload_damaged": FAILURE,
    "artifact_withdrawn": CONFLICT,
    "mirror_refused": CONFLICT,
    "backup_refused": CONFLICT,
    "draft_not_found": CONFLICT,
    "invalid_draft": USAGE,
    "draft_moved": CONFLICT,
    "draft_expired": CONFLICT,
    "signature_refused": UNVERIFIED,
    "rotation_not_due": CONFLICT,
    "approvers_sign": CONFLICT,
    "product_claimed": CONFLICT,
    # sbom: the file is at fault, not the call
    "sbom_error": FAILURE,
    "invalid_sbom": FAILURE,
    "unsupported_sbom": FAILURE,
    "sbom_too_large": FAILURE,
    "attestation_error": FAILURE,
    "invalid_attestation": FAILURE,
    "unsupported_attestation": FAILURE,
    "attestation_too_large": FAILURE,
    "invalid_attestation_trust": FAILURE,
    # evidence
    "evidence_error": FAILURE,
    "webhook_not_found": CONFLICT,
    "webhook_delivery_not_found": CONFLICT,
    "invalid_webhook": USAGE,
    "too_many_webhooks": CONFLICT,
    "webhook_changed": CONFLICT,
    "webhook_disabled": CONFLICT,
    "webhook_secret_unreadable": FAILURE,
    "trusted_publisher_not_found": CONFLICT,
    "invalid_trusted_publisher": USAGE,
    "too_many_trusted_publishers": CONFLICT,
    "no_trusted_publisher": NOT_AUTHENTICATED,
    "id_token_spent": NOT_AUTHENTICATED,
    "issuer_unreachable": FAILURE,
    "login_refused": NOT_AUTHENTICATED,
    # keys
    "custody_error": FAILURE,
    "key_unknown": FAILURE,
    "key_not_here": FAILURE,
    "key_store_missing": FAILURE,
    "key_unsuitable": USAGE,
    "signing_failed": FAILURE,
    "signing_refused": FAILURE,
    "signer_unusable": FAILURE,
    "key_locked": FAILURE,
    "key_damaged": FAILURE,
    "key_exists": CONFLICT,
    "seal_broken": FAILURE,
    "id_token_invalid": NOT_AUTHENTICATED,
    "id_token_key_unknown": NOT_AUTHENTICATED,
    "device_ca_exists": CONFLICT,
    "device_ca_unusable": FAILURE,
    "device_ca_rotation_refused": CONFLICT,
    "invalid_certificate_request": USAGE,
    # store
    "store_error": FAILURE,
    "invalid_database_url": USAGE,
    "database_unreachable": FAILURE,
    "database_busy": FAILURE,
    "database_not_migrated": FAILURE,
    "database_too_new": FAILURE,
    "nested_write": FAILURE,
    "naive_time": FAILURE,
    "unstorable_value": USAGE,
    "artifact_not_found": CONFLICT,
    "sbom_not_found": CONFLICT,
    "attestation_not_found": CONFLICT,
    "user_not_found": CONFLICT,
    "user_exists": CONFLICT,
    "api_key_not_found": CONFLICT,
    "api_key_replaced": CONFLICT,
    "session_not_found": CONFLICT,
    "second_factor_exists": CONFLICT,
    "no_second_factor": CONFLICT,
    "invitation_not_found": CONFLICT,
    "invitation_refused": PERMISSION,
    "last_admin": CONFLICT,
    "identity_not_found": CONFLICT,
    "identity_taken": CONFLICT,
    "account_not_linked": NOT_AUTHENTICATED,
    "org_not_found": CONFLICT,
    "org_exists": CONFLICT,
    "counts_unreachable": FAILURE,
    "idempotency_key_reused": FAILURE,
    "idempotency_outcome_unknown": CONFLICT,
    "idempotency_in_progress": CONFLICT,
}

HINTS: Final[dict[str, str]] = {
    "unauthenticated": "run `publish login`, or set WAVEGATE_API_KEY",
    "password_change_required": "`publish login --new-password-file FILE` changes it while logging in",
    "code_required": "add `--code CODE` with what your authenticator app shows, or a recovery code",
    "permission_denied": "`publish whoami` shows what you may do",
    "session_required": "after `publish login` your login goes before WAVEGATE_API_KEY where a person is needed",
    "artifact_withdrawn": "`publish artifact show` says who withdrew it and why",
    "path_taken": "published bytes never change; raise the version",
    "plan_changed": "look at the plan as it is now: `publish rollout show`",
    "rollout_changed": "somebody else was first; look again with `publish rollout show`",
    "release_not_found": "`publish artifact list` shows what is published",
    "group_unknown": "`publish group list` shows the groups there are",
    "group_not_found": "`publish group list` shows the groups there are",
    "device_not_found": "`publish device list` shows the devices there are",
    "rollout_not_found": "`publish rollout list` shows the rollouts there are",
    "artifact_not_found": "`publish artifact list` shows what is published",
    "draft_not_found": "`publish repo draft list` shows what waits for signatures",
    "draft_moved": "`publish repo draft rebase` makes it anew; it has to be signed again",
    "draft_expired": "`publish repo draft rebase` makes it anew with a new deadline",
    "webhook_not_found": "`publish webhook list` shows the webhooks there are",
    "trusted_publisher_not_found": "`publish trusted-publisher list` shows those there are",
    "organization_required": "`publish login --org SLUG`; a CI job sets WAVEGATE_ORG",
    "no_trusted_publisher": "an administrator makes one with `publish trusted-publisher create`",
    "product_claimed": "push with --key URI, one of the product's own keys",
}


class CliError(Exception):
    """Root of the command's errors.

    ``exit_code`` is what the process ends with, ``code`` the stable name a program may branch on, ``hint`` the next
    step in a person's words.
    """

    code: str = "cli_error"
    exit_code: int = FAILURE
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = self.default_hint if hint is None else hint

    def to_dict(self) -> dict[str, Any]:
        """The error shape of the API; members that say nothing are left out."""
        told: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.hint:
            told["hint"] = self.hint
        return told


class UsageFault(CliError):
    code = "usage"
    exit_code = USAGE


class ApiRefusal(CliError):
    """An error answer of the API; ``status`` is HTTP's, the rest as the server told it."""

    def __init__(self, status: int, told: Mapping[str, Any]) -> None:
        self.code = str(told.get("code", f"http_{status}"))
        self.exit_code = EXIT_BY_CODE.get(self.code, EXIT_BY_STATUS.get(status, FAILURE))
        super().__init__(str(told.get("message", f"the server answered {status}")), hint=HINTS.get(self.code, ""))
        self.status = status
        self.told = told

    def to_dict(self) -> dict[str, Any]:
        return {**self.told, **super().to_dict()}


class Unreachable(CliError):
    code = "server_unreachable"
    default_hint = "is the server running (`publish serve`), and is --url or WAVEGATE_URL its address?"


class UnexpectedAnswer(CliError):
    code = "unexpected_answer"
    default_hint = "check that --url or WAVEGATE_URL is the address of a Wavegate server"


class NotLoggedIn(CliError):
    code = "unauthenticated"
    exit_code = NOT_AUTHENTICATED
    default_hint = HINTS["unauthenticated"]


class VerificationFailed(CliError):
    code = "verification_failed"
    exit_code = UNVERIFIED
    default_hint = "do not install it; `publish repo check` on the server tells more"


class NotApproved(CliError):
    code = "not_approved"


class SimulationFailed(CliError):
    code = "simulation_failed"


class RolloutStopped(CliError):
    code = "rollout_stopped"
    exit_code = STOPPED


class WaitTimedOut(CliError):
    code = "wait_timed_out"
    exit_code = TIMED_OUT


class LogsNotHere(CliError):
    code = "logs_not_here"
    exit_code = CONFLICT
    default_hint = "ask for one with --request --wait"


def exit_code_of(error: Exception) -> int:
    """The exit code of any error that ends a call: ours, a room's (by its ``code``), or 1."""
    if isinstance(error, CliError):
        return error.exit_code
    return EXIT_BY_CODE.get(str(getattr(error, "code", "")), FAILURE)


def tell(error: Exception, form: str | None) -> int:
    """Print what went wrong to stderr and return the exit code.

    Args:
        form: ``json`` or ``yaml`` for the API's error object; ``None`` for one line ``error: …`` and, where there is a
            next step, one ``hint: …``. With WAVEGATE_DEBUG set, an error nobody foresaw shows where it came from, too.
    """
    told = _as_dict(error)
    if told["code"] == "unexpected" and os.environ.get("WAVEGATE_DEBUG"):
        traceback.print_exception(error)
    if form is not None:
        click.echo(encode({"error": told}, form), err=True)
        return exit_code_of(error)
    label = styled("error:", fg="red", bold=True, stream=sys.stderr)
    click.echo(f"{label} {visible(str(told['message']))}", err=True)
    for detail in told.get("details") or ():
        click.echo(f"  {_where(detail)}: {visible(str(detail.get('message', '')))}", err=True)
    if told.get("hint"):
        click.echo(f"hint: {told['hint']}", err=True)
    if told.get("request_id"):
        click.echo(f"request: {visible(str(told['request_id']))}", err=True)
    return exit_code_of(error)


def _as_dict(error: Exception) -> dict[str, Any]:
    if isinstance(error, CliError):
        return error.to_dict()
    code = getattr(error, "code", None)
    if isinstance(code, str):
        hint = HINTS.get(code)
        return {"code": code, "message": str(error), **({"hint": hint} if hint else {})}
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return {"code": "os_error", "message": f"{name}{error.strerror}"}
    return {
        "code": "unexpected",
        "message": f"unexpected {type(error).__name__}: {error}",
        "hint": "this is a fault of ours; please report it with what WAVEGATE_DEBUG=1 shows",
    }


def _where(detail: Mapping[str, Any]) -> str:
    loc = detail.get("loc", "")
    return visible(".".join(str(part) for part in loc) if isinstance(loc, list) else str(loc))
