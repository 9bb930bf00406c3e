"""Enrolment: a token in, an identity out. The key is made here and leaves the device in no form."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from cryptography import x509
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from agent.asking import Asking, forget
from agent.config import AgentConfig, write_config
from agent.errors import (
    AgentError,
    AlreadyEnrolled,
    BadConfig,
    EnrolmentBusy,
    EnrolmentFailed,
    EnrolmentUnanswered,
    StateUnreadable,
    UntrustedRoot,
)
from agent.home import Home
from agent.identity import (
    Credentials,
    Identity,
    Keypair,
    is_enrolled,
    issued_by,
    load_identity,
    replace_identity,
    save_identity,
)
from agent.link import Facts
from agent.state import StateFile
from agent.web import Limits, Web, WebError

MAX_ANSWER: Final = 2 * 1024 * 1024  # bytes; a root with many keys and signatures has some ten thousand
TRIES: Final = 3
BUSY: Final = frozenset({429, 503})
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN: Final = re.compile(r"wge_([0-9a-f]{64})_[0-9A-Za-z]{43}")
_ENDPOINT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What a person gives. ``root``: the bytes of a root.json they trust already, None to take the token's word.

    ``again``: the home may have an identity, which the new one takes the place of.
    """

    url: str
    token: str
    name: str
    root: bytes | None = None
    allow_http: bool = False
    again: bool = False

    def __repr__(self) -> str:
        return f"Enrolment(url={self.url!r}, name={self.name!r})"


def enroll(home: Home, asked: Enrolment, config: AgentConfig, facts: Facts, *, now: datetime) -> Identity:
    """Get an identity and write it, and the settings, into the home.

    The root that comes back is trusted only if its SHA-256 is the one inside the token (and if it is the root the
    person named); nothing is written before that. Again, in a home that has an identity: its settings stay, what runs
    and what is cached stays, and the old identity stands until the new one is safe.

    Raises:
        AlreadyEnrolled: The home has an identity, and ``again`` was not asked for.
        HomeInUse: Again, while an agent runs there.
        BadConfig: The token or address has not the form it must have.
        EnrolmentBusy: The server has too many enrolments just now, and says when to ask again.
        EnrolmentFailed: The server refused, did not answer, or its answer does not fit together.
        UntrustedRoot: The root is not the one that was promised.
    """
    if not is_enrolled(home):
        promised = _promised_root(asked)
        got = _exchange(asked, promised, config, Asking.new(_said(asked, config, facts)), facts, now)
        home.create()
        write_config(home.config, config)
        save_identity(home, got.identity, got.credentials, device_ca=got.device_ca, root=got.root)
        return got.identity
    before = _before(home, asked)
    promised = _promised_root(asked)
    with home.locked():
        state = StateFile(home.state)
        known = state.load()  # a damaged one is told before the code is used
        asking = Asking.kept(home, _said(asked, config, facts))
        try:
            got = _exchange(asked, promised, config, asking, facts, now)
        except EnrolmentBusy:
            raise
        except EnrolmentUnanswered as error:
            # Whether the code was used is not known: the same must be asked again, and nothing new.
            raise EnrolmentUnanswered(f"{error}; the same command again goes on with it") from error
        except AgentError:
            forget(home)
            raise
        if before is not None and got.identity.org != before.org:
            forget(home)
            raise EnrolmentFailed(
                f"the token is one of {got.identity.org}, and this home is a device of {before.org}; nothing was "
                "changed here, and the token's place is used up: use another --home with another token"
            )
        replace_identity(home, got.identity, got.credentials, device_ca=got.device_ca, root=got.root)
        forget(home)
        is_same = before is not None and before.device_id == got.identity.device_id
        state.save(known.enrolled_again(is_same_device=is_same))
    return got.identity


def _before(home: Home, asked: Enrolment) -> Identity | None:
    try:
        before = load_identity(home)
    except StateUnreadable:
        if asked.again:
            return None
        raise
    if not asked.again:
        raise AlreadyEnrolled(
            f"{home.folder} is {before.name} ({before.device_id}) of {before.org} already; to give it a new identity, "
            f"make a code (publish device code {before.name}) and give --again with it; for another device use another "
            "--home"
        )
    return before


@dataclass(frozen=True, slots=True, kw_only=True)
class _Got:
    """What the server handed over, checked and not written yet."""

    identity: Identity
    credentials: Credentials
    device_ca: bytes
    root: bytes


def _exchange(
    asked: Enrolment, promised: str, config: AgentConfig, asking: Asking, facts: Facts, now: datetime
) -> _Got:
    answer = _ask(asked, config, asking, facts)
    root = _checked_root(answer, promised)
    chain, device_ca = _text(answer, "certificate_chain").encode(), _text(answer, "device_ca").encode()
    device_id = _text(answer, "device_id")
    _check_certificate(chain, device_ca, asking.key, device_id)
    identity = Identity(
        device_id=device_id,
        name=_text(answer, "name"),
        org=_text(answer, "org"),
        device_endpoint=_endpoint(answer),
        metadata_url=urljoin(asked.url.rstrip("/") + "/", _text(answer, "metadata_url")),
        targets_url=urljoin(asked.url.rstrip("/") + "/", _text(answer, "targets_url")),
        root_sha256=hashlib.sha256(root).hexdigest(),
        enrolled_at=now.isoformat().replace("+00:00", "Z"),
    )
    credentials = Credentials(asking.key.private_pem, chain)
    return _Got(identity=identity, credentials=credentials, device_ca=device_ca, root=root)


def _promised_root(asked: Enrolment) -> str:
    found = _TOKEN.fullmatch(asked.token)
    if found is None:
        raise BadConfig("the token is not of the form wge_<64 hex digits>_<43 characters>; copy it whole")
    parts = urlsplit(asked.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadConfig(f"--url {asked.url!r} is no http(s) address")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and not asked.allow_http:
        raise BadConfig(
            "over plain http anybody on the way could take the token and enrol in the device's place; "
            "use https, or --allow-http on a network of your own"
        )
    promised = found.group(1)
    if asked.root is not None and hashlib.sha256(asked.root).hexdigest() != promised:
        # Looked at before the server is asked, so that the token keeps its place.
        raise UntrustedRoot(
            f"the token is for a root with SHA-256 {promised}, the file given has "
            f"{hashlib.sha256(asked.root).hexdigest()}; one of them is of another repository"
        )
    return promised


def _said(asked: Enrolment, config: AgentConfig, facts: Facts) -> Mapping[str, str]:
    return {
        "token": asked.token,
        "name": asked.name,
        "platform": config.platform,
        "hostname": facts.hostname,
        "os_family": facts.os_family,
        "os_name": facts.os_name,
        "agent_version": facts.agent_version,
    }


def _ask(asked: Enrolment, config: AgentConfig, asking: Asking, facts: Facts) -> Mapping[str, Any]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        # The same at every try: an answer that got lost must not use up a second place of the token.
        "Idempotency-Key": asking.once,
    }
    web = Web(agent=f"wavegate-agent/{facts.agent_version}", tls_ca=config.tls_ca)
    url = f"{asked.url.rstrip('/')}/api/v1/enroll"
    try:
        for left in reversed(range(TRIES)):
            try:
                return _post(web, url, asking.body, headers)
            except WebError as error:
                if not left:
                    raise EnrolmentUnanswered(f"{asked.url} does not answer: {error}") from error
    finally:
        web.close()
    raise AssertionError("unreachable")


def _post(web: Web, url: str, body: bytes, headers: Mapping[str, str]) -> Mapping[str, Any]:
    received = bytearray()
    with web.request("POST", url, limits=Limits(), body=body, headers=headers) as answered:
        for piece in answered.pieces:
            received += piece
            if len(received) > MAX_ANSWER:
                raise EnrolmentFailed(f"{url} answers with more than {MAX_ANSWER} bytes; is that a Wavegate server?")
    status = answered.status
    try:
        answer = json.loads(bytes(received))
    except ValueError as error:
        raise EnrolmentUnanswered(f"{url} answers {status} and no JSON; is that a Wavegate server?") from error
    if not isinstance(answer, dict):
        raise EnrolmentFailed(f"{url} answers {status} and no JSON object; is that a Wavegate server?")
    if status not in (200, 201):
        failure = answer.get("error")
        told = failure if isinstance(failure, dict) else {}
        words = f"the server refuses ({told.get('code', status)}): {told.get('message', 'it does not say why')}"
        again = answered.headers.get("Retry-After") or ""
        if status in BUSY and again.isascii() and again.isdecimal():
            raise EnrolmentBusy(words, float(again))
        if status in BUSY or status >= 500 or str(told.get("code")).startswith("idempotency_"):
            raise EnrolmentUnanswered(words)
        raise EnrolmentFailed(words)
    return answer


def _checked_root(answer: Mapping[str, Any], promised: str) -> bytes:
    try:
        root = base64.b64decode(_text(answer, "root"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnrolmentFailed("the server's 'root' is no base64") from error
    found = hashlib.sha256(root).hexdigest()
    if found != promised:
        raise UntrustedRoot(
            f"the server hands over a root with SHA-256 {found}, the token promises {promised}; "
            "somebody may be in between: nothing was written, ask for a new token"
        )
    try:
        metadata = Metadata[Root].from_bytes(root)
        metadata.verify_delegate(Root.type, metadata)
    except (RepositoryError, ValueError) as error:
        raise UntrustedRoot(
            f"the root that the server hands over is no root metadata signed by itself: {error}"
        ) from error
    return root


def _check_certificate(chain: bytes, device_ca: bytes, key: Keypair, device_id: str) -> None:
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
        fits = key.fits(chain) and issued_by(device_ca, chain)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = named.get_values_for_type(x509.UniformResourceIdentifier)
    except Exception as error:
        raise EnrolmentFailed(f"the server's certificate for this device cannot be used: {error!r}") from error
    if not fits or f"urn:wavegate:device:{device_id}" not in names:
        raise EnrolmentFailed("the server's certificate is not for this device's key and id; nothing was written")


def _endpoint(answer: Mapping[str, Any]) -> str:
    endpoint = _text(answer, "device_endpoint")
    if _ENDPOINT.fullmatch(endpoint) is None:
        raise EnrolmentFailed(f"the server's 'device_endpoint' is {endpoint!r}, expected host:port")
    return endpoint


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise EnrolmentFailed(f"the server's answer lacks {name!r}; is it of another release?")
    return value
