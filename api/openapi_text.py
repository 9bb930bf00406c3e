"""The OpenAPI document told as Markdown: complete, for people and for language models that read it whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from api.auth.permissions import HOLDS, SESSION_ONLY, Permission
from evidence.people import Role

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_ONE_LINE: Final = 100  # characters of JSON that are shown on one line


def markdown(document: dict[str, Any]) -> str:
    """Every operation with its permission, parameters, bodies, examples and error codes; then schemas and codes."""
    body = "\n".join([*_routes(document), *_permissions(), *_codes(document), *_schemas(document)])
    operations = sum(len(item) for item in document["paths"].values())
    size = f"{operations} operations, about {-(-len(body.encode()) // 1024)} KiB of text."
    return "\n".join([*_head(document), size, "", *_contents(document), body])


def _head(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield from (f"# {info['title']} API", "", f"Version {info['version']}. {info['description']}", "")
    yield from (f"Server: {document['servers'][0]['url']}", "")
    yield "Below: every route by topic, each with permission, parameters, body, answers, error codes and an example;"
    yield "then permissions by role, error codes and schemas. The same as OpenAPI 3.1 is at `/openapi.json`."
    yield 'An error is `{"error": {"code", "message", "request_id"}}`, with `permission` and `details` where they'
    yield "help. An example that would be very long shows `…` for a text, and three elements of a list."
    yield ""


def _contents(document: dict[str, Any]) -> Iterator[str]:
    yield from ("## Contents", "")
    for tag in document["tags"]:
        names = [f"`{operation['operationId']}`" for _, _, operation in _of(document, tag["name"])]
        yield f"- {tag['name']}: {', '.join(names)}"
    yield ""


def _routes(document: dict[str, Any]) -> Iterator[str]:
    shown: dict[str, str] = {}
    for tag in document["tags"]:
        yield from (f"# {tag['name']}", "", tag.get("description", ""), "")
        for path, method, operation in _of(document, tag["name"]):
            yield from _operation(document, path, method, operation)
            yield from _example(path, method, operation, shown)


def _of(document: dict[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in sorted(document["paths"]):
        for method in _METHODS:
            operation = document["paths"][path].get(method)
            if operation is not None and tag in operation["tags"]:
                yield path, method, operation


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {method.upper()} {path}", "", f"`{operation['operationId']}`: {operation['summary']}.", "")
    permission = operation["x-permission"]
    if ":" in permission:
        login = " (a person's login, not an API key)" if operation.get("x-session-only") else ""
        yield from (f"Permission: `{permission}`{login}", "")
    else:
        who = "none, and no credential" if permission == "public" else "none, whoever is signed in"
        yield from (f"Permission: {who}", "")
    for told in operation.get("parameters", []):
        parameter = _resolved(document, told)
        need = "required" if parameter.get("required") else "optional"
        what = f"{kind(parameter.get('schema', {}))}{_bounds(parameter.get('schema', {}))}"
        yield f"- `{parameter['name']}` in {parameter['in']}, {need}, {what}: {parameter.get('description', '')}"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"- body `{media}`: {kind(content.get('schema', {}))}"
    for status, answer in sorted(operation["responses"].items()):
        if "x-error-codes" in answer:
            yield f"- {status}: {', '.join(f'`{code}`' for code in answer['x-error-codes'])}"
        else:
            yield f"- {status}: {_answers(answer)}"
    yield ""


def _answers(answer: dict[str, Any]) -> str:
    kinds = [f"{kind(content.get('schema', {}))} (`{media}`)" for media, content in answer.get("content", {}).items()]
    return ", ".join(kinds) or str(answer.get("description", ""))


def _example(path: str, method: str, operation: dict[str, Any], shown: dict[str, str]) -> Iterator[str]:
    """The exchange; an answer whose schema was shown before is named by the operation that showed it."""
    query = []
    for parameter in operation.get("parameters", []):
        if "example" in parameter and parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        elif "example" in parameter and parameter["in"] == "query":
            query.append(f"{parameter['name']}={json.dumps(parameter['example']).strip(chr(34))}")
    yield from ("```", f"{method.upper()} {path}{'?' if query else ''}{'&'.join(query)}")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "example" in content:
            yield _json(content["example"])
            break
    for status, answer in sorted(operation["responses"].items()):
        if not status.startswith("2") or status == "206":
            continue
        yield from ("", status)
        for content in answer.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", operation["operationId"])
            by = shown.setdefault(name, operation["operationId"])
            if "example" in content:
                yield _json(content["example"]) if by == operation["operationId"] else f"(as of `{by}`)"
    yield from ("```", "")


def _permissions() -> Iterator[str]:
    yield from ("# Permissions", "", f"| permission | {' | '.join(Role)} |", "|---" * (len(Role) + 1) + "|")
    for permission in Permission:
        marks = " | ".join("yes" if permission in HOLDS[role] else "" for role in Role)
        login = " (login only)" if permission in SESSION_ONLY else ""
        yield f"| `{permission.value}`{login} | {marks} |"
    yield ""


def _codes(document: dict[str, Any]) -> Iterator[str]:
    yield from ("# Error codes", "", "| code | status | meaning |", "|---|---|---|")
    for name, one in document["x-error-codes"].items():
        yield f"| `{name}` | {', '.join(map(str, one['statuses']))} | {one['meaning']} |"
    yield ""


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    yield from ("# Schemas", "")
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from (f"## {name}", "", schema.get("description", ""), "")
        if "enum" in schema:
            yield f"- {kind(schema)}"
        required = schema.get("required", [])
        for field, one in schema.get("properties", {}).items():
            mark = ", required" if field in required else ""
            told = one.get("description", "").rstrip(".")
            yield f"- `{field}`: {kind(one)}{mark}{_bounds(one)}{f'. {told}' if told else ''}."
        yield ""


def kind(schema: dict[str, Any]) -> str:
    """A schema in few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    of = schema.get("additionalProperties")
    if isinstance(of, dict):
        return f"map of {kind(of)}"
    return str(schema.get("format") or schema.get("type") or "any")


def _bounds(schema: dict[str, Any]) -> str:
    """Limits and default, as far as they are told."""
    found = [
        f"{said} {schema[name]:g}"
        for name, said in (
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("minLength", "characters at least"),
            ("maxLength", "characters at most"),
            ("minItems", "elements at least"),
            ("maxItems", "elements at most"),
        )
        if name in schema
    ]
    if "pattern" in schema:
        found.append(f"pattern `{schema['pattern']}`")
    if "default" in schema:
        found.append(f"default `{json.dumps(schema['default'])}`")
    return f" ({', '.join(found)})" if found else ""


def _resolved(document: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in told:
        return told
    found: dict[str, Any] = document["components"]["parameters"][told["$ref"].rsplit("/", 1)[-1]]
    return found


def _json(value: Any, indent: str = "") -> str:
    """JSON over as few lines as stay readable; a text stands as it is, unless it holds bytes that are none."""
    if isinstance(value, str) and not indent and all(one.isprintable() or one == "\n" for one in value):
        return value
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= _ONE_LINE or not isinstance(value, dict | list):
        return short
    inner = f"{indent} "
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"{inner}{_json(one, inner)}" for one in value) + f"\n{indent}]"
    pairs = (f"{inner}{json.dumps(name)}: {_json(one, inner)}" for name, one in value.items())
    return "{\n" + ",\n".join(pairs) + f"\n{indent}}}"
