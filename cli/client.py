"""The API as the commands call it: one method per HTTP verb, errors raised as :class:`ApiRefusal`."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote, urljoin, urlsplit

from cli.config import Credential
from cli.errors import ApiRefusal, NotLoggedIn, UnexpectedAnswer, Unreachable, UsageFault

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPHeaderDict

API: Final = "/api/v1"
CHUNK: Final = 128 * 1024  # bytes; larger writes cost more system time, smaller ones more calls
_MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes of JSON; a page holds 200 items, so more is a fault or an attack
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_BUSY: Final = frozenset({429, 503})
_PAGE: Final = 200  # the most the API hands out at once


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a call is tried. Spans in seconds.

    Before attempt n+1 the client waits ``first_wait * 2**n``, at most ``longest_wait``, shortened by up to a half at
    random, so that many CI jobs do not come back as one. A ``Retry-After`` of the server up to
    ``longest_retry_after`` is obeyed; a longer one ends the call.
    """

    attempts: int = 5
    first_wait: float = 0.25
    longest_wait: float = 8.0
    longest_retry_after: float = 60.0
    connect_timeout: float = 10.0
    read_timeout: float = 120.0


class Upload:
    """A file as a request body: read once per attempt, in chunks, telling ``progress`` how many bytes went."""

    def __init__(self, file: BinaryIO, length: int, progress: Callable[[int], None] = lambda _: None) -> None:
        self._file = file
        self._progress = progress
        self.length = length
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        self._progress(-self._sent)
        self._sent = 0
        while chunk := self._file.read(CHUNK):
            # One byte too many would be read by the server as the start of another request.
            if self._sent + len(chunk) > self.length:
                break
            yield chunk
            self._sent += len(chunk)
            self._progress(len(chunk))
        if self._sent != self.length or self._file.read(1):
            raise UsageFault("the file changed while it was sent; nothing was published", hint="publish it again")


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: HTTP status, the JSON told (``None`` for 204), and its ``ETag``."""

    status: int
    told: Any
    etag: str | None


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: HTTPHeaderDict
    body: bytes
    url: str


class Client:
    """Calls one server with one credential.

    Redirects are never followed: a credential goes to the address it was meant for only. A request is tried again
    after a broken connection, and after 429 or 503 with ``Retry-After``, where doing it twice cannot do harm: reads,
    PUT and DELETE by their nature, POST by the ``Idempotency-Key`` each carries. PATCH is guarded by ``If-Match``, so
    it is tried once only.
    """

    def __init__(
        self,
        base_url: str,
        credential: Credential | None,
        *,
        patience: Patience | None = None,
        notice: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import urllib3

        self.base_url = base_url
        self.credential = credential
        self._patience = patience or Patience()
        self._notice = notice
        self._sleep = sleep
        self._pool = urllib3.PoolManager(
            retries=False,
            blocksize=CHUNK,
            timeout=urllib3.Timeout(connect=self._patience.connect_timeout, read=self._patience.read_timeout),
        )
        parts = urlsplit(base_url)
        if credential is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            notice(f"warning: {base_url} is not https, so your credential can be read on the way")

    def get(self, path: str, **parameters: Any) -> Any:
        """Read one resource; parameters that are ``None`` are left out."""
        return self.call("GET", path, parameters=parameters).told

    def get_bytes(self, path: str) -> bytes:
        """Read one resource as it is stored, whatever its content type."""
        return self._send("GET", self._address(path), self._headers(accept="*/*"), None).body

    def stream(self, path: str, **parameters: Any) -> Iterator[bytes]:
        """Read what may be of any length, chunk by chunk; asked once, never again in the middle.

        Raises:
            Unreachable: No answer, or it broke off: what came is not all.
        """
        import urllib3

        address, headers = self._address(path, parameters), self._headers(accept="*/*")
        try:
            response = self._pool.request("GET", address, headers=headers, redirect=False, preload_content=False)
            if response.status != 200:
                self._refuse(_loaded(response, address))
            yield from response.stream(CHUNK, decode_content=True)
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"the answer of {self.base_url} broke off: {_reason(error)}") from error

    def get_tagged(self, path: str) -> Answer:
        """Read one resource with its ``ETag``, for a write that must not overtake somebody else's."""
        return self.call("GET", path)

    def items(self, path: str, *, limit: int | None, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Walk a list, page by page, up to ``limit`` items (``None``: all of them)."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            page = self.get(path, **parameters, cursor=cursor, limit=_PAGE if left is None else min(left, _PAGE))
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return
            if left is not None:
                left -= len(page["items"])

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Do something; repeated after a broken connection it is still done once (``Idempotency-Key``)."""
        return self.call("POST", path, body=body).told

    def patch(self, path: str, body: Mapping[str, Any], *, etag: str | None) -> Any:
        """Change a resource, if it is still what ``etag`` says (``None``: whatever it is)."""
        return self.call("PATCH", path, body=body, if_match=etag or "*").told

    def put(self, path: str) -> None:
        """Put one thing into another; twice is as good as once."""
        self.call("PUT", path)

    def delete(self, path: str) -> None:
        """Take something away, in whatever state it is."""
        self.call("DELETE", path, if_match="*")

    def upload(self, path: str, upload: Upload, *, content_type: str = "application/octet-stream") -> Any:
        """Stream a file; memory stays at one chunk."""
        headers = self._headers()
        headers["Content-Type"] = content_type
        headers["Content-Length"] = str(upload.length)
        return _read(self._send("PUT", self._address(path), headers, upload)).told

    def put_bytes(self, path: str, content: bytes) -> Any:
        """Send bytes from memory."""
        headers = self._headers() | {"Content-Type": "application/octet-stream"}
        return _read(self._send("PUT", self._address(path), headers, content)).told

    def post_bytes(self, path: str, content: bytes, *, content_type: str, **parameters: Any) -> Any:
        """Do something with bytes from memory; repeated after a broken connection it is still done once."""
        headers = self._headers() | {"Content-Type": content_type, "Idempotency-Key": str(uuid.uuid4())}
        return _read(self._send("POST", self._address(path, parameters), headers, content)).told

    def send_piece(self, path: str, piece: Iterator[bytes], *, offset: int, length: int) -> int:
        """Send the next ``length`` bytes of an upload once; returns where it stands then."""
        headers = self._headers()
        headers["Content-Type"] = "application/octet-stream"
        headers["Content-Length"] = str(length)
        headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/*"
        return int(_read(self._send("PATCH", self._address(path), headers, piece)).told["offset"])

    def call(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        if_match: str | None = None,
    ) -> Answer:
        """One call of the API.

        Raises:
            ApiRefusal: The server said no.
            NotLoggedIn: The server wants to know who asks, and there is no credential.
            Unreachable: No answer, after as many attempts as are safe.
            UnexpectedAnswer: The answer is not one of Wavegate's.
        """
        headers = self._headers()
        encoded = None
        if body is not None:
            encoded = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        if if_match is not None:
            headers["If-Match"] = if_match
        return _read(self._send(method, self._address(path, parameters), headers, encoded))

    def _headers(self, *, accept: str = "application/json") -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": "wavegate-publish"}
        if self.credential is not None:
            headers["Authorization"] = f"Bearer {self.credential.token}"
        return headers

    def _address(self, path: str, parameters: Mapping[str, Any] | None = None) -> str:
        address = f"{self.base_url}{API}{path}"
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        if given:
            address += "?" + "&".join(f"{quote(name)}={quote(_plain(value), safe='')}" for name, value in given.items())
        return address

    def _send(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes | Upload | Iterator[bytes] | None
    ) -> _Reply:
        import urllib3

        attempts = 1 if method == "PATCH" else self._patience.attempts
        for attempt in range(attempts):
            is_last = attempt == attempts - 1
            try:
                reply = _loaded(
                    self._pool.request(
                        method, address, headers=dict(headers), body=body, redirect=False, preload_content=False
                    ),
                    address,
                )
            except urllib3.exceptions.LocationParseError as error:
                raise UsageFault(f"{address!r} is not an address: {error}") from error
            except urllib3.exceptions.HTTPError as error:
                if is_last or _is_hopeless(error):
                    raise Unreachable(f"no answer from {self.base_url}: {_reason(error)}") from error
                wait = self._back_off(attempt)
                self._notice(f"no answer from {self.base_url} ({_reason(error)}); trying again in {wait:.1f} s")
                self._sleep(wait)
                continue
            asked = _retry_after(reply) if reply.status in _BUSY else None
            if asked is not None and not is_last and asked <= self._patience.longest_retry_after:
                wait = max(asked, self._back_off(attempt))
                self._notice(f"the server is busy; trying again in {wait:.1f} s")
                self._sleep(wait)
                continue
            self._refuse(reply)
            return reply
        raise AssertionError("the last attempt returns or raises")

    def _back_off(self, attempt: int) -> float:
        longest = min(self._patience.first_wait * 2.0**attempt, self._patience.longest_wait)
        return longest * random.uniform(0.5, 1.0)

    def _refuse(self, reply: _Reply) -> None:
        """Raise what an answer other than 2xx means."""
        if 200 <= reply.status < 300:
            return
        if 300 <= reply.status < 400:
            place = urljoin(reply.url, reply.headers.get("Location", ""))
            raise UnexpectedAnswer(
                f"{self.base_url} redirects to {place}; credentials are not sent along",
                hint="if you trust that address, name it with --url",
            )
        try:
            told = json.loads(reply.body)["error"]
        except (ValueError, KeyError, TypeError) as error:
            raise UnexpectedAnswer(
                f"{self.base_url} answered {reply.status} in no form of Wavegate's",
                hint="" if reply.status >= 500 else None,
            ) from error
        if not isinstance(told, dict):
            raise UnexpectedAnswer(f"{self.base_url} answered {reply.status} in no form of Wavegate's")
        if told.get("code") == "unauthenticated" and self.credential is None:
            raise NotLoggedIn(f"{self.base_url} wants to know who you are, and there is no key and no login for it")
        raise ApiRefusal(reply.status, told)


def segment(text: str) -> str:
    """A name or id as one segment of a path."""
    return quote(text, safe="")


def of_organisation(org: str | None) -> str:
    """The beginning of a path for nobody yet known, who says which organisation is meant; empty when none is named."""
    return "" if not org else f"/orgs/{segment(org)}"


def _loaded(response: BaseHTTPResponse, address: str) -> _Reply:
    """Read the body, but no more than an answer of ours can have."""
    body = response.read(_MAX_ANSWER + 1, decode_content=True)
    if len(body) > _MAX_ANSWER:
        response.close()
        raise UnexpectedAnswer(f"the answer is longer than {_MAX_ANSWER} bytes")
    response.release_conn()
    return _Reply(response.status, response.headers, body, address)


def _read(reply: _Reply) -> Answer:
    etag = reply.headers.get("ETag")
    if reply.status == 204 or not reply.body:
        return Answer(reply.status, None, etag)
    try:
        return Answer(reply.status, json.loads(reply.body), etag)
    except ValueError as error:
        raise UnexpectedAnswer(f"the answer to {reply.url} is no JSON") from error


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retry_after(reply: _Reply) -> float | None:
    """Seconds the server asks to wait; ``None`` when it names none (or a date, which no Wavegate server sends)."""
    text = reply.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else None


def _is_hopeless(error: Exception) -> bool:
    """Whether another attempt would meet the same: a name that resolves to nothing, a certificate not trusted."""
    import urllib3

    return isinstance(error, (urllib3.exceptions.SSLError, urllib3.exceptions.NameResolutionError))


def _reason(error: Exception) -> str:
    """The innermost cause in few words; urllib3 wraps it in its own objects' reprs."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
