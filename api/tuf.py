"""The signed repository over HTTP: immutable files but for ``timestamp.json``.

Nothing here signs; the database is asked for names of organisations that are not open yet, once a second at most.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, request, send_file
from werkzeug.exceptions import HTTPException, RequestedRangeNotSatisfiable

from api.operator.routes import installation
from repo_signing.storage import FarTarget

blueprint: Final = Blueprint("tuf", __name__, url_prefix="/tuf")

_YEAR: Final = 31_536_000  # seconds
REDIRECT_SECONDS: Final = 900  # how long a URL of the bucket is good: to begin a download, not to end it


@blueprint.get("/<org>/metadata/<name>")
def metadata(org: str, name: str) -> Response:
    """One metadata file; ``timestamp.json`` is asked anew each time, the others are named by version for ever."""
    wiring = installation().find(org)
    if wiring is None:
        return absent()
    path = wiring.repository.metadata_file(name)
    if path is None:
        content = wiring.repository.metadata_elsewhere(name)
        return absent() if content is None else _immutable(Response(content, mimetype="application/json"))
    if name == "timestamp.json":
        # Read whole: the file is replaced by rename, and a handle on the old one would mix two states.
        response = Response(path.read_bytes(), mimetype="application/json")
        response.cache_control.no_cache = True
        response.add_etag()
        response.make_conditional(request)
        return response
    return _immutable(send_file(path, mimetype="application/json", etag=name, max_age=_YEAR))


@blueprint.get("/<org>/targets/<path:name>")
def target(org: str, name: str) -> Response:
    """One target as ``<dir>/<sha256>.<name>``; ranges are answered, so downloads resume.

    A large one of a bucket is not copied here first: it is handed on as it comes, or the client is sent there.
    """
    wiring = installation().find(org)
    if wiring is None:
        return absent()
    far = wiring.repository.far_target(name)
    if far is not None and wiring.settings.target_downloads == "redirect":
        # Short-lived and signed: a cache that kept it would hand out what has expired.
        return Response(status=302, headers={"Location": far.url(REDIRECT_SECONDS), "Cache-Control": "no-store"})
    if far is not None and not far.is_here:
        return _handed_on(far)
    path = wiring.repository.target_file(name)
    if path is None:
        return absent()
    return _immutable(send_file(path, mimetype="application/octet-stream", etag=path.name, max_age=_YEAR))


def _handed_on(far: FarTarget) -> Response:
    """The bytes of a bucket, or the one range of them that was asked for; several ranges get the whole."""
    start, end, status = 0, far.length, 200
    if far.name in request.if_none_match:
        status = 304
    elif request.range is not None and len(request.range.ranges) == 1 and _is_if_range(far):
        within = request.range.range_for_length(far.length)
        if within is None:
            return Response(status=416, headers={"Content-Range": f"bytes */{far.length}"})
        (start, end), status = within, 206
    pieces = far.pieces(start, end) if request.method == "GET" and status != 304 else ()
    response = Response(pieces, status, mimetype="application/octet-stream")
    if status != 304:
        response.headers["Content-Length"] = str(end - start)
    if status == 206:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{far.length}"
    response.headers["Accept-Ranges"] = "bytes"
    response.set_etag(far.name)
    response.cache_control.max_age = _YEAR
    return _immutable(response)


def _is_if_range(far: FarTarget) -> bool:
    # A date does not come with what never changes, so only our own ETag can have been seen before.
    return request.if_range.date is None and request.if_range.etag in (None, far.name)


def _immutable(response: Response) -> Response:
    response.cache_control.public = True
    response.cache_control.immutable = True
    return response


def refused(error: HTTPException) -> Response:
    """A miss for whatever cannot be asked here, but for a range outside of a target: its client learns the length."""
    if isinstance(error, RequestedRangeNotSatisfiable):
        return Response(status=416, headers={"Content-Range": f"bytes */{error.length}"})
    return absent()


def absent() -> Response:
    """A miss, without a body: clients ask for the next root at every refresh, and a million of them do it all day."""
    response = Response(status=404)
    response.headers.pop("Content-Type", None)
    return response
