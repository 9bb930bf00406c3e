"""Requests that would do something with an organisation's own things; the matrix changes one place of each."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from tests.integration.orgs.filled import Organisation

PUBLIC_KEY = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab" * 32}}


def body_of(method: str, path: str, field: str, one: Organisation) -> dict[str, Any]:
    """A JSON body for this route, in which ``field`` makes sense; raises KeyError where nobody has written one."""
    things = one.things
    artifact = {"product": f"{one.slug}-new", "version": "2", "file_name": "x.bin", "upload_id": things["upload"]}
    shaped: dict[str, Any] = {"waves": [{"group": things["group_name"]}]}
    if field.startswith("template."):
        shaped = {"template": {"name": things["template"], "groups": [things["group_name"]]}}
    if field.startswith("requires."):
        shaped["requires"] = [{"at_least": "0.1"}]
    plan = {"product": things["product"], "version": "1.0.0", **shaped}
    because: dict[str, Any] = {"reason": "it is tried"}
    bodies: dict[tuple[str, str], dict[str, Any]] = {
        ("POST", "/api-keys/{id}/rotate"): {},
        ("POST", "/artifacts"): artifact,
        ("POST", "/artifacts/drafts"): artifact,
        ("POST", "/artifacts/batch"): {"items": [artifact]},
        ("POST", "/artifacts/uploads/{id}/complete"): {"sha256": "ab" * 32},
        ("PATCH", "/artifacts/{id}"): {"notes": "changed"},
        ("POST", "/artifacts/{id}/revoke"): because,
        ("POST", "/artifacts/{id}/withdraw"): because,
        ("POST", "/artifacts/{id}/yank"): because,
        ("POST", "/devices"): {"name": f"tried-{token_hex(4)}"},
        ("POST", "/devices/{id}/enroll-code"): {},
        ("PATCH", "/devices/{id}/labels"): {"labels": {"a": "b"}},
        ("PUT", "/devices/{id}/labels"): {"labels": {"a": "b"}},
        ("POST", "/devices/{id}/logs"): {"reason": "it is tried"},
        ("POST", "/reboots/{id}/schedule"): {"reason": "it is tried"},
        ("PUT", "/devices/{id}/pin"): {"product": things["product"], "version": "1.0.0", **because},
        ("POST", "/devices/{id}/revoke"): because,
        ("POST", "/enroll-tokens"): {"name": "tried"},
        ("POST", "/exclusions"): {"product": things["product"], "version": "7", **because},
        ("POST", "/freeze-windows"): {"starts": "2030-01-01T00:00:00Z", "ends": "2030-01-02T00:00:00Z", **because},
        ("POST", "/groups/preview"): {"selector": "platform = any"},
        ("PATCH", "/groups/{id}"): {"description": "changed"},
        ("POST", "/repository/drafts/{id}/signatures"): {"signatures": {"root": {"ab" * 32: "cd"}}},
        ("POST", "/repository/products/{product}/approvers"): {"keys": [PUBLIC_KEY]},
        ("POST", "/rollout-templates"): {"name": f"tried-{token_hex(4)}", "waves": [{"group": "*"}]},
        ("POST", "/rollouts"): {**plan, "draft": True},
        ("POST", "/rollouts/preview"): plan,
        ("PATCH", "/rollouts/{id}"): plan,
        ("POST", "/rollouts/{id}/abort"): because,
        ("POST", "/rollouts/{id}/approve"): {"wave": 1},
        ("POST", "/rollouts/{id}/clone"): shaped,
        ("POST", "/rollouts/{id}/pause"): because,
        ("POST", "/rollouts/{id}/refuse"): because,
        ("POST", "/rollouts/{id}/rerun"): {},
        ("POST", "/rollouts/{id}/resume"): because,
        ("POST", "/rollouts/{id}/retry"): {},
        ("POST", "/rollouts/{id}/roll-back"): because,
        ("PATCH", "/users/{id}"): {"name": "changed"},
        ("PATCH", "/webhooks/{id}"): {"description": "changed"},
        ("POST", "/webhooks/{id}/rotate-secret"): {},
    }
    return bodies[method, path]


# Bytes, and what must be said of them.
RAW: dict[tuple[str, str], tuple[bytes, dict[str, str]]] = {
    ("PATCH", "/artifacts/uploads/{id}"): (b"more", {"Content-Range": "bytes 0-3/*"}),
    ("PUT", "/artifacts/{id}/sboms"): (
        b'{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1}',
        {"Content-Type": "application/vnd.cyclonedx+json"},
    ),
    ("PUT", "/artifacts/{id}/attestations"): (b"{}", {"Content-Type": "application/vnd.dsse.envelope.v1+json"}),
}
