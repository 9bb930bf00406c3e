"""Keys of people: made on their own machine, known to the server by their public half alone, reached by URI.

A public key travels as a file ``<name>.pub``: JSON with ``keyid``, ``keytype``, ``scheme`` and ``keyval``.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key, Signer, SSlibKey

from keys.errors import KeyDamaged, KeyExists, KeyLocked, KeyNotHere
from keys.files import PASSPHRASE, SCHEME, make_private_folder, new_sealed_key, public_of, write_private
from keys.stores import PUBLIC, import_key, open_store

_PASSPHRASE_BYTES: Final = 32
_LONGEST_FILE: Final = 100_000  # bytes; a public key has a few hundred


def new_holder_key(folder: Path, name: str, *, passphrase: str | None = None) -> tuple[Path, SSlibKey]:
    """Make a key for a person: ``<name>.pem`` encrypted, ``<name>.pub`` to hand out, ``passphrase`` unless given.

    Args:
        folder: Made with mode 0700 when it is not there.
        name: Of the files.
        passphrase: Opens the key; one that is given is written nowhere. A ``passphrase`` in the folder is used again.

    Returns:
        The path of the public file, and the key.

    Raises:
        KeyExists: One of the files is there already; nothing is written over.
        OSError: A file could not be written.
    """
    make_private_folder(folder)
    public_file = folder / f"{name}.pub"
    if public_file.exists():
        raise KeyExists(f"there is a key at {public_file} already; choose another name")
    secret = passphrase
    if secret is None:
        secret_file = folder / PASSPHRASE
        if not secret_file.exists():
            write_private(secret_file, f"{secrets.token_urlsafe(_PASSPHRASE_BYTES)}\n".encode())
        secret = secret_file.read_text("utf-8").strip()
    key = new_sealed_key(folder / f"{name}.pem", secret)
    write_private(public_file, public_text(key))
    public_file.chmod(0o644)  # made to be handed out
    return public_file, key


def public_text(key: Key) -> bytes:
    """The content of a ``.pub`` file."""
    return (json.dumps({"keyid": key.keyid, **key.to_dict()}, indent=2, sort_keys=True) + "\n").encode()


def public_key(named: str, *, passphrase: str | None = None) -> dict[str, Any]:
    """Read a public key: a ``.pub`` file, a PEM file of a public key, or fetch it from where the private half is kept.

    Args:
        named: A path, or an address as :func:`keys.stores.import_key` takes it.
        passphrase: Opens a sealed file; the PIN of a token.

    Raises:
        KeyNotHere: There is no such file, or the store does not answer.
        KeyLocked: The sealed file does not open.
        KeyDamaged: It is none of these.
        KeyUnsuitable, KeyStoreMissing: See :func:`keys.stores.import_key`.
    """
    path = Path(named)
    scheme = named.partition(":")[0] if ":" in named and not path.exists() else ""
    if scheme != SCHEME and scheme in (*SIGNER_FOR_URI_SCHEME, PUBLIC):
        key: Key = import_key(named, secret=None if passphrase is None else lambda _: passphrase).public
        return {"keyid": key.keyid, **key.to_dict()}
    if named.startswith(f"{SCHEME}:") or (path.suffix == ".pem" and b"PRIVATE" in _read(path)):
        key = public_of(_sealed_path(named), _passphrase(_sealed_path(named), passphrase))
        return {"keyid": key.keyid, **key.to_dict()}
    content = _read(path)
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            key = SSlibKey.from_crypto(load_pem_public_key(content))
        else:
            told = json.loads(content)
            key = SSlibKey.from_dict(told["keyid"], {n: told[n] for n in ("keytype", "scheme", "keyval")})
    except (ValueError, KeyError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyDamaged(f"{path} is no public key: {error}; expected a .pub file or a PEM file") from error
    return {"keyid": key.keyid, **key.to_dict()}


def open_signer(uri: str, public: SSlibKey, *, passphrase: str | None = None) -> Signer:
    """Open the private half of ``public`` through any URI of :mod:`keys.stores`; a path means a sealed file.

    Raises:
        KeyNotHere, KeyLocked, KeyDamaged: It cannot be reached or opened, or belongs to another public key.
        KeyStoreMissing: The library or program that reaches its store is not installed.
    """
    if uri.partition(":")[0] not in SIGNER_FOR_URI_SCHEME or uri.startswith(f"{SCHEME}:"):
        path = _sealed_path(uri)
        secret = _passphrase(path, passphrase)
        return Signer.from_priv_key_uri(f"{SCHEME}:{path}", public, lambda _: secret)

    def pin(what: str) -> str:
        if passphrase is None:
            raise KeyLocked(f"the key at {uri} asks for its {what}; name the file that holds it")
        return passphrase

    return open_store("holder's", uri, public, pin)


def _sealed_path(named: str) -> Path:
    return Path(named.removeprefix(f"{SCHEME}:")).absolute()


def _passphrase(path: Path, given: str | None) -> str:
    if given is not None:
        return given
    file = path.parent / PASSPHRASE
    try:
        return file.read_text("utf-8").strip()
    except FileNotFoundError as error:
        raise KeyLocked(f"{path} is encrypted; name the file with its passphrase, or put it at {file}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_FILE)
    except FileNotFoundError as error:
        raise KeyNotHere(f"no key file at {path}; name the .pub file that the key's holder gave you") from error
