"""`publish login`, `logout`, `whoami`, and who goes before whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish, on_a_terminal

USER = {"id": "usr_01", "email": "ann@example.com", "name": "Ann", "role": "admin"}
TOKEN = {"token": "wgl_token", "expires_at": "2999-01-01T00:00:00Z", "user": USER}


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return str(path)


def log_in(publish: Publish, server: ApiServerSimulator, password: str) -> None:
    server.on("POST", "/api/v1/auth/token", Reply(200, TOKEN))
    assert publish("login", "--email", "ann@example.com", "--password-file", password).code == 0


def test_a_login_is_stored_for_the_next_call(
    publish: Publish, server: ApiServerSimulator, password: str, config_dir: Path
) -> None:
    log_in(publish, server, password)
    (seen,) = server.requests
    assert seen.json == {"email": "ann@example.com", "password": "correct horse"}
    assert "authorization" not in seen.headers
    assert json.loads((config_dir / "credentials").read_text()) == {
        server.url: {"token": "wgl_token", "expires_at": "2999-01-01T00:00:00Z", "email": "ann@example.com"}
    }


def test_the_password_is_neither_stored_nor_shown(
    publish: Publish, server: ApiServerSimulator, password: str, config_dir: Path
) -> None:
    server.on("POST", "/api/v1/auth/token", Reply(200, TOKEN))
    done = publish("login", "--email", "ann@example.com", "--password-file", password)
    written = "".join(path.read_text() for path in config_dir.iterdir())
    assert "correct horse" not in written + done.out + done.err
    assert "wgl_token" not in done.out + done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("enroll-token", "list"),
        ("key", "list"),
        ("user", "list"),
        ("rollout", "refuse", "rol_01", "--reason", "no"),
    ],
)
def test_what_only_a_person_may_do_goes_by_the_login_not_by_the_key(
    publish: Publish, server: ApiServerSimulator, password: str, arguments: tuple[str, ...]
) -> None:
    log_in(publish, server, password)
    publish(*arguments)
    assert server.requests[-1].headers["authorization"] == "Bearer wgl_token"


def test_what_a_key_may_do_goes_by_the_key(publish: Publish, server: ApiServerSimulator, password: str) -> None:
    log_in(publish, server, password)
    publish("group", "list")
    assert server.requests[-1].headers["authorization"] == "Bearer wgk_test"


def test_a_one_time_password_can_be_changed_while_logging_in(
    publish: Publish, server: ApiServerSimulator, password: str, tmp_path: Path
) -> None:
    (tmp_path / "fresh").write_text("my own words\n")
    server.on("POST", "/api/v1/auth/token", Reply(200, {**TOKEN, "user": {**USER, "password_change_required": True}}))
    server.on("PATCH", "/api/v1/profile", Reply(200, USER))
    done = publish(
        "login",
        "--email",
        "ann@example.com",
        "--password-file",
        password,
        "--new-password-file",
        str(tmp_path / "fresh"),
    )
    assert (done.code, done.err) == (0, "")
    seen = server.requests[-1]
    assert seen.json == {"password": "my own words", "current_password": "correct horse"}
    assert seen.headers["authorization"] == "Bearer wgl_token"


def test_a_one_time_password_that_stays_is_warned_about(
    publish: Publish, server: ApiServerSimulator, password: str
) -> None:
    server.on("POST", "/api/v1/auth/token", Reply(200, {**TOKEN, "user": {**USER, "password_change_required": True}}))
    done = publish("login", "--email", "ann@example.com", "--password-file", password)
    assert done.err.startswith("warning: this password was for one time only")


def test_nobody_is_asked_anything_without_a_terminal(publish: Publish, server: ApiServerSimulator) -> None:
    done = publish("login", "--email", "ann@example.com")
    assert done.code == 2
    assert done.err.splitlines() == [
        "error: password is missing, and nobody sits at a terminal to be asked",
        "hint: use --password-file or --password-stdin",
    ]
    assert server.requests == []


def test_a_wrong_password_is_exit_3_and_stores_nothing(
    publish: Publish, server: ApiServerSimulator, password: str, config_dir: Path
) -> None:
    server.on("POST", "/api/v1/auth/token", refusal(401, "login_failed", "they do not belong together"))
    done = publish("login", "--email", "ann@example.com", "--password-file", password)
    assert (done.code, done.err.splitlines()[0]) == (3, "error: they do not belong together")
    assert not config_dir.exists()


def test_logout_tells_the_server_with_the_login_and_forgets_it(
    publish: Publish, server: ApiServerSimulator, password: str, config_dir: Path
) -> None:
    log_in(publish, server, password)
    server.on("POST", "/api/v1/auth/logout", Reply(204))
    assert publish("logout").json == {"url": server.url, "logged_out": True}
    assert server.requests[-1].headers["authorization"] == "Bearer wgl_token"
    assert json.loads((config_dir / "credentials").read_text()) == {}


def test_logout_works_also_when_the_server_does_not(
    publish: Publish, server: ApiServerSimulator, password: str, config_dir: Path
) -> None:
    log_in(publish, server, password)
    server.on("POST", "/api/v1/auth/logout", refusal(401, "unauthenticated"))
    assert publish("logout").code == 0
    assert json.loads((config_dir / "credentials").read_text()) == {}


def test_whoami_tells_what_one_may_do(publish: Publish, server: ApiServerSimulator) -> None:
    told = {
        "user": USER,
        "org": "acme",
        "credential": {"kind": "api_key", "id": "key_01", "expires_at": None},
        "permissions": ["rollouts:read", "artifacts:read"],
    }
    server.on("GET", "/api/v1/auth/me", Reply(200, told))
    assert publish("whoami").json == told
    assert publish("whoami", "-o", "table").out.splitlines() == [
        f"server        {server.url}",
        "organisation  acme",
        "user          ann@example.com (usr_01)",
        "role          admin",
        "by            WAVEGATE_API_KEY",
        "credential    api_key key_01",
        "until         -",
        "may           artifacts:read, rollouts:read",
    ]


def test_a_person_at_a_terminal_is_asked_and_the_password_does_not_appear(
    server: ApiServerSimulator, config_dir: Path
) -> None:
    server.on("POST", "/api/v1/auth/token", Reply(200, {**TOKEN, "user": {**USER, "password_change_required": True}}))
    server.on("PATCH", "/api/v1/profile", Reply(200, USER))
    dialogue = [
        ("E-mail: ", "ann@example.com"),
        ("Password: ", "correct horse"),
        ("New password: ", "my own words"),
        ("Repeat for confirmation: ", "my own words"),
    ]
    code, screen = on_a_terminal("login", "--url", server.url, config=config_dir, dialogue=dialogue)
    assert code == 0
    assert [seen.json for seen in server.requests] == [
        {"email": "ann@example.com", "password": "correct horse"},
        {"password": "my own words", "current_password": "correct horse"},
    ]
    assert "logged in to" in screen.splitlines()[-1]
    assert "horse" not in screen
    assert "words" not in screen


def test_a_login_with_a_second_factor_sends_the_code(
    publish: Publish, server: ApiServerSimulator, password: str
) -> None:
    server.on("POST", "/api/v1/auth/token", Reply(200, TOKEN))
    done = publish("login", "--email", "ann@example.com", "--password-file", password, "--code", "123456")
    assert done.code == 0
    (seen,) = server.requests
    assert seen.json == {"email": "ann@example.com", "password": "correct horse", "code": "123456"}


def test_a_program_without_the_code_is_told_how_to_send_one(
    publish: Publish, server: ApiServerSimulator, password: str
) -> None:
    server.on("POST", "/api/v1/auth/token", refusal(401, "code_required", "this account has a second factor"))
    done = publish("login", "--email", "ann@example.com", "--password-file", password)
    assert done.code == 3
    assert done.err.splitlines()[:2] == [
        "error: this account has a second factor",
        "hint: add `--code CODE` with what your authenticator app shows, or a recovery code",
    ]


def test_a_second_factor_is_set_up_at_a_terminal(server: ApiServerSimulator, config_dir: Path, password: str) -> None:
    server.on("POST", "/api/v1/auth/token", Reply(200, TOKEN))
    arguments = ("--url", server.url)
    login = ("login", *arguments, "--email", "ann@example.com", "--password-file", password)
    assert on_a_terminal(*login, config=config_dir)[0] == 0
    server.on("POST", "/api/v1/profile/second-factor", Reply(201, {"otpauth_uri": "otpauth://totp/W?secret=ABC"}))
    server.on("POST", "/api/v1/profile/second-factor/confirm", Reply(200, {"recovery_codes": ["aaaa-bbbb"]}))
    code, screen = on_a_terminal(
        "second-factor",
        "enable",
        *arguments,
        config=config_dir,
        dialogue=[("Password: ", "correct horse"), ("Code of your app: ", "123456")],
    )
    assert code == 0
    assert [seen.json for seen in server.requests[-2:]] == [{"current_password": "correct horse"}, {"code": "123456"}]
    assert "otpauth://totp/W?secret=ABC" in screen
    assert screen.splitlines()[-1] == "aaaa-bbbb"


def test_a_program_sets_it_up_in_two_steps_and_takes_it_away_again(
    publish: Publish, server: ApiServerSimulator, password: str
) -> None:
    log_in(publish, server, password)
    begun = {"otpauth_uri": "otpauth://totp/W?secret=ABC"}
    server.on("POST", "/api/v1/profile/second-factor", Reply(201, begun))
    assert publish("second-factor", "enable", "--password-file", password).json == begun
    server.on("POST", "/api/v1/profile/second-factor/confirm", Reply(200, {"recovery_codes": ["aaaa-bbbb"]}))
    assert publish("second-factor", "confirm", "123456").json == {"recovery_codes": ["aaaa-bbbb"]}
    server.on("POST", "/api/v1/profile/second-factor/remove", Reply(204))
    assert publish("second-factor", "remove", "123456", "--password-file", password).json == {"enabled": False}
    assert server.requests[-1].json == {"current_password": "correct horse", "code": "123456"}
    told = {"enabled": False, "since": None, "recovery_codes_left": 0}
    server.on("GET", "/api/v1/profile/second-factor", Reply(200, told))
    assert publish("second-factor", "status").json == told


def test_one_s_own_logins_are_listed_and_ended(publish: Publish, server: ApiServerSimulator, password: str) -> None:
    log_in(publish, server, password)
    moments = {"created_at": "2026-11-21T10:00:00Z", "last_used_at": None, "expires_at": "2026-11-22T10:00:00Z"}
    item = {"id": "ses_01", "kind": "token", "current": True, **moments}
    server.on("GET", "/api/v1/profile/sessions", Reply(200, {"items": [item], "next_cursor": None}))
    lines = publish("session", "list", "-o", "table").out.splitlines()
    assert lines[-1] == "token  yes       2026-11-21 10:00:00Z  -          2026-11-22 10:00:00Z  ses_01"
    server.on("DELETE", "/api/v1/profile/sessions/ses_01", Reply(204))
    assert publish("session", "revoke", "ses_01").json == {"id": "ses_01", "ended": True}


def test_an_admin_resets_a_second_factor_by_address(
    publish: Publish, server: ApiServerSimulator, password: str
) -> None:
    log_in(publish, server, password)
    server.on("GET", "/api/v1/users", Reply(200, {"items": [USER], "next_cursor": None}))
    server.on("POST", "/api/v1/users/usr_01/reset-second-factor", Reply(200, USER))
    assert publish("user", "reset-second-factor", "ANN@example.com").json == USER
