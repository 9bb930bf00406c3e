"""Where drafts are: at a server, or in a home on this machine. Both give the same answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cli.invocation import Invocation

if TYPE_CHECKING:
    from cli.client import Client


class Drafts(Protocol):
    """The drafts of one repository, as JSON values."""

    def all(self) -> list[dict[str, Any]]:
        """All of them, without the bytes to sign."""

    def get(self, draft_id: str) -> dict[str, Any]:
        """One, whole."""

    def sign(self, draft_id: str, signatures: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Hand in signatures; ``{"draft", "serial"}``."""

    def rebase(self, draft_id: str) -> dict[str, Any]:
        """Make it anew."""

    def drop(self, draft_id: str) -> None:
        """Forget it."""


class ServerDrafts:
    """The drafts of a server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> list[dict[str, Any]]:
        """All of them, without the bytes to sign."""
        found: list[dict[str, Any]] = self._client.get("/repository/drafts")["items"]
        return found

    def get(self, draft_id: str) -> dict[str, Any]:
        """One, whole."""
        told: dict[str, Any] = self._client.get(_path(draft_id))
        return told

    def sign(self, draft_id: str, signatures: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """Hand in signatures."""
        told: dict[str, Any] = self._client.post(f"{_path(draft_id)}/signatures", {"signatures": signatures})
        return told

    def rebase(self, draft_id: str) -> dict[str, Any]:
        """Make it anew."""
        told: dict[str, Any] = self._client.post(f"{_path(draft_id)}/rebase", {})
        return told

    def drop(self, draft_id: str) -> None:
        """Forget it."""
        self._client.delete(_path(draft_id))


@contextmanager
def drafts_of(invocation: Invocation, home: Path | None) -> Iterator[Drafts]:
    """The server's drafts, or with ``home`` those of a home on this machine, which needs no server."""
    import click

    if home is None and invocation.org is not None:
        raise click.UsageError("--org goes with --home; at a server the organisation is your credential's")
    if home is None:
        yield ServerDrafts(invocation.client())
        return
    import os

    from api.local_drafts import LocalDrafts
    from api.settings import InvalidSettings, read_settings
    from api.wiring import NotInitialised

    try:
        local = LocalDrafts(read_settings({**os.environ, "WAVEGATE_HOME": str(home)}), invocation.org)
    except (InvalidSettings, NotInitialised) as error:
        raise click.ClickException(str(error)) from error
    try:
        yield local
    finally:
        local.close()


def _path(draft_id: str) -> str:
    from urllib.parse import quote

    return f"/repository/drafts/{quote(draft_id, safe='')}"
