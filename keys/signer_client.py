"""Signing through the signer process: this side of the socket holds no private key.

The URI is ``wavegate-signer:<absolute path of the socket>?key=<name>``, the path percent-encoded where needed.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key, SecretsHandler, Signature, Signer, SSlibKey

from keys.errors import CustodyError, KeyLocked, KeyNotHere, SigningFailed, SigningRefused, UnknownKey
from keys.signer_wire import BrokenFrame, receive_frame, send_frame

SIGNER_SCHEME: Final = "wavegate-signer"

_TIMEOUT: Final = 60.0  # seconds for each step; the signer may itself wait for a store across the network
_ERRORS: Final[dict[str, type[CustodyError]]] = {
    kind.code: kind for kind in (SigningRefused, SigningFailed, UnknownKey, KeyNotHere, KeyLocked)
}


class SignerAddress(NamedTuple):
    """Socket of a signer process and the name of a key there."""

    socket: Path
    key: str

    def uri(self) -> str:
        """The URI for the keyring."""
        return f"{SIGNER_SCHEME}:{quote(str(self.socket))}?{urlencode({'key': self.key})}"


def address_of(uri: str) -> SignerAddress:
    """Read a URI; raises ValueError when it is of another form."""
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    names = parse_qs(query)
    if (
        scheme != SIGNER_SCHEME
        or not path.startswith("/")
        or [(name, len(values)) for name, values in names.items()] != [("key", 1)]
    ):
        raise ValueError(f"expected {SIGNER_SCHEME}:<absolute path>?key=<name>, found {uri!r}")
    return SignerAddress(Path(unquote(path)), names["key"][0])


class SocketSigner(Signer):
    """Signs with a key that the signer process holds; its policy may refuse."""

    SCHEME = SIGNER_SCHEME

    def __init__(self, address: SignerAddress, public_key: Key) -> None:
        self._address: Final = address
        self._public_key: Final = public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> SocketSigner:
        """Take a URI (see the top of this file); nothing is connected before the first signature.

        Raises:
            ValueError: The URI is of another form.
        """
        del secrets_handler  # there are none on this side
        return cls(address_of(priv_key_uri), public_key)

    @property
    def public_key(self) -> Key:
        return self._public_key

    def sign(self, payload: bytes) -> Signature:
        """Sign a role that is named like its key (timestamp, snapshot); :meth:`sign_as` is for all others."""
        return self.sign_as(self._address.key, payload)

    def sign_as(self, role: str, payload: bytes) -> Signature:
        """Sign the signed part of a role's metadata, whose name is not always in it.

        Raises:
            SigningRefused: The signer's policy says no; the message says why.
            SigningFailed: It, or the store behind it, gave no valid signature.
            KeyNotHere: The signer does not answer.
        """
        question = {"ask": "sign", "key": self._address.key, "keyid": self._public_key.keyid, "role": role}
        answer = _ask(self._address.socket, question, payload)
        try:
            signature = Signature.from_dict(answer["signature"])
            self._public_key.verify_signature(signature, payload)
        except Exception as error:
            # Whatever another program that sits on the socket answers, it is no signature of this key.
            raise SigningFailed(
                f"what answers at {self._address.socket} did not sign with the {self._address.key} key; "
                "find out which program that is"
            ) from error
        return signature


def ask_highest(path: Path) -> int:
    """The highest version that a signer process ever signed with a key it still holds, root aside; 0 for none.

    A number that was signed and then lost in a crash stands in no file, and would be refused the next time.

    Raises:
        KeyNotHere: The signer does not answer.
    """
    version = _ask(path, {"ask": "highest"}).get("version")
    if type(version) is not int:
        raise _stranger(path)
    return version


def ask_public(address: SignerAddress) -> Key:
    """The public half of the first key of that name; raises UnknownKey, KeyNotHere."""
    return _public_in(_ask(address.socket, {"ask": "public", "key": address.key}), address)


def ask_made(address: SignerAddress, known: Collection[str]) -> SSlibKey:
    """Have the signer make another key of that name beside those it holds, whose ids are ``known`` here.

    Raises:
        SigningRefused: It makes none: its keys are in a store of their own, or there are too many.
        UnknownKey, KeyNotHere: It holds no such key, or does not answer.
    """
    made = _public_in(_ask(address.socket, {"ask": "make", "key": address.key, "known": sorted(known)}), address)
    if not isinstance(made, SSlibKey):
        raise _stranger(address.socket)
    return made


def ask_retired(address: SignerAddress, keyid: str) -> None:
    """Have the signer put a key out of use; one that it does not hold is none already.

    Raises:
        SigningRefused: It is the last one of that name.
        KeyNotHere: The signer does not answer.
    """
    with suppress(UnknownKey):
        _ask(address.socket, {"ask": "retire", "key": address.key, "keyid": keyid})


def _public_in(answer: dict[str, Any], address: SignerAddress) -> Key:
    try:
        return Key.from_dict(answer["keyid"], dict(answer["public"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _stranger(address.socket) from error


def _ask(path: Path, question: dict[str, Any], payload: bytes = b"") -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(str(path))
            send_frame(connection, question, payload)
            answer, _ = receive_frame(connection)
    except (OSError, BrokenFrame) as error:
        raise KeyNotHere(
            f"the signer at {path} does not answer ({getattr(error, 'strerror', None) or error}); is it running, and "
            "may this user reach it?"
        ) from error
    match answer.get("error"):
        case None:
            return answer
        case {"code": str(code), "message": str(message)}:
            raise _ERRORS.get(code, SigningFailed)(message)
        case _:
            raise _stranger(path)


def _stranger(path: Path) -> SigningFailed:
    return SigningFailed(f"what answers at {path} is no signer of this version; find out which program that is")


SIGNER_FOR_URI_SCHEME[SIGNER_SCHEME] = SocketSigner
