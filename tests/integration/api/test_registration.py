"""The first organisation of a server registers with the setup code; further ones only where the server is open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.first_start import CODE_FILE, prepare_home, setup_code_file
from api.installation import Installation, open_installation
from api.settings import Settings, read_settings
from api.wiring import NotInitialised
from keys.errors import SigningFailed
from keys.keyring import Keyring

PASSWORD = "a long enough password"


class Server:
    """A server that was started on a folder which was not there."""

    def __init__(self, settings: Settings) -> None:
        prepare_home(settings, now=datetime.now(UTC))
        self.installation: Installation = open_installation(settings)
        self.file = setup_code_file(self.installation)
        self.app = create_app(self.installation)

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client(use_cookies=False)

    def code(self) -> str:
        assert self.file is not None
        return self.file.read_text()

    def register(self, org: str = "acme", *, code: str | None = None, **more: object) -> tuple[int, dict[str, Any]]:
        body = {"org": org, "email": "ada@example.com", "name": "Ada", "password": PASSWORD, "setup_code": code, **more}
        answer = self.client.post("/api/v1/auth/register", json=body)
        return answer.status_code, answer.get_json()

    def slugs(self) -> list[str]:
        return [one.slug for one in self.installation.shared.organisations.all()]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(**settings: str) -> Server:
            environ = {"WAVEGATE_HOME": str(tmp_path / "home"), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192", **settings}
            server = Server(read_settings(environ))
            stack.callback(server.installation.close)
            return server

        yield start


def code_of(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


def test_who_has_the_setup_code_registers_and_logs_in_and_then_it_is_over(serve: Callable[..., Server]) -> None:
    server = serve()
    assert server.file is not None
    assert server.file.stat().st_mode & 0o777 == 0o600
    code = server.code()
    status, made = server.register(code=code, org_name="Acme Corp")
    assert (status, made["org"], made["user"]["role"], made["user"]["email"]) == (
        201,
        "acme",
        "admin",
        "ada@example.com",
    )
    root = server.client.get("/tuf/acme/metadata/1.root.json")
    assert hashlib.sha256(root.data).hexdigest() == made["root_sha256"]
    root.close()
    login = server.client.post("/api/v1/auth/token", json={"email": "ada@example.com", "password": PASSWORD}).get_json()
    assert login["user"]["password_change_required"] is False
    headers = {"Authorization": f"Bearer {login['token']}"}
    events = server.client.get("/api/v1/audit/events", headers=headers).get_json()["items"]
    assert [(event["tag"], event["by"]["id"]) for event in events[:2]] == [
        ("repository.created", "system:registration"),
        ("user.created", "system:registration"),
    ]
    assert not server.file.exists()
    assert code_of(server.register("other", code=code)) == (403, "registration_closed")
    assert server.slugs() == ["acme"]
    assert setup_code_file(server.installation) is None


def test_without_the_code_nothing_is_made(serve: Callable[..., Server]) -> None:
    server = serve()
    for code in (None, "", "wgr_" + "0" * 49, "é"):
        assert code_of(server.register(code=code)) == (403, "setup_code_refused")
    assert server.slugs() == []
    assert server.code().startswith("wgr_")


def test_of_eight_who_register_at_once_one_is_the_first(serve: Callable[..., Server]) -> None:
    server = serve()
    code = server.code()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.register(f"org-{number}", code=code), range(8)))
    assert sorted(status for status, _ in answers) == [201] + [403] * 7
    assert {told["error"]["code"] for status, told in answers if status == 403} == {"registration_closed"}
    (slug,) = server.slugs()
    assert [one.name for one in (server.installation.settings.home / "orgs").iterdir()] == [slug]


def test_what_cannot_be_is_refused_and_the_code_stays_good(serve: Callable[..., Server]) -> None:
    server = serve()
    for change, error in (
        ({"password": "short"}, "weak_password"),
        ({"org": "Not A Slug"}, "validation_failed"),
        ({"org": "acme\n"}, "validation_failed"),
        ({"email": "nobody"}, "validation_failed"),
        ({"role": "admin"}, "validation_failed"),
    ):
        asked: dict[str, Any] = {"org": "acme", "code": server.code(), **change}
        assert code_of(server.register(**asked)) == (400, error)
    assert server.slugs() == []
    assert server.code().startswith("wgr_")


def test_when_it_cannot_be_signed_nothing_is_recorded_and_the_code_is_good_again(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()

    def broken(*_: object, **__: object) -> None:
        raise SigningFailed("the key store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Keyring, "sign", broken)
        assert code_of(server.register(code=server.code())) == (503, "signing_failed")
    assert server.slugs() == []
    assert not (server.installation.settings.home / "orgs" / "acme").exists()
    assert server.register(code=server.code())[0] == 201


def test_an_open_server_takes_further_ones_without_a_code_but_the_first_with_it(serve: Callable[..., Server]) -> None:
    server = serve(WAVEGATE_REGISTRATION="open")
    assert code_of(server.register()) == (403, "setup_code_refused")
    assert server.register(code=server.code())[0] == 201
    assert server.register("beta", email="bea@example.com")[0] == 201
    assert code_of(server.register("beta", email="eve@example.com")) == (409, "org_exists")
    assert server.slugs() == ["acme", "beta"]


def test_a_server_that_is_closed_makes_no_home_and_registers_nobody(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    with pytest.raises(NotInitialised, match="publish init"):
        serve(WAVEGATE_REGISTRATION="off")
    assert not (tmp_path / "home").exists()
    serve().installation.close()
    closed = serve(WAVEGATE_REGISTRATION="off")
    assert closed.file is None
    assert code_of(closed.register()) == (403, "registration_closed")


def test_a_folder_with_anything_in_it_is_no_home_to_be(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(NotInitialised, match="is no Wavegate home"):
        serve()
    assert [one.name for one in (tmp_path / "home").iterdir()] == ["holiday.jpg"]


def test_a_browser_is_not_made_to_register_by_another_site(serve: Callable[..., Server]) -> None:
    server = serve()
    body = {"org": "acme", "email": "a@example.com", "name": "A", "password": PASSWORD, "setup_code": server.code()}
    answer = server.client.post("/api/v1/auth/register", json=body, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "cross_site_request")


def test_a_registration_that_was_cut_short_leaves_a_code_for_the_next_start(serve: Callable[..., Server]) -> None:
    server = serve()
    assert server.file is not None
    server.file.rename(server.file.with_name("setup-code.in-use"))
    assert code_of(server.register(code="wgr_whatever")) == (403, "registration_closed")
    again = setup_code_file(server.installation)
    assert again == server.installation.settings.home / CODE_FILE
    assert not (again.parent / "setup-code.in-use").exists()
    assert server.register(code=server.code())[0] == 201


def test_an_invitation_is_into_the_organisation_that_gave_it_whatever_the_path_names(
    serve: Callable[..., Server],
) -> None:
    server = serve(WAVEGATE_REGISTRATION="open")
    assert server.register(code=server.code())[0] == 201
    assert server.register("beta", email="bea@example.com")[0] == 201
    login = server.client.post("/api/v1/auth/token", json={"email": "ada@example.com", "password": PASSWORD})
    headers = {"Authorization": f"Bearer {login.get_json()['token']}"}
    body = {"email": "bea@example.com", "role": "viewer"}  # who is somebody in beta is nobody in acme
    made = server.client.post("/api/v1/invitations", json=body, headers=headers).get_json()
    accepted = {"code": made["code"], "name": "Bea", "password": "another long password"}
    elsewhere = server.client.post("/api/v1/orgs/beta/auth/accept-invitation", json=accepted)
    unknown = server.client.post("/api/v1/orgs/beta/auth/accept-invitation", json={**accepted, "code": "wgi_x"})
    for answer in (elsewhere, unknown):
        error = answer.get_json()["error"]
        assert (answer.status_code, error["code"]) == (403, "invitation_refused")
    assert elsewhere.get_json()["error"]["message"] == unknown.get_json()["error"]["message"]
    assert server.client.post("/api/v1/orgs/acme/auth/accept-invitation", json=accepted).status_code == 201
    body = {"email": "bea@example.com", "password": "another long password"}
    token = server.client.post("/api/v1/auth/token", json=body).get_json()["token"]
    me = server.client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"}).get_json()
    assert (me["org"], me["user"]["role"]) == ("acme", "viewer")
