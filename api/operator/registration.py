"""Registering an organisation at the server itself, by who has no account yet."""

from __future__ import annotations

from typing import Annotated

from flask import Response, request
from pydantic import BaseModel, Field

from api.auth.gate import check_same_site
from api.codes import SIGNS
from api.operator import accounts
from api.operator.accounts import Email, Name, Password
from api.operator.routes import Body, Routes, installation, now, reply
from api.organisations import SLUG, NewAdmin
from api.registration import register

api = Routes("registration", "Accounts")


class Registration(Body):
    """An organisation and its first administrator. `org` is its slug: a part of URLs, for ever.

    `setup_code` is asked for while the server has no organisation: it is in the file `setup-code` of its home.
    """

    org: Annotated[str, Field(pattern=f"^{SLUG}$", max_length=50)]
    org_name: Annotated[str, Field(max_length=100)] = ""
    email: Email
    name: Name
    password: Password
    setup_code: Annotated[str, Field(max_length=200)] | None = None


class Registered(BaseModel):
    """The organisation, with the digest of the root that its devices are to trust; log in with the password given."""

    org: str
    root_sha256: str
    user: accounts.User


@api.on(
    "POST",
    "/auth/register",
    Registered,
    public=True,
    status=201,
    errors=(
        *SIGNS,
        "cross_site_request",
        "org_exists",
        "registration_closed",
        "setup_code_refused",
        "user_exists",
        "weak_password",
    ),
)
def register_organisation(body: Registration) -> Response:
    """Register the first organisation and its admin; off afterwards, unless the server is open"""
    check_same_site(request)
    admin = NewAdmin(email=body.email, name=body.name, password=accounts.acceptable(body.password))
    made = register(installation(), org=body.org, name=body.org_name, admin=admin, code=body.setup_code, now=now())
    return reply(Registered(org=made.org, root_sha256=made.root_sha256, user=accounts.user(made.admin)), 201)
