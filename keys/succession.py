"""The key that takes the place of another: made, or named, where the role's keys are kept."""

from __future__ import annotations

from typing import Final

from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner, HSMSigner, SSlibKey, VaultSigner

from keys.errors import KeyUnsuitable
from keys.files import SCHEME
from keys.keyring import Keyring
from keys.ring_file import RoleKey
from keys.signer_client import SIGNER_SCHEME, address_of, ask_made
from keys.stores import import_key, open_store

# Stores of somebody else's that sign for every client. Whoever may only ask the server names no file of it.
STORES: Final = (HSMSigner.SCHEME, AWSSigner.SCHEME, GCPSigner.SCHEME, AzureSigner.SCHEME, VaultSigner.SCHEME)

_PROBE: Final = b"wavegate: is this key in reach?"


class Succession:
    """Finds the next keys of the online roles of a keyring."""

    def __init__(self, ring: Keyring) -> None:
        self._ring: Final = ring

    def check(self, name: str, address: str | None = None) -> None:
        """Raise KeyUnsuitable unless :meth:`add` could find the role a key; nothing is made. UnknownKey for no role."""
        uris = [key.uri or "" for key in self._ring.keys(name).keys]
        if address is not None:
            if address.partition(":")[0] not in STORES:
                raise KeyUnsuitable(
                    f"{address!r} is no key that a server takes by its address; expected one of "
                    f"{', '.join(f'{scheme}:…' for scheme in STORES)}. In files and in the signer process keys are made"
                )
            return
        if not any(all(uri.startswith(f"{scheme}:") for uri in uris) for scheme in (SCHEME, SIGNER_SCHEME)):
            raise KeyUnsuitable(
                f"the {name} key is in a store where none can be made from here ({uris[-1] or 'a person holds it'}); "
                f"make one there and name it, such as `--key {name}=hsm:3?label=online`"
            )

    def add(self, name: str, address: str | None = None) -> SSlibKey:
        """Put the role's next key behind those it has; it signs for nobody until root or a delegation names it.

        Args:
            name: Of the role.
            address: Where the key is, as :func:`keys.stores.import_key` takes it; by default one is made beside those
                that the role has, in files or in the signer process.

        Returns:
            Its public half.

        Raises:
            KeyUnsuitable: See :meth:`check`; or the key is one that some clients cannot verify, or is in use already.
            KeyNotHere, KeyStoreMissing, KeyLocked, SigningFailed: The store does not give or use the key.
            SigningRefused: The signer process makes none.
            OSError: A file could not be written.
        """
        self.check(name, address)
        if address is not None:
            return self._named(name, address)
        keys = self._ring.keys(name).keys
        uri = keys[0].uri or ""
        if not uri.startswith(f"{SIGNER_SCHEME}:"):
            return self._ring.add_online(name)
        made = ask_made(address_of(uri), [key.public.keyid for key in keys])
        self._ring.add(name, RoleKey(uri, made))
        return made

    def _named(self, name: str, address: str) -> SSlibKey:
        def pin(_: str) -> str:
            return self._ring.pin_of(name)

        found = import_key(address, secret=pin)
        if not isinstance(found.public, SSlibKey) or found.uri is None:
            raise KeyUnsuitable(f"{address!r} is a {found.public.scheme} key, which only some clients can verify")
        users = {key.public.keyid: role for role in self._ring.names() for key in self._ring.keys(role).keys}
        if (user := users.get(found.public.keyid)) is not None and user != name:
            raise KeyUnsuitable(f"{address!r} is the {user} key already; every role has keys of its own")
        # Before anybody signs that clients go by it: a key that cannot be used would stop the repository.
        open_store(name, found.uri, found.public, pin).sign(_PROBE)
        if user is None:
            self._ring.add(name, found)
        return found.public
