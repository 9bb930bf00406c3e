"""Signing drafts on the holder's own machine: what he is shown is worked out here, from the bytes that he signs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.errors import UsageFault, VerificationFailed
from repo_signing.canonical import as_json

FORMAT: Final = 1
Signatures = dict[str, dict[str, str]]


def differences(draft: Mapping[str, Any]) -> list[str]:
    """What signing a draft would change, from its payloads and their bases; what the server says of it is not believed.

    Raises:
        VerificationFailed: A payload is not the one that the draft names, or not of the role or version it is told as.
    """
    from repo_signing.differences import difference

    lines: list[str] = []
    for part in draft["parts"]:
        payload = payload_of(part)
        body = json.loads(as_json(payload))
        kind = part["role"] if part["role"] in ("root", "targets") else "targets"
        if body.get("_type") != kind or body.get("version") != part["version"]:
            raise VerificationFailed(
                f"the bytes to sign are {body.get('_type')} {body.get('version')}, the draft says {part['role']} "
                f"{part['version']}; do not sign",
                hint="ask whoever gave you the draft",
            )
        base = part.get("base")
        before = None if base is None else json.loads(base64.b64decode(base))["signed"]
        lines += difference(part["role"], before, body)
        if part["role"].startswith("waves-"):
            lines += _standing(body, {} if before is None else before)
    return lines


def _standing(body: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Decisions that stay as they are: signing is deciding them again, and what they are compared with is the server's
    word."""
    targets, known = body.get("targets", {}), before.get("targets", {})
    return [
        f"= {path} stays: {entry['length']} bytes, sha256 {entry['hashes'].get('sha256')}"
        for path, entry in sorted(targets.items())
        if known.get(path) == entry
    ]


def payload_of(part: Mapping[str, Any]) -> bytes:
    """The exact bytes to sign; raises VerificationFailed when they are not those that the draft names."""
    payload = base64.b64decode(part.get("payload") or "", validate=True)
    if hashlib.sha256(payload).hexdigest() != part["payload_sha256"]:
        raise VerificationFailed(f"the bytes to sign of {part['role']} are damaged; export the draft again", hint="")
    return payload


def check_publish(draft: Mapping[str, Any], path: str, sha256: str, companion_sha256s: Sequence[str]) -> None:
    """Raise VerificationFailed unless the draft adds these bytes at ``path`` and these beside it, and nothing else."""
    parts = draft["parts"]
    body = json.loads(as_json(payload_of(parts[0])))
    base = json.loads(base64.b64decode(parts[0]["base"] or ""))["signed"]
    before, after = base["targets"], body["targets"]
    changed = {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)}
    digests = {one: after[one]["hashes"]["sha256"] for one in changed if one in after}
    strange = [one for one in sorted(changed) if one != path and not one.startswith((f"{path}.sbom.", f"{path}.att."))]
    foreign = [
        one for one, digest in digests.items() if digest not in ((sha256,) if one == path else companion_sha256s)
    ]
    if len(parts) != 1 or strange or foreign or changed != digests.keys() or "delegations" in body:
        what = ", ".join(strange or foreign or sorted(changed - digests.keys()) or ["delegations"])
        raise VerificationFailed(
            f"the server asks to sign more than this file, its SBOMs and attestations: {what}; nothing was signed",
            hint="`publish repo draft list` shows what waits; talk to whoever runs the server",
        )


def check_change(draft: Mapping[str, Any], path: str, companion_sha256: str | None, *, goes: bool) -> None:
    """Raise VerificationFailed unless the draft changes what is said of the artifact at ``path``, and nothing else.

    Args:
        draft: As the server shows it.
        path: Of the artifact.
        companion_sha256: Digest of the one SBOM or attestation that may come beside it.
        goes: Whether the artifact itself is to be taken out; otherwise its bytes must stay.
    """
    parts = draft["parts"]
    body = json.loads(as_json(payload_of(parts[0])))
    before = json.loads(base64.b64decode(parts[0]["base"] or ""))["signed"]["targets"]
    after = body["targets"]
    strange = []
    for one in sorted(before.keys() | after.keys()):
        was, now = before.get(one), after.get(one)
        if was == now:
            continue
        if one == path:
            is_asked = now is None if goes else now is not None and was is not None and now["hashes"] == was["hashes"]
        else:
            is_beside = one.startswith((f"{path}.sbom.", f"{path}.att.")) and now is not None
            is_asked = is_beside and now["hashes"]["sha256"] == companion_sha256
        if not is_asked:
            strange.append(one)
    if len(parts) != 1 or strange or "delegations" in body:
        raise VerificationFailed(
            f"the server asks to sign more than this change: {', '.join(strange) or 'delegations'}; nothing was signed",
            hint="`publish repo draft list` shows what waits; talk to whoever runs the server",
        )


def signatures(draft: Mapping[str, Any], uris: Sequence[str], passphrase: str | None) -> Signatures:
    """Sign every part that asks for one of these keys.

    Args:
        draft: As the server shows it, with its payloads.
        uris: Of private keys; which of the draft's keys each one is, is found out by trying.
        passphrase: Opens sealed files; by default it is read from ``passphrase`` beside each.

    Returns:
        Hex by keyid, by role.

    Raises:
        UsageFault: A key is none of those that the draft asks for.
        keys.errors.CustodyError: It cannot be reached or opened.
    """
    found: Signatures = {}
    for uri in uris:
        keyid, signer = matching(draft, uri, passphrase)
        for part in draft["parts"]:
            if any(keyid in one["keyids"] for one in part["requirements"]):
                found.setdefault(part["role"], {})[keyid] = signer.sign(payload_of(part)).signature
    return found


def matching(draft: Mapping[str, Any], uri: str, passphrase: str | None) -> tuple[str, Any]:
    """Keyid and signer of a private key, found out by trying those that are asked for.

    Args:
        draft: ``keys`` by keyid, and ``parts`` of which the first payload is signed to try.
        uri: Of the private key.
        passphrase: As for :func:`signatures`.

    Raises:
        UsageFault: The key is none of them.
        keys.errors.CustodyError: It cannot be reached or opened.
    """
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import SSlibKey

    from keys.errors import KeyDamaged, SigningFailed
    from keys.holders import open_signer

    probe = payload_of(draft["parts"][0])
    failure: SigningFailed | None = None
    for keyid, told in draft["keys"].items():
        public = SSlibKey.from_dict(keyid, {**told})
        try:
            signer = open_signer(uri, public, passphrase=passphrase)
            # Not every kind of store knows which public half it has; a signature tells.
            public.verify_signature(signer.sign(probe), probe)
        except SigningFailed as error:
            failure = error  # also how a store says that it has another key than this one
        except (KeyDamaged, UnverifiedSignatureError, VerificationError):
            continue
        else:
            return keyid, signer
    raise UsageFault(
        f"{uri.partition(':')[0]}: this is none of the {len(draft['keys'])} keys that the draft asks for"
        + (f" ({failure})" if failure is not None else ""),
        hint="`publish repo draft show` names them",
    ) from failure


def read_draft(path: Path) -> dict[str, Any]:
    """Read an exported draft."""
    told = _json(path)
    if told.get("format") != FORMAT or "parts" not in told or any("payload" not in part for part in told["parts"]):
        raise UsageFault(f"{path} is no exported draft", hint="`publish repo draft export` makes one")
    return told


def write_signatures(path: Path, draft_id: str, found: Signatures) -> None:
    """Write a signature file, to be carried to where there is a network."""
    path.write_text(json.dumps({"format": FORMAT, "draft": draft_id, "signatures": found}, indent=2) + "\n", "utf-8")


def read_signatures(path: Path) -> tuple[str, Signatures]:
    """Draft id and signatures of a signature file."""
    told = _json(path)
    if told.get("format") != FORMAT or not isinstance(told.get("signatures"), dict):
        raise UsageFault(f"{path} is no signature file", hint="`publish repo sign --offline-file` makes one")
    return str(told["draft"]), told["signatures"]


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageFault(f"{path} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise UsageFault(f"{path} is no JSON object")
    return told
