"""The reference: ``/openapi.json`` from the code, ``/docs`` for people, ``/docs.md`` for reading as text."""

from __future__ import annotations

import re
from copy import deepcopy
from importlib.resources import files
from typing import Any, Final, cast

import orjson
from flask import Blueprint, Response, current_app
from flask_openapi import OpenAPI

from api.openapi import complete
from api.openapi_text import markdown
from api.operator.routes import shared

DESCRIPTION: Final = (
    "Signed publishing (TUF) and staged rollout for fleets. Send an API key or a login token as "
    "`Authorization: Bearer`. Every error has the same shape; `code` is stable, `message` is for people. "
    "Every operation names the permission it needs in `x-permission`."
)

blueprint: Final = Blueprint("docs", __name__)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Wavegate API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body style="margin:0"><div id="reference"></div>
<script type="module" src="/docs/start.js"></script></body></html>
"""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# Its maker's logo, and where it would tell them that somebody reads this page.
_FOREIGN: Final = re.compile(rb"https://(?:cdn\.redoc\.ly|otel\.cloud\.redocly\.com)/[a-z0-9./-]*")
_START: Final = """import {init} from "/docs/redoc.js";
init("/openapi.json", {disableTelemetry: true}, document.getElementById("reference"));
"""


def reference() -> dict[str, Any]:
    """The OpenAPI document of the running application; made once."""
    made: dict[str, Any] | None = current_app.extensions.get("wavegate.openapi")
    if made is None:
        app = cast("OpenAPI", current_app)
        # The framework keeps and hands out one and the same document; ours must not be completed twice.
        made = complete(deepcopy(app.api_doc), app, server=shared().settings.public_url)
        current_app.extensions["wavegate.openapi"] = made
    return made


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """OpenAPI 3.1, sorted, so that the same code gives the same bytes."""
    return Response(orjson.dumps(reference(), option=orjson.OPT_SORT_KEYS), mimetype="application/json")


@blueprint.get("/docs")
def page() -> Response:
    """Redoc, served from here."""
    response = Response(_PAGE, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@blueprint.get("/docs/redoc.js")
def script() -> Response:
    """Redoc's bundle, without what it would fetch from elsewhere or tell there."""
    folder = files("flask_openapi_redoc") / "templates" / "redoc" / "js"
    bundle = next(one for one in folder.iterdir() if one.name.endswith("redoc.standalone.js"))
    response = Response(_FOREIGN.sub(b"data:,", bundle.read_bytes()), mimetype="text/javascript")
    response.cache_control.max_age = 86_400
    return response


@blueprint.get("/docs/start.js")
def start() -> Response:
    """Shows the reference; a file of its own, so that the page needs no inline script."""
    return Response(_START, mimetype="text/javascript")


@blueprint.get("/docs.md")
def text() -> Response:
    """The reference as Markdown, for people and language models."""
    return Response(markdown(reference()), mimetype="text/markdown")
