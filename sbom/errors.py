"""What can be wrong with an SBOM or an attestation.

SbomError
├── InvalidSbom        not JSON or XML, or not what its own specification version allows
├── UnsupportedSbom    another format, or a specification version that is not read
├── SbomTooLarge       more bytes, values, components or nesting than the limits let in
└── AttestationError
    ├── InvalidAttestation      not an envelope or bundle, or what it signs is no in-toto statement
    ├── UnsupportedAttestation  another payload, statement or bundle type than those that are read
    ├── AttestationTooLarge     more bytes, values, signatures or nesting than the limits let in
    └── InvalidTrust            what to verify with is itself no public key or no trusted root
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class SbomError(Exception):
    """Root of the room's errors; ``code`` is stable, clients branch on it."""

    code: ClassVar[str] = "sbom_error"


class InvalidSbom(SbomError):
    """``details`` lists faults as (where, what); where is a path such as ``components[3].hashes[0]``, or ``line 12``.

    The list may be shorter than the faults are many, and is empty where the message alone says it.
    """

    code = "invalid_sbom"

    def __init__(self, summary: str, details: Sequence[tuple[str, str]] = ()) -> None:
        self.details = tuple(details)
        shown = "; ".join(f"{where}: {what}" if where else what for where, what in details[:_SHOWN])
        more = f"; and {len(details) - _SHOWN} more" if len(details) > _SHOWN else ""
        super().__init__(f"{summary}: {shown}{more}" if shown else summary)


class UnsupportedSbom(SbomError):
    code = "unsupported_sbom"


class SbomTooLarge(SbomError):
    code = "sbom_too_large"


class AttestationError(SbomError):
    code = "attestation_error"


class InvalidAttestation(AttestationError):
    code = "invalid_attestation"


class UnsupportedAttestation(AttestationError):
    code = "unsupported_attestation"


class AttestationTooLarge(AttestationError):
    code = "attestation_too_large"


class InvalidTrust(AttestationError):
    code = "invalid_attestation_trust"


_SHOWN = 3  # faults named in the message itself
