"""What is told of every request that was answered: a line in the log, a count and a duration."""

from __future__ import annotations

import logging
import time
from typing import Final

from flask import Response

from api import probes
from api.asked import asked, held
from api.errors import request_id
from api.logs import about, also, fields
from api.tracing import begin_request, is_on

log: Final = logging.getLogger("wavegate.access")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"  # of which there are as many as callers care to make up
NO_ROUTE: Final = "-"
# Asked by every device at each poll, which ends with a root that is not there, and by machines every few seconds: told
# only when the server fails, or when debugging.
_OFTEN: Final = ("/tuf/", "/healthz", "/readyz", "/metrics")


def began() -> None:
    """Note when; the lines from now on are about this request."""
    here, request = held(), asked()
    here.started = time.perf_counter()
    if request.path.startswith("/tuf/"):
        about()  # a poll has no id unless it fails
    else:
        about(request_id=request_id())
    here.traced = begin_request(request.headers) if is_on() else None


def known(org: str, user: str, credential: str) -> None:
    """Note who calls: the lines from now on say so. ``credential`` is an id, never the secret."""
    also(org=org, caller=user, credential=credential)


def answered(response: Response) -> None:
    """Tell of the answer. What is counted has bounded labels, whatever callers send."""
    here, request, status = held(), asked(), response.status_code
    now = time.perf_counter()
    spent = now - here.get("started", now)
    method = request.method if request.method in METHODS else OTHER
    route = request.url_rule.rule if request.url_rule is not None else NO_ROUTE
    probes.current_meter().answered(method, route, str(status), spent)
    if here.get("traced"):
        told_of = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        if "request_id" in here:
            told_of["wavegate.request_id"] = here.request_id
        here.pop("traced")(f"{method} {route}", status, told_of)
    level = _level(status, request.path)
    if log.isEnabledFor(level):
        told = fields(
            request_id=here.get("request_id"),
            method=method,
            route=route,
            status=status,
            code=here.get("error_code"),
            duration_ms=round(spent * 1000, 2),
        )
        log.log(level, "%s %s %s", method, route, status, extra=told)


def _level(status: int, path: str) -> int:
    if status >= 500:
        return logging.WARNING
    return logging.DEBUG if path.startswith(_OFTEN) else logging.INFO
