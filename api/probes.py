"""What machines ask of the server itself: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, cast

import orjson
from flask import Blueprint, Response, current_app
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.canary import canary_folder, canary_url, last_reading
from api.installation import Installation
from api.operator.routes import installation
from api.wiring import Wavegate
from repo_signing import roles
from repo_signing.outlook import warnings

blueprint: Final = Blueprint("probes", __name__)

_UP: Final = "wavegate_organization_up"
# Name, help, and labels beside the organisation.
_GAUGES: Final = (
    (_UP, "Whether the organisation can be served (1) or not (0)."),
    ("wavegate_role_expiry_seconds", "Seconds until a role expires; bins as the soonest of them.", "role"),
    ("wavegate_repository_serial", "Serial of the repository."),
    ("wavegate_projected_serial", "Serial up to which the index is complete."),
    ("wavegate_artifacts", "Signed artifacts."),
    ("wavegate_devices", "Devices, whatever their status."),
    ("wavegate_canary_ok", "Whether the canary's last reading found all well (1) or not (0)."),
    ("wavegate_canary_serial", "Serial that the canary's last reading asked for."),
    ("wavegate_canary_age_seconds", "Seconds since the canary's last reading."),
    ("wavegate_canary_seconds", "Seconds that the canary's last reading took."),
    ("wavegate_canary_failures", "Failed readings in a row."),
)

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
        self.registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read serial, expiry of every role (the bins as their soonest), and the fleet's size, by organisation.

        One that cannot be read has ``wavegate_organization_up`` 0 and nothing else.
        """
        now = datetime.now(UTC)
        families = {name: GaugeMetricFamily(name, told, labels=["org", *more]) for name, told, *more in _GAUGES}
        for slug in self._installation.slugs():
            try:
                read = list(_readings(self._installation.organisation(slug), now))
            except Exception:  # noqa: BLE001  # the other organisations are read all the same
                read = []
            families[_UP].add_metric([slug], float(bool(read)))
            for name, labels, value in read:
                families[name].add_metric([slug, *labels], value)
        yield from families.values()

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
    return Response(generate_latest(meter.registry), content_type=CONTENT_TYPE_LATEST)


def _readings(wiring: Wavegate, now: datetime) -> Iterator[tuple[str, list[str], float]]:
    """Gauge, further labels and value of one organisation."""
    status = wiring.repository.status(now=now)
    soonest: dict[str, float] = {}
    for role in status.roles:
        name = "releases-bins" if roles.delegator(role.name) == roles.RELEASES else role.name
        left = (role.expires - now).total_seconds()
        soonest[name] = min(left, soonest.get(name, left))
    for name, left in soonest.items():
        yield "wavegate_role_expiry_seconds", [name], left
    yield "wavegate_repository_serial", [], status.serial
    yield "wavegate_projected_serial", [], status.projected_serial
    yield "wavegate_artifacts", [], status.artifacts
    yield "wavegate_devices", [], wiring.fleet.count_devices(wiring.org, filters={})
    reading = last_reading(canary_folder(wiring.settings, wiring.org))
    if reading is not None:
        age = (now - datetime.fromisoformat(reading.at)).total_seconds()
        yield "wavegate_canary_ok", [], float(reading.ok)
        yield "wavegate_canary_serial", [], reading.serial
        yield "wavegate_canary_age_seconds", [], age
        yield "wavegate_canary_seconds", [], reading.seconds
        yield "wavegate_canary_failures", [], reading.failures


def _json(body: object, status: int) -> Response:
    response = Response(orjson.dumps(body), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
