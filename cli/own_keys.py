"""Publishing and changing a claimed product: its team's keys stay on this machine, the server gets signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.client import Client
from cli.drafts import ServerDrafts
from cli.errors import ApiRefusal
from cli.invocation import Invocation
from cli.signing import check_change, check_publish, signatures

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
    if draft is None:
        return artifact, None  # signed before
    digests = _digest(file), [_digest(one) for one in companions]
    waits = _signed(client, draft, lambda one: check_publish(one, artifact["target_path"], *digests), keys, passphrase)
    return (artifact, waits) if waits is not None else (dict(client.get(f"/artifacts/{artifact['id']}")), None)


def sign_change(
    client: Client, told: Mapping[str, Any], keys: Sequence[str], passphrase: str | None, beside: Path | None
) -> tuple[dict[str, Any], str | None]:
    """Sign a change of an artifact, if the server answered with a draft because its product is claimed.

    Args:
        client: Of the server.
        told: What the server answered.
        keys: URIs of private keys; without any the draft is left to wait.
        passphrase: Opens sealed ones.
        beside: The SBOM or attestation that is attached.

    Returns:
        What the server would have answered of a product that is not claimed, of a claimed one its artifact; and the id
        of the draft when signatures are missing still.

    Raises:
        VerificationFailed: The server asks for more than this to be signed; nothing was.
    """
    draft = told.get("draft")
    if draft is None:
        return dict(told), None
    artifact = dict(told["artifact"])
    if not keys:
        return artifact, str(draft["id"])
    digest = None if beside is None else _digest(beside)
    goes = draft["title"].partition(" ")[0] in ("withdraw", "revoke")

    def check(one: Mapping[str, Any]) -> None:
        check_change(one, artifact["target_path"], digest, goes=goes)

    waits = _signed(client, draft, check, keys, passphrase)
    return (artifact, waits) if waits is not None else (dict(client.get(f"/artifacts/{artifact['id']}")), None)


def finish_change(
    invocation: Invocation,
    client: Client,
    told: Mapping[str, Any],
    own: tuple[Sequence[str], Path | None],
    shown: Callable[[dict[str, Any]], str],
    beside: Path | None = None,
) -> int:
    """Show what became of a change, signed by the keys in ``own`` (and what opens them) if the server asked for that.

    Returns:
        The exit code: 7 while the change waits for signatures.
    """
    from cli.errors import TIMED_OUT

    keys, file = own
    secret = None if file is None else file.read_text("utf-8").rstrip("\r\n")
    answer, waits = sign_change(client, told, keys, secret, beside)
    if waits is None:
        if beside is not None and "draft" in told:
            digest = _digest(beside)
            answer = next(one for one in (*answer["sboms"], *answer["attestations"]) if one["sha256"] == digest)
        invocation.emit(answer, lambda: shown(answer))
        return 0
    answer["draft"] = waits
    invocation.emit(answer, f"waits as {waits}: its product is claimed; `publish repo sign {waits} --key URI`")
    return TIMED_OUT


def _signed(
    client: Client,
    draft: Mapping[str, Any],
    check: Callable[[Mapping[str, Any]], None],
    keys: Sequence[str],
    passphrase: str | None,
) -> str | None:
    """Sign a draft, again after somebody else of the team was first; its id when it still waits for others."""
    drafts = ServerDrafts(client)
    for attempt in range(1, _ATTEMPTS + 1):
        check(draft)
        try:
            signed = drafts.sign(draft["id"], signatures(draft, keys, passphrase))
        except ApiRefusal as error:
            has_others = any(one["signed"] for part in draft["parts"] for one in part["requirements"])
            if error.code != "draft_moved" or has_others or attempt == _ATTEMPTS:
                raise
            draft = drafts.rebase(draft["id"])
            continue
        return str(draft["id"]) if signed["serial"] is None else None
    raise AssertionError("the last attempt returns or raises")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
