"""A whole request and answer of every route, as the product gave them; one file for each blueprint.

``{"<operation id>": {"parameters": {…}, "request": …, "answers": {"<status>": …}}}``. Bytes stand as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Example:
    """What was asked and answered; ``has_request`` tells a request of null from none."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    request: Any = None
    has_request: bool = False
    answers: Mapping[str, Any] = field(default_factory=dict)


@cache
def examples() -> dict[str, Example]:
    """All examples, by operation id."""
    found: dict[str, Example] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda one: one.name):
        if file.name.endswith(".json"):
            for name, told in json.loads(file.read_text("utf-8")).items():
                found[name] = Example(
                    told.get("parameters", {}), told.get("request"), "request" in told, told.get("answers", {})
                )
    return found
