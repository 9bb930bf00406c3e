"""What machines ask of the server itself: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, cast

import orjson
from flask import Blueprint, Response, current_app
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.canary import canary_folder, canary_url, last_reading
from api.operator.routes import services
from api.wiring import Wavegate
from repo_signing import roles
from repo_signing.outlook import warnings

blueprint: Final = Blueprint("probes", __name__)

# Below this, clients are about to stop trusting the repository and nobody has refreshed it.
_LEAST_LIFE_SECONDS: Final = 3600


class Meter(Collector):
    """Counts requests, and reads the repository's state when it is scraped."""

    def __init__(self, wiring: Wavegate) -> None:
        self._wiring = wiring
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "wavegate_http_requests_total", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "wavegate_http_request_seconds", "Time to answer.", ["method", "route"], registry=self.registry
        )
        self.limited = Counter(
            "wavegate_rate_limited_total",
            "Requests refused for there were too many.",
            ["policy"],
            registry=self.registry,
        )
        self.uncounted = Counter(
            "wavegate_rate_limit_store_failures_total",
            "Times that the store of the counts did not answer, and this process counted alone.",
            registry=self.registry,
        )
        # A counter is looked up by its labels under a lock; routes, methods and statuses are few.
        self._count = lru_cache(maxsize=None)(self.requests.labels)
        self._time = lru_cache(maxsize=None)(self.seconds.labels)
        self.registry.register(self)

    def answered(self, method: str, route: str, status: str, seconds: float) -> None:
        """Count an answer and the time it took."""
        self._count(method, route, status).inc()
        self._time(method, route).observe(seconds)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read serial, expiry of every role (the bins as their soonest), and the fleet's size."""
        now = datetime.now(UTC)
        status = self._wiring.repository.status(now=now)
        expiry = GaugeMetricFamily(
            "wavegate_role_expiry_seconds",
            "Seconds until a role expires; bins as the soonest of them.",
            labels=["role"],
        )
        soonest: dict[str, float] = {}
        for role in status.roles:
            name = "releases-bins" if roles.delegator(role.name) == roles.RELEASES else role.name
            left = (role.expires - now).total_seconds()
            soonest[name] = min(left, soonest.get(name, left))
        for name, left in soonest.items():
            expiry.add_metric([name], left)
        yield expiry
        yield GaugeMetricFamily("wavegate_repository_serial", "Serial of the repository.", value=status.serial)
        yield GaugeMetricFamily(
            "wavegate_projected_serial", "Serial up to which the index is complete.", value=status.projected_serial
        )
        yield GaugeMetricFamily("wavegate_artifacts", "Signed artifacts.", value=status.artifacts)
        yield from _canary_metrics(self._wiring, now)
        devices = self._wiring.fleet.count_devices(self._wiring.org, filters={})
        yield GaugeMetricFamily("wavegate_devices", "Devices, whatever their status.", value=devices)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing before the first scrape: the registry would otherwise collect at start."""
        return []


def current_meter() -> Meter:
    """The meter of the running application."""
    return cast("Meter", current_app.extensions["wavegate.meter"])


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return _json({"status": "ok"}, 200)


@blueprint.get("/readyz")
def readyz() -> Response:
    """The database answers, and clients will go on accepting the repository.

    ``degraded`` answers 200: requests are served as ever, and somebody should look before clients notice.
    """
    now = datetime.now(UTC)
    checks: dict[str, object] = {}
    ready = True
    try:
        services().db.ping()
        checks["database"] = "ok"
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is "not ready" and its name
        checks["database"] = type(error).__name__
        ready = False
    status = services().repository.status(now=now)
    role = min(status.roles, key=lambda one: one.expires)
    left = int((role.expires - now).total_seconds())
    late = [line for _, line in warnings(status.roles, now)]
    checks["repository"] = {"first_to_expire": role.name, "expires_in_seconds": left, "warnings": late}
    ready = ready and left > _LEAST_LIFE_SECONDS
    trouble = services().repository.storage.trouble
    if trouble is not None:
        checks["storage"] = trouble
    reading = last_reading(canary_folder(services().settings, services().org))
    if canary_url(services().settings, services().org) is None:
        checks["canary"] = "off"
    elif reading is None:
        checks["canary"] = "not yet"
    else:
        checks["canary"] = {
            "ok": reading.ok,
            "serial": reading.serial,
            "at": reading.at,
            "error": reading.error,
            "failures": reading.failures,
        }
    degraded = bool(late or trouble) or (isinstance(checks["canary"], dict) and reading is not None and not reading.ok)
    said = "not ready" if not ready else "degraded" if degraded else "ready"
    return _json({"status": said, "checks": checks}, 200 if ready else 503)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text."""
    meter = current_meter()
    return Response(generate_latest(meter.registry), content_type=CONTENT_TYPE_LATEST)


def _canary_metrics(wiring: Wavegate, now: datetime) -> Iterator[GaugeMetricFamily]:
    reading = last_reading(canary_folder(wiring.settings, wiring.org))
    if reading is None:
        return
    age = (now - datetime.fromisoformat(reading.at)).total_seconds()
    for name, told, value in (
        ("ok", "Whether the canary's last reading found all well (1) or not (0).", float(reading.ok)),
        ("serial", "Serial that the canary's last reading asked for.", float(reading.serial)),
        ("age_seconds", "Seconds since the canary's last reading.", age),
        ("seconds", "Seconds that the canary's last reading took.", reading.seconds),
        ("failures", "Failed readings in a row.", float(reading.failures)),
    ):
        yield GaugeMetricFamily(f"wavegate_canary_{name}", told, value=value)


def _json(body: object, status: int) -> Response:
    response = Response(orjson.dumps(body), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
