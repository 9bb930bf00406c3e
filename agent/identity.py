"""Who the device is: its key and certificate, whom it trusts, and where they are."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.durable import flush_folder, write_durably
from agent.errors import AlreadyEnrolled, NotEnrolled, StateUnreadable
from agent.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What enrolment gave. ``device_endpoint`` is ``host:port`` of the device port."""

    device_id: str
    name: str
    org: str
    device_endpoint: str
    metadata_url: str
    targets_url: str
    root_sha256: str
    enrolled_at: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """Private key and certificate chain, PEM; one file, so that a renewal replaces both or none."""

    private_key: bytes
    chain: bytes

    def __repr__(self) -> str:
        return f"Credentials(not_after={self.certificate.not_valid_after_utc})"

    @property
    def certificate(self) -> x509.Certificate:
        """The device's own certificate, the first of the chain."""
        return x509.load_pem_x509_certificates(self.chain)[0]

    def renewal_is_due(self, now: datetime) -> bool:
        """Whether two thirds of the certificate's life are over."""
        certificate = self.certificate
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return now >= begins + (ends - begins) * 2 / 3


class Keypair:
    """A fresh P-256 key, made here; it leaves the device in no form."""

    def __init__(self, private_pem: bytes | None = None) -> None:
        """``private_pem``: one that was made before and kept."""
        if private_pem is None:
            self._key = ec.generate_private_key(ec.SECP256R1())
            return
        kept = serialization.load_pem_private_key(private_pem, password=None)
        if not isinstance(kept, ec.EllipticCurvePrivateKey):
            raise ValueError("the key is not one of an elliptic curve")
        self._key = kept

    @property
    def private_pem(self) -> bytes:
        """PKCS #8, not encrypted: an agent that starts by itself has no passphrase to give; the file is 0600."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def request(self, encoding: serialization.Encoding) -> bytes:
        """A PKCS #10 request with an empty subject: the server says who we are."""
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(self._key, hashes.SHA256())
        return request.public_bytes(encoding)

    def fits(self, chain: bytes) -> bool:
        """Whether the first certificate of the chain certifies this key."""
        return x509.load_pem_x509_certificates(chain)[0].public_key() == self._key.public_key()


def is_enrolled(home: Home) -> bool:
    """Whether the home has an identity."""
    _finish_replacing(home)
    return (home.identity / "identity.json").exists()


def save_identity(home: Home, identity: Identity, credentials: Credentials, *, device_ca: bytes, root: bytes) -> None:
    """Write the identity; it appears in one rename. Raises AlreadyEnrolled."""
    _write_new(home, identity, credentials, device_ca, root)
    try:
        _new(home).rename(home.identity)
    except OSError as error:
        raise AlreadyEnrolled(f"{home.folder} has an identity already") from error
    flush_folder(home.folder)


def replace_identity(
    home: Home, identity: Identity, credentials: Credentials, *, device_ca: bytes, root: bytes
) -> None:
    """Put another identity in place of the one that is there, if any; a power cut leaves the one or the other, whole.

    Once the old one has moved aside the new one stands complete beside it, so whoever looks next puts it in place.
    """
    _write_new(home, identity, credentials, device_ca, root)
    if home.identity.exists():
        shutil.rmtree(_old(home), ignore_errors=True)
        home.identity.rename(_old(home))
        flush_folder(home.folder)
    _new(home).rename(home.identity)
    flush_folder(home.folder)
    shutil.rmtree(_old(home), ignore_errors=True)


def load_identity(home: Home) -> Identity:
    """Raises NotEnrolled, StateUnreadable."""
    _finish_replacing(home)
    path = home.identity / "identity.json"
    try:
        return Identity(**json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise NotEnrolled(
            f"{home.folder} has no identity; run: wavegate-agent enroll --url URL --token TOKEN"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise StateUnreadable(
            f"{path} cannot be read ({error}); restore it, or enrol again with --again and a fresh code"
        ) from error


def load_credentials(home: Home) -> Credentials:
    """Raises StateUnreadable."""
    path = home.identity / "credentials.pem"
    try:
        key, marker, chain = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        x509.load_pem_x509_certificates(marker + chain)
    except (OSError, ValueError) as error:
        raise StateUnreadable(
            f"{path} cannot be read ({error}); restore it, or enrol again with --again and a fresh code"
        ) from error
    return Credentials(key, marker + chain)


def issued_by(device_ca: bytes, chain: bytes) -> bool:
    """Whether one of the CAs issued the first certificate of the chain; raises ValueError for what is no PEM."""
    certificate = x509.load_pem_x509_certificates(chain)[0]
    for authority in x509.load_pem_x509_certificates(device_ca):
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(authority)
            return True
    return False


def replace_credentials(home: Home, credentials: Credentials, *, device_ca: bytes = b"") -> None:
    """Take renewed ones, and other CAs to trust the device port by; the old stand until the new are safe."""
    if device_ca:
        # First: what is trusted now goes on being trusted while the server's certificate is of it.
        write_durably(home.identity / "device-ca.pem", device_ca)
    write_durably(home.identity / "credentials.pem", _joined(credentials))


def device_ca_of(home: Home) -> bytes:
    """The CAs that the device port is trusted by, PEM."""
    return Path(home.identity / "device-ca.pem").read_bytes()


def _new(home: Home) -> Path:
    return home.folder / "identity.new"


def _old(home: Home) -> Path:
    return home.folder / "identity.old"


def _write_new(home: Home, identity: Identity, credentials: Credentials, device_ca: bytes, root: bytes) -> None:
    new = _new(home)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    write_durably(new / "credentials.pem", _joined(credentials))
    write_durably(new / "device-ca.pem", device_ca)
    write_durably(new / "root.json", root)
    write_durably(new / "identity.json", json.dumps(asdict(identity), indent=2, sort_keys=True).encode())


def _finish_replacing(home: Home) -> None:
    old, new = _old(home), _new(home)
    if home.identity.exists() or not old.exists():
        return
    (new if (new / "identity.json").exists() else old).rename(home.identity)
    flush_folder(home.folder)
    shutil.rmtree(old, ignore_errors=True)


def _joined(credentials: Credentials) -> bytes:
    return credentials.private_key.rstrip() + b"\n" + credentials.chain
