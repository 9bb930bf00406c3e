"""Every place in which a request names something, read from the routes as they are declared.

A field is either the name of something that exists (then it is here by the kind of thing), or it is not (``PLAIN``). A
field that is neither fails the test, and so does a route whose request cannot be put together from ``BODIES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# `{id}` by what stands before it.
OF_PATH: Final[Mapping[str, str]] = {
    "/artifacts/uploads/{id}": "open_upload",
    "/artifacts/{id}": "artifact",
    "/attestations/{id}": "attestation",
    "/sboms/{id}": "sbom",
    "/api-keys/{id}": "api_key",
    "/devices/{id}": "device",
    "/logs/{id}": "log",
    "/reboots/{id}": "device",
    "/enroll-tokens/{id}": "enroll_token",
    "/exclusions/{id}": "exclusion",
    "/freeze-windows/{id}": "freeze",
    "/groups/{id}": "group",
    "/invitations/{id}": "invitation",
    "/profile/sessions/{id}": "session",
    "/repository/drafts/{id}": "draft",
    "/rollout-templates/{id}": "template",
    "/rollouts/{id}": "rollout",
    "/trusted-publishers/{id}": "trusted_publisher",
    "/users/{id}": "user",
    "/webhooks/{id}": "webhook",
}
OF_NAME: Final[Mapping[str, str]] = {
    "actor": "user",
    "after": "rollout",
    "attestations": "upload",
    "delivery": "delivery",
    "device": "device",
    "devices": "device",
    "group": "group_name",
    "groups": "group_name",
    "product": "product",
    "rollout_id": "rollout",
    "sboms": "upload",
    "sha256": "sha256",
    "subject": "artifact",
    "template.groups": "group_name",
    "template.name": "template",
    "upload_id": "upload",
    "user": "user",
}
# What a request says for the first time, or chooses from what is the same for everybody.
_PLAIN_FIELDS: Final = """
    accept_clock add after_seconds after_seq agent_version allow_downgrade at_least backoff_seconds bits
    certificate_request channel code codes compromised count cursor days deadline_days description disabled draft
    dry_run enabled ends events existing expires_in_days expires_in_hours factor file_name format from_versions
    hostname ignores_freeze keep_open keyid keys keytype keyval kind label labels lease_seconds limit
    maintenance_window max_updating max_uses min_available minutes mode month name note notes number online
    org_name os_family os_name overlap_hours package partial past percent percents permissions plan_hash
    platform priority progress reason remove repair role roles sample scheme security selector signatures sort
    spread_seconds start starts state status submit tag threshold thresholds through total until url version
    wave waves zone

    advance approvals deadline_seconds for_seconds max_failure_rate_percent max_failures min_reports not_before on op
    audience claims error iss issuer lifetime_minutes next products provider redirect_uri since
    path query report_timeout_seconds silent soak_seconds source success_percent
"""
PLAIN: Final = frozenset(_PLAIN_FIELDS.split())
# Credentials: tried by tests of their own.
PERSONAL: Final = frozenset(
    {"code", "current_password", "email", "org", "password", "setup_code", "token", "handle", "id_token"}
)
# A product that a request publishes or claims is the organisation's own, whoever else has one of the name; and the
# digest that closes an upload is of what was sent. Who one is at a provider is one's own.
GIVEN: Final = frozenset(
    {
        ("POST", "/artifacts", "product"),
        ("POST", "/artifacts/drafts", "product"),
        ("POST", "/artifacts/batch", "items.[].product"),
        ("POST", "/artifacts/uploads/{id}/complete", "sha256"),
        ("POST", "/profile/identities/unlink", "subject"),
        ("POST", "/repository/products", "product"),
        ("POST", "/repository/products/{product}/approvers", "product"),
    }
)


@dataclass(frozen=True)
class Place:
    """One place of one route. ``where`` is ``path``, ``query`` or ``body``, ``field`` its name, in a body with dots."""

    method: str
    path: str
    where: str
    field: str
    kind: str
    permission: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.where} {self.field}"


def places(openapi: Mapping[str, Any]) -> Iterator[Place]:
    """Every place that names something; raises KeyError for one that nobody has thought about."""
    schemas = openapi["components"]["schemas"]
    for whole, operations in openapi["paths"].items():
        path = whole.removeprefix("/api/v1")
        for method, operation in operations.items():
            named = [one for one in operation.get("parameters", ()) if one.get("in", "header") != "header"]
            found = [(one["in"], one["name"]) for one in named]
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None:
                found += [("body", name) for name in sorted(_leaves(content["schema"], schemas))]
            for where, name in found:
                kind = _kind(method.upper(), path, where, name)
                if kind is not None:
                    yield Place(method.upper(), path, where, name, kind, operation["x-permission"])


def _kind(method: str, path: str, where: str, name: str) -> str | None:
    if (method, path, name) in GIVEN:
        return None
    if where == "path" and name == "id":
        return next(kind for prefix, kind in OF_PATH.items() if path.startswith(prefix))
    if (path, where, name) in {("/devices", "query", "name"), ("/devices", "query", "q")}:
        return "device_name"
    last = name.rpartition(".")[2]
    if last == "name" and name.endswith("template.name"):
        return "template"
    if last in OF_NAME:
        return OF_NAME[last]
    if last not in PLAIN | PERSONAL:
        raise KeyError(f"{method} {path}: does {where} field {name!r} name something? say so in {__name__}")
    return None


def _leaves(schema: Mapping[str, Any], schemas: Mapping[str, Any], seen: tuple[str, ...] = ()) -> dict[str, bool]:
    """Fields of a body, and whether each is a list of names; ``.`` below an object, ``[]`` in a list."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {} if name in seen else _leaves(schemas[name], schemas, (*seen, name))
    found: dict[str, bool] = {}
    for part in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(part, ()):
            found |= _leaves(one, schemas, seen)
    if "items" in schema:
        found |= {f"[].{name}": is_list for name, is_list in _leaves(schema["items"], schemas, seen).items()}
    for name, one in schema.get("properties", {}).items():
        below = _leaves(one, schemas, seen)
        kinds = {one.get("type"), *(each.get("type") for each in one.get("anyOf", ()))}
        found |= {f"{name}.{rest}": is_list for rest, is_list in below.items()} if below else {name: "array" in kinds}
    return found


def lists(openapi: Mapping[str, Any], place: Place) -> bool:
    """Whether the field of a body is a list of names."""
    schema = openapi["paths"][f"/api/v1{place.path}"][place.method.lower()]["requestBody"]["content"]
    return _leaves(schema["application/json"]["schema"], openapi["components"]["schemas"])[place.field]


def planted(body: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """The body with a value in one of its fields; what leads there is made where it is missing."""
    whole: dict[str, Any] = {**body}
    head, _, rest = field.partition(".")
    if not rest:
        return {**whole, head: value}
    if rest.startswith("[]."):
        inner = whole.get(head) or [{}]
        return {**whole, head: [planted(dict(inner[0]), rest[3:], value), *inner[1:]]}
    return {**whole, head: planted(dict(whole.get(head) or {}), rest, value)}


def unknown(value: str) -> str:
    """A value of the same form that nobody has."""
    last = next(letter for letter in "0123456789" if letter != value[-1])
    return value[:-1] + last
