"""``Idempotency-Key``: the same request sent again has one effect and gets the first one's answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import orjson
from flask import Response, request

from api.asked import asked
from api.errors import ApiError
from api.operator.routes import Declaration, caller, installation, shared
from store.idempotency import Answer, Request

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
_LONGEST: Final = 200
_STRANGER: Final = "-"  # whoever has no account: the body, which must be the same, has what lets them in


def once_only(declaration: Declaration, dispatch: Callable[[], Response]) -> Response:
    """Answer the request, or say again what it was answered before.

    Only answers below 500 are kept, for a day; an error raised on the way leaves the key unused. What an answer shows
    once (a key, a token, a password) is not kept: the replay has null in its place.

    Raises:
        ApiError: 400 for a key that cannot be one.
        IdempotencyMismatch: The key was used with another body or route.
        IdempotencyInProgress, IdempotencyUnknown: The first request has not been answered.
    """
    key = asked().headers.get(HEADER)
    if key is None or not declaration.once:
        return dispatch()
    if not 1 <= len(key) <= _LONGEST or not (key.isascii() and key.isprintable()):
        raise ApiError(400, "invalid_idempotency_key", f"{HEADER} has 1 to {_LONGEST} printable ASCII characters")
    wanted = Request(
        # What a stranger's request is for stands in its body; the key is kept beside the oldest organisation's.
        org=installation().slugs()[0] if declaration.public else caller().user.org,
        actor=_STRANGER if declaration.public else caller().user.id,
        key=key,
        route=f"{request.method} {request.path}",
        body_sha256=hashlib.sha256(request.get_data(cache=True)).hexdigest(),
    )
    answered: list[Response] = []

    def work() -> Answer:
        response = dispatch()
        answered.append(response)
        body = _without_secret(response.get_data(), declaration.shown_once)
        return Answer(status=response.status_code, body=body, etag=response.headers.get("ETag"))

    answer, replayed = shared().idempotency.once(wanted, work, clock=lambda: datetime.now(UTC))
    if not replayed:
        return answered[0]
    response = Response(answer.body, answer.status, mimetype="application/json" if answer.body else None)
    if answer.etag is not None:
        response.headers["ETag"] = answer.etag
    response.headers[REPLAYED] = "true"
    return response


def _without_secret(body: bytes, field: str | None) -> bytes:
    if field is None or not body:
        return body
    shown = orjson.loads(body)
    if field in shown:
        shown[field] = None
    return orjson.dumps(shown)
