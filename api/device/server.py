"""The device port: gRPC over mutual TLS."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from api.device import device_pb2, device_pb2_grpc
from api.device.heartbeats import Heartbeats
from api.device.identity import DeviceIdentity
from api.device.service import DevicePermits, DeviceService, ProductsOf, RecordReport
from fleet.enrol import Issuer
from fleet.ports import Fleet
from keys.device_ca import ServerCertificate

MAX_MESSAGE_LENGTH: Final = 64 * 1024  # bytes
HANDSHAKE_MILLISECONDS: Final = 10_000  # gRPC's own two minutes let silent connections pile up
CONNECTION_AGE_MILLISECONDS: Final = 30 * 60 * 1000  # ends calls that never send their message, and moves load
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
    """

    listen: str = "127.0.0.1:8443"
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    check_in_seconds: int = 300
    jitter_percent: int = 20
    certificate_days: int = 30
    workers: int = 16
    max_concurrent_calls: int = 256


class DeviceServer:
    """Serves devices until stopped. ``clock`` answers aware UTC; the certificate it shows renews itself."""

    def __init__(
        self,
        fleet: Fleet,
        ca: ServerIssuer,
        report: RecordReport,
        products: ProductsOf,
        permits: DevicePermits,
        settings: DeviceServerSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._ca = ca
        self._settings = settings
        self._clock = clock
        self._certificate = ca.server_certificate(settings.names, now=clock())
        self._rotating = threading.Lock()
        self._health = health.HealthServicer()
        self._heartbeats = Heartbeats(fleet)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(settings.workers, thread_name_prefix="device-call"),
            interceptors=[DeviceIdentity(fleet, clock)],
            options=(
                ("grpc.max_receive_message_length", MAX_MESSAGE_LENGTH),
                ("grpc.max_send_message_length", MAX_MESSAGE_LENGTH),
                ("grpc.max_metadata_size", 8 * 1024),
                ("grpc.max_concurrent_streams", 16),
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MILLISECONDS),
                ("grpc.max_connection_age_ms", CONNECTION_AGE_MILLISECONDS),
                ("grpc.max_connection_age_grace_ms", 30_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
                # Without this a second server on the same port starts without a word and gets half of the calls.
                ("grpc.so_reuseport", 0),
            ),
            maximum_concurrent_rpcs=settings.max_concurrent_calls,
        )
        service = DeviceService(
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
        )
        device_pb2_grpc.add_DeviceServiceServicer_to_server(service, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME),
            self._server,
        )

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            DevicePortTaken: The address is in use or not this machine's.
        """
        credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._fetch_configuration, require_client_authentication=True
        )
        try:
            port = self._server.add_secure_port(self._settings.listen, credentials)
        except RuntimeError as error:
            raise DevicePortTaken(
                f"the device port {self._settings.listen} cannot be listened on; "
                "end what holds it or set another WAVEGATE_DEVICE_LISTEN"
            ) from error
        self._heartbeats.start()
        self._server.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    def stop(self, grace: float = 5.0) -> None:
        """Take no new calls, let running ones finish for ``grace`` seconds, then cut them; returns when it is over."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()
        self._heartbeats.stop()

    def _fetch_configuration(self) -> grpc.ServerCertificateConfiguration:
        # Asked at every handshake. A new certificate at two thirds of its life leaves days to notice a failure.
        with self._rotating:
            now, shown = self._clock(), self._certificate
            if now >= shown.not_before + (shown.not_after - shown.not_before) * 2 / 3:
                self._certificate = self._ca.server_certificate(self._settings.names, now=now)
                _LOG.info("the device port shows a new certificate until %s", self._certificate.not_after)
            return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        shown = self._certificate
        return grpc.ssl_server_certificate_configuration(
            [(shown.private_key_pem, shown.chain_pem)], root_certificates=self._ca.certificate_pem.encode()
        )
