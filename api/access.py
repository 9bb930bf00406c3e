"""What is told of every request that was answered: a line in the log, a count and a duration."""

from __future__ import annotations

import logging
import time
from typing import Final

from flask import Response
from flask.globals import app_ctx, request_ctx

from api import probes
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
    held, asked = app_ctx.g, request_ctx.request
    held.started = time.perf_counter()
    if asked.path.startswith("/tuf/"):
        about()  # a poll has no id unless it fails
    else:
        about(request_id=request_id())
    held.traced = begin_request(asked.headers) if is_on() else None


def known(org: str, user: str, credential: str) -> None:
    """Note who calls: the lines from now on say so. ``credential`` is an id, never the secret."""
    also(org=org, caller=user, credential=credential)


def answered(response: Response) -> None:
    """Tell of the answer. What is counted has bounded labels, whatever callers send."""
    # Looked at once: each look at `g` or `request` goes through a proxy and a context variable.
    held, asked, status = app_ctx.g, request_ctx.request, response.status_code
    now = time.perf_counter()
    spent = now - held.get("started", now)
    method = asked.method if asked.method in METHODS else OTHER
    route = asked.url_rule.rule if asked.url_rule is not None else NO_ROUTE
    probes.current_meter().answered(method, route, str(status), spent)
    if held.get("traced"):
        told_of = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        if "request_id" in held:
            told_of["wavegate.request_id"] = held.request_id
        held.pop("traced")(f"{method} {route}", status, told_of)
    level = _level(status, asked.path)
    if log.isEnabledFor(level):
        told = fields(
            request_id=held.get("request_id"),
            method=method,
            route=route,
            status=status,
            code=held.get("error_code"),
            duration_ms=round(spent * 1000, 2),
        )
        log.log(level, "%s %s %s", method, route, status, extra=told)


def _level(status: int, path: str) -> int:
    if status >= 500:
        return logging.WARNING
    return logging.DEBUG if path.startswith(_OFTEN) else logging.INFO
