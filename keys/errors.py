"""What can be wrong with the custody of keys.

CustodyError
├── UnknownKey          no key of that name in the keyring
├── KeyNotHere          its private half is not in reach (an offline key's usual state)
├── KeyStoreMissing     the library or program that reaches its store is not installed
├── KeyLocked           the passphrase is missing or does not open it
├── KeyDamaged          keyring or key file is not what it should be
├── KeyExists           there is a keyring or key file already; none is ever written over
├── KeyUnsuitable       a key of a kind, or a threshold, that the role cannot have
├── SigningFailed       the store was asked and gave no signature, or not that of its key
├── SigningRefused      the signer process holds the key and its policy says no
├── SignerUnusable      the signer process cannot start
├── SealBroken                  a sealed secret is damaged, or sealed by another home
├── IdTokenInvalid              an identity token is not one, or not for us, or not for now
├── IdTokenKeyUnknown           it is signed by a key that its issuer does not publish
├── DeviceCaExists              there is a device CA in this folder already
├── DeviceCaUnusable            its files are missing, damaged, or do not belong together; its key does not sign
├── DeviceCaRotationRefused     one is under way, none is, or it is too early to finish it
└── InvalidCertificateRequest   a device asks for a certificate in a form that is not signed
"""

from __future__ import annotations

from typing import ClassVar


class CustodyError(Exception):
    """Root of the room's errors; ``code`` is stable. No message ever holds a passphrase or private key."""

    code: ClassVar[str] = "custody_error"


class UnknownKey(CustodyError):
    code = "key_unknown"


class KeyNotHere(CustodyError):
    code = "key_not_here"


class KeyLocked(CustodyError):
    code = "key_locked"


class KeyDamaged(CustodyError):
    code = "key_damaged"


class KeyExists(CustodyError):
    code = "key_exists"


class KeyStoreMissing(CustodyError):
    code = "key_store_missing"


class KeyUnsuitable(CustodyError):
    code = "key_unsuitable"


class SigningFailed(CustodyError):
    code = "signing_failed"


class SigningRefused(CustodyError):
    code = "signing_refused"


class SignerUnusable(CustodyError):
    code = "signer_unusable"


class SealBroken(CustodyError):
    code = "seal_broken"


class IdTokenInvalid(CustodyError):
    code = "id_token_invalid"


class IdTokenKeyUnknown(CustodyError):
    code = "id_token_key_unknown"


class DeviceCaExists(CustodyError):
    code = "device_ca_exists"


class DeviceCaUnusable(CustodyError):
    code = "device_ca_unusable"


class DeviceCaRotationRefused(CustodyError):
    code = "device_ca_rotation_refused"


class InvalidCertificateRequest(CustodyError):
    code = "invalid_certificate_request"
