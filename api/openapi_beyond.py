"""The routes beside ``/api/v1``, for the OpenAPI document: the signed repository's files, probes, and the reference."""

from __future__ import annotations

from typing import Any, Final

TAGS: Final = {
    "Repository files": "The signed repository as any TUF client reads it: no credential, cacheable, ranges answered.",
    "Server": "What machines ask of the server itself, and this reference.",
}

_REQUEST_ID: Final = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
_ORG: Final = {
    "name": "org",
    "in": "path",
    "required": True,
    "description": "slug of the organisation",
    "schema": {"type": "string", "maxLength": 100},
    "example": "acme",
}
_IF_NONE_MATCH: Final = {"$ref": "#/components/parameters/IfNoneMatch"}
_ABSENT: Final = {"description": "no such file; without a body, for clients ask for the next root all day"}
_UNCHANGED: Final = {"description": "not modified"}
_TIMESTAMP: Final = {
    "signatures": [{"keyid": f"{1:064x}", "sig": f"{2:0128x}"}],
    "signed": {
        "_type": "timestamp",
        "expires": "2026-11-22T09:30:00Z",
        "meta": {"snapshot.json": {"version": 41}},
        "spec_version": "1.0.31",
        "version": 41,
    },
}
_READY: Final = {
    "status": "ready",
    "checks": {
        "database": "ok",
        "repository": {"first_to_expire": "timestamp", "expires_in_seconds": 86000, "warnings": []},
        "canary": "off",
    },
}


def paths() -> dict[str, Any]:
    """The path items, complete."""
    binary = {"type": "string", "format": "binary"}
    text = {"type": "string"}
    ranged = [_IF_NONE_MATCH, {"$ref": "#/components/parameters/Range"}]
    bytes_of = {"application/octet-stream": {"schema": binary, "example": "lamp firmware 2.4.0"}}
    return {
        "/tuf/{org}/metadata/{name}": _get(
            "get_metadata_file",
            "Repository files",
            "Download a metadata file",
            "`timestamp.json` is asked anew each time; the others have their version in their name and never change.",
            {"application/json": {"schema": {"type": "object"}, "example": _TIMESTAMP}},
            [_ORG, _named("name", "file name, such as `timestamp.json` or `2.root.json`", "timestamp.json"), *ranged],
            {"206": {"description": "the range that was asked for", "content": bytes_of}, **_of_files()},
        ),
        "/tuf/{org}/targets/{name}": _get(
            "get_target_file",
            "Repository files",
            "Download a target",
            "By its path with the SHA-256 in front of the file name, as TUF's consistent snapshots have it. A large "
            "file of a bucket may be answered with a redirect to it.",
            bytes_of,
            [_ORG, _named("name", "path of the target, with digest", f"lamp/2.4.0/any/{1:064x}.lamp.bin"), *ranged],
            {
                "206": {"description": "the range that was asked for", "content": bytes_of},
                "302": {"description": "to the bucket, for a quarter of an hour"},
                **_of_files(),
            },
        ),
        "/healthz": _get(
            "get_health",
            "Server",
            "Tell that the process answers",
            "Asks neither the database nor the repository.",
            {"application/json": {"schema": {"type": "object"}, "example": {"status": "ok"}}},
        ),
        "/readyz": _get(
            "get_readiness",
            "Server",
            "Tell whether requests can be served",
            "`degraded` answers 200: requests are served as ever, and somebody should look before clients notice.",
            {"application/json": {"schema": {"type": "object"}, "example": _READY}},
            more={
                "503": {
                    "description": "`not ready`: the database is gone, or clients are about to refuse the repository",
                    "content": {
                        "application/json": {
                            "schema": {"type": "object"},
                            "example": {**_READY, "status": "not ready"},
                        }
                    },
                }
            },
        ),
        "/metrics": _get(
            "get_metrics",
            "Server",
            "Show metrics",
            "In Prometheus' text format.",
            {"text/plain": {"schema": text, "example": "wavegate_repository_serial 41.0"}},
        ),
        "/openapi.json": _get(
            "get_openapi",
            "Server",
            "Download this reference as OpenAPI 3.1",
            "The same bytes for the same code.",
            {"application/json": {"schema": {"type": "object"}, "example": {"openapi": "3.1.0"}}},
        ),
        "/docs": _get(
            "get_docs",
            "Server",
            "Show this reference in a browser",
            "Nothing is fetched from elsewhere.",
            {"text/html": {"schema": text, "example": "<!doctype html>"}},
        ),
        "/docs.md": _get(
            "get_docs_text",
            "Server",
            "Download this reference as Markdown",
            "Complete, for people and language models.",
            {"text/markdown": {"schema": text, "example": "# Wavegate API"}},
        ),
    }


def _get(
    name: str,
    tag: str,
    summary: str,
    told: str,
    content: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "description": f"{summary}. {told} Asks for no credential.",
        "x-permission": "public",
        "x-session-only": False,
        "security": [],
        "responses": {"200": {"description": "OK", "content": content}, **(more or {})},
    }
    if tag == "Server":
        operation["responses"]["200"]["headers"] = _REQUEST_ID
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def _named(name: str, what: str, example: str) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": 1000}
    return {"name": name, "in": "path", "required": True, "description": what, "schema": schema, "example": example}


def _of_files() -> dict[str, Any]:
    outside = {"description": "the range lies outside; `Content-Range` tells the length"}
    return {"304": _UNCHANGED, "404": _ABSENT, "416": outside}
