"""The signed repository over HTTP: immutable files but for ``timestamp.json``.

Nothing here signs or asks the database.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, request, send_file

from api.operator.routes import services

blueprint: Final = Blueprint("tuf", __name__, url_prefix="/tuf")

_YEAR: Final = 31_536_000  # seconds


@blueprint.get("/<org>/metadata/<name>")
def metadata(org: str, name: str) -> Response:
    """One metadata file; ``timestamp.json`` is asked anew each time, the others are named by version for ever."""
    path = services().repository.metadata_file(name) if org == services().org else None
    if path is None:
        return absent()
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
    """One target as ``<dir>/<sha256>.<name>``; ranges are answered, so downloads resume."""
    path = services().repository.target_file(name) if org == services().org else None
    if path is None:
        return absent()
    return _immutable(send_file(path, mimetype="application/octet-stream", etag=path.name, max_age=_YEAR))


def _immutable(response: Response) -> Response:
    response.cache_control.public = True
    response.cache_control.immutable = True
    return response


def absent() -> Response:
    """A miss, without a body: clients ask for the next root at every refresh, and a million of them do it all day."""
    response = Response(status=404)
    response.headers.pop("Content-Type", None)
    return response
