"""A real home, made the way `publish init` makes it, and the application over it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from api.settings import Settings, read_settings
from api.setup import Initialised, initialise
from api.wiring import ROOT_FILE, Wavegate, open_wavegate
from tests.databases import Databases


@dataclass
class Home:
    """A home, its application, and the credentials that `publish init` told."""

    made: Initialised
    wiring: Wavegate
    app: Flask
    client: FlaskClient
    databases: Databases = field(default_factory=lambda: Databases(None), kw_only=True)

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

    def stored(self) -> bytes:
        """All that the database holds, in no order."""
        return self.databases.stored(self.made.home)

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


def settings_of(databases: Databases, home: Path, **more: str) -> Settings:
    """Settings of a home; passwords are hashed cheaply, so that a test does not wait for them."""
    return read_settings(
        {"WAVEGATE_HOME": str(home), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192", **databases.environ(home), **more}
    )


@pytest.fixture(scope="module")
def first_home(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Initialised:
    """What the homes of a module are copies of: making keys and signing takes longer than most tests."""
    settings = settings_of(databases, tmp_path_factory.mktemp("first") / "home")
    return initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))


@contextmanager
def made_home(folder: Path, **more: str) -> Iterator[Home]:
    """A home of its own below ``folder``, with ``more`` in its environment; its database is a file unless that says
    otherwise."""
    databases = Databases(None)
    settings = settings_of(databases, folder / "home", **more)
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    with opened(databases, made, settings) as home:
        yield home


@contextmanager
def copied_home(databases: Databases, first: Initialised, folder: Path) -> Iterator[Home]:
    """A copy of the module's first home; dropped at the end, with its database."""
    databases.copy_home(first.home, folder)
    made = replace(first, home=folder, root=folder / ROOT_FILE)
    with opened(databases, made, settings_of(databases, folder)) as home:
        yield home
    databases.forget(folder)


@contextmanager
def opened(databases: Databases, made: Initialised, settings: Settings) -> Iterator[Home]:
    """A home with its application.

    At the end, every error that a route answered must be one that it declares.
    """
    wiring = open_wavegate(settings)
    app = create_app(wiring)
    undeclared = watch_codes(app)
    try:
        yield Home(made, wiring, app, app.test_client(), databases=databases)
    finally:
        wiring.close()
    assert undeclared == set(), "add the codes to the route's `errors=` (or to those of its kind in api/codes.py)"


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


@pytest.fixture
def home(databases: Databases, first_home: Initialised, tmp_path: Path) -> Iterator[Home]:
    """A fresh home."""
    with copied_home(databases, first_home, tmp_path / "home") as fresh:
        yield fresh


@pytest.fixture(scope="module")
def shared_home(
    databases: Databases, first_home: Initialised, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """One home for all tests of a module, which keep out of one another's way by themselves."""
    with copied_home(databases, first_home, tmp_path_factory.mktemp("shared") / "home") as fresh:
        yield fresh


def routes(home: Home) -> list[tuple[str, str, str]]:
    """Every route under /api/v1 as (endpoint, method, path with placeholders filled in)."""
    found = []
    for rule in home.app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/"):
            path = re.sub(r"<int:[^>]+>", "1", rule.rule)
            path = re.sub(r"<[^>]+>", "nothing-here", path).removeprefix("/api/v1")
            found += [
                (rule.endpoint, method, path) for method in rule.methods or () if method not in {"HEAD", "OPTIONS"}
            ]
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
