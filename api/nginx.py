"""nginx before the server: it hands out the signed repository from its folder, and passes the rest on.

The names it knows are those of :mod:`repo_signing.paths`, the headers those of :mod:`api.tuf`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from api.settings import Settings
from api.wiring import repository_folder
from repo_signing.paths import TARGET_PATTERNS, VERSIONED_PATTERN


class NotForNginx(ValueError):
    """nginx cannot hand out this home's repository; the message says why and what to do."""


_HEAD: Final = """\
# Made by `publish repo nginx` for {orgs}. Include it in a `server {{ }}` of yours, which says where to
# listen, under which name and with which certificate. Device gRPC is not passed on: it ends TLS itself.

# The signed repository: files, no program. What has no place below is not there.
location ^~ /tuf/ {{
    types {{ }}
    default_type application/json;
    # Said here so that nothing else in this server's configuration changes it.
    etag on;
    expires off;
    charset off;
    gzip off;             # lengths and ETags are those of the files
    open_file_cache off;  # what is replaced or withdrawn is so at once
    log_not_found off;    # every device asks for the next root at every poll
    max_ranges 1;
    error_page 404 405 = @wavegate_absent;
    return 404;
"""
_ORGANISATION: Final = """
    location = /tuf/{org}/metadata/timestamp.json {{
        alias "{folder}/metadata/timestamp.json";
        add_header Cache-Control "no-cache";
        add_header Last-Modified "";
    }}

    location ^~ /tuf/{org}/metadata/ {{
        return 404;

        location ~ "^/tuf/{org}/metadata/(?P<wavegate_name>{versioned})\\z" {{
            alias "{folder}/metadata/$wavegate_name";
            add_header Cache-Control "{immutable}";
        }}
    }}

    location ^~ /tuf/{org}/targets/ {{
        default_type application/octet-stream;
        return 404;
"""
_TARGET: Final = """
        location ~ "^/tuf/{org}/targets/{pattern}\\z" {{
            alias "{folder}/blobs/$wavegate_ab/$wavegate_sha256";
            add_header Cache-Control "{immutable}";
        }}
"""
_ORGANISATION_TAIL: Final = """\
    }}
"""
_TAIL: Final = """\
}}

# A miss without a body.
location @wavegate_absent {{
    default_type application/json;
    set $wavegate_nothing "";
    return 404 $wavegate_nothing;
}}
"""
_PASSED_ON: Final = """
location {place} {{
    proxy_pass http://{server};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_read_timeout {seconds}s;
    client_max_body_size 0;        # the server has limits of its own and tells them in the API's words
    proxy_request_buffering off;   # uploads go on as they come
    proxy_max_temp_file_size 0;    # and downloads wait in memory, not on the disk
}}
"""
_PLACES: Final = ("^~ /api/", "= /healthz", "= /docs", "^~ /docs/", "= /docs.md", "= /openapi.json")
_PROXY_SECONDS: Final = 600  # a large upload is signed, a large batch committed
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_SLUG_IN_PATH: Final = "ORG"
_NOT_IN_QUOTES: Final = frozenset('"$\\')  # nginx has no way to write a `$` that is none of a variable


def nginx_locations(settings: Settings, orgs: Sequence[str], *, seen_at: Path | None = None) -> str:
    """The ``location`` blocks for a ``server`` of nginx 1.18 or later.

    Args:
        settings: Of the home; its ``listen`` is where requests are passed on to.
        orgs: Whose repositories nginx hands out; one that is made later is not among them.
        seen_at: Where nginx sees the repository's folder (with ``metadata`` and ``blobs``), if elsewhere than here;
            ``ORG`` in it stands for the organisation's slug, and must where there are several.

    Raises:
        NotForNginx: The repository is in a bucket, ``listen`` has no fixed port, or a path cannot be written.
    """
    if settings.bucket:
        raise NotForNginx(
            "the repository is in a bucket, and the folder here a copy that follows when the server is asked; "
            "let nginx pass on /tuf/ to the server, or a CDN hand out the bucket"
        )
    if settings.listen.port == 0:
        raise NotForNginx("the setting listen has port 0, another at each start; set one that nginx can know")
    if seen_at is not None and len(orgs) > 1 and _SLUG_IN_PATH not in str(seen_at):
        raise NotForNginx(
            f"there are {len(orgs)} organisations, each with a folder of its own: write {_SLUG_IN_PATH} in --at where "
            "the slug stands, such as /srv/wavegate/ORG/repository"
        )
    parts = [_HEAD.format(orgs=", ".join(orgs))]
    for org in orgs:
        parts += _of_organisation(org, _folder(settings, org, seen_at))
    parts.append(_TAIL.format())
    server = _reached_at(settings)
    parts += [_PASSED_ON.format(place=place, server=server, seconds=_PROXY_SECONDS) for place in _PLACES]
    return "".join(parts)


def _folder(settings: Settings, org: str, seen_at: Path | None) -> str:
    named = None if seen_at is None else str(seen_at).replace(_SLUG_IN_PATH, org)
    folder = (named or str(repository_folder(settings, org))).rstrip("/")
    wrong = sorted({letter for letter in folder if letter in _NOT_IN_QUOTES or not letter.isprintable()})
    if wrong or not folder.startswith("/"):
        found = f"{folder!r} has {' '.join(map(repr, wrong))}" if wrong else f"{folder!r} is not absolute"
        raise NotForNginx(f"{found}, which cannot stand in nginx's configuration; name another place with --at")
    return folder


def _of_organisation(org: str, folder: str) -> Iterator[str]:
    known = {"org": org, "folder": folder, "immutable": _IMMUTABLE}
    yield _ORGANISATION.format(**known, versioned=VERSIONED_PATTERN)
    for pattern in TARGET_PATTERNS:
        yield _TARGET.format(**known, pattern=pattern.replace("?P<", "?P<wavegate_"))
    yield _ORGANISATION_TAIL.format()


def _reached_at(settings: Settings) -> str:
    # A server that listens everywhere is reached by the machine's own address.
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = settings.listen.host
    return f"{everywhere[host]}:{settings.listen.port}" if host in everywhere else str(settings.listen)
