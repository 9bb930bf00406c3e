"""DSSE envelopes: what they carry, and whether one of the given keys signed it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope as SignedEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signature, SSlibKey

from sbom.attestation_statement import PAYLOAD_TYPE
from sbom.errors import AttestationTooLarge, InvalidAttestation, InvalidTrust, UnsupportedAttestation
from sbom.faults import shown

_MAX_SIGNATURES: Final = 16  # each is tried with each key
_MAX_KEY: Final = 64 * 1024  # bytes of PEM


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope taken apart; its payload is neither verified nor parsed."""

    payload: bytes
    signatures: tuple[bytes, ...]


def load_public_key(pem: bytes) -> Key:
    """A key to verify with: Ed25519, RSA, or ECDSA on a NIST curve, as PEM ``PUBLIC KEY`` (``cosign.pub``).

    Its id is TUF's, the SHA-256 of the key in canonical JSON. RSA signatures are expected with PSS padding and SHA-256.

    Raises:
        InvalidTrust: No such key.
    """
    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem[:_MAX_KEY]))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidTrust("not a public key of a known kind; expected PEM that begins BEGIN PUBLIC KEY") from error


def parse_envelope(document: dict[str, Any]) -> Envelope:
    """Take an envelope apart.

    Raises:
        InvalidAttestation: A member is missing, of the wrong type, or not base64.
        UnsupportedAttestation: The payload is no in-toto statement by its type.
        AttestationTooLarge: More signatures than are tried.
    """
    payload_type = document.get("payloadType")
    if not isinstance(payload_type, str):
        raise InvalidAttestation(f"payloadType of the envelope is {shown(payload_type)}, a text is expected")
    if payload_type != PAYLOAD_TYPE:
        raise UnsupportedAttestation(f'the payload is {shown(payload_type)}; "{PAYLOAD_TYPE}" is read')
    signatures = document.get("signatures")
    if not isinstance(signatures, list) or not signatures:
        raise InvalidAttestation("the envelope has no list of at least one signature")
    if len(signatures) > _MAX_SIGNATURES:
        raise AttestationTooLarge(f"the envelope has {len(signatures)} signatures, at most {_MAX_SIGNATURES} are tried")
    return Envelope(
        payload=_decoded("payload", document.get("payload")),
        signatures=tuple(
            _decoded(f"signatures[{index}].sig", one.get("sig") if isinstance(one, dict) else None)
            for index, one in enumerate(signatures)
        ),
    )


def signers_of(envelope: Envelope, keys: Sequence[Key]) -> tuple[str, ...]:
    """The ids of those ``keys`` that signed the envelope, in their order."""
    return tuple(key.keyid for key in keys if any(_is_signed(envelope, key, one) for one in envelope.signatures))


def _is_signed(envelope: Envelope, key: Key, signature: bytes) -> bool:
    # An envelope's keyids are unsigned hints, and cosign leaves them empty, while the library compares them. So every
    # signature is tried under the name of the key at hand (DSSE protocol: keyid "MUST NOT be used for security
    # decisions").
    named = {key.keyid: Signature(key.keyid, signature.hex())}
    try:
        SignedEnvelope(envelope.payload, PAYLOAD_TYPE, named).verify([key], 1)
    except VerificationError:
        return False
    return True


def _decoded(where: str, text: object) -> bytes:
    # DSSE allows both alphabets; not both in one text, and nothing that is in neither.
    if isinstance(text, str) and text.isascii():
        for altchars in (b"+/", b"-_"):
            try:
                return base64.b64decode(text, altchars=altchars, validate=True)
            except binascii.Error:
                continue
    raise InvalidAttestation(f"{where} of the envelope is not base64")
