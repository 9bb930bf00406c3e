"""Starts the provider, and is a person with a browser at its pages."""

from __future__ import annotations

import json
import select
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPMessage
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode, urljoin

from tests.acceptance.node import NODE, environment, install

HERE: Final = Path(__file__).resolve().parent
START_WITHIN_SECONDS: Final = 60
CLIENT_ID: Final = "wavegate"
CLIENT_SECRET: Final = "a secret: with %, + and &"
_MOST_PAGES: Final = 10

Claims = Mapping[str, Any]


@dataclass(frozen=True)
class Provider:
    """The provider as it runs."""

    issuer: str

    def log_in(self, url: str, login: str) -> str:
        """Open ``url`` in a new browser, log in as somebody and say yes to all; returns where the browser ends up
        outside of the provider, or the text of the provider's last page."""
        browser = _Browser(self.issuer)
        page = browser.open(url)
        for _ in range(_MOST_PAGES):
            if browser.left_for is not None:
                return browser.left_for
            form = _Form.of(page)
            if form is None:
                return page
            fields = {**form.fields, **({"login": login, "password": "any"} if "login" in form.names else {})}
            page = browser.open(urljoin(browser.at, form.action), fields)
        raise AssertionError(f"more than {_MOST_PAGES} pages: {page[:2000]}")


@contextmanager
def oidc_provider(people: Mapping[str, Claims], callback: str, *, secret: str | None) -> Iterator[Provider]:
    """A provider that knows these people by the name they log in with, ended with the block.

    Args:
        secret: Of its client; None for a public one.
    """
    method = "none" if secret is None else "client_secret_basic"
    client = {
        "client_id": CLIENT_ID,
        # A native one may have its answers sent to any port of loopback, RFC 8252 section 7.3.
        "application_type": "native",
        "redirect_uris": [callback, "http://127.0.0.1/callback"],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_method": method,
        "scope": "openid email profile",
        **({} if secret is None else {"client_secret": secret}),
    }
    script = install(HERE, "provider.mjs") / "provider.mjs"
    with subprocess.Popen(
        [str(NODE), str(script), json.dumps({"client": client, "people": people})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], START_WITHIN_SECONDS)[0], "the provider does not start"
            yield Provider(process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(START_WITHIN_SECONDS)


class _Form(HTMLParser):
    """The first form of a page: where it goes, and what it sends by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str = ""
        self.fields: dict[str, str] = {}
        self.names: set[str] = set()
        self._forms = 0

    @classmethod
    def of(cls, page: str) -> _Form | None:
        form = cls()
        form.feed(page)
        return form if form._forms else None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._forms += 1
            if self._forms == 1:
                self.action = told.get("action", "")
        elif tag == "input" and self._forms == 1 and told.get("name"):
            self.names.add(told["name"])
            if told.get("type") == "hidden" or told.get("value"):
                self.fields[told["name"]] = told.get("value", "")


class _Browser(urllib.request.HTTPRedirectHandler):
    """Cookies and redirects, until one leaves the provider."""

    def __init__(self, issuer: str) -> None:
        self.left_for: str | None = None
        self.at = issuer
        self._issuer = issuer
        self._opener = urllib.request.build_opener(
            self, urllib.request.HTTPCookieProcessor(CookieJar()), urllib.request.ProxyHandler({})
        )

    def open(self, url: str, fields: Mapping[str, str] | None = None) -> str:
        body = None if fields is None else urlencode(fields).encode()
        try:
            with self._opener.open(url, body, timeout=30) as answer:
                self.at = answer.url
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            if self.left_for is not None:
                return ""
            return str(error.read().decode())

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if newurl.startswith(f"{self._issuer}/"):
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        self.left_for = newurl
        return None
