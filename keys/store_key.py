"""A private key in a store, in the shape in which ``cryptography`` takes a key that is to sign a certificate."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Key, Signer

from keys.errors import KeyUnsuitable

_ECDSA: Final = "ecdsa"
# The stores hash what they are given, each kind of key with one hash and no other.
_HASHES: Final[dict[str, type[hashes.SHA256 | hashes.SHA384]]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
}


def hash_for(key: ec.EllipticCurvePublicKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that a CA with this key signs with."""
    return _HASHES[key.curve.name]()


def ec_public(key: Key) -> ec.EllipticCurvePublicKey:
    """The key as a CA may have it; raises KeyUnsuitable for any but EC P-256 and P-384.

    Ed25519 would be shorter, and TLS libraries of devices refuse a certificate that is signed with it.
    """
    public = load_pem_public_key(key.keyval["public"].encode()) if key.keytype == _ECDSA else None
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in _HASHES:
        return public
    raise KeyUnsuitable(
        f"the key is a {key.keytype} key of scheme {key.scheme}, with which TLS does not take certificates everywhere; "
        "make one of EC P-256 or P-384"
    )


class StoreKey(ec.EllipticCurvePrivateKey):
    """Signs through a store; nothing else that a private key can be asked for is ever in this process."""

    def __init__(self, signer: Signer, public: ec.EllipticCurvePublicKey) -> None:
        self._signer: Final = signer
        self._public: Final = public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """A signature in DER; raises what the store's signer raises, and TypeError for another hash than the key's."""
        wanted = hash_for(self._public)
        if not isinstance(signature_algorithm.algorithm, type(wanted)):
            raise TypeError(f"the store signs with {wanted.name}, {signature_algorithm.algorithm!r} was asked for")
        return bytes.fromhex(self._signer.sign(bytes(data)).signature)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """Of the public half."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """In bits."""
        return self._public.curve.key_size

    def exchange(self, *_: object) -> NoReturn:
        """Not to be had."""
        raise _not_here()

    def private_numbers(self) -> NoReturn:
        """Not to be had."""
        raise _not_here()

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """Not to be had."""
        raise _not_here()

    def __copy__(self) -> StoreKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StoreKey:
        return self


def _not_here() -> TypeError:
    return TypeError("the key is in a store, which signs with it and never shows it")
