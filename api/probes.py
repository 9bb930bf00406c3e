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

from api.asked import extension
from api.canary import canary_folder, canary_url, last_reading
from api.gauges import gauges
from api.installation import Installation
from api.operator.routes import installation
from api.tallies import tallies_at
from repo_signing.outlook import warnings

blueprint: Final = Blueprint("probes", __name__)

# Below this, clients are about to stop trusting the repository and nobody has refreshed it.
_LEAST_LIFE_SECONDS: Final = 3600


class Meter(Collector):
    """Counts requests, and reads the repository's state when it is scraped."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
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
        """Everything that :mod:`api.gauges` names."""
        yield from gauges(self._installation, datetime.now(UTC))

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing before the first scrape: the registry would otherwise collect at start."""
        return []


def current_meter() -> Meter:
    """The meter of the running application."""
    return cast("Meter", extension("wavegate.meter"))


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    return _json({"status": "ok"}, 200)


@blueprint.get("/readyz")
def readyz() -> Response:
    """The database answers, and clients will go on accepting the repositories.

    ``degraded`` answers 200: requests are served as ever, and somebody should look before clients notice. One of
    several organisations that is not ready leaves the server degraded: the others need it.
    """
    now = datetime.now(UTC)
    database, each = "ok", {}
    try:
        installation().shared.db.ping()
        each = {slug: _check(slug, now) for slug in installation().slugs()}
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is "not ready" and its name
        database = type(error).__name__
    states = [one["status"] for one in each.values()]
    ready = database == "ok" and (not states or set(states) != {"not ready"})
    said = "not ready" if not ready else "ready" if set(states) <= {"ready"} else "degraded"
    checks: dict[str, object] = {"database": database}
    if len(each) == 1:
        checks |= {name: found for one in each.values() for name, found in one.items() if name != "status"}
    else:
        checks["organizations"] = each
    return _json({"status": said, "checks": checks}, 200 if ready else 503)


def _check(slug: str, now: datetime) -> dict[str, object]:
    """How one organisation does: ``status``, and what was looked at."""
    try:
        wiring = installation().organisation(slug)
        status = wiring.repository.status(now=now)
    except Exception as error:  # noqa: BLE001  # whatever it is, only this organisation is not ready
        return {"status": "not ready", "repository": type(error.__cause__ or error).__name__}
    role = min(status.roles, key=lambda one: one.expires)
    left = int((role.expires - now).total_seconds())
    late = [line for _, line in warnings(status.roles, now)]
    checks: dict[str, object] = {
        "repository": {"first_to_expire": role.name, "expires_in_seconds": left, "warnings": late}
    }
    trouble = wiring.repository.storage.trouble
    if trouble is not None:
        checks["storage"] = trouble
    reading = last_reading(canary_folder(wiring.settings, slug))
    is_off = canary_url(wiring.settings, slug) is None
    if is_off:
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
    degraded = bool(late or trouble) or (reading is not None and not is_off and not reading.ok)
    said = "not ready" if left <= _LEAST_LIFE_SECONDS else "degraded" if degraded else "ready"
    return {"status": said, **checks}


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text."""
    meter = current_meter()
    first = current_app.extensions.get("wavegate.tallies")
    told = generate_latest(meter.registry) + (b"" if first is None else tallies_at(first))
    return Response(told, content_type=CONTENT_TYPE_LATEST)


def _json(body: object, status: int) -> Response:
    response = Response(orjson.dumps(body), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
