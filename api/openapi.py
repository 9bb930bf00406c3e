"""The OpenAPI document made whole: what the framework tells of the routes, with error codes, examples and headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Flask

from api import codes, openapi_beyond
from api.examples import Example, examples
from api.operator.routes import Declaration

TAGS: Final[Mapping[str, str]] = {
    "Accounts": "Logging in and out, one's own profile, sessions and second factor, and the accounts of others.",
    "API keys": "Credentials of programs: narrowed, rotated with an overlap, revoked. A person's login makes them.",
    "Approvals": "Products whose waves are opened by their approvers' own keys.",
    "Artifacts": "Bytes taken in, signed into the repository and looked up; their SBOMs and attestations.",
    "Audit": "What happened, by whom, in order and without a gap.",
    "Metering": "How many devices were active, night by night.",
    "Devices": "The fleet: enrolment, what each device runs, its labels, and the end of it.",
    "Drafts": "Changes that holders of offline keys sign: root, targets, products of teams, new online keys.",
    "Exclusions": "What is kept away from devices, and the one version that a device is pinned to.",
    "Groups": "Named sets of devices, static or by selector, that waves are made of.",
    "Repository": "The signed repository: its state, refresh, check, collection, and what a client starts from.",
    "Rollouts": "A release on its way to the fleet, wave by wave, and the words of people that move it.",
    "Trusted publishers": "CI jobs that publish by their own identity, which they exchange for a token of minutes.",
    "Webhooks": "Receivers that are told of events, signed, and what came of it.",
}
REQUEST_ID: Final = "req_01K9N0ZQ3V8M4S2T6W7X9Y0A1B"

_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "ETag": {"description": "names this state, for `If-Match` and `If-None-Match`", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true`: this is the first answer once more, and nothing was done again",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Link": {"description": '`rel="next"`: the next page, absent on the last', "schema": {"type": "string"}},
    "Location": {"description": "where to go on", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "how many requests of this minute are left (`r`), and in how many seconds it ends (`t`)",
        "schema": {"type": "string"},
        "example": '"writes";r=299;t=41',
    },
    "RateLimit-Policy": {
        "description": "what this request was counted as, and how many of it (`q`) a minute (`w` seconds) has",
        "schema": {"type": "string"},
        "example": '"writes";q=300;w=60',
    },
    "Retry-After": {"description": "seconds to wait before asking again", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "how to authenticate", "schema": {"type": "string"}},
    "X-Request-Id": {"description": "names this request in the server's logs", "schema": {"type": "string"}},
}
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same key with the same body has one effect, and gets the first answer again for a day.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
        "example": "publish-lamp-2.4.0",
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "Only if it is still in the state of this `ETag`; else 412.",
        "schema": {"type": "string", "maxLength": 200, "pattern": '^("[!#-~]*"|\\*)$'},
        "example": '"6f1ed002ab5595859014ebf0951522d9"',
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "304 and no body if it is still in the state of this `ETag`.",
        "schema": {"type": "string", "maxLength": 200, "pattern": '^("[!#-~]*"|\\*)$'},
        "example": '"6f1ed002ab5595859014ebf0951522d9"',
    },
    "ContentRange": {
        "name": "Content-Range",
        "in": "header",
        "required": True,
        "description": "Where this piece begins and ends; the length of the whole need not be known.",
        "schema": {"type": "string", "pattern": "^bytes [0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18}|\\*)$"},
        "example": "bytes 0-8388607/*",
    },
    "Range": {
        "name": "Range",
        "in": "header",
        "description": "One range of the bytes, to go on with a download.",
        "schema": {"type": "string", "pattern": "^bytes=[0-9]{1,18}-[0-9]{0,18}$"},
        "example": "bytes=1024-",
    },
}


def complete(document: dict[str, Any], app: Flask, *, server: str) -> dict[str, Any]:
    """Add to the framework's document, in place, what it cannot know; returns it."""
    declared = {endpoint.rpartition(".")[2]: one for endpoint, one in app.extensions["wavegate.declarations"].items()}
    told = examples()
    document["servers"] = [{"url": server, "description": "this server"}]
    document["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    document["info"]["contact"] = {"name": "whoever runs this server", "url": f"{server}/docs"}
    document["tags"] = [
        *(
            {**tag, "description": TAGS.get(tag["name"], "")}
            for tag in sorted(document["tags"], key=lambda tag: str(tag["name"]))
        ),
        *({"name": name, "description": told} for name, told in openapi_beyond.TAGS.items()),
    ]
    components = document["components"]
    components["headers"] = _HEADERS
    components["parameters"] = _PARAMETERS
    shown: set[str] = set()
    for item in document["paths"].values():
        for method, operation in item.items():
            declaration = declared[operation["operationId"]]
            operation.setdefault("security", [])
            _describe(operation, declaration)
            _take_parameters(operation, declaration, method)
            shown |= _tell_errors(operation, declaration)
            _tell_successes(operation, declaration, method)
            _give_examples(operation, told.get(operation["operationId"], Example()))
    document["paths"] |= openapi_beyond.paths()
    components["examples"] = {name: _example_of(codes.known(name)) for name in sorted(shown)}
    document["x-error-codes"] = {
        name: {"statuses": list(one.statuses), "meaning": one.meaning} for name, one in codes.codes().items()
    }
    return document


def _describe(operation: dict[str, Any], declaration: Declaration) -> None:
    permission = operation["x-permission"]
    operation["summary"] = operation["summary"].replace("`", "")  # plain text, by the specification
    if declaration.public:
        who = "Asks for no credential of ours; what it needs stands in the body."
    elif declaration.permission is None:
        who = "For everybody who is signed in."
    elif declaration.session_only:
        who = f"Needs the permission `{permission}` and a person's login; an API key never has it."
    else:
        who = f"Needs the permission `{permission}`."
    secret = declaration.shown_once
    once = "" if secret is None else f" `{secret}` is shown in this answer only; a replay of it has null there."
    operation["description"] = f"{operation['summary']}. {who}{once}"


def _take_parameters(operation: dict[str, Any], declaration: Declaration, method: str) -> None:
    wanted = []
    if declaration.once:
        wanted.append("IdempotencyKey")
    answers_with_it = method != "get" or "200" in operation["responses"]
    if "precondition_failed" in declaration.codes and answers_with_it:
        wanted.append("IfMatch")
    if method == "get" and answers_with_it:
        wanted.append("IfNoneMatch")
    if "content_range_missing" in declaration.codes:
        wanted.append("ContentRange")
    if "requested_range_not_satisfiable" in declaration.codes:
        wanted.append("Range")
    if wanted:
        references = [{"$ref": f"#/components/parameters/{name}"} for name in wanted]
        operation["parameters"] = [*operation.get("parameters", []), *references]


def _tell_errors(operation: dict[str, Any], declaration: Declaration) -> set[str]:
    """Name the codes of each status, with an example of the first of them; returns those shown."""
    told = codes.by_status(declaration.codes)
    # The framework adds a 400 of a shape that is not ours to routes that have nothing to validate.
    for status in [one for one in operation["responses"] if int(one) >= 400 and int(one) not in told]:
        del operation["responses"][status]
    for status, names in told.items():
        answer = operation["responses"][str(status)]
        answer["description"] = ", ".join(f"`{name}`" for name in names)
        answer["x-error-codes"] = names
        [content] = answer["content"].values()
        content["examples"] = {names[0]: {"$ref": f"#/components/examples/{names[0]}"}}
        headers = ["X-Request-Id"]
        if status in {429, 503}:
            headers.append("Retry-After")
        if status == 429:
            headers += ["RateLimit", "RateLimit-Policy"]
        if status == 401:
            headers.append("WWW-Authenticate")
        answer["headers"] = _headers(headers)
    return {names[0] for names in told.values()}


def _tell_successes(operation: dict[str, Any], declaration: Declaration, method: str) -> None:
    responses = operation["responses"]
    for status in [one for one in responses if one.startswith(("2", "3"))]:
        answer = responses[status]
        headers = ["X-Request-Id", "RateLimit", "RateLimit-Policy"]
        if status.startswith("3"):
            headers.append("Location")
        content = answer.get("content", {})
        if "application/json" in content:
            headers.append("Link" if "invalid_cursor" in declaration.codes else "ETag")
            for media in declaration.media_types:
                content.setdefault(media, {"schema": {"type": "string"}})
        if declaration.once:
            headers.append("Idempotency-Replayed")
        answer["headers"] = _headers(headers)
    if "requested_range_not_satisfiable" in declaration.codes:
        part = {"schema": {"type": "string", "format": "binary"}, "example": "…"}
        whole = responses["200"]
        content = dict.fromkeys(whole["content"], part)
        responses["206"] = {**whole, "description": "the range that was asked for", "content": content}
    if method == "get" and "200" in responses:
        responses["304"] = {"description": "not modified", "headers": _headers(["X-Request-Id"])}


def _give_examples(operation: dict[str, Any], told: Example) -> None:
    for parameter in operation.get("parameters", []):
        if parameter.get("name") in told.parameters:
            parameter["example"] = told.parameters[parameter["name"]]
    # Of several media types the example is of the first.
    for content in [*operation.get("requestBody", {}).get("content", {}).values()][:1]:
        if told.has_request:
            content["example"] = told.request
    for status, example in told.answers.items():
        for content in [*operation["responses"].get(status, {}).get("content", {}).values()][:1]:
            content["example"] = example


def _headers(names: list[str]) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _example_of(code: codes.Code) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code.name, "message": code.meaning or code.name, "request_id": REQUEST_ID}
    if code.name in {"permission_denied", "scope_too_wide", "session_required"}:
        error["permission"] = "artifacts:publish"
    if code.name == "validation_failed":
        error["details"] = [{"loc": "product", "message": "Field required"}]
    return {"summary": code.meaning or code.name, "value": {"error": error}}
