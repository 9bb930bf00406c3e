"""Who comes to the device port with a certificate that is none, or shows one that is not the port's."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from api.device import device_pb2
from keys.device_ca import create_device_ca
from tests.simulators.device_port import DEADLINE, Port, check_in, open_port, refused
from tests.simulators.devices import EnrolledDevice, Key, new_key, private_pem, request_for, stub, utc_now


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    with open_port(tmp_path) as running:
        yield running


def forged(
    device: EnrolledDevice, *, issuer: x509.Name | None = None, by: Key | None = None, key: Key | None = None
) -> bytes:
    """A certificate like the device's in all but what is given; signed by the device itself unless told."""
    own, key = x509.load_pem_x509_certificate(device.chain), key or device.key
    made = x509.CertificateBuilder(
        issuer_name=own.subject if issuer is None else issuer,
        subject_name=own.subject,
        public_key=key.public_key(),
        serial_number=own.serial_number,
        not_valid_before=own.not_valid_before_utc,
        not_valid_after=own.not_valid_after_utc,
        extensions=[x509.Extension(one.oid, one.critical, one.value) for one in own.extensions],
    )
    return made.sign(by or device.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "shown",
    [
        "none",
        "of a foreign CA",
        "of a foreign CA of the same name",
        "expired",
        "not yet valid",
        "for servers only",
        "self-signed",
        "self-signed in the CA's name",
        "certified by another device",
        "of another key",
    ],
)
def test_who_shows_no_good_certificate_gets_no_connection(port: Port, tmp_path: Path, shown: str) -> None:
    device, now = port.enrol("press-1"), utc_now()
    request, key = request_for(device.key), private_pem(device.key)
    server = port.ca.server_certificate(["localhost"], now=now)
    foreign, another = create_device_ca(tmp_path / "foreign", now=now), new_key()
    ca = x509.load_pem_x509_certificate(device.chain).issuer
    callers: dict[str, tuple[bytes | None, bytes | None]] = {
        "none": (None, None),
        "of a foreign CA": (key, foreign.issue(request, device.id, now=now).chain_pem.encode()),
        "expired": (key, port.ca.issue(request, device.id, now=now - timedelta(days=31), days=30).chain_pem.encode()),
        "not yet valid": (key, port.ca.issue(request, device.id, now=now + timedelta(days=2)).chain_pem.encode()),
        "for servers only": (server.private_key_pem, server.chain_pem),
        "of a foreign CA of the same name": (key, forged(device, issuer=ca, by=new_key())),
        "self-signed": (key, forged(device)),
        "self-signed in the CA's name": (key, forged(device, issuer=ca)),
        "certified by another device": (private_pem(another), forged(device, key=another) + device.chain),
        "of another key": (private_pem(new_key()), device.chain),
    }

    code, _ = refused(lambda: check_in(port, *callers[shown]))

    assert code is grpc.StatusCode.UNAVAILABLE
    assert port.calls == []
    assert check_in(port, key, device.chain).device_name == "press-1"


def test_a_devices_certificate_cannot_pass_for_the_server(port: Port) -> None:
    device = port.enrol("localhost")
    impostor = grpc.server(ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials([(private_pem(device.key), device.chain)])
    number = impostor.add_secure_port("127.0.0.1:0", credentials)
    impostor.start()
    try:
        other = port.enrol("press-2")
        with stub(number, port.trusted, private_pem(other.key), other.chain) as caller:
            code, _ = refused(lambda: caller.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE))
    finally:
        impostor.stop(0).wait()

    assert code is grpc.StatusCode.UNAVAILABLE
