"""The settings of logins by a provider: read together, and refused where they would let everybody in."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.settings import InvalidSettings, read_settings
from evidence.federation import Wanted
from evidence.people import Role

PROVIDER = {"WAVEGATE_OIDC_ISSUER": "https://login.example.com", "WAVEGATE_OIDC_CLIENT_ID": "wavegate"}


def test_all_of_them_are_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    told = {
        "CLIENT_SECRET_FILE": str(secret),
        "EMAIL_DOMAINS": "Example.com, example.org",
        "REQUIRED_CLAIM": "groups=wavegate",
        "ROLES": '{"admin": "groups=wavegate-admins"}',
        "DEFAULT_ROLE": "viewer",
    }
    environ = {
        f"WAVEGATE_OIDC_{'CLIENT_' if name == 'SECRET_FILE' else ''}{name}": value for name, value in told.items()
    }
    settings = read_settings(PROVIDER | environ)
    assert settings.oidc_client_secret_file == secret
    assert settings.oidc_email_domains == ("example.com", "example.org")
    assert settings.oidc_required_claim == Wanted("groups", "wavegate")
    assert settings.oidc_roles == {Role.ADMIN: Wanted("groups", "wavegate-admins")}
    assert settings.oidc_default_role is Role.VIEWER


def test_a_file_has_roles_as_a_table(tmp_path: Path) -> None:
    config = tmp_path / "wavegate.toml"
    config.write_text('[oidc_roles]\nviewer = "department=it"\n')
    assert read_settings(PROVIDER, config).oidc_roles == {Role.VIEWER: Wanted("department", "it")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ISSUER": ""}, "belong together"),
        ({"ISSUER": "http://login.example.com"}, "without TLS"),
        ({"ISSUER": "https://10.0.0.1"}, "the server's operator can allow it with `oidc_allow`"),
        ({"ISSUER": "https://login.example.com/?x=1"}, "has a query"),
        ({"DEFAULT_ROLE": "viewer"}, "would give an account to everybody the provider knows"),
        ({"DEFAULT_ROLE": "root"}, "expected none or one of viewer, operator, approver, admin"),
        ({"ROLES": "admins"}, "oidc_roles is no JSON"),
        ({"ROLES": "[]"}, "oidc_roles is no table"),
        ({"ROLES": '{"root": "a=b"}'}, "oidc_roles is 'root'"),
        ({"ROLES": '{"none": "a=b"}'}, r"oidc_roles\.none is to be claim=value"),
        ({"ROLES": '{"admin": "wavegate"}'}, "oidc_roles.admin is 'wavegate', expected claim=value"),
        ({"REQUIRED_CLAIM": "groups"}, "expected claim=value"),
        ({"EMAIL_DOMAINS": "@example.com"}, "expected domains such as example.com"),
        ({"SCOPES": "email"}, "expected `openid` among them"),
        ({"CLIENT_SECRET_FILE": "secret"}, "expected an absolute path"),
        ({"CLIENT_SECRET_FILE": "/nowhere/secret"}, "there is no such file"),
    ],
)
def test_what_cannot_be_keeps_the_server_from_starting(changed: dict[str, str], said: str) -> None:
    environ = PROVIDER | {f"WAVEGATE_OIDC_{name}": value for name, value in changed.items()}
    with pytest.raises(InvalidSettings, match=said):
        read_settings(environ)
