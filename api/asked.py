"""The request at hand, without Flask's proxies: each look through one costs as much as the look-up of a route's rule.

Outside of a request each of these raises RuntimeError, as the proxies do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from flask import Request
from flask.ctx import AppContext, RequestContext, _AppCtxGlobals
from flask.globals import app_ctx, request_ctx

# werkzeug's documented way to what is behind a proxy
_of_app: Final = cast("Callable[[], AppContext]", cast("Any", app_ctx)._get_current_object)
_of_request: Final = cast("Callable[[], RequestContext]", cast("Any", request_ctx)._get_current_object)


def asked() -> Request:
    """As ``flask.request``."""
    return _of_request().request


def held() -> _AppCtxGlobals:
    """As ``flask.g``."""
    return _of_app().g


def extension(name: str) -> Any:
    """What the application keeps under this name."""
    return _of_app().app.extensions[name]
