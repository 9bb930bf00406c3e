"""Sigstore bundles, verified offline by the ``sigstore`` library if it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from sbom.attestation_model import AttestationState, SigstoreIdentity, SigstorePolicy, VerifiedBy
from sbom.attestation_statement import PAYLOAD_TYPE
from sbom.errors import InvalidTrust
from sbom.semantics import printable

if TYPE_CHECKING:
    from sigstore.verify import Verifier

BUNDLES: Final = (
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
)
_MISSING: Final = "the library sigstore is not installed; install wavegate with its extra [sigstore]"
_REASON: Final = 300  # characters; the library's messages repeat the bundle's own texts
# Beside its own errors the library lets through what those below it raise on strangers' certificates and entries.
_BELOW: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError),
    *(UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What verification said; ``reason`` is there exactly if it is not ``verified``.

    ``payload`` is what the verifier itself took for the signed bytes, None where it had no say.
    """

    state: AttestationState
    verified_by: tuple[VerifiedBy, ...] = ()
    reason: str | None = None
    payload: bytes | None = None


def verify_bundle(bundle: bytes, *, holds_envelope: bool, artifact_sha256: str, policy: SigstorePolicy) -> Outcome:
    """Verify a bundle of one of ``BUNDLES``: certificate chain, its log, signed time, log entry, identity, signature.

    Args:
        bundle: The JSON as it came, known to be free of duplicate keys.
        holds_envelope: It signs a DSSE envelope; otherwise it must sign the artifact itself.
        artifact_sha256: 64 lower-case hex digits.
        policy: Whose signature counts.

    Raises:
        InvalidTrust: The trusted root cannot be read or is none.
    """
    try:
        import sigstore.errors
        import sigstore.hashes
        import sigstore.models
        import sigstore.verify
        from sigstore_models.common.v1 import HashAlgorithm
    except ImportError:
        return Outcome("unverified", reason=_MISSING)
    verifier = _verifier(policy)
    identity = _OneOf(policy.identities)
    try:
        payload = None
        parsed = sigstore.models.Bundle.from_json(bundle)
        if holds_envelope:
            payload_type, payload = verifier.verify_dsse(parsed, identity)
            if payload_type != PAYLOAD_TYPE:
                return Outcome("failed", reason=f"the signed payload is {printable(payload_type[:_REASON])}")
        else:
            digest = bytes.fromhex(artifact_sha256)
            hashed = sigstore.hashes.Hashed(algorithm=HashAlgorithm.SHA2_256, digest=digest)
            verifier.verify_artifact(hashed, parsed, identity)
    except (sigstore.errors.Error, *_BELOW) as error:
        said = str(error) or type(error).__name__
        return Outcome("failed", reason=f"Sigstore verification failed: {printable(said[:_REASON])}")
    if identity.found is None:
        return Outcome("failed", reason="Sigstore verification did not ask for the signer's identity")
    verified_by = VerifiedBy(identity=identity.found.identity, issuer=identity.found.issuer)
    return Outcome("verified", verified_by=(verified_by,), payload=payload)


def _verifier(policy: SigstorePolicy) -> Verifier:
    import sigstore.errors
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier

    try:
        return Verifier(trusted_root=TrustedRoot.from_file(str(policy.trusted_root)))
    except (OSError, sigstore.errors.Error, *_BELOW) as error:
        raise InvalidTrust(
            f"{policy.trusted_root.name} is no Sigstore trusted root; expected a trusted_root.json that can be read"
        ) from error


class _OneOf:
    """The library's policy protocol: holds if the certificate is one of these identities, and remembers which."""

    def __init__(self, identities: tuple[SigstoreIdentity, ...]) -> None:
        self.found: SigstoreIdentity | None = None
        self._identities = identities

    def verify(self, cert: x509.Certificate) -> None:
        """Raises sigstore's VerificationError unless one identity and its issuer are the certificate's."""
        from sigstore.errors import VerificationError
        from sigstore.verify.policy import Identity

        for one in self._identities:
            try:
                Identity(identity=one.identity, issuer=one.issuer).verify(cert)
            except (VerificationError, x509.ExtensionNotFound):
                continue
            self.found = one
            return
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = ", ".join(str(name.value) for name in names)
        raise VerificationError(f"{shown} is none of the {len(self._identities)} trusted identities, or of its issuer")
