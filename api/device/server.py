"""The device port: gRPC over mutual TLS."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from api.cores import Cores
from api.device import device_pb2, device_pb2_grpc
from api.device.addresses import hang_up_beyond
from api.device.commands import Uploads
from api.device.heartbeats import Heartbeats
from api.device.identity import DeviceIdentity, Tally
from api.device.service import DevicePermits, DeviceService, ProductsOf, RecordReport
from fleet.commanding import Commands
from fleet.enrol import Issuer
from fleet.ports import Fleet
from fleet.rules import online_within
from keys.device_ca import ServerCertificate

MAX_MESSAGE_LENGTH: Final = 64 * 1024  # bytes
MAX_HEADERS_LENGTH: Final = 8 * 1024  # bytes
MOST_CONNECTIONS: Final = 100_000  # of all callers, or three quarters of the file descriptors if those are fewer
# Until the first frame of HTTP/2; gRPC's own two minutes let silent connections pile up.
HANDSHAKE_MILLISECONDS: Final = 10_000
IDLE_MILLISECONDS: Final = 10 * 60 * 1000  # longer than the usual time between check-ins, which then need no handshake
CONNECTION_AGE_MILLISECONDS: Final = 30 * 60 * 1000  # ends calls that never send their message, and moves load
RENEWAL_LOOK_SECONDS: Final = 60.0  # between looks at the age of the port's certificate, which lasts for weeks
RENEWAL_GRACE_SECONDS: Final = 30.0  # for calls under way on connections of the certificate before
ADDRESS_LOOK_SECONDS: Final = 5.0  # between looks at who holds how many connections; 10,000 take 0.1 s
LISTEN_AGAIN_SECONDS: Final = 10.0  # the port is free again within milliseconds
SERVICE: Final = device_pb2.DESCRIPTOR.services_by_name["DeviceService"].full_name

_LOG: Final = logging.getLogger(__name__)


class DevicePortTaken(Exception):
    """The address cannot be listened on."""


class ServerIssuer(Issuer, Protocol):
    """Certifies devices and the port itself; ``keys.device_ca.DeviceCa`` does."""

    def server_certificate(self, names: tuple[str, ...], *, now: datetime) -> ServerCertificate:
        """A fresh key and certificate under these names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceServerSettings:
    """How the device port is run.

    ``listen`` is ``host:port`` (port 0 takes a free one); ``names`` the DNS names and addresses devices dial it by,
    which its certificate holds. ``check_in_seconds`` is the heartbeat asked of devices, spread by ``jitter_percent``.
    ``workers`` threads answer; ``max_concurrent_calls`` beyond that are refused with RESOURCE_EXHAUSTED.
    An address with more than ``connections_per_address`` loses those beyond it within seconds; 0 is no limit.
    """

    listen: str = "127.0.0.1:8443"
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    check_in_seconds: int = 300
    jitter_percent: int = 20
    certificate_days: int = 30
    workers: int = 16
    max_concurrent_calls: int = 256
    connections_per_address: int = 0


def _untold(_method: str, _status: str, _seconds: float) -> None: ...


def _most_connections() -> int:
    # Beyond it callers are refused; out of file descriptors, the database and the jobs of this process would be, too.
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, descriptors * 3 // 4)


class DeviceServer:
    """Serves devices until stopped. ``clock`` answers aware UTC; the certificate it shows renews itself.
    ``tally`` is told of every call that was answered. Without ``commands`` devices are given none.

    The certificate of a listening port never changes: a new one gets a new listener. gRPC can ask for a certificate at
    each handshake instead, but frees the old one's TLS context under handshakes that other threads begin (grpc issue
    36693): the process dies. Source: docs/adr/0097-a-certificate-for-each-listener.md
    """

    def __init__(
        self,
        fleet: Fleet,
        ca: ServerIssuer,
        report: RecordReport,
        products: ProductsOf,
        permits: DevicePermits,
        settings: DeviceServerSettings,
        clock: Callable[[], datetime],
        tally: Tally | None = None,
        commands: Commands | None = None,
    ) -> None:
        self._ca = ca
        self._settings = settings
        self._clock = clock
        self._trusted = ca.certificate_pem  # what the listener lets in
        self._certificate = ca.server_certificate(settings.names, now=clock())
        self._health = health.HealthServicer()
        self._heartbeats = Heartbeats(fleet, online_within=online_within(timedelta(seconds=settings.check_in_seconds)))
        # A check-in is Python's work alone, and one thread does that at a time.
        self._calls = futures.ThreadPoolExecutor(
            settings.workers, thread_name_prefix="device-call", initializer=Cores().together
        )
        self._identity = DeviceIdentity(fleet, clock, tally or _untold)
        self._service = DeviceService(
            fleet,
            ca,
            report,
            products,
            self._heartbeats,
            permits,
            check_in_seconds=settings.check_in_seconds,
            jitter_percent=settings.jitter_percent,
            certificate_days=settings.certificate_days,
            clock=clock,
            commands=commands,
            uploads=None if commands is None else Uploads(self._identity, commands, clock),
        )
        self._changing = threading.Lock()  # of which server listens
        self._server: grpc.Server | None = None
        self._listen = settings.listen  # with the port that was found, once there is one
        self._end = threading.Event()
        self._renewing = threading.Thread(target=self._renew_in_time, name="wavegate-device-certificate", daemon=True)
        self._counting = threading.Thread(target=self._count_addresses, name="wavegate-device-addresses", daemon=True)

    @property
    def certificate_expires(self) -> datetime:
        """Until when the certificate is valid that the port shows now."""
        return self._certificate.not_after

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            DevicePortTaken: The address is in use or not this machine's.
        """
        self._server, port = self._listening(self._certificate)
        self._listen = f"{self._settings.listen.rpartition(':')[0]}:{port}"
        self._heartbeats.start()
        self._renewing.start()
        if self._settings.connections_per_address:
            self._counting.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    def stop(self, grace: float = 5.0) -> None:
        """Take no new calls, let running ones finish for ``grace`` seconds, then cut them; returns when it is over."""
        self._end.set()
        self._health.enter_graceful_shutdown()
        with self._changing:
            if self._server is not None:
                self._server.stop(grace).wait()
        self._heartbeats.stop()
        self._calls.shutdown(wait=False)

    def renew_certificate(self) -> bool:
        """Show a new certificate if two thirds of this one's life are over or the CAs are others; whether it was time.

        Devices' connections are closed once their calls have ended, and dialled again. Calls that begin in the
        milliseconds between the two listeners are refused (UNAVAILABLE).

        Raises:
            DevicePortTaken: Somebody else listens now. Nothing does for us; the next call tries again.
        """
        with self._changing:
            shown, now = self._certificate, self._clock()
            trusted = self._ca.certificate_pem
            is_time = trusted != self._trusted or now >= shown.not_before + (shown.not_after - shown.not_before) * 2 / 3
            if self._end.is_set() or (self._server is not None and not is_time):
                return False
            if is_time:
                self._certificate = self._ca.server_certificate(self._settings.names, now=now)
                self._trusted = trusted
            before, self._server = self._server, None
            if before is not None:
                before.stop(RENEWAL_GRACE_SECONDS)  # the listener ends now, calls under way later
            self._server = self._listening_again()
        _LOG.info("the device port shows a new certificate until %s", self._certificate.not_after)
        return True

    def _count_addresses(self) -> None:
        port = int(self._listen.rpartition(":")[2])
        while not self._end.wait(ADDRESS_LOOK_SECONDS):
            try:
                ended = hang_up_beyond(self._settings.connections_per_address, port)
            except Exception:  # noqa: BLE001  (the outermost frame of this thread)
                _LOG.exception("the device port's connections could not be counted; it is tried again")
                continue
            for address, connections in ended.items():
                _LOG.warning("hung up on %d connections of %s, which has too many", connections, address)

    def _renew_in_time(self) -> None:
        # A new certificate at two thirds of its life leaves days to notice a failure.
        while not self._end.wait(RENEWAL_LOOK_SECONDS if self._server is not None else 1):
            try:
                self.renew_certificate()
            except Exception:  # noqa: BLE001  (the outermost frame of this thread)
                _LOG.exception("the device port's certificate could not be renewed; it is tried again")

    def _listening_again(self) -> grpc.Server:
        deadline = time.monotonic() + LISTEN_AGAIN_SECONDS
        while True:
            try:
                return self._listening(self._certificate)[0]
            except DevicePortTaken:
                if time.monotonic() > deadline or self._end.is_set():
                    raise
                time.sleep(0.01)

    def _listening(self, shown: ServerCertificate) -> tuple[grpc.Server, int]:
        """A server that answers already, and its port."""
        server = grpc.server(
            self._calls,
            interceptors=[self._identity],
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_LENGTH),
                ("grpc.max_send_message_length", MAX_MESSAGE_LENGTH),
                ("grpc.max_metadata_size", MAX_HEADERS_LENGTH),
                ("grpc.absolute_max_metadata_size", MAX_HEADERS_LENGTH),  # or what lies between is refused by chance
                ("grpc.max_concurrent_streams", 16),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MILLISECONDS),
                ("grpc.max_connection_idle_ms", IDLE_MILLISECONDS),
                ("grpc.max_connection_age_ms", CONNECTION_AGE_MILLISECONDS),
                ("grpc.max_connection_age_grace_ms", 30_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
                ("grpc.http2.max_ping_strikes", 2),
                ("grpc.max_allowed_incoming_connections", _most_connections()),
                # Without this a second server on the same port starts without a word and gets half of the calls.
                ("grpc.so_reuseport", 0),
            ),
            maximum_concurrent_rpcs=self._settings.max_concurrent_calls,
        )
        device_pb2_grpc.add_DeviceServiceServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        credentials = grpc.ssl_server_credentials(
            [(shown.private_key_pem, shown.chain_pem)],
            root_certificates=self._trusted.encode(),
            require_client_auth=True,
        )
        try:
            port = server.add_secure_port(self._listen, credentials)
        except RuntimeError as error:
            raise DevicePortTaken(
                f"the device port {self._listen} cannot be listened on; "
                "end what holds it or set another WAVEGATE_DEVICE_LISTEN"
            ) from error
        server.start()
        return server, port
