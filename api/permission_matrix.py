"""Who may call what: every route and every device call, against every kind of caller.

``python -m api.permission_matrix docs/permissions.md`` writes the page; tests compare it with the code, and what is
answered with the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from api.app import BLUEPRINTS
from api.auth.permissions import HOLDS, OF_A_JOB, SESSION_ONLY, Permission, of_key
from api.device import device_pb2
from api.operator.routes import Declaration, Routes
from evidence.people import Role

ALLOWED: Final = "yes"
UNKNOWN: Final = "401"  # nobody, or nobody any more
LACKING: Final = "403"  # permission_denied, with the permission's name
LOGIN: Final = "login"  # 403 session_required
FOREIGN_SITE: Final = "site"  # 403 cross_site_request

NO_CONNECTION: Final = "no connection"
UNAUTHENTICATED: Final = "UNAUTHENTICATED"

NARROWED_TO: Final = Permission.ARTIFACTS_READ
JOB: Final = "CI job"
DEAD: Final = "dead credential"
FOREIGN: Final = "another site's page"

# Outside of /api/v1: what anybody may read, whoever they are.
OPEN: Final = (
    "/docs",
    "/docs.md",
    "/docs/redoc.js",
    "/docs/start.js",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/tuf/{org}/metadata/{name}",
    "/tuf/{org}/targets/{name}",
)

_MEANINGS: Final = {
    "anonymous": "without a credential; also with a device's certificate in headers, which counts for nothing",
    "viewer … admin": "a person of that role, by a login token or a browser's session",
    "viewer's key … admin's key": "an API key that speaks for an account of that role now",
    "narrowed key": f"an admin's key made for `{NARROWED_TO}` alone",
    JOB: "a publish token, for the products of its trusted publisher",
    DEAD: "an API key that expired, was revoked, was replaced and its overlap is over, or whose owner is disabled; "
    "a token or session that expired, was logged out of, or whose account is disabled; a session unused for too long; "
    "a secret of another kind in its place; a made-up one",
    FOREIGN: "an admin's browser with their cookie, sent there by a page of another site",
}

_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of caller; ``holds`` is None for one that counts for nothing."""

    name: str
    holds: frozenset[Permission] | None
    login: bool = True
    foreign_site: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One route."""

    method: str
    path: str
    endpoint: str
    declaration: Declaration


KINDS: Final[tuple[Kind, ...]] = (
    Kind("anonymous", None),
    *(Kind(role.value, HOLDS[role]) for role in Role),
    *(Kind(f"{role.value}'s key", of_key(role), login=False) for role in Role),
    Kind("narrowed key", of_key(Role.ADMIN, {NARROWED_TO.value}), login=False),
    Kind(JOB, OF_A_JOB, login=False),
    Kind(DEAD, None),
    Kind(FOREIGN, HOLDS[Role.ADMIN], foreign_site=True),
)

DEVICE_KINDS: Final[dict[str, str]] = {
    "no certificate": NO_CONNECTION,
    "certificate of another CA": NO_CONNECTION,
    "expired certificate": NO_CONNECTION,
    "certificate of no device": UNAUTHENTICATED,
    "revoked device": UNAUTHENTICATED,
    "deleted device": UNAUTHENTICATED,
    "device": ALLOWED,
}


def expected(row: Row, kind: Kind) -> str:
    """What a caller of this kind gets at the gate."""
    declaration = row.declaration
    if declaration.public:
        return ALLOWED
    if kind.holds is None:
        return UNKNOWN
    if kind.foreign_site and row.method not in _SAFE:
        return FOREIGN_SITE
    if not kind.login and (declaration.person or declaration.permission in SESSION_ONLY):
        return LOGIN
    return ALLOWED if declaration.permission in {None, *kind.holds} else LACKING


def rows(blueprints: Sequence[Routes] = BLUEPRINTS) -> list[Row]:
    """Every route under /api/v1, by path and method."""
    found = []
    for blueprint in blueprints:
        for path, item in blueprint.paths.items():
            operations: dict[str, Any] = item.model_dump(mode="json", by_alias=True, exclude_none=True)
            for method, operation in operations.items():
                endpoint = f"{blueprint.name}.{operation['operationId']}"
                found.append(Row(method.upper(), path, endpoint, blueprint.declarations[endpoint]))
    return sorted(found, key=lambda row: (row.path, row.method))


def device_methods() -> list[tuple[str, bool, bool]]:
    """Every method of the device port as ``/service/method``, and whether request and answer are streams."""
    files = (device_pb2, health_pb2, reflection_pb2)
    return sorted(
        (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    )


def page() -> str:
    """The page as Markdown."""
    return "\n".join([*_words(), *_table(), *_open(), *_devices()])


def _words() -> Iterator[str]:
    yield from ("# Who may call what", "")
    yield "Made from the code by `make reference`. A test calls every route as every caller and compares the answers"
    yield "with this page. Which role holds which permission: [reference.md](reference.md#permissions)."
    yield from ("", "| cell | answer |", "|---|---|")
    yield f"| {ALLOWED} | the request is looked at: anything but 401 and 403 |"
    yield f"| {UNKNOWN} | 401 `unauthenticated` |"
    yield f"| {LACKING} | 403 `permission_denied`, with the permission of the row in `permission` |"
    yield f"| {LOGIN} | 403 `session_required`: a person's login does it, an API key or a job never |"
    yield f"| {FOREIGN_SITE} | 403 `cross_site_request`: a cookie's request that another site made the browser send |"
    yield from ("", "| caller | is |", "|---|---|")
    for name, meaning in _MEANINGS.items():
        yield f"| {name} | {meaning} |"
    yield ""


def _table() -> Iterator[str]:
    yield from ("## REST", "")
    yield f"| method | path | permission | {' | '.join(kind.name for kind in KINDS)} |"
    yield "|---" * (3 + len(KINDS)) + "|"
    for row in rows():
        declaration = row.declaration
        needs = declaration.permission or ("public" if declaration.public else "signed-in")
        cells = " | ".join(expected(row, kind) for kind in KINDS)
        yield f"| {row.method} | `{row.path}` | {needs} | {cells} |"
    yield ""


def _open() -> Iterator[str]:
    yield from ("## Outside of /api/v1", "")
    yield "Anybody may read these, with any credential or none; what is signed protects itself, and a proxy before the"
    yield "server may keep `/metrics` and `/readyz` inside:"
    yield from ("", *(f"- `{path}`" for path in OPEN), "")


def _devices() -> Iterator[str]:
    yield from ("## Device gRPC", "")
    yield "*no connection*: refused in the TLS handshake. `UNAUTHENTICATED`: judged anew at every call, on open"
    yield "connections too."
    yield from ("", f"| method | {' | '.join(DEVICE_KINDS)} |", "|---" * (1 + len(DEVICE_KINDS)) + "|")
    for method, _, _ in device_methods():
        yield f"| `{method}` | {' | '.join(DEVICE_KINDS.values())} |"
    yield ""


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), "utf-8")
    else:
        sys.stdout.write(page())
