"""``publish serve``: the API in a worker process, device gRPC and the jobs beside it, one command, one clean end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server import Server

from api.device.identity import Tally
from api.device.server import DeviceServer, DeviceServerSettings
from api.first_start import prepare_home, setup_code_file
from api.installation import Installation, open_installation
from api.jobs import Jobs
from api.logs import fields, is_text, start_logging
from api.settings import Address, Settings
from api.tallies import Tallies, TallyPort
from api.tracing import start_tracing

log: Final = logging.getLogger("wavegate")

_GRACE_SECONDS: Final = 5  # for device calls under way when the server stops
_HEADER_SECONDS: Final = 30
_WORKER_KILL_SECONDS: Final = 30


def serve(settings: Settings, config: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; returns when all has ended.

    Raises:
        NotInitialised, InvalidSettings, and what opening the home, or its only organisation, can raise: before anything
            listens.
    """
    start_logging(settings.log_level, settings.log_format)
    settings = _with_ports(settings)
    stop_tracing = start_tracing(settings, "jobs")
    prepare_home(settings, now=datetime.now(UTC))
    installation = open_installation(settings)
    tallies = Tallies()
    jobs = Jobs(installation, tallies)
    jobs.recover()
    device_server = device_server_of(installation, tally=tallies.call)
    tallies.watch_certificate(lambda: device_server.certificate_expires)
    device_server.start()
    tally_port = TallyPort(tallies)
    try:
        jobs.start()
        _tell(settings, installation.slugs())
        _tell_who_registers(settings, setup_code_file(installation))
        _serve_http(settings, config, tally_port)
    finally:
        tally_port.close()
        jobs.stop()
        device_server.stop(_GRACE_SECONDS)
        installation.close()
        stop_tracing()
    log.info("ended")


def device_server_of(installation: Installation, *, tally: Tally | None = None) -> DeviceServer:
    """The device port of all organisations; whose a device is, its certificate says. Not started yet."""
    shared, settings = installation.shared, installation.settings
    return DeviceServer(
        fleet=shared.fleet,
        ca=shared.device_ca,
        report=lambda org, device, report, groups: installation.organisation(org).rollouts.record_report(
            org, device, report, groups=groups
        ),
        products=shared.fleet.products_of,
        permits=shared.permits,
        settings=DeviceServerSettings(
            listen=str(settings.device_listen),
            names=_names(settings),
            workers=settings.device_threads,
            connections_per_address=settings.device_connections_per_address,
            check_in_seconds=settings.check_in_seconds,
            certificate_days=settings.certificate_days,
        ),
        clock=lambda: datetime.now(UTC),
        tally=tally,
        commands=shared.commands,
    )


def _serve_http(settings: Settings, config: Path | None, tallies: TallyPort) -> None:
    # Forking a process that has gRPC threads would copy their locks held; the worker starts from nothing.
    multiprocessing.set_start_method("spawn", force=True)
    os.environ["WAVEGATE_LISTEN"] = str(settings.listen)
    os.environ["WAVEGATE_DEVICE_LISTEN"] = str(settings.device_listen)
    os.environ["WAVEGATE_PUBLIC_URL"] = settings.public_url
    os.environ["WAVEGATE_DEVICE_ENDPOINT"] = settings.device_endpoint
    os.environ["WAVEGATE_HOME"] = str(settings.home)
    os.environ["WAVEGATE_TALLIES"] = str(tallies.path)
    if config is not None:
        os.environ["WAVEGATE_CONFIG"] = str(config.absolute())
    server = Server(
        "api.worker:application",
        factory=True,
        address=settings.listen.host,
        port=settings.listen.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_SECONDS * 1000),
        workers=1,
        blocking_threads=settings.http_threads,
        respawn_failed_workers=True,
        workers_kill_timeout=_WORKER_KILL_SECONDS,
        log_enabled=False,
    )
    server.serve()


def _with_ports(settings: Settings) -> Settings:
    """Replace port 0 by a free one, so that it can be told and signed into the server certificate's endpoint."""
    changes: dict[str, Any] = {}
    if settings.listen.port == 0:
        listen = Address(settings.listen.host, _free_port(settings.listen.host))
        changes["listen"] = listen
        changes["public_url"] = settings.public_url.removesuffix(":0") + (
            f":{listen.port}" if settings.public_url.endswith(":0") else ""
        )
    if settings.device_listen.port == 0:
        device_listen = Address(settings.device_listen.host, _free_port(settings.device_listen.host))
        changes["device_listen"] = device_listen
        if settings.device_endpoint.endswith(":0"):
            changes["device_endpoint"] = f"{settings.device_endpoint.removesuffix(':0')}:{device_listen.port}"
    return replace(settings, **changes)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _names(settings: Settings) -> tuple[str, ...]:
    """Names in the device port's certificate: its public one, where it listens, and this machine's own."""
    public = settings.device_endpoint.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return tuple(dict.fromkeys((public, settings.device_listen.host, "localhost", "127.0.0.1")))


def _tell(settings: Settings, orgs: Sequence[str]) -> None:
    if not is_text(settings.log_format):
        places = fields(
            orgs=" ".join(orgs),
            home=str(settings.home),
            url=settings.public_url,
            listen=str(settings.listen),
            device_endpoint=settings.device_endpoint,
            version=version("wavegate"),
        )
        log.info("serving", extra=places)
        return
    served = f"organisation {orgs[0]}" if len(orgs) == 1 else f"{len(orgs)} organisations"
    org = orgs[0] if len(orgs) == 1 else "ORG"
    for line in (
        f"Wavegate serves {served} from {settings.home}",
        f"  API        {settings.public_url}/api/v1    reference {settings.public_url}/docs",
        f"  repository {settings.public_url}/tuf/{org}/metadata",
        f"  devices    {settings.device_endpoint} (gRPC, mutual TLS)",
        f"  health     {settings.public_url}/healthz  /readyz  /metrics",
    ):
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _tell_who_registers(settings: Settings, code: Path | None) -> None:
    if code is not None:
        sys.stderr.write(
            "There is no organisation yet. Register the first one, with the code that is in a file here:\n"
            f"  publish register SLUG --email YOU@EXAMPLE.COM --url {settings.public_url} --setup-code-file {code}\n"
        )
        sys.stderr.flush()
