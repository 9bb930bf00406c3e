"""The settings of the login by OpenID Connect, read and judged together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evidence.errors import InvalidPublisher
from evidence.federation import Wanted
from evidence.people import Role
from evidence.publishing import check_issuer
from evidence.webhooks.addresses import Allowed

OIDC_MEANINGS: Final[Mapping[str, str]] = {
    "oidc_issuer": "provider of OpenID Connect that people log in by; empty: none",
    "oidc_client_id": "what the provider knows this server as",
    "oidc_client_secret_file": "file with the client's secret; empty: a public client (PKCE alone)",
    "oidc_scopes": "what is asked for, with blanks between",
    "oidc_email_domains": "domains of the e-mail addresses that are let in, with commas; empty: all",
    "oidc_required_claim": "`claim=value` that everybody must have, e.g. `groups=wavegate`",
    "oidc_roles": "claims that give roles: a table such as `admin = 'groups=wavegate-admins'`; as a variable, JSON",
    "oidc_default_role": "role of newcomers to whom no claim gives one; `none`: they need an account beforehand",
    "oidc_organization": "organisation (slug) where the provider makes accounts and gives roles; empty: the only one "
    "there is. In the others people need an account beforehand",
}
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")


def read_oidc(found: Mapping[str, object], allowed: Allowed) -> dict[str, Any]:
    """The settings by name; raises ValueError that says which one cannot be and why."""
    issuer = str(found.get("oidc_issuer", "")).strip()
    client = str(found.get("oidc_client_id", "")).strip()
    if bool(issuer) != bool(client):
        raise ValueError("oidc_issuer and oidc_client_id belong together; one of them is missing")
    if issuer:
        try:
            check_issuer(issuer, allowed)
        except InvalidPublisher as error:
            raise ValueError(f"oidc_issuer: {error}") from None
    scopes = str(found.get("oidc_scopes", "openid email profile"))
    if "openid" not in scopes.split():
        raise ValueError(f"oidc_scopes is {scopes!r}, expected `openid` among them")
    told = {
        "oidc_issuer": issuer,
        "oidc_client_id": client,
        "oidc_client_secret_file": _file(str(found.get("oidc_client_secret_file", ""))),
        "oidc_scopes": scopes,
        "oidc_email_domains": _domains(found.get("oidc_email_domains", "")),
        "oidc_required_claim": _wanted("oidc_required_claim", str(found.get("oidc_required_claim", ""))),
        "oidc_roles": _roles(found.get("oidc_roles", {})),
        "oidc_default_role": _role("oidc_default_role", str(found.get("oidc_default_role", "none"))),
        "oidc_organization": str(found.get("oidc_organization", "")).strip(),
    }
    narrowed = told["oidc_email_domains"] or told["oidc_required_claim"]
    if told["oidc_default_role"] is not None and not narrowed:
        raise ValueError(
            "oidc_default_role would give an account to everybody the provider knows; "
            "name oidc_email_domains or oidc_required_claim, too"
        )
    return told


def _file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"oidc_client_secret_file is {text!r}, expected an absolute path")
    if not path.is_file():
        raise ValueError(f"oidc_client_secret_file is {text!r}, and there is no such file")
    return path


def _domains(told: object) -> tuple[str, ...]:
    entries = told if isinstance(told, list | tuple) else str(told).split(",")
    domains = tuple(str(one).strip().lower() for one in entries if str(one).strip())
    for one in domains:
        if _DOMAIN.fullmatch(one) is None:
            raise ValueError(f"oidc_email_domains has {one!r}, expected domains such as example.com")
    return domains


def _wanted(name: str, text: str) -> Wanted | None:
    if not text:
        return None
    claim, equals, value = text.partition("=")
    if not claim or not equals or not value:
        raise ValueError(f"{name} is {text!r}, expected claim=value")
    return Wanted(claim, value)


def _roles(told: object) -> dict[Role, Wanted]:
    try:
        table = json.loads(told) if isinstance(told, str) else told
    except ValueError:
        raise ValueError('oidc_roles is no JSON; expected {"admin": "groups=wavegate-admins"}') from None
    if not isinstance(table, Mapping):
        raise ValueError("oidc_roles is no table; expected [oidc_roles] with a claim=value for each role")
    found: dict[Role, Wanted] = {}
    for name, text in table.items():
        role, wanted = _role("oidc_roles", str(name)), _wanted(f"oidc_roles.{name}", str(text))
        if role is None or wanted is None:
            raise ValueError(f"oidc_roles.{name} is to be claim=value of one of {', '.join(Role)}")
        found[role] = wanted
    return found


def _role(name: str, text: str) -> Role | None:
    if text == "none":
        return None
    if text not in set(Role):
        raise ValueError(f"{name} is {text!r}, expected none or one of {', '.join(Role)}")
    return Role(text)
