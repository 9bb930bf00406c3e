"""The server as a client of a provider of OpenID Connect: authorization code with PKCE, and the device grant.

What has to be remembered between the steps (state, nonce, verifier) travels sealed with whoever logs in: in a browser's
cookie, or in the hands of the command line. Nothing is stored, so any server can go on where another began.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from api.auth.issuers import Issuers
from api.errors import ApiError
from evidence.errors import IssuerUnreachable, LoginRefused
from keys.errors import SealBroken
from keys.seal import Seal

LOGIN_LIFE: Final = timedelta(minutes=10)  # from its beginning to the provider's answer
_LONGEST_DEVICE_LOGIN: Final = timedelta(minutes=30)
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_OWNER: Final = "oidc login"


@dataclass(frozen=True, slots=True)
class Begun:
    """A login under way. ``handle`` comes back with the provider's answer, and opens here alone."""

    url: str
    handle: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Verified claims of who logged in, and what was kept of how the login began."""

    claims: Mapping[str, Any]
    org: str
    then: str = ""


@dataclass(frozen=True, slots=True)
class BegunByDevice:
    """A login that goes on in a browser elsewhere; ``interval`` is in seconds."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval: int
    life: timedelta
    handle: str


@dataclass(frozen=True, slots=True)
class OidcClient:
    """What the provider knows this server as."""

    issuer: str
    client_id: str
    secret_file: Path | None
    scopes: str
    issuers: Issuers
    seal: Seal

    def begin(self, redirect_uri: str, *, org: str, now: datetime, then: str = "") -> Begun:
        """Where to send somebody to log in; ``org`` and ``then`` are kept for when they are back."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._endpoint("authorization_endpoint")
        kept = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "redirect_uri": redirect_uri,
            "then": then,
            "org": org,
        }
        joint = "&" if urlsplit(endpoint).query else "?"
        return Begun(f"{endpoint}{joint}{urlencode(asked)}", self._close("code", kept, now + LOGIN_LIFE))

    def finish(self, handle: str, *, code: str, state: str, issuer: str | None, now: datetime) -> Finished:
        """Exchange the provider's code.

        Raises:
            ApiError: 403 ``oidc_login_over``: the handle or the state is not that of this login, or it took too long.
            LoginRefused: The provider says no, or its answer is for another login.
            IdTokenInvalid, IdTokenKeyUnknown, IssuerUnreachable: Its answer does not hold, or there is none.
        """
        kept = self._open("code", handle, now)
        # (1) The answer belongs to the login that this browser began (RFC 6749 section 10.12).
        if not hmac.compare_digest(kept["state"].encode(), state.encode()):
            raise _over("the provider's answer belongs to another login")
        # (2) And comes from the provider that was asked (RFC 9207).
        if issuer is not None and issuer != self.issuer:
            raise _over("the answer comes from another provider")
        told = self._token(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": kept["redirect_uri"],
                "code_verifier": kept["verifier"],
            }
        )
        # (3) The identity token was made for this login.
        return Finished(self._claims(told, nonce=kept["nonce"], now=now), kept["org"], kept["then"])

    def begin_by_device(self, *, org: str, now: datetime) -> BegunByDevice:
        """Ask for a code to type in elsewhere (RFC 8628); raises IssuerUnreachable where the provider has no such."""
        endpoint = self._endpoint("device_authorization_endpoint")
        status, told = self._post(endpoint, {"scope": self.scopes})
        device_code, user_code, place = (told.get(name) for name in ("device_code", "user_code", "verification_uri"))
        if status != 200 or not all(isinstance(one, str) for one in (device_code, user_code, place)):
            raise LoginRefused(f"the provider begins no login by device: {_reason(told, status)}")
        life = min(timedelta(seconds=_number(told.get("expires_in"), 600)), _LONGEST_DEVICE_LOGIN)
        complete = told.get("verification_uri_complete")
        return BegunByDevice(
            user_code=str(user_code),
            verification_uri=str(place),
            verification_uri_complete=complete if isinstance(complete, str) else None,
            interval=max(1, min(60, _number(told.get("interval"), 5))),
            life=life,
            handle=self._close("device", {"device_code": device_code, "org": org}, now + life),
        )

    def finish_by_device(self, handle: str, *, now: datetime) -> Finished:
        """What came of it, once the person has said yes.

        Raises:
            ApiError: 400 ``authorization_pending`` or ``slow_down`` while they have not; 403 ``oidc_login_over``.
            LoginRefused, IdTokenInvalid, IdTokenKeyUnknown, IssuerUnreachable: As :meth:`finish`.
        """
        kept = self._open("device", handle, now)
        told = self._token({"grant_type": _DEVICE_GRANT, "device_code": kept["device_code"]})
        return Finished(self._claims(told, nonce=None, now=now), kept["org"])

    def _claims(self, told: Mapping[str, Any], *, nonce: str | None, now: datetime) -> Mapping[str, Any]:
        text = told.get("id_token")
        if not isinstance(text, str):
            raise LoginRefused("the provider sent no identity token; is `openid` in the scopes?")
        claims = self.issuers.verify(text, issuer=self.issuer, audience=self.client_id, now=now).claims
        if claims.get("azp", self.client_id) != self.client_id:
            raise LoginRefused("the identity token was made for another client")
        if nonce is not None and not hmac.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()):
            raise LoginRefused("the identity token was made for another login")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise LoginRefused("the provider does not say who you are (sub)")
        return {**self._userinfo(told.get("access_token"), subject), **claims}

    def _userinfo(self, access_token: object, subject: str) -> Mapping[str, Any]:
        """What the provider tells beside the token, where e-mail addresses and groups often are."""
        endpoint = self.issuers.describe(self.issuer).document.get("userinfo_endpoint")
        if not isinstance(endpoint, str) or not isinstance(access_token, str):
            return {}
        headers = {"Authorization": f"Bearer {access_token}"}
        status, told = self.issuers.ask("GET", endpoint, headers=headers)
        if status != 200:
            raise IssuerUnreachable(f"the provider tells nothing of the user: it answered {status}")
        # OpenID Connect Core section 5.3.2: claims of somebody else must not be used.
        if told.get("sub") != subject:
            raise LoginRefused("the provider tells of another user than it logged in")
        return told

    def _token(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        status, told = self._post(self._endpoint("token_endpoint"), asked)
        if status == 200:
            return told
        error = told.get("error")
        if error in ("authorization_pending", "slow_down"):
            raise ApiError(400, str(error), "the person has not said yes yet; ask again after the interval")
        if status >= 500:
            raise IssuerUnreachable(f"the provider answered {status}")
        raise LoginRefused(f"the provider refuses the login: {_reason(told, status)}; begin again")

    def _post(self, endpoint: str, asked: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        form, headers = dict(asked), {"Content-Type": "application/x-www-form-urlencoded"}
        secret = None if self.secret_file is None else self.secret_file.read_text("utf-8").strip()
        document = self.issuers.describe(self.issuer).document
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is None:
            form["client_id"] = self.client_id
        elif "client_secret_basic" in methods:
            # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote_plus(self.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": self.client_id, "client_secret": secret}
        return self.issuers.ask("POST", endpoint, headers=headers, body=urlencode(form).encode())

    def _endpoint(self, name: str) -> str:
        found = self.issuers.describe(self.issuer).document.get(name)
        if not isinstance(found, str) or urlsplit(found).scheme not in ("https", urlsplit(self.issuer).scheme):
            raise IssuerUnreachable(f"the provider {self.issuer} names no {name} that can be used")
        return found

    def _close(self, kind: str, kept: Mapping[str, Any], until: datetime) -> str:
        told = json.dumps({**kept, "kind": kind, "until": until.timestamp()})
        return self.seal.close(told.encode(), of=_OWNER)

    def _open(self, kind: str, handle: str, now: datetime) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self.seal.open(handle, of=_OWNER))
        except SealBroken:
            raise _over("this login was not begun here") from None
        if kept["kind"] != kind or now.timestamp() >= kept["until"]:
            raise _over("this login took too long")
        return kept


def _over(what: str) -> ApiError:
    return ApiError(403, "oidc_login_over", f"{what}; begin again")


def _reason(told: Mapping[str, Any], status: int) -> str:
    # Its error_description may repeat what was sent.
    return str(told.get("error") or f"it answered {status}")[:100]


def _number(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 86_400 else otherwise
