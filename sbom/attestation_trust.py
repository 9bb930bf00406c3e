"""Whom to believe about attestations: a folder of public keys, and Sigstore identities in a file beside them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Key

from sbom.attestation_dsse import load_public_key
from sbom.attestation_model import SigstoreIdentity, SigstorePolicy
from sbom.errors import InvalidTrust

SIGSTORE_FILE: Final = "sigstore.toml"
_KEY_SUFFIXES: Final = (".pem", ".pub")
_MAX_KEYS: Final = 100  # every signature is tried with each
_IDENTITY: Final = frozenset({"identity", "issuer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationTrust:
    """What :func:`sbom.attestation.read_attestation` is given to verify with; empty, everything is unverified."""

    keys: tuple[Key, ...] = ()
    sigstore_policy: SigstorePolicy | None = None


def read_trust(folder: Path) -> AttestationTrust:
    """Read a folder of ``*.pem`` and ``*.pub`` files, each one public key, and a ``sigstore.toml`` if it has one.

    The latter has ``trusted_root``, a file named from the folder, and tables ``[[identity]]`` of ``identity`` and
    ``issuer``. A folder that is not there trusts nobody.

    Raises:
        InvalidTrust: Something in it is not what it should be; nothing of the folder counts then.
    """
    if not folder.exists():
        return AttestationTrust()
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in _KEY_SUFFIXES)
        if len(files) > _MAX_KEYS:
            raise InvalidTrust(f"{folder} holds {len(files)} keys, at most {_MAX_KEYS} are read")
        keys = tuple(_key(path) for path in files)
        file = folder / SIGSTORE_FILE
        return AttestationTrust(keys=keys, sigstore_policy=_policy(file) if file.exists() else None)
    except OSError as error:
        raise InvalidTrust(f"{folder} cannot be read: {error.strerror or error}") from error


def _key(path: Path) -> Key:
    try:
        return load_public_key(path.read_bytes())
    except InvalidTrust as error:
        raise InvalidTrust(f"{path.name}: {error}") from error


def _policy(file: Path) -> SigstorePolicy:
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except ValueError as error:  # UnicodeDecodeError and TOMLDecodeError are both
        raise InvalidTrust(f"{file.name} is no TOML: {error}") from error
    root, identities = found.get("trusted_root"), found.get("identity")
    if found.keys() != {"trusted_root", "identity"} or not isinstance(root, str) or not isinstance(identities, list):
        raise InvalidTrust(f"{file.name} has {sorted(found)}; expected trusted_root and tables [[identity]], no more")
    if not identities:
        raise InvalidTrust(f"{file.name} names no identity; without one nobody's bundles are trusted")
    return SigstorePolicy(identities=tuple(_identity(file, one) for one in identities), trusted_root=file.parent / root)


def _identity(file: Path, one: object) -> SigstoreIdentity:
    if not isinstance(one, dict) or one.keys() != _IDENTITY or not all(isinstance(v, str) and v for v in one.values()):
        raise InvalidTrust(f"an [[identity]] of {file.name} is not a text identity and a text issuer, and no more")
    return SigstoreIdentity(**one)
