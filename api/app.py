"""The Flask application: what happens around every request, and which blueprints answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import orjson
from flask import Flask, Request, Response, request
from flask_openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

from api import access, docs, probes, rate_limits, tuf
from api.asked import asked, held
from api.auth.gate import check_password_changed, check_permission, check_person, identify
from api.auth.rates import Policy
from api.auth.source import told_id
from api.errors import ApiError, from_domain, request_id
from api.idempotency import once_only
from api.installation import Installation, OrganisationUnavailable
from api.operator import (
    accounts,
    api_keys,
    approvals,
    artifacts,
    attestations,
    audit,
    batches,
    bins,
    device_history,
    device_logs,
    devices,
    drafts,
    exclusions,
    freezes,
    groups,
    invitations,
    metering,
    oidc,
    own_sessions,
    reboots,
    registration,
    repository,
    repository_life,
    resets,
    rollout_aftermath,
    rollout_devices,
    rollout_permits,
    rollout_previews,
    rollouts,
    roster,
    sboms,
    second_factor,
    selectors,
    trusted_publishers,
    uploads,
    webhooks,
)
from api.operator.routes import (
    PREFIX,
    Declaration,
    Error,
    Routes,
    check_if_match,
    named_organisation,
    now,
    shared,
    source,
    wrong_organisation,
)
from api.wiring import Wavegate

log: Final = logging.getLogger("wavegate.api")

BLUEPRINTS: Final[tuple[Routes, ...]] = (
    accounts.api,
    oidc.api,
    api_keys.api,
    invitations.api,
    registration.api,
    resets.api,
    own_sessions.api,
    second_factor.api,
    trusted_publishers.api,
    approvals.api,
    artifacts.api,
    attestations.api,
    sboms.api,
    groups.api,
    devices.api,
    device_history.api,
    metering.api,
    roster.api,
    device_logs.api,
    reboots.api,
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

SECURITY_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
)
_SHORT: Final = 65_536  # bytes of an answer that is handed over in one piece
_CONDITIONS: Final = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE")


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


class Door:
    """WSGI: ``/api/v1/orgs/{org}/X`` is ``/api/v1/X`` for a credential of that organisation; every answer has the
    headers that never change, which Flask would take its time to add; and a short one is handed over in one piece,
    which the server sends in one."""

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

        short = False

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal short
            short = any(name == "Content-Length" and int(value) <= _SHORT for name, value in headers)
            return start_response(status, [*headers, *SECURITY_HEADERS], *error)

        answer = self._inner(environ, start)
        if not short:
            return answer
        try:
            return [b"".join(answer)]
        finally:
            if hasattr(answer, "close"):
                answer.close()


class Application(OpenAPI):
    """Flask with our requests, and one effect for a request sent twice."""

    request_class = ApiRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: none here is a coroutine, which Flask would look for at every call."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What finds the route: by path and method alone, so the Host header is not taken apart at every call."""
        if request is None:
            return super().create_url_adapter(None)
        query = request.environ.get("QUERY_STRING", "")
        return MapAdapter(self.url_map, "", "/", "", request.scheme, request.path, request.method, query)

    def dispatch_request(self) -> Any:
        """Run the view behind the gate."""
        declaration = self.extensions["wavegate.declarations"].get(asked().endpoint)
        if declaration is None:
            return super().dispatch_request()
        return once_only(declaration, lambda: self.make_response(super(Application, self).dispatch_request()))


class UndeclaredRoute(Exception):
    """A route under /api/v1 says not who may call it; the application is not built."""


def create_app(opened: Installation | Wavegate, blueprints: Sequence[Routes] = BLUEPRINTS) -> Flask:
    """Build the application around an installation, or one organisation of it; it holds no state of its own.

    Raises:
        UndeclaredRoute: A route was added past :meth:`Routes.on`.
    """
    installation = opened if isinstance(opened, Installation) else Installation(opened, opened)
    settings = installation.settings
    app = Application(
        "wavegate",
        info={"title": "Wavegate", "version": installation.shared.version, "description": docs.DESCRIPTION},
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
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_FORM_PARTS"] = 0
    app.extensions["wavegate"] = installation
    app.extensions["wavegate.meter"] = meter = probes.Meter(installation)
    app.extensions["wavegate.rates"] = rate_limits.rates_of(installation.shared, meter)
    declarations: dict[str, Declaration] = {}
    for blueprint in blueprints:
        app.register_api(blueprint)
        declarations |= blueprint.declarations
    app.register_blueprint(tuf.blueprint)
    app.register_blueprint(probes.blueprint)
    app.register_blueprint(docs.blueprint)
    app.extensions["wavegate.declarations"] = declarations
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(f"{PREFIX}/") and rule.endpoint not in declarations:
            raise UndeclaredRoute(f"{rule.rule} says not who may call it; declare it with Routes.on")

    @app.before_request
    def _gate() -> Response | None:
        here = asked()
        held().request_id = told_id(here, settings.trusted_proxies)
        access.began()
        if not here.path.startswith(f"{PREFIX}/") or here.endpoint is None:
            return None
        return _admit(declarations[here.endpoint])

    app.after_request(_finish)
    app.register_error_handler(Exception, _failed)
    app.wsgi_app = Door(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own documented way to wrap
    return app


def _admit(declaration: Declaration) -> Response | None:
    everyone = shared()
    settings = everyone.settings
    if declaration.raw_body:
        request.max_content_length = declaration.body_limit or settings.max_artifact_bytes
    elif declaration.body_limit is not None:
        request.max_content_length = max(declaration.body_limit, settings.max_body_bytes)
    if not declaration.public:
        idle = timedelta(minutes=settings.session_idle_minutes)
        try:
            caller = identify(asked(), everyone.accounts, everyone.publishers, now(), idle=idle)
        except ApiError as error:
            if error.status == 401:
                rate_limits.count(Policy.ANONYMOUS, source())
            raise
        held().caller = caller
        access.known(caller.user.org, caller.user.id, caller.credential_id)
        rate_limits.count(declaration.policy, caller.credential_id)
        # The organisation is the credential's; whoever names one names that.
        if named_organisation() not in {None, caller.user.org}:
            raise wrong_organisation()
        if settings.require_password_change and request.endpoint not in accounts.BEFORE_PASSWORD_CHANGE:
            check_password_changed(caller)
        if declaration.person:
            check_person(caller)
        check_permission(caller, declaration.permission)
        check_if_match(declaration, required=settings.require_if_match)
        return None
    rate_limits.count(declaration.policy, source())
    return None


def _finish(response: Response) -> Response:
    here = asked()
    path = here.path
    if path.startswith(f"{PREFIX}/") and any(condition in here.environ for condition in _CONDITIONS):
        if response.status_code == 200:
            response.make_conditional(here)  # of GET and HEAD alone
        if response.status_code == 412 and here.method in {"GET", "HEAD"}:
            response.close()  # it is still what was asked for, with another status
            response = ApiError(412, "precondition_failed", "it is not in the state that If-Match names").response()
    headers = response.headers
    # Added, not set: looking for each among those that are there would cost more than all else here.
    if path.startswith(f"{PREFIX}/"):
        headers.remove("Cache-Control")
        headers.add("Cache-Control", "no-store")
        for name, value in rate_limits.headers().items():
            headers.add(name, value)
    elif not path.startswith("/tuf/"):
        headers.setdefault("Cache-Control", "no-cache")
    if not path.startswith("/tuf/"):
        headers.add("X-Request-Id", request_id())
    access.answered(response)
    return response


def _invalid(error: ValidationError) -> Response:
    details = [(".".join(str(part) for part in one["loc"]), one["msg"]) for one in error.errors(include_url=False)[:50]]
    where = ", ".join(loc or "the body" for loc, _ in details[:5])
    message = f"the request does not fit: {where}; see details, and the reference at /docs"
    return ApiError(400, "validation_failed", message, details=details).response()


def _failed(error: Exception) -> Response:
    known = error if isinstance(error, ApiError) else from_domain(error)
    if known is not None:
        if known.status == 503:  # nothing the caller did
            log.error("%s: %s", known.code, error)
        return known.response()
    if isinstance(error, OrganisationUnavailable):
        return ApiError(503, error.code, str(error), headers={"Retry-After": "5"}).response()
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
