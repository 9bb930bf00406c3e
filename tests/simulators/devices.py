"""A device's half of the device port: its own key and certificate, and calls with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.device import device_pb2_grpc
from evidence.model import Actor, ActorKind
from fleet import service
from fleet.enrol import Enrolled, EnrolRequest, Issuer, enrol
from fleet.ports import Fleet

Key = ec.EllipticCurvePrivateKey
ADMIN: Final = Actor(ActorKind.USER, "usr_admin", "Ada")
ROOT_SHA256: Final = "5f" * 32  # of a root that nobody looks at


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def request_for(key: Key, name: str = "whoever") -> bytes:
    """A PKCS #10 request in PEM whose subject claims to be ``name``."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, kw_only=True)
class EnrolledDevice:
    """A device that enrolled: what it keeps."""

    key: Key
    enrolled: Enrolled

    @property
    def id(self) -> str:
        return self.enrolled.device.id

    @property
    def chain(self) -> bytes:
        return self.enrolled.certificate_chain.encode()


def new_token(
    fleet: Fleet,
    *,
    max_uses: int = 1,
    groups: Sequence[str] = (),
    root_sha256: str = ROOT_SHA256,
    life: timedelta = timedelta(days=1),
) -> str:
    """An enrolment token of acme, named lab."""
    _, token = service.create_token(
        fleet,
        "acme",
        name="lab",
        root_sha256=root_sha256,
        life=life,
        max_uses=max_uses,
        groups=[*groups],
        labels={},
        by=ADMIN,
        now=utc_now(),
    )
    return token


def enrol_device(fleet: Fleet, issuer: Issuer, token: str, name: str, *, now: datetime) -> EnrolledDevice:
    key = new_key()
    request = EnrolRequest(
        token=token, certificate_request=request_for(key), name=name, platform="linux-x86_64", hostname=name
    )
    return EnrolledDevice(key=key, enrolled=enrol(request, fleet=fleet, issuer=issuer, now=now))


@contextmanager
def channel(port: int, trusted: bytes, key: bytes | None, chain: bytes | None) -> Iterator[grpc.Channel]:
    """One connection for all calls in the block, of a caller with this key and certificate."""
    credentials = grpc.ssl_channel_credentials(trusted, key, chain)
    with grpc.secure_channel(f"localhost:{port}", credentials, options=(("grpc.enable_http_proxy", 0),)) as opened:
        yield opened


@contextmanager
def stub(
    port: int, trusted: bytes, key: bytes | None, chain: bytes | None
) -> Iterator[device_pb2_grpc.DeviceServiceStub]:
    """The service as a caller with this key and certificate sees it; one connection for all calls in the block."""
    with channel(port, trusted, key, chain) as opened:
        yield device_pb2_grpc.DeviceServiceStub(opened)  # type: ignore[no-untyped-call]
