"""The walk's first part: accounts, second factors, and the credentials of programs."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from keys.second_factor import code_at
from tests.integration.api.conftest import Home
from tests.integration.api.tour_recorder import Recorder

PASSWORD = "a long enough password"


class People:
    """``admin`` and ``approver`` are login tokens for the parts that follow."""

    def __init__(self, home: Home, to: Recorder) -> None:
        self.home = home
        self.to = to
        self.admin = ""
        self.approver = ""

    def walk(self) -> None:
        """Go through this part."""
        self.accounts()
        self.newcomers()
        self.second_factors()
        self.keys_of_programs()
        self.trusted_publishers()

    def accounts(self) -> None:
        to, made = self.to, self.home.made
        login = {"email": made.admin_email, "password": made.admin_password}
        self.admin = to.post("/auth/token", login, token="")["token"]
        to.post("/auth/login", login, token="")
        to.get("/auth/me", token=self.admin)
        to.get("/profile", token=self.admin)
        to.patch("/profile", {"name": "Ada Admin"}, token=self.admin)
        ann = {"email": "ann@example.com", "name": "Ann", "role": "approver", "password": PASSWORD}
        made_ann = to.post("/users", ann, token=self.admin)
        to.get("/users?limit=50&total=true", token=self.admin)
        to.get(f"/users/{made_ann['id']}", token=self.admin)
        to.patch(f"/users/{made_ann['id']}", {"name": "Ann Approver"}, token=self.admin)
        self.approver = self.home.login("ann@example.com", PASSWORD)
        spare = self.home.login(made.admin_email, made.admin_password)
        mine = to.get("/profile/sessions", token=self.admin)["items"]
        [other, *_] = [one["id"] for one in mine if not one["current"]]
        to.delete(f"/profile/sessions/{other}", token=self.admin)
        spare = self.home.login(made.admin_email, made.admin_password)
        to.post("/auth/logout", token=spare)

    def newcomers(self) -> None:
        to = self.to
        dora = {"email": "dora@example.com", "role": "operator", "expires_in_days": 7}
        invited = to.post("/invitations", dora, token=self.admin)
        to.get("/invitations?state=pending&limit=20", token=self.admin)
        accepted = to.post(
            "/auth/accept-invitation", {"code": invited["code"], "name": "Dora", "password": PASSWORD}, token=""
        )
        spare = to.post("/invitations", {"email": "eve@example.com", "role": "viewer"}, token=self.admin)
        to.delete(f"/invitations/{spare['id']}", token=self.admin)
        to.post(f"/users/{accepted['id']}/reset-password", token=self.admin)

    def second_factors(self) -> None:
        to = self.to
        token = self.home.person("cem@example.com", "operator")
        cem = self.home.call("GET", "/auth/me", token=token).get_json()["user"]["id"]
        for _ in range(2):
            begun = to.post("/profile/second-factor", {"current_password": PASSWORD}, token=token)
            (told,) = parse_qs(urlsplit(begun["otpauth_uri"]).query)["secret"]
            code = code_at(base64.b32decode(told), datetime.now(UTC))
            codes = to.post("/profile/second-factor/confirm", {"code": code}, token=token)["recovery_codes"]
            to.get("/profile/second-factor", token=token)
            to.post("/profile/second-factor/remove", {"current_password": PASSWORD, "code": codes[0]}, token=token)
        begun = to.post("/profile/second-factor", {"current_password": PASSWORD}, token=token)
        (told,) = parse_qs(urlsplit(begun["otpauth_uri"]).query)["secret"]
        code = code_at(base64.b32decode(told), datetime.now(UTC))
        to.post("/profile/second-factor/confirm", {"code": code}, token=token)
        to.post(f"/users/{cem}/reset-second-factor", token=self.admin)

    def keys_of_programs(self) -> None:
        to = self.to
        wanted = {"name": "ci", "expires_in_days": 90, "permissions": ["artifacts:publish", "artifacts:read"]}
        key = to.post("/api-keys", wanted, token=self.admin)
        new = to.post(f"/api-keys/{key['id']}/rotate", {"overlap_hours": 24}, token=self.admin)
        to.get("/api-keys", token=self.admin)
        to.delete(f"/api-keys/{new['id']}", token=self.admin)

    def trusted_publishers(self) -> None:
        to = self.to
        claims = {
            "repository_id": "74",
            "repository_owner_id": "65",
            "workflow": "release.yml",
            "environment": "release",
        }
        wanted = {"name": "lamp releases", "provider": "github", "audience": "https://wavegate.example.com"}
        made = to.post("/trusted-publishers", {**wanted, "claims": claims, "products": ["lamp"]}, token=self.admin)
        to.get("/trusted-publishers", token=self.admin)
        to.get(f"/trusted-publishers/{made['id']}", token=self.admin)
        to.delete(f"/trusted-publishers/{made['id']}", token=self.admin)
