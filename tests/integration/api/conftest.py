"""A real home on SQLite, made the way `publish init` makes it, and the application over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import api.operator.routes
from api.app import create_app
from api.codes import known
from api.settings import read_settings
from api.setup import Initialised, initialise
from api.wiring import Wavegate, open_wavegate


@dataclass
class Home:
    """A home, its application, and the credentials that `publish init` told."""

    made: Initialised
    wiring: Wavegate
    app: Flask
    client: FlaskClient

    def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, **more: Any
    ) -> TestResponse:
        """One request under /api/v1, by default with the first API key; ``token=""`` sends no credential."""
        bearer = self.made.api_key if token is None else token
        headers = dict(more.pop("headers", {}))
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if body is not None:
            more["json"] = body
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **more)

    def admin(self) -> str:
        """A login token of the admin."""
        return self.login(self.made.admin_email, self.made.admin_password)

    def login(self, email: str, password: str) -> str:
        """A login token of somebody."""
        answer = self.call("POST", "/auth/token", {"email": email, "password": password}, token="")
        assert answer.status_code == 200, answer.text
        token: str = answer.get_json()["token"]
        return token

    def person(self, email: str, role: str) -> str:
        """Make a user and return a login token of theirs."""
        body = {"email": email, "name": email.partition("@")[0], "role": role, "password": "a long enough password"}
        made = self.call("POST", "/users", body, token=self.admin())
        assert made.status_code == 201, made.text
        return self.login(email, "a long enough password")

    def upload(self, content: bytes) -> str:
        """Take in bytes and return the upload id."""
        answer = self.call("PUT", "/artifacts/content", data=content)
        assert answer.status_code == 201, answer.text
        upload_id: str = answer.get_json()["upload_id"]
        return upload_id

    def publish(self, content: bytes = b"firmware", version: str = "1.0.0", **more: object) -> TestResponse:
        """Publish bytes as ``fw`` in one version."""
        fields = {"product": "fw", "version": version, "platform": "any", "file_name": "fw.bin", **more}
        return self.call("POST", "/artifacts", {"upload_id": self.upload(content), **fields})


@contextmanager
def open_home(folder: Path) -> Iterator[Home]:
    """A fresh home; passwords are hashed cheaply, so that a test does not wait for them.

    At the end, every error that a route answered must be one that it declares.
    """
    environ = {"WAVEGATE_HOME": str(folder / "home"), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"}
    settings = read_settings(environ)
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    wiring = open_wavegate(settings)
    app = create_app(wiring)
    undeclared = watch_codes(app)
    try:
        yield Home(made, wiring, app, app.test_client())
    finally:
        wiring.close()
    assert undeclared == set(), "add the codes to the route's `errors=` (or to those of its kind in api/codes.py)"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A fresh home, see ``open_home``."""
    with open_home(tmp_path) as opened:
        yield opened


def watch_codes(app: Flask) -> set[tuple[str, int, str]]:
    """Errors that routes answer from now on without declaring them: endpoint, status and code."""
    found: set[tuple[str, int, str]] = set()

    def look(response: Response) -> Response:
        declaration = app.extensions["wavegate.declarations"].get(request.endpoint)
        if declaration is not None and response.status_code >= 400:
            code = response.get_json()["error"]["code"]
            if code not in declaration.codes or response.status_code not in known(code).statuses:
                found.add((str(request.endpoint), response.status_code, code))
        return response

    app.after_request_funcs.setdefault(None, []).insert(0, look)  # the first one registered is the last one called
    return found


class ShiftedClock(datetime):
    """``datetime`` as a server sees it whose clock is off by ``ahead``."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[ShiftedClock]:
    """The clock of requests, to be set ahead."""
    monkeypatch.setattr(api.operator.routes, "datetime", ShiftedClock)
    monkeypatch.setattr(ShiftedClock, "ahead", timedelta(0))
    return ShiftedClock
