"""The Flask application: what happens around every request, and which blueprints answer."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any, Final

import orjson
from flask import Flask, Request, Response, g, request
from flask_openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api import docs, probes, tuf
from api.auth.gate import check_password_changed, check_permission, identify
from api.errors import ApiError, from_domain, request_id
from api.idempotency import once_only
from api.operator import (
    accounts,
    api_keys,
    approvals,
    artifacts,
    attestations,
    audit,
    batches,
    bins,
    devices,
    drafts,
    exclusions,
    freezes,
    groups,
    own_sessions,
    repository,
    repository_life,
    rollout_aftermath,
    rollout_devices,
    rollout_permits,
    rollout_previews,
    rollouts,
    sboms,
    second_factor,
    selectors,
    uploads,
    webhooks,
)
from api.operator.routes import PREFIX, Declaration, Error, Routes, now, services
from api.wiring import Wavegate

log: Final = logging.getLogger("wavegate.api")

BLUEPRINTS: Final[tuple[Routes, ...]] = (
    accounts.api,
    api_keys.api,
    own_sessions.api,
    second_factor.api,
    approvals.api,
    artifacts.api,
    attestations.api,
    sboms.api,
    groups.api,
    devices.api,
    rollouts.api,
    exclusions.api,
    freezes.api,
    rollout_devices.api,
    rollout_permits.api,
    rollout_previews.api,
    rollout_aftermath.api,
    repository.api,
    audit.api,
    batches.api,
    uploads.api,
    bins.api,
    repository_life.api,
    drafts.api,
    selectors.api,
    webhooks.api,
)

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class ApiRequest(Request):
    """A request whose absent JSON body reads as an empty object, and whose broken one is a clear 400."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """Parse the body; the framework asks once, after the gate."""
        body = self.get_data(cache=cache)
        if not body:
            return {}
        if not self.is_json:
            raise ApiError(415, "unsupported_media_type", "the body is not declared as JSON; send application/json")
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "malformed_json", f"the body is no JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise ApiError(400, "malformed_json", "the body is no JSON object")
        return parsed


class OrgPrefix:
    """WSGI: ``/api/v1/orgs/{org}/X`` is ``/api/v1/X`` for a credential of that organisation."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        head = f"{PREFIX}/orgs/"
        path = environ.get("PATH_INFO", "")
        if path.startswith(head):
            org, slash, rest = path[len(head) :].partition("/")
            if slash and rest:
                environ["wavegate.org"] = org
                environ["PATH_INFO"] = f"{PREFIX}/{rest}"
        return self._inner(environ, start_response)


class Application(OpenAPI):
    """Flask with our requests, and one effect for a request sent twice."""

    request_class = ApiRequest

    def dispatch_request(self) -> Any:
        """Run the view behind the gate."""
        declaration = self.extensions["wavegate.declarations"].get(request.endpoint)
        if declaration is None:
            return super().dispatch_request()
        return once_only(declaration, lambda: self.make_response(super(Application, self).dispatch_request()))


def create_app(wiring: Wavegate) -> Flask:
    """Build the application around a wired product; it holds no state of its own."""
    app = Application(
        "wavegate",
        info={"title": "Wavegate", "version": wiring.version, "description": docs.DESCRIPTION},
        security_schemes={
            "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a login token"},
            "session": {"type": "apiKey", "in": "cookie", "name": "__Host-wavegate"},
        },
        validation_error_status=400,
        validation_error_model=Error,
        validation_error_callback=_invalid,
        doc_ui=False,
        static_folder=None,
    )
    app.openapi_version = "3.1.0"
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = wiring.settings.max_body_bytes
    app.config["MAX_FORM_PARTS"] = 0
    app.extensions["wavegate"] = wiring
    app.extensions["wavegate.meter"] = probes.Meter(wiring)
    declarations: dict[str, Declaration] = {}
    for blueprint in BLUEPRINTS:
        app.register_api(blueprint)
        declarations |= blueprint.declarations
    app.register_blueprint(tuf.blueprint)
    app.register_blueprint(probes.blueprint)
    app.register_blueprint(docs.blueprint)
    app.extensions["wavegate.declarations"] = declarations

    @app.before_request
    def _gate() -> Response | None:
        g.started = time.perf_counter()
        if not request.path.startswith(f"{PREFIX}/") or request.endpoint is None:
            return None
        return _admit(declarations[request.endpoint])

    app.after_request(_finish)
    app.register_error_handler(Exception, _failed)
    app.wsgi_app = OrgPrefix(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own documented way to wrap
    return app


def _admit(declaration: Declaration) -> Response | None:
    wiring = services()
    if declaration.raw_body:
        request.max_content_length = wiring.settings.max_artifact_bytes
    elif declaration.body_limit is not None:
        request.max_content_length = max(declaration.body_limit, wiring.settings.max_body_bytes)
    named = request.environ.get("wavegate.org")
    if not declaration.public:
        idle = timedelta(minutes=wiring.settings.session_idle_minutes)
        g.caller = identify(request, wiring.accounts, now(), idle=idle)
        # A user of another organisation is nobody here; one of ours names ours or none.
        if named is not None and named != g.caller.user.org:
            raise ApiError(403, "wrong_organization", "this credential belongs to another organisation")
        if wiring.settings.require_password_change and request.endpoint not in accounts.BEFORE_PASSWORD_CHANGE:
            check_password_changed(g.caller)
        check_permission(g.caller, declaration.permission)
    elif named is not None and named != wiring.org:
        raise ApiError(403, "wrong_organization", "there is no such organisation for this request")
    return None


def _finish(response: Response) -> Response:
    if request.path.startswith(f"{PREFIX}/"):
        response.headers["Cache-Control"] = "no-store"
        if request.method in {"GET", "HEAD"} and response.status_code == 200:
            response.make_conditional(request)
        if request.method in {"GET", "HEAD"} and response.status_code == 412:
            response.close()  # it is still what was asked for, with another status
            response = ApiError(412, "precondition_failed", "it is not in the state that If-Match names").response()
            response.headers["Cache-Control"] = "no-store"
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if not request.path.startswith("/tuf/"):
        response.headers["X-Request-Id"] = request_id()
    route = request.url_rule.rule if request.url_rule is not None else "-"
    spent = time.perf_counter() - g.get("started", time.perf_counter())
    meter = probes.current_meter()
    meter.requests.labels(request.method, route, str(response.status_code)).inc()
    meter.seconds.labels(request.method, route).observe(spent)
    return response


def _invalid(error: ValidationError) -> Response:
    details = [(".".join(str(part) for part in one["loc"]), one["msg"]) for one in error.errors(include_url=False)[:50]]
    where = ", ".join(loc or "the body" for loc, _ in details[:5])
    message = f"the request does not fit: {where}; see details, and the reference at /docs"
    return ApiError(400, "validation_failed", message, details=details).response()


def _failed(error: Exception) -> Response:
    known = error if isinstance(error, ApiError) else from_domain(error)
    if known is not None:
        return known.response()
    if isinstance(error, RequestEntityTooLarge):
        most = request.max_content_length
        return ApiError(
            413, "body_too_large", f"the body is larger than {most} bytes, the most accepted here"
        ).response()
    if isinstance(error, HTTPException) and request.path.startswith("/tuf/"):
        return tuf.refused(error)
    if isinstance(error, HTTPException):
        status = error.code or 500
        code = (error.name or "error").lower().replace(" ", "_")
        answer = ApiError(status, code, error.description or code).response()
        answer.headers.extend({k: v for k, v in error.get_headers() if k.lower() in {"allow", "retry-after"}})
        return answer
    log.exception("request %s failed: %s %s", request_id(), request.method, request.url_rule)
    return ApiError(
        500, "internal_error", f"an error of ours; it is logged as {request_id()}, nothing was half done"
    ).response()
