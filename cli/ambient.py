"""Who the CI system says this job is: its identity token, exchanged for a publish token.

Looked for in this order: ``WAVEGATE_ID_TOKEN`` (what GitLab's ``id_tokens:`` and others put there), then GitHub's
``ACTIONS_ID_TOKEN_REQUEST_URL`` and ``_TOKEN``, which a job has with ``permissions: id-token: write``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from cli.config import Credential
from cli.errors import ApiRefusal, NotLoggedIn, Unreachable, UsageFault

if TYPE_CHECKING:
    from cli.client import Client

ID_TOKEN: Final = "WAVEGATE_ID_TOKEN"
AUDIENCE: Final = "WAVEGATE_AUDIENCE"
ORG: Final = "WAVEGATE_ORG"
_REQUEST_URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
_REQUEST_TOKEN: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
_MAX_ANSWER: Final = 64 * 1024  # bytes
_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Ambient:
    """What the environment offers; neither is shown in its ``repr``."""

    id_token: str | None = None
    request_url: str | None = None
    request_token: str | None = None

    def __repr__(self) -> str:
        return f"Ambient(origin={self.origin!r})"

    @property
    def origin(self) -> str:
        """Where the identity comes from, in words for messages."""
        return f"the identity in {ID_TOKEN}" if self.id_token else "the identity of this GitHub job"

    @classmethod
    def found(cls, environ: Mapping[str, str] | None = None) -> Ambient | None:
        """The job's identity, if its CI system offers one."""
        environ = os.environ if environ is None else environ
        given = environ.get(ID_TOKEN, "").strip()
        if given:
            return cls(id_token=given)
        url, token = environ.get(_REQUEST_URL, ""), environ.get(_REQUEST_TOKEN, "")
        return cls(request_url=url, request_token=token) if url and token else None


def audience_of(base_url: str) -> str:
    """For whom the identity token has to be: the server as this job knows it, so that no other server can use it."""
    return os.environ.get(AUDIENCE, "").strip() or base_url


def trade(client: Client, ambient: Ambient, *, products: Sequence[str]) -> Credential:
    """Exchange the job's identity token for a publish token; each is good for one exchange.

    A server of several organisations has to be told by ``WAVEGATE_ORG`` whose publisher is meant: one that another
    organisation made for this job would otherwise get what is published.

    Raises:
        ApiRefusal: The server does not trust this job.
        Unreachable, UsageFault: The CI system gave no identity token.
    """
    from cli.client import of_organisation

    path = f"{of_organisation(os.environ.get(ORG, '').strip())}/auth/publish-token"
    asked = {"products": list(products)}
    if ambient.id_token is not None:
        told = client.post(path, {"id_token": ambient.id_token, **asked})
        return Credential(told["token"], ambient.origin)
    audience = audience_of(client.base_url)
    try:
        told = client.post(path, {"id_token": _requested(ambient, audience), **asked})
    except ApiRefusal as refusal:
        # The connection broke after the token was spent, and the client sent it again.
        if refusal.code != "id_token_spent":
            raise
        told = client.post(path, {"id_token": _requested(ambient, audience), **asked})
    return Credential(told["token"], ambient.origin)


def nobody_here() -> NotLoggedIn:
    """What to say when ``--trusted`` was asked for and no CI system is in sight."""
    return NotLoggedIn(
        "no CI system offers an identity here",
        hint=f"GitHub: `permissions: id-token: write`; GitLab: `id_tokens:` with the name {ID_TOKEN}",
    )


def _requested(ambient: Ambient, audience: str) -> str:
    import urllib3

    assert ambient.request_url is not None
    parts = urlsplit(ambient.request_url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise UsageFault(f"{_REQUEST_URL} is not https; the request token is not sent there")
    joint = "&" if parts.query else "?"
    headers = {"Authorization": f"Bearer {ambient.request_token}", "Accept": "application/json"}
    try:
        answer = urllib3.PoolManager(retries=urllib3.Retry(3, redirect=0, backoff_factor=0.5)).request(
            "GET",
            f"{ambient.request_url}{joint}audience={quote(audience, safe='')}",
            headers=headers,
            redirect=False,
            preload_content=False,
            timeout=_SECONDS,
        )
        body = answer.read(_MAX_ANSWER, decode_content=True)
        answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable("GitHub gave no identity token: no answer", hint="run the job again") from error
    told: Any = None
    with contextlib.suppress(ValueError):
        told = json.loads(body)
    value = told.get("value") if isinstance(told, dict) else None
    if answer.status != 200 or not isinstance(value, str):
        raise Unreachable(
            f"GitHub gave no identity token: it answered {answer.status}",
            hint="the job needs `permissions: id-token: write`",
        )
    return value
