"""What the first process of a server counts: turns of jobs and calls of devices. The process that answers HTTP asks for
them over a socket of the machine when it is scraped, so that one address tells of both.
"""

from __future__ import annotations

import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_PATIENCE_SECONDS: Final = 2.0  # of a scrape, for the other process
_MOST_BYTES: Final = 4 * 1024**2
# A turn that finds nothing takes a millisecond; a canary before a slow CDN, or webhooks to slow receivers, a minute.
_TURN_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0)
_UP: Final = b"# HELP wavegate_first_process_up Whether the process with jobs and device port answers (1) or not (0).\n"


class Tallies:
    """Counts since this process began. Labels are names of jobs, of methods that exist and of gRPC statuses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ours = self.registry
        self._turns = Histogram(
            "wavegate_job_seconds", "Time of a job's turn.", ["job"], buckets=_TURN_BUCKETS, registry=ours
        )
        self._failed = Counter("wavegate_job_failures_total", "Turns of a job that failed.", ["job"], registry=ours)
        self._well = Gauge(
            "wavegate_job_last_success_timestamp_seconds", "When a job's turn last ended well.", ["job"], registry=ours
        )
        self._calls = Counter(
            "wavegate_device_calls_total", "Device calls answered.", ["method", "status"], registry=ours
        )
        self._seconds = Histogram("wavegate_device_call_seconds", "Time to answer a device.", ["method"], registry=ours)
        self._certificate = Gauge(
            "wavegate_device_port_certificate_expiry_seconds",
            "Seconds until the device port's certificate expires; it renews itself.",
            registry=ours,
        )

    def watch_certificate(self, expires: Callable[[], datetime]) -> None:
        """Say where to ask until when the device port's certificate is valid (aware UTC)."""
        self._certificate.set_function(lambda: (expires() - datetime.now(UTC)).total_seconds())

    def turn(self, job: str, seconds: float, *, well: bool) -> None:
        """Count a turn of a job."""
        self._turns.labels(job).observe(seconds)
        if well:
            self._well.labels(job).set_to_current_time()
        else:
            self._failed.labels(job).inc()

    def call(self, method: str, status: str, seconds: float) -> None:
        """Count a call of a device."""
        self._calls.labels(method, status).inc()
        self._seconds.labels(method).observe(seconds)


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Send everything and hang up; nothing is read."""
        server = self.server
        assert isinstance(server, _Port)
        self.request.sendall(generate_latest(server.registry))


class _Port(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        self.registry = registry
        super().__init__(str(path), _Answer)


class TallyPort:
    """A socket in a folder that only this user may enter; whoever opens it reads the counts."""

    def __init__(self, tallies: Tallies) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="wavegate-"))
        self.path = self._folder / "tallies"
        self._port = _Port(self.path, tallies.registry)
        self._thread = threading.Thread(target=self._port.serve_forever, name="wavegate-tallies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more and leave nothing behind."""
        self._port.shutdown()
        self._port.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)


def tallies_at(path: Path) -> bytes:
    """The counts as Prometheus text, with a line that says whether they could be had; never raises."""
    found = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_PATIENCE_SECONDS)
            line.connect(str(path))
            while len(found) < _MOST_BYTES and (piece := line.recv(65_536)):
                found += piece
    except OSError:
        found.clear()
    up = b"1" if found else b"0"
    return bytes(found) + _UP + b"# TYPE wavegate_first_process_up gauge\nwavegate_first_process_up " + up + b"\n"
