"""Attaching what is signed beside an artifact that stands: SBOMs and attestations go the same way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.client import Upload
from cli.invocation import Invocation
from cli.lookup import find_artifact


def attach_beside(
    invocation: Invocation,
    artifact: str,
    file: Path,
    collection: str,
    own_keys: tuple[tuple[str, ...], Path | None],
    words: Callable[[dict[str, Any]], str],
) -> int:
    """Upload ``file`` to the artifact's ``collection`` and tell it in ``words``; the command's exit code.

    A claimed product's change is signed with ``own_keys`` (URIs, passphrase file); 7 while signatures are missing.
    """
    from cli.own_keys import finish_change

    client = invocation.client()
    found = find_artifact(client, artifact)
    with file.open("rb", buffering=0) as stream:
        length = os.fstat(stream.fileno()).st_size
        attached = client.upload(f"/artifacts/{found['id']}/{collection}", Upload(stream, length))
    return finish_change(invocation, client, attached, own_keys, words, file)
