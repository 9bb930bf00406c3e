"""The device port's own certificate: renewed in time, under load, with calls under way."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from api.device import device_pb2
from api.device.server import DevicePortTaken, DeviceServer, DeviceServerSettings
from evidence.model import Actor, ActorKind
from keys.device_ca import DeviceCa, create_device_ca
from rollout.model import Report
from tests.simulators.devices import EnrolledDevice, enrol_device, new_token, private_pem, stub, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.permits import DevicePermitsSimulator

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
DEADLINE = 10  # seconds; a call that needs longer on loopback has hung
THREE_WEEKS = timedelta(days=21)  # more than two thirds of 30 days


@dataclass
class Port:
    """A device port whose certificate was made three weeks ago, and a device."""

    folder: Path
    late_by: timedelta = -THREE_WEEKS
    hold: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.permits = DevicePermitsSimulator()
        self.fleet, self.ca = FleetSimulator(), create_device_ca(self.folder / "ca", now=self.now())
        token = new_token(self.fleet)
        self.device: EnrolledDevice = enrol_device(self.fleet, self.ca, token, "press-1", now=utc_now())
        self.server = self.another("127.0.0.1:0")
        self.port = self.server.start()
        (self.folder / "key.pem").write_bytes(private_pem(self.device.key))
        (self.folder / "chain.pem").write_bytes(self.device.chain)

    def another(self, listen: str) -> DeviceServer:
        settings = DeviceServerSettings(listen=listen, workers=4)
        return DeviceServer(
            self.fleet, self.ca, self.report, lambda *_: [], DevicePermitsSimulator(), settings, self.now
        )

    def now(self) -> datetime:
        return utc_now() + self.late_by

    def report(self, _org: str, _device: str, _report: Report, _groups: frozenset[str]) -> bool:
        self.held.set()
        return self.hold.wait(DEADLINE)

    def shown(self) -> x509.Certificate:
        """The certificate that a new connection gets, whatever its dates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.folder / "chain.pem", self.folder / "key.pem")
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection,
            context.wrap_socket(connection) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
            if not secured.recv(1):
                raise ConnectionResetError("the server closed the connection at once")
        assert certificate is not None
        return x509.load_der_x509_certificate(certificate)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path)
    yield made
    made.hold.set()
    made.server.stop(0)


def check_in(port: Port, ca: DeviceCa) -> str:
    key = private_pem(port.device.key)
    with stub(port.port, ca.certificate_pem.encode(), key, port.device.chain) as device:
        answer: device_pb2.CheckInResponse = device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE)
        return answer.device_name


def test_the_port_shows_a_new_certificate_when_two_thirds_of_the_old_ones_life_are_over(port: Port) -> None:
    first = port.shown()
    port.late_by += timedelta(days=19)
    assert not port.server.renew_certificate()
    assert port.shown() == first

    port.late_by = timedelta(0)
    assert port.server.renew_certificate()

    assert port.shown().not_valid_after_utc - first.not_valid_after_utc >= timedelta(days=20)
    assert not port.server.renew_certificate()
    assert check_in(port, port.ca) == "press-1"


def test_a_device_with_an_open_connection_calls_on_when_the_certificate_is_renewed(port: Port) -> None:
    port.late_by = timedelta(0)
    trusted, key = port.ca.certificate_pem.encode(), private_pem(port.device.key)
    with stub(port.port, trusted, key, port.device.chain) as device:
        device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE)
        assert port.server.renew_certificate()

        answer = device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE, wait_for_ready=True)

    assert answer.device_name == "press-1"


def test_a_call_under_way_gets_its_answer_while_the_certificate_is_renewed(port: Port) -> None:
    port.late_by = timedelta(0)
    said = device_pb2.ReportRequest(
        report_id="rep_1", rollout_id="rol_1", attempt=1, progress=device_pb2.PROGRESS_SUCCEEDED
    )
    trusted, key = port.ca.certificate_pem.encode(), private_pem(port.device.key)
    with stub(port.port, trusted, key, port.device.chain) as device, ThreadPoolExecutor(1) as caller:
        answer = caller.submit(device.Report, said, timeout=DEADLINE)
        assert port.held.wait(DEADLINE)
        assert port.server.renew_certificate()
        port.hold.set()

        assert answer.result().counted


def test_hundreds_of_connections_at_once_and_new_certificates_leave_the_server_alive(port: Port) -> None:
    # Asking gRPC for the certificate at each handshake ended the process here, with SIGSEGV.
    served, refused = [], []

    def connect(_: int) -> None:
        try:
            served.append(port.shown())
        except OSError:  # between two listeners
            refused.append(1)

    with ThreadPoolExecutor(16) as threads:
        connecting = [threads.submit(connect, number) for number in range(600)]
        for _ in range(4):
            port.late_by += THREE_WEEKS
            assert port.server.renew_certificate()
        for one in connecting:
            one.result()

    assert len(served) + len(refused) == 600
    assert len(served) > 300
    assert port.shown().not_valid_after_utc - served[0].not_valid_after_utc > timedelta(days=62)


def test_a_renewed_port_is_still_nobody_elses(port: Port) -> None:
    port.late_by = timedelta(0)
    assert port.server.renew_certificate()

    with pytest.raises(DevicePortTaken, match="cannot be listened on"):
        port.another(f"127.0.0.1:{port.port}").start()


def test_a_port_that_ended_renews_nothing_and_listens_no_more(port: Port) -> None:
    port.late_by = timedelta(0)
    port.server.stop(0)

    assert not port.server.renew_certificate()
    with pytest.raises(OSError, match="refused"):
        port.shown()
    with pytest.raises(grpc.RpcError):
        check_in(port, port.ca)
