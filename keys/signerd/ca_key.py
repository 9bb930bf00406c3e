"""A key for the device CA, made in the home of the signer process that is to hold it."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import SSlibKey

from keys.errors import KeyExists, KeyUnsuitable
from keys.files import PASSPHRASE, SCHEME, make_private_folder, new_sealed_key, write_private
from keys.ring_file import KEYRING_FILE, RoleKey, RoleKeys, changed_ring, create_ring
from keys.signerd.certificates import CA_KEY


def new_ca_key(home: Path, name: str) -> SSlibKey:
    """Make an EC P-256 key in an encrypted file of ``home``, and name it in the keyring there, made if need be.

    A signer process that runs on the home holds it once it was started anew.

    Raises:
        KeyUnsuitable: The name is none of a device CA's key.
        KeyExists: There is a key of that name.
        OSError: A file could not be written.
    """
    if CA_KEY.fullmatch(name) is None:
        raise KeyUnsuitable(f"{name!r} is no name of a device CA's key; expected device-ca, or device-ca-2027")
    make_private_folder(home / "online")
    secret_file = home / PASSPHRASE
    if not secret_file.exists():
        write_private(secret_file, f"{secrets.token_urlsafe(32)}\n".encode())
    file = f"{name}.pem"
    public = new_sealed_key(home / "online" / file, secret_file.read_text("utf-8").strip(), curve=ec.SECP256R1())
    role = RoleKeys((RoleKey(f"{SCHEME}:online/{file}", public),))
    if not (home / KEYRING_FILE).exists():
        create_ring(home / KEYRING_FILE, {name: role})
        return public
    with changed_ring(home / KEYRING_FILE) as ring:
        if name in ring:
            raise KeyExists(f"the keyring in {home} names a {name} key already; choose another name")
        ring[name] = role
    return public
