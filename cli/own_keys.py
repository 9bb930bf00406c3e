"""Publishing a claimed product: the server prepares what is to be signed, the team's keys never leave this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.client import Client
from cli.drafts import ServerDrafts
from cli.errors import ApiRefusal
from cli.signing import check_publish, signatures

_ATTEMPTS: Final = 5  # somebody else of the team may publish at the same moment


def sign_and_publish(
    client: Client,
    body: Mapping[str, Any],
    file: Path,
    companions: Sequence[Path],
    keys: Sequence[str],
    passphrase: str | None,
) -> tuple[dict[str, Any], str | None]:
    """Have an artifact of a claimed product drafted, look at what is to be signed, sign it and hand the signatures in.

    Args:
        client: Of the server.
        body: What to publish, uploads by id.
        file: The artifact's own bytes, which the draft must name.
        companions: The same for its SBOMs and attestations.
        keys: URIs of private keys.
        passphrase: Opens sealed ones.

    Returns:
        The artifact, and the id of its draft when other signatures are missing still.

    Raises:
        VerificationFailed: The server asks for more than this to be signed; nothing was.
    """
    told = client.post("/artifacts/drafts", body)
    draft, artifact = told["draft"], dict(told["artifact"])
    drafts = ServerDrafts(client)
    for attempt in range(1, _ATTEMPTS + 1):
        if draft is None:
            return artifact, None  # signed before
        check_publish(draft, artifact["target_path"], _digest(file), [_digest(one) for one in companions])
        try:
            signed = drafts.sign(draft["id"], signatures(draft, keys, passphrase))
        except ApiRefusal as error:
            has_others = any(one["signed"] for part in draft["parts"] for one in part["requirements"])
            if error.code != "draft_moved" or has_others or attempt == _ATTEMPTS:
                raise
            draft = drafts.rebase(draft["id"])
            continue
        if signed["serial"] is None:
            return artifact, str(draft["id"])
        return dict(client.get(f"/artifacts/{artifact['id']}")), None
    raise AssertionError("the last attempt returns or raises")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
