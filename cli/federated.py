"""Logging in by the provider that a server knows: in a browser here (RFC 8252), or by a code typed in elsewhere."""

from __future__ import annotations

import threading
import time
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import click

from cli.client import of_organisation
from cli.errors import ApiRefusal, NotLoggedIn
from cli.text import visible

if TYPE_CHECKING:
    from cli.client import Client

BROWSER_SECONDS: Final = 600.0  # as long as the server remembers the login
_SLOWER_BY: Final = 5.0  # seconds, RFC 8628 section 3.5
_PAGE: Final = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Wavegate</title>"
    b"<p>You can close this window and go back to the terminal."
)


def by_browser(stranger: Client, org: str | None = None, *, patience: float = BROWSER_SECONDS) -> dict[str, Any]:
    """Let the person log in in their browser; returns what ``/auth/oidc/token`` takes.

    The answer comes to a port of loopback that nobody else is told, and only the one with our ``state`` is taken.

    Raises:
        NotLoggedIn: The provider said no, or nothing came in time.
        ApiRefusal: The server knows no provider.
    """
    answers: list[dict[str, str]] = []
    came = threading.Event()
    expected: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            told = {name: values[0] for name, values in parse_qs(parts.query).items()}
            is_ours = parts.path == "/callback" and bool(expected) and told.get("state") == expected[0]
            self.send_response(200 if is_ours else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(_PAGE) if is_ours else 0))
            self.end_headers()
            if is_ours:
                self.wfile.write(_PAGE)
                answers.append(told)
                came.set()

        def log_message(self, *_: Any) -> None:
            """The terminal is the person's."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        redirect_uri = f"http://127.0.0.1:{server.server_port}/callback"
        begun = stranger.post(f"{of_organisation(org)}/auth/oidc/authorize", {"redirect_uri": redirect_uri})
        url = str(begun["authorization_url"])
        expected += parse_qs(urlsplit(url).query).get("state", [])
        click.echo(f"log in at {visible(url)}", err=True)
        webbrowser.open(url)
        if not came.wait(patience):
            raise NotLoggedIn(
                "nobody logged in in time", hint="`publish login --device` works with a browser elsewhere"
            )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (told, *_) = answers
    if "code" not in told:
        raise NotLoggedIn(f"the provider refused the login: {visible(told.get('error', 'no reason given'))[:200]}")
    answer = {"handle": begun["handle"], "code": told["code"], "state": told["state"]}
    return answer | ({"iss": told["iss"]} if "iss" in told else {})


def by_device(
    stranger: Client,
    org: str | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Show a code and wait until the person typed it in elsewhere; returns what the server tells of the login.

    Raises:
        NotLoggedIn: Nobody did in time.
        ApiRefusal: The server or its provider says no.
    """
    begun = stranger.post(f"{of_organisation(org)}/auth/oidc/device", {})
    place = begun["verification_uri_complete"] or begun["verification_uri"]
    click.echo(f"open {visible(place)} in any browser, the code is {visible(begun['user_code'])}", err=True)
    pause, until = float(begun["interval"]), clock() + BROWSER_SECONDS
    while clock() < until:
        sleep(pause)
        try:
            told: dict[str, Any] = stranger.post("/auth/oidc/device/token", {"handle": begun["handle"]})
            return told
        except ApiRefusal as refusal:
            if refusal.code == "slow_down":
                pause += _SLOWER_BY
            elif refusal.code != "authorization_pending":
                raise
    raise NotLoggedIn("nobody typed the code in in time", hint="begin again")
