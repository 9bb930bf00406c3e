"""Which error codes a route may answer, with which status: the API's own, and those of the rooms behind it.

A route declares what it raises itself; what every route of its kind answers is added here. The document at
``/openapi.json`` is made from this, and the tests refuse an answer that was not declared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain
from typing import Final

from api.errors import OURS, STATUS
from evidence.errors import EvidenceError
from fleet.errors import FleetError
from keys.errors import CustodyError
from repo_signing.errors import RepositoryError
from rollout.errors import RolloutError
from sbom.errors import SbomError
from store.errors import StoreError

ROOTS: Final[tuple[type[Exception], ...]] = (
    EvidenceError,
    FleetError,
    CustodyError,
    RepositoryError,
    RolloutError,
    SbomError,
    StoreError,
)


@dataclass(frozen=True, slots=True)
class Code:
    """A stable error code: the statuses it comes with, and what it means in one line."""

    name: str
    statuses: tuple[int, ...]
    meaning: str


# What the API says itself, by code; the rooms' own are read from their errors.
OF_THE_API: Final[Mapping[str, tuple[tuple[int, ...], str]]] = {
    "account_disabled": ((409,), "the account that the key speaks for is disabled"),
    "authorization_pending": ((400,), "the person has not said yes yet; ask again after the interval"),
    "body_too_large": ((413,), "more bytes than this route takes"),
    "code_refused": ((401, 403), "the code of the second factor is wrong or was used before"),
    "code_required": ((401, 403), "the account has a second factor; `code` is missing"),
    "content_range_missing": ((400,), "`Content-Range` is missing or garbled"),
    "cross_site_request": ((403,), "a cookie's request that another site made the browser send"),
    "decision_not_found": ((404,), "the wave has no decision of this rollout now"),
    "internal_error": ((500,), "an error of the server's own; it is logged under the request's id"),
    "invalid_cursor": ((400,), "the cursor is not one of this list; begin again without one"),
    "invalid_idempotency_key": ((400,), "`Idempotency-Key` is not of 1 to 200 printable ASCII characters"),
    "last_way_in": ((409,), "the account has no password, and this identity is all it can log in by"),
    "login_failed": ((401,), "e-mail address and password do not belong together, or the account is disabled"),
    "login_refused": ((403,), "the provider refuses the login, or what it says lets nobody in here"),
    "malformed_json": ((400,), "the body is no JSON object"),
    "method_not_allowed": ((405,), "the path knows other methods; `Allow` names them"),
    "no_password": ((409,), "an automation account logs in by no password"),
    "not_a_session": ((400,), "an API key does not log out"),
    "not_found": ((404,), "no route of that path"),
    "not_your_key": ((403,), "the key speaks for another person"),
    "oidc_login_over": ((403,), "no such login was begun, or it took too long; begin again"),
    "oidc_not_configured": ((404,), "no provider of logins is set up on this server"),
    "organization_required": ((400,), "there is not one organisation here; name yours as `/api/v1/orgs/{org}/…`"),
    "organization_unavailable": ((503,), "the organisation cannot be opened now; its server's log says why"),
    "own_account": ((409,), "nobody does this to their own account"),
    "password_change_required": ((403,), "a one-time password must be changed first"),
    "permission_denied": ((403,), "the caller lacks the permission named"),
    "precondition_failed": ((412,), "it was changed since the state that `If-Match` names"),
    "precondition_required": ((428,), "`If-Match` is missing, and this server wants it for every PATCH and DELETE"),
    "rate_limited": ((429,), "more requests in a minute than this credential or address may send"),
    "registration_closed": ((403,), "nobody registers an organisation here (any more)"),
    "requested_range_not_satisfiable": ((416,), "the range lies outside of the content"),
    "role_too_high": ((403,), "nobody invites to a role that has what their own has not"),
    "scope_too_wide": ((403,), "an API key cannot have more than its owner"),
    "second_factor_not_begun": ((409,), "there is no second factor to confirm"),
    "session_required": ((403,), "a person's login is needed, never an API key"),
    "setup_code_refused": (
        (403,),
        "the first registration needs the code in the file `setup-code` of the server's home",
    ),
    "slow_down": ((400,), "asked too often; the interval is 5 seconds longer from now on"),
    "too_many_failures": ((429,), "too many logins or codes failed; wait as long as `Retry-After` says"),
    "unauthenticated": ((401,), "no credential, or one that does not count"),
    "unknown_root": ((409,), "the token names a root that this repository never had"),
    "unsupported_media_type": ((415,), "the body is not declared as JSON"),
    "validation_failed": ((400,), "path, query or body do not fit; `details` says where"),
    "weak_password": ((400,), "the new password is too easily guessed"),
    "wrong_organization": ((403,), "the path names another organisation than the credential's"),
    "wrong_password": ((403,), "`current_password` is not the account's"),
}

# Every route asks the database.
STORED: Final = ("database_unreachable", "database_busy")
# What a request with an `Idempotency-Key` may meet.
REPEATS: Final = frozenset(
    {
        "idempotency_in_progress",
        "idempotency_key_reused",
        "idempotency_outcome_unknown",
        "invalid_idempotency_key",
    }
)
# What can keep the repository from being read.
READS: Final = ("repository_not_found", "repository_damaged", "storage_unusable")
# What can keep a change from being signed; nothing is half done then, and asking again is right.
SIGNS: Final = (
    *READS,
    "client_would_refuse",
    "clock_ahead",
    "clock_behind",
    "commit_failed",
    "commit_refused",
    "index_ahead",
    "index_failed",
    "key_damaged",
    "key_locked",
    "key_not_here",
    "key_store_missing",
    "key_unknown",
    "lease_lost",
    "repository_moved",
    "signer_unusable",
    "signing_failed",
    "signing_refused",
)
# What an upload meets on its way in.
TAKES_IN: Final = ("commit_failed", "storage_unusable", "upload_cut_short", "upload_too_large")
# What a change of a signed artifact meets, also where it is drafted for the team that signs the product.
AMENDS: Final = (
    *SIGNS,
    "artifact_not_found",
    "artifact_withdrawn",
    "draft_moved",
    "invalid_draft",
    "invalid_record",
    "product_claimed",
    "target_not_found",
)
# What the bytes of an artifact, an SBOM or an attestation meet when they are to be signed.
EXAMINES: Final = (
    "attestation_too_large",
    "invalid_attestation",
    "invalid_attestation_trust",
    "invalid_sbom",
    "sbom_too_large",
    "unsupported_attestation",
    "unsupported_sbom",
)
PUBLISHES: Final = (
    *SIGNS,
    *EXAMINES,
    "artifact_withdrawn",
    "invalid_record",
    "invalid_target_path",
    "path_taken",
    "product_claimed",
    "upload_damaged",
    "upload_not_found",
)
# What a plan meets when it is read, and a rollout when it is moved.
PLANS: Final = (
    *READS,
    "group_unknown",
    "invalid_plan",
    "invalid_template",
    "release_blocked",
    "release_not_found",
    "rollout_not_found",
    "template_not_found",
)
MOVES: Final = (
    *SIGNS,
    "approvers_sign",
    "group_busy",
    "group_unknown",
    "invalid_command",
    "plan_changed",
    "release_blocked",
    "rollout_changed",
    "rollout_not_found",
    "signatures_needed",
    "transition_not_allowed",
)
# What a change of who is kept away from what meets: the list of exclusions is signed.
EXCLUDES: Final = (*SIGNS, "device_not_found", "exclusion_not_found", "invalid_exclusion", "too_many_exclusions")
DRAFTS: Final = (*SIGNS, "draft_expired", "draft_moved", "draft_not_found", "invalid_draft")
LOGS_IN: Final = ("code_refused", "code_required", "login_failed", "seal_broken", "too_many_failures")
# What asking the provider of logins meets, and what its answer does.
ASKS_PROVIDER: Final = ("issuer_unreachable", "oidc_not_configured")
COMES_BY_PROVIDER: Final = (
    *ASKS_PROVIDER,
    "account_not_linked",
    "id_token_invalid",
    "id_token_key_unknown",
    "identity_taken",
    "login_refused",
    "oidc_login_over",
)
PASSWORDS: Final = ("session_required", "too_many_failures", "wrong_password")


@dataclass(frozen=True, slots=True)
class Kind:
    """What of a route decides which codes it shares with others."""

    method: str
    public: bool
    permission: bool
    session_only: bool
    once: bool
    has_path: bool
    has_query: bool
    has_cursor: bool
    has_body: bool
    raw_body: bool


def of_route(kind: Kind, own: Collection[str]) -> tuple[str, ...]:
    """All codes of a route, in order: its ``own``, and those of its kind. Raises KeyError for one that nobody knows."""
    names = {*own, *STORED, "internal_error", "organization_unavailable", "rate_limited", "wrong_organization"}
    if kind.method == "GET":
        names.add("precondition_failed")
    if kind.method in {"PATCH", "DELETE"} and not kind.raw_body:
        names |= {"precondition_failed", "precondition_required"}
    if kind.has_path:
        names |= {"not_found", "unstorable_value"}
    if kind.has_path or kind.has_query or kind.has_body:
        names |= {"validation_failed", "unstorable_value"}
    if kind.has_cursor:
        names.add("invalid_cursor")
    if kind.has_body:
        names |= {"malformed_json", "unsupported_media_type"}
    if kind.has_body or kind.raw_body or kind.method == "POST":
        names.add("body_too_large")
    if not kind.public:
        names |= {"password_change_required", "unauthenticated"}
        if kind.method not in {"GET", "HEAD"}:
            names.add("cross_site_request")
    else:
        names.add("organization_required")
    if kind.once:
        names |= REPEATS
    if kind.permission:
        names.add("permission_denied")
    if kind.session_only:
        names.add("session_required")
    for name in names:
        known(name)
    return tuple(sorted(names))


def known(name: str) -> Code:
    """The code of that name; raises KeyError."""
    return codes()[name]


def by_status(names: Collection[str]) -> dict[int, list[str]]:
    """The codes that come with each status."""
    found: dict[int, list[str]] = {}
    for name in sorted(names):
        for status in known(name).statuses:
            found.setdefault(status, []).append(name)
    return dict(sorted(found.items()))


@cache
def codes() -> dict[str, Code]:
    """Every code, by name."""
    found = {name: Code(name, statuses, meaning) for name, (statuses, meaning) in OF_THE_API.items()}
    told = dict(chain.from_iterable(_tree(root) for root in ROOTS))
    for error in leaves():
        name: str = error.code  # type: ignore[attr-defined]
        status = 500 if error in OURS else STATUS.get(error, 500)
        found[name] = Code(name, (status,), told.get((error.__module__, error.__name__), ""))
    return dict(sorted(found.items()))


def leaves() -> list[type[Exception]]:
    """Every error of every room that can be raised."""
    return list(chain.from_iterable(_below(root) for root in ROOTS))


def _below(root: type[Exception]) -> list[type[Exception]]:
    below = root.__subclasses__()
    return list(chain.from_iterable(_below(one) for one in below)) if below else [root]


def _tree(root: type[Exception]) -> Iterator[tuple[tuple[str, str], str]]:
    """The lines of the tree that stands at the top of a room's errors: what each of them means."""
    drawn = import_module(root.__module__).__doc__ or ""
    for name, meaning in re.findall(r"[├└]── (\w+) {2,}(.+)", drawn):
        yield (root.__module__, name), meaning.strip()
