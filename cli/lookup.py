"""Finding what a person means: an id, or the name they know it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.client import segment
from cli.errors import ApiRefusal

if TYPE_CHECKING:
    from cli.client import Client

_NOT_FOUND = 404


def find_artifact(client: Client, text: str) -> dict[str, Any]:
    """One artifact by id or target path.

    Raises:
        ApiRefusal: There is no such artifact (404, ``artifact_not_found``).
    """
    if "/" not in text:
        found: dict[str, Any] = client.get(f"/artifacts/{segment(text)}")
        return found
    parts = text.split("/")
    if len(parts) == 4:
        product, version, platform, _ = parts
        for item in client.items("/artifacts", limit=None, product=product, version=version, platform=platform):
            if item["target_path"] == text:
                return item
    raise ApiRefusal(
        _NOT_FOUND,
        {"code": "artifact_not_found", "message": f"no artifact is published as {text!r}"},
    )
