"""Every route as every kind of caller: what is answered is what docs/permissions.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Response
from werkzeug.test import TestResponse

from api.app import BLUEPRINTS, UndeclaredRoute, create_app
from api.auth.rates import MemoryCounts, Rates
from api.operator.routes import Routes
from api.permission_matrix import KINDS, NARROWED_TO, OPEN, Row, page, rows
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import ApiKey, Role, Session, SessionKind
from evidence.publishing import Provider, Publisher, PublishToken
from keys.secret import API_KEY, INVITATION, LOGIN_TOKEN, PUBLISH_TOKEN, SESSION, new_secret, shown_prefix
from tests.integration.api.conftest import Home

PAGE = Path(__file__).parents[3] / "docs" / "permissions.md"
HOUR = timedelta(hours=1)
REFUSALS = {
    "unauthenticated": "401",
    "permission_denied": "403",
    "session_required": "login",
    "cross_site_request": "site",
}


@pytest.fixture(scope="module")
def published() -> dict[tuple[str, str], dict[str, str]]:
    """The page's table, by method and path, then by caller."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    head = next(cells for cells in lines if cells[:2] == ["method", "path"])
    return {
        (cells[0], cells[1].strip("`")): dict(zip(head[3:], cells[3:], strict=True))
        for cells in lines
        if len(cells) == len(head) and cells[1].startswith("`/api/v1/")
    }


class Credentials:
    """What the callers show: headers by name, those of the living and those of the dead."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._accounts = home.wiring.accounts
        self._now = datetime.now(UTC)
        self._owners = {role: self._person(role) for role in Role}
        self._off = self._person(Role.ADMIN)

    def _person(self, role: Role) -> str:
        token = self._home.person(f"{new_id('m')}@example.com", role.value)
        user: str = self._home.call("GET", "/auth/me", token=token).get_json()["user"]["id"]
        return user

    def _event(self) -> AuditEvent:
        return AuditEvent("test.made", "test", Actor(ActorKind.SYSTEM, "system:test", "test"), self._now)

    def key(self, user: str, *, life: timedelta = HOUR, scope: frozenset[str] | None = None) -> tuple[ApiKey, str]:
        secret = new_secret(API_KEY)
        made = ApiKey(
            id=new_id("key"),
            org="acme",
            user=user,
            name="test",
            prefix=shown_prefix(secret.text),
            sha256=secret.sha256,
            created_by=user,
            created_at=self._now - 2 * HOUR,
            expires_at=self._now + life,
            scope=scope,
        )
        self._accounts.add_key(made, self._event())
        return made, secret.text

    def login(
        self, user: str, kind: SessionKind, *, life: timedelta = HOUR, unused: timedelta = timedelta(0)
    ) -> tuple[Session, str]:
        secret = new_secret(SESSION if kind is SessionKind.SESSION else LOGIN_TOKEN)
        made = Session(
            id=new_id("ses"),
            org="acme",
            user=user,
            kind=kind,
            sha256=secret.sha256,
            created_at=self._now - unused,
            expires_at=self._now + life,
        )
        self._accounts.add_session(made, self._event())
        return made, secret.text

    def job(self) -> str:
        """A publish token, as if it had been exchanged for an identity token."""
        by, secret = self._event().by, new_secret(PUBLISH_TOKEN)
        publisher = Publisher(
            id=new_id("pub"),
            org="acme",
            name="test",
            provider=Provider.GENERIC,
            issuer="https://ci.example.com",
            audience="wavegate",
            claims={"job": "release"},
            products=("lamp",),
            life=HOUR,
            by=by,
            created_at=self._now,
        )
        token = PublishToken(
            id=new_id("ptk"),
            publisher=publisher.id,
            org="acme",
            sha256=secret.sha256,
            created_at=self._now,
            expires_at=self._now + HOUR,
            claims={},
        )
        self._home.wiring.publishers.add(publisher, self._event(), most=100)
        self._home.wiring.publishers.exchange(new_id("jti"), self._now + HOUR, token, self._event())
        return secret.text

    def living(self) -> dict[str, list[dict[str, str]]]:
        """By the name of the kind, each way to be of it."""
        found: dict[str, list[dict[str, str]]] = {
            "anonymous": [
                {},
                {"X-SSL-Client-Cert": "device", "X-Client-Cert": "device", "Ssl-Client-Verify": "SUCCESS"},
            ]
        }
        for role, user in self._owners.items():
            token = bearer(self.login(user, SessionKind.TOKEN)[1])
            found[role.value] = [token, cookie(self.login(user, SessionKind.SESSION)[1])]
            found[f"{role.value}'s key"] = [bearer(self.key(user)[1])]
        admin = self._owners[Role.ADMIN]
        found["narrowed key"] = [bearer(self.key(admin, scope=frozenset({NARROWED_TO.value}))[1])]
        found["CI job"] = [bearer(self.job())]
        foreign = cookie(self.login(admin, SessionKind.SESSION)[1])
        found["another site's page"] = [{**foreign, "Sec-Fetch-Site": "cross-site"}]
        return found

    def dead(self) -> dict[str, dict[str, str]]:
        """By what is wrong with each."""
        admin, off, accounts = self._owners[Role.ADMIN], self._off, self._accounts
        found = {
            "expired key": bearer(self.key(admin, life=-HOUR)[1]),
            "key of a disabled account": bearer(self.key(off)[1]),
            "made-up key": bearer(new_secret(API_KEY).text),
            "nonsense": bearer("nonsense"),
            "basic": {"Authorization": "Basic YWRtaW46YWRtaW4="},
            "invitation as a bearer": bearer(new_secret(INVITATION).text),
        }
        revoked, text = self.key(admin)
        accounts.revoke_key("acme", revoked.id, self._event())
        found["revoked key"] = bearer(text)
        replaced, text = self.key(admin)
        fresh = replace(replaced, id=new_id("key"), sha256=new_secret(API_KEY).sha256)
        accounts.rotate_key(replaced, fresh, self._event(), until=self._now - HOUR)
        found["replaced key"] = bearer(text)
        for kind, show, other in ((SessionKind.TOKEN, bearer, cookie), (SessionKind.SESSION, cookie, bearer)):
            ended, text = self.login(admin, kind)
            accounts.end_session("acme", ended.id, self._event())
            found[f"ended {kind}"] = show(text)
            found[f"expired {kind}"] = show(self.login(admin, kind, life=-HOUR)[1])
            found[f"{kind} of a disabled account"] = show(self.login(off, kind)[1])
            found[f"{kind} in the other's place"] = other(self.login(admin, kind)[1])
        found["unused session"] = cookie(self.login(admin, SessionKind.SESSION, unused=2 * HOUR)[1])
        accounts.update_user("acme", off, self._event(), disabled=True)
        return found


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def cookie(text: str) -> dict[str, str]:
    return {"Cookie": f"__Host-wavegate={text}"}


def answers(home: Home, headers: Mapping[str, str]) -> Iterator[tuple[Row, TestResponse]]:
    """Every route called with these headers and an empty body; logging out comes last, for it ends the caller."""
    client = home.app.test_client(use_cookies=False)
    for row in sorted(rows(), key=lambda row: row.path.endswith("/logout")):
        path = re.sub(r"{[^}]+}", "1", row.path)
        yield row, client.open(path, method=row.method, headers=dict(headers), json={})


def outcome(answer: TestResponse, row: Row) -> str:
    """The page's word for an answer; a refusal that is none of the gate's is told by its code."""
    assert answer.status_code != 429, (row.method, row.path)
    if answer.status_code not in {401, 403}:
        assert answer.status_code < 500, (row.method, row.path, answer.text)
        return "yes"
    error = answer.get_json()["error"]
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    elif error["code"] == "permission_denied":
        assert error["permission"] == row.declaration.permission
    code = str(error["code"])
    return REFUSALS.get(code, code)


@pytest.fixture(scope="module")
def credentials(shared_home: Home) -> Credentials:
    # More strangers come from this one address than a minute takes.
    shared_home.app.extensions["wavegate.rates"] = Rates({}, MemoryCounts())
    return Credentials(shared_home)


@pytest.fixture(scope="module")
def living(credentials: Credentials) -> dict[str, list[dict[str, str]]]:
    return credentials.living()


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if kind.name != "dead credential"])
def test_every_route_answers_a_caller_as_the_page_says(
    shared_home: Home,
    living: dict[str, list[dict[str, str]]],
    published: dict[tuple[str, str], dict[str, str]],
    kind: str,
) -> None:
    for headers in living[kind]:
        found = {(row.method, row.path): outcome(answer, row) for row, answer in answers(shared_home, headers)}
        assert found == {route: cells[kind] for route, cells in published.items()}


def test_a_dead_credential_gets_nowhere_and_no_two_kinds_of_it_are_told_apart_by_a_route(
    shared_home: Home, credentials: Credentials, published: dict[tuple[str, str], dict[str, str]]
) -> None:
    dead = credentials.dead()
    assert len(dead) == 17
    for name, headers in dead.items():
        found = {(row.method, row.path): outcome(answer, row) for row, answer in answers(shared_home, headers)}
        assert found == {route: cells["dead credential"] for route, cells in published.items()}, name


def test_the_page_is_what_the_code_says_and_has_every_route(
    shared_home: Home, published: dict[tuple[str, str], dict[str, str]]
) -> None:
    """`make reference` writes docs/permissions.md anew."""
    assert PAGE.read_text("utf-8") == page()
    deployed = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in shared_home.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {route for route in deployed if route[1].startswith("/api/v1/")} == set(published)
    assert sorted(path for _, path in deployed if not path.startswith("/api/v1/")) == sorted(OPEN)


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_asks_nobody_who_they_are(shared_home: Home, path: str) -> None:
    client = shared_home.app.test_client(use_cookies=False)
    path = path.replace("{org}", "acme").replace("{name}", "1.root.json")
    for headers in ({}, bearer("nonsense"), cookie("nonsense")):
        with client.get(path, headers=headers) as answer:
            assert answer.status_code == (404 if "/targets/" in path else 200)


def test_a_route_that_says_not_who_may_call_it_keeps_the_application_from_being_built(shared_home: Home) -> None:
    planted = Routes("planted", "Planted")

    @planted.get("/planted")
    def show() -> Response:
        return Response("for anybody")

    with pytest.raises(UndeclaredRoute, match="/api/v1/planted says not who may call it"):
        create_app(shared_home.wiring, (*BLUEPRINTS, planted))
