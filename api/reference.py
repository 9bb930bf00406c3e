"""The written reference, made from the code: settings, permissions and roles, routes, error codes.

``python -m api.reference`` prints it; ``docs/reference.md`` holds it, and a test keeps the two equal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from api.app import BLUEPRINTS
from api.auth.permissions import HOLDS, SESSION_ONLY, Permission, of_key
from api.codes import codes
from api.setting_meanings import MEANINGS
from api.settings import read_settings
from evidence.people import Role


def page() -> str:
    """The reference as Markdown."""
    return "\n".join(
        [
            "# Reference",
            "",
            "Made from the code by `make reference`. The REST API in full, with every field, is at `/docs` of a",
            "running server, as OpenAPI at `/openapi.json` and as text at `/docs.md`.",
            "",
            *_settings(),
            *_permissions(),
            *_routes(),
            *_errors(),
        ]
    )


def _settings() -> Iterator[str]:
    yield from ("## Settings of the server", "")
    yield "A variable beats the file given with `--config` (TOML, the names in lower case without the prefix), the file"
    yield from ("beats the default. A setting that is unknown or out of range keeps the server from starting.", "")
    yield from ("| variable | default | meaning |", "|---|---|---|")
    defaults = read_settings({"WAVEGATE_HOME": "/HOME"})
    for name, meaning in MEANINGS.items():
        if name == "home":
            default = "the user's data folder"
        elif name == "storage_url":
            default = "file:///HOME/orgs"
        else:
            default = _written(getattr(defaults, name))
        yield f"| `WAVEGATE_{name.upper()}` | {default} | {meaning} |"
    yield ""


def _written(value: object) -> str:
    """A default as one would write it; nothing for one that is empty."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value not in ((), {}) else ""


def _permissions() -> Iterator[str]:
    yield from ("## Permissions", "")
    yield "An API key has what its owner has, an operator's permissions at most. What is marked *login* is never"
    yield "a key's."
    yield from ("", f"| permission | {' | '.join(Role)} | API key of an admin |", "|---" * (len(Role) + 2) + "|")
    for permission in Permission:
        marks = ["yes" if permission in HOLDS[role] else "" for role in Role]
        key = "*login*" if permission in SESSION_ONLY else "yes" if permission in of_key(Role.ADMIN) else ""
        yield f"| `{permission.value}` | {' | '.join(marks)} | {key} |"
    yield ""


def _routes() -> Iterator[str]:
    yield from ("## Routes", "", "| method | path | permission | |", "|---|---|---|---|")
    rows = []
    for blueprint in BLUEPRINTS:
        for path, item in blueprint.paths.items():
            for method, operation in item.model_dump(mode="json", by_alias=True, exclude_none=True).items():
                permission = operation["x-permission"]
                rows.append((path, method.upper(), permission, operation["summary"]))
    for path, method, permission, summary in sorted(rows):
        yield f"| {method} | `{path}` | {permission} | {summary} |"
    yield ""


def _errors() -> Iterator[str]:
    yield from ("## Error codes", "")
    yield "Codes are stable; messages are for people and may change. Which of them a route may answer stands with the"
    yield from ("route in `/openapi.json` and `/docs.md`.", "", "| code | status | meaning |", "|---|---|---|")
    for name, code in codes().items():
        yield f"| `{name}` | {', '.join(map(str, code.statuses))} | {code.meaning} |"
    yield ""


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), "utf-8")
    else:
        sys.stdout.write(page())
