"""`publish user`: invitations, and what an administrator changes of an account."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish, on_a_terminal

USER = {
    "id": "usr_01",
    "email": "ann@example.com",
    "name": "Ann",
    "kind": "user",
    "role": "viewer",
    "disabled": False,
    "second_factor": False,
    "password_change_required": False,
    "created_at": "2026-11-21T10:00:00Z",
}
INVITATION = {
    "id": "inv_01",
    "email": "ann@example.com",
    "role": "viewer",
    "state": "pending",
    "code": "wgi_secret",
    "invited_by": "usr_00",
    "created_at": "2026-11-21T10:00:00Z",
    "expires_at": "2026-11-28T10:00:00Z",
    "accepted_at": None,
    "accepted_by": None,
    "revoked_at": None,
}


def test_an_invitation_shows_its_code_once_and_how_it_is_used(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/invitations", Reply(201, INVITATION))
    assert publish("user", "invite", "ann@example.com", "--role", "viewer").json == INVITATION
    assert server.requests[-1].json == {"email": "ann@example.com", "role": "viewer", "expires_in_days": 7}
    lines = publish("user", "invite", "ann@example.com", "--role", "viewer", "-o", "table").out.splitlines()
    assert lines[-3:] == [
        "code     wgi_secret",
        "The code is shown this once, and no mail is sent: hand it on by a way you trust, for",
        f"  publish user accept-invitation --url {server.url}",
    ]


def test_an_invitation_of_two_months_or_for_a_role_nobody_knows_is_a_usage_error(publish: Publish) -> None:
    assert publish("user", "invite", "ann@example.com", "--role", "viewer", "--expires-in-days", "60").code == 2
    assert publish("user", "invite", "ann@example.com", "--role", "owner").code == 2


def test_pending_invitations_are_listed_unless_all_are_asked_for(publish: Publish, server: ApiServerSimulator) -> None:
    listed = {"items": [{**INVITATION, "code": None}], "next_cursor": None}
    server.on("GET", "/api/v1/invitations", Reply(200, listed))
    lines = publish("user", "invitations", "-o", "table").out.splitlines()
    assert lines[-1] == "ann@example.com  viewer  pending  2026-11-28 10:00:00Z  inv_01"
    assert server.requests[-1].query["state"] == "pending"
    publish("user", "invitations", "--state", "all")
    assert "state" not in server.requests[-1].query


def test_an_invitation_is_revoked(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("DELETE", "/api/v1/invitations/inv_01", Reply(204))
    assert publish("user", "revoke-invitation", "inv_01").json == {"id": "inv_01", "revoked": True}
    gone = refusal(404, "invitation_not_found", "no invitation inv_01 that could be revoked")
    server.on("DELETE", "/api/v1/invitations/inv_01", gone)
    assert publish("user", "revoke-invitation", "inv_01").code == 5


def test_who_is_invited_needs_no_credential_and_neither_secret_is_on_the_command_line(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    (tmp_path / "code").write_text("wgi_secret\n")
    (tmp_path / "password").write_text("a long enough password\n")
    server.on("POST", "/api/v1/auth/accept-invitation", Reply(201, USER))
    files = ("--code-file", str(tmp_path / "code"), "--password-file", str(tmp_path / "password"))
    assert publish("user", "accept-invitation", "--name", "Ann", *files).json == USER
    (sent,) = server.requests
    assert sent.json == {"code": "wgi_secret", "name": "Ann", "password": "a long enough password"}
    assert "authorization" not in {name.lower() for name in sent.headers}
    server.on("POST", "/api/v1/auth/accept-invitation", refusal(403, "invitation_refused", "the code was used"))
    assert publish("user", "accept-invitation", "--name", "Ann", *files).code == 4


def test_without_a_terminal_nobody_is_asked_for_a_code(publish: Publish) -> None:
    done = publish("user", "accept-invitation", "--name", "Ann")
    assert (done.code, "use --code-file" in done.err) == (2, True)


def test_at_a_terminal_an_invitation_is_accepted_by_answers(server: ApiServerSimulator, config_dir: Path) -> None:
    server.on("POST", "/api/v1/auth/accept-invitation", Reply(201, USER))
    secret = "a long enough password"
    code, screen = on_a_terminal(
        "user",
        "accept-invitation",
        "--url",
        server.url,
        config=config_dir,
        dialogue=[
            ("Code of the invitation", "wgi_secret"),
            ("Your name", "Ann"),
            ("Password", secret),
            ("Repeat for confirmation", secret),
        ],
    )
    assert code == 0
    assert "log in with `publish login --email ann@example.com`" in screen
    assert "wgi_secret" not in screen
    assert secret not in screen


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (("disable",), {"disabled": True}),
        (("enable",), {"disabled": False}),
        (("role", "approver"), {"role": "approver"}),
    ],
)
def test_an_account_is_changed_by_its_address(
    publish: Publish, server: ApiServerSimulator, arguments: tuple[str, ...], change: dict[str, object]
) -> None:
    server.on("GET", "/api/v1/users", Reply(200, {"items": [USER], "next_cursor": None}))
    server.on("PATCH", "/api/v1/users/usr_01", Reply(200, {**USER, **change}))
    verb, *rest = arguments
    assert publish("user", verb, "Ann@example.com", *rest).json == {**USER, **change}
    asked, changed = server.requests
    assert asked.query["email"] == "Ann@example.com"
    assert changed.json == change


def test_the_last_administrator_stays_and_an_unknown_address_is_told(
    publish: Publish, server: ApiServerSimulator
) -> None:
    server.on("PATCH", "/api/v1/users/usr_01", refusal(409, "last_admin", "ann@example.com is the last admin"))
    assert publish("user", "role", "usr_01", "viewer").code == 5
    server.on("GET", "/api/v1/users", Reply(200, {"items": [], "next_cursor": None}))
    done = publish("user", "show", "nobody@example.com")
    assert (done.code, "nobody has the address" in done.err) == (5, True)


def test_a_one_time_password_is_shown_once(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/users/usr_01/reset-password", Reply(200, {**USER, "password": "once"}))
    lines = publish("user", "reset-password", "usr_01", "-o", "table").out.splitlines()
    assert lines[-2:] == ["password  once", "The password is shown this once."]


def test_accounts_are_listed_by_role_and_state(publish: Publish, server: ApiServerSimulator) -> None:
    automation = {**USER, "id": "usr_02", "email": "", "name": "automation", "kind": "service", "role": "operator"}
    server.on("GET", "/api/v1/users", Reply(200, {"items": [USER, automation], "next_cursor": None}))
    lines = publish("user", "list", "--role", "viewer", "--enabled", "-o", "table").out.splitlines()
    query = server.requests[-1].query
    assert (query["role"], query["disabled"]) == ("viewer", "false")
    assert lines == [
        "EMAIL            NAME        ROLE      DISABLED  ID",
        "ann@example.com  Ann         viewer    no        usr_01",
        "(service)        automation  operator  no        usr_02",
    ]
