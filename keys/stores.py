"""The stores that can hold a private key, each behind a URI scheme of securesystemslib or of our own.

| URI | store | needs |
|---|---|---|
| ``sealed:<path>`` | encrypted file | nothing |
| ``wavegate-signer:<socket>?key=<name>`` | our signer process | nothing |
| ``hsm:<keyid>?label=<token>`` | PKCS#11 token | extra ``hsm``; its PIN; ``PYKCS11LIB`` |
| ``awskms:<key id, ARN or alias>`` | AWS KMS | extra ``awskms``; ambient AWS credentials |
| ``gcpkms:<resource name of a key version>`` | Google Cloud KMS | extra ``gcpkms``; ambient credentials |
| ``azurekms://<vault>.vault.azure.net/keys/<key>/<version>`` | Azure Key Vault | extra ``azurekms``; the same |
| ``hv:<key>/<version>`` | Vault, transit engine, ed25519 | extra ``vault``; ``VAULT_ADDR``, ``VAULT_TOKEN`` |
| ``gnupg:<home folder>`` | GnuPG | the program ``gpg`` |

Every store has errors of its own. Outside of this file there are only those of the room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    AWSSigner,
    AzureSigner,
    GCPSigner,
    GPGSigner,
    HSMSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
    VaultSigner,
)

from keys.errors import CustodyError, KeyDamaged, KeyNotHere, KeyStoreMissing, KeyUnsuitable, SigningFailed
from keys.files import PASSPHRASE, SCHEME, public_of
from keys.ring_file import RoleKey
from keys.signer_client import SIGNER_SCHEME, SocketSigner, address_of, ask_public

PIN: Final = HSMSigner.SECRETS_HANDLER_MSG
PUBLIC: Final = "public"  # `public:<file.pem>`, only to import: the private half is a person's

_NEEDS: Final = {
    HSMSigner.SCHEME: "the extra `hsm` (pip install 'wavegate[hsm]')",
    AWSSigner.SCHEME: "the extra `awskms` (pip install 'wavegate[awskms]')",
    GCPSigner.SCHEME: "the extra `gcpkms` (pip install 'wavegate[gcpkms]')",
    AzureSigner.SCHEME: "the extra `azurekms` (pip install 'wavegate[azurekms]')",
    VaultSigner.SCHEME: "the extra `vault` (pip install 'wavegate[vault]')",
    GPGSigner.SCHEME: "the program gpg, 2.1 or later (Debian: apt-get install gnupg)",
}
_IN_THE_CLEAR: Final = "file2"
_LONGEST_REASON: Final = 300  # characters; some stores answer with whole pages
# securesystemslib puts these into a command line and splits it at blanks, so nothing else may stand in them.
_GPG_HOME: Final = re.compile(r"(/[A-Za-z0-9._/+@-]*)?")
_GPG_KEYID: Final = re.compile(r"[0-9a-f]{40}")

# A token has one login state for the whole process: a second thread that logs in meets "user already logged in".
_TOKEN: Final = Lock()


class StoreSigner(Signer):
    """Signs through a store of somebody else's and believes it nothing: every signature is verified before use."""

    def __init__(self, name: str, scheme: str, signer: Signer) -> None:
        self._name: Final = name
        self._scheme: Final = scheme
        self._signer: Final = signer

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> StoreSigner:
        """Open the store that the URI names; see :func:`open_store`."""
        return cls(
            priv_key_uri,
            priv_key_uri.partition(":")[0],
            Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler),
        )

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    def sign(self, payload: bytes) -> Signature:
        """Sign.

        Raises:
            KeyStoreMissing: The library that reaches the store is not installed.
            KeyLocked: Its PIN is not known.
            SigningFailed: The store gave no signature, or one of another key.
        """
        try:
            with _TOKEN if self._scheme == HSMSigner.SCHEME else nullcontext():
                signature = self._signer.sign(payload)
        except CustodyError:
            raise
        except UnsupportedLibraryError as error:
            raise _missing(self._scheme) from error
        except Exception as error:
            # Each kind of store raises errors of its own.
            raise SigningFailed(f"the {self._name} key's {self._scheme}: store did not sign: {_told(error)}") from error
        try:
            self.public_key.verify_signature(signature, payload)
        except Exception as error:
            # A signature that cannot be verified is as good as none, whatever the library calls the reason.
            raise SigningFailed(
                f"the {self._name} key's {self._scheme}: store signed with another key than the keyring names; "
                "find out who changed the key there"
            ) from error
        return signature


def open_store(name: str, uri: str, public: Key, secret: SecretsHandler) -> Signer:
    """A signer for a key in any store but a sealed file.

    Args:
        name: Of the key, for messages.
        uri: See the top of this file.
        public: What the private half must belong to.
        secret: Asked for ``"pin"`` at every signature with a PKCS#11 token.

    Raises:
        KeyDamaged: The URI cannot be read.
        KeyStoreMissing: The library or program that reaches the store is not installed.
        KeyNotHere: The store does not know the key or does not answer.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == _IN_THE_CLEAR:
        raise KeyDamaged(f"the {name} key's URI is {uri!r}: such files are not encrypted; seal the key")
    if scheme not in SIGNER_FOR_URI_SCHEME:
        raise KeyDamaged(f"the {name} key has a URI of the unknown scheme {scheme!r}")
    if scheme == GPGSigner.SCHEME and not (_GPG_HOME.fullmatch(rest) and _GPG_KEYID.fullmatch(public.keyid)):
        raise KeyDamaged(f"the {name} key's URI is {uri!r}; expected gnupg: and a path of letters, digits and ._/+@-")
    with _one_kind_of_error(scheme, f"the {name} key could not be reached through its {scheme}: URI"):
        signer = Signer.from_priv_key_uri(uri, public, secret)
        return signer if isinstance(signer, SocketSigner) else StoreSigner(name, scheme, signer)


def import_key(address: str, *, secret: SecretsHandler | None = None) -> RoleKey:
    """Fetch a public key from where its private half is kept, once; URI and key belong into the keyring afterwards.

    Args:
        address: ``hsm:[<keyid>][?label=<token>]`` (key id 2, the PIV signature slot, by default) ·
            ``awskms:<key id, ARN or alias>`` · ``gcpkms:<resource name of a key version>`` ·
            ``azurekms:<vault>/<key>`` · ``hv:<key>`` (its newest version is pinned) ·
            ``gnupg:[<home folder>]?key=<40 hex digits>`` · ``sealed:<absolute path>`` ·
            ``wavegate-signer:<socket>?key=<name>`` · ``public:<PEM file>`` for a key that a person holds elsewhere:
            it gets no URI.
        secret: Asked for ``"passphrase"`` of a sealed file, and for the ``"pin"`` of a token that shows no public key
            without.

    Raises:
        KeyUnsuitable: The address has another form, or the key is of a kind that TUF clients do not know.
        KeyStoreMissing: The library or program that reaches the store is not installed.
        KeyNotHere: The store does not know the key or does not answer.
        KeyLocked: A secret is missing or wrong.
    """
    scheme, _, rest = address.partition(":")
    with _one_kind_of_error(scheme, f"no key could be fetched from {address!r}"):
        uri, public = _imported(scheme, rest, secret)
    return RoleKey(uri, public)


def _imported(scheme: str, rest: str, secret: SecretsHandler | None) -> tuple[str | None, Key]:
    path, _, query = rest.partition("?")
    options = {key: values[0] for key, values in parse_qs(query).items()}
    if scheme == HSMSigner.SCHEME and (not path or path.isdecimal()):
        with _TOKEN:
            return HSMSigner.import_(int(path) if path else None, options.get("label"), secret)
    if scheme == AWSSigner.SCHEME and rest:
        return AWSSigner.import_(rest)
    if scheme == GCPSigner.SCHEME and rest:
        return GCPSigner.import_(rest)
    if scheme == AzureSigner.SCHEME and len(parts := rest.split("/")) == 2 and all(parts):
        return AzureSigner.import_(parts[0], parts[1])
    if scheme == VaultSigner.SCHEME and rest and "/" not in rest:
        return VaultSigner.import_(rest)
    if scheme == GPGSigner.SCHEME and _GPG_HOME.fullmatch(path):
        keyid = options.get("key", "").lower()  # the library compares with its own lower-case form
        if _GPG_KEYID.fullmatch(keyid):
            return GPGSigner.import_(keyid, path or None)
    if scheme == SCHEME and Path(rest).is_absolute():
        return f"{SCHEME}:{rest}", public_of(Path(rest), "" if secret is None else secret(PASSPHRASE))
    if scheme == SIGNER_SCHEME:
        return f"{SIGNER_SCHEME}:{rest}", ask_public(address_of(f"{SIGNER_SCHEME}:{rest}"))
    if scheme == PUBLIC and rest:
        return None, SSlibKey.from_crypto(load_pem_public_key(Path(rest).read_bytes()))
    raise KeyUnsuitable(
        f"{scheme}:{rest} names no key; expected one of hsm:<keyid>?label=<token>, awskms:<key>, gcpkms:<key version>, "
        "azurekms:<vault>/<key>, hv:<key>, gnupg:<home>?key=<40 hex digits>, sealed:<path>, "
        "wavegate-signer:<socket>?key=<name>, public:<file.pem>"
    )


@contextmanager
def _one_kind_of_error(scheme: str, what: str) -> Iterator[None]:
    try:
        yield
    except CustodyError:
        raise
    except UnsupportedLibraryError as error:
        raise _missing(scheme) from error
    except Exception as error:
        # Each kind of store raises errors of its own.
        raise KeyNotHere(f"{what}: {_told(error)}") from error


def _missing(scheme: str) -> KeyStoreMissing:
    return KeyStoreMissing(f"keys with {scheme}: URIs need {_NEEDS.get(scheme, 'a library')}, which is not installed")


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_LONGEST_REASON]
