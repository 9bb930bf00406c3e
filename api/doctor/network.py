"""What can be asked over the network: a server's answers, its ports and certificates, its clock. No home is needed."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName, load_der_x509_certificate
from urllib3.exceptions import HTTPError

from api.doctor.model import Check, Looks, certificate, clock, fail, unknown, warn, well
from api.settings import Address, Settings
from keys.device_ca import SERVER_LIFE

_SECONDS: Final = 5.0
_KEY_SOON: Final = timedelta(days=14)
ON_THE_SERVER: Final = ("home", "key files", "keys", "database", "disk", "storage", "leader", "backup", "device port")
_THERE: Final = "run `publish doctor` on the server"
# The certificate is renewed at a third of its life before the end, so what is below that was not.
_PORT_SOON: Final = SERVER_LIFE / 3 - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: status, headers in lower case, and the JSON of the body or None."""

    status: int
    headers: Mapping[str, str]
    body: Any


Ask = Callable[[str], Told]
"""GET of a path; raises OSError or urllib3's HTTPError when nobody answers."""


def asking(url: str, bearer: str = "") -> Ask:
    """Ask a server at ``url``, without redirects and without retries."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=_SECONDS), retries=False)

    def ask(path: str) -> Told:
        answer = pool.request("GET", f"{url}{path}", headers=headers, redirect=False)
        try:
            body = json.loads(answer.data)
        except ValueError:
            body = None
        return Told(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)

    return ask


def serves(ask: Ask) -> bool:
    """Whether a Wavegate answers there."""
    try:
        answer = ask("/healthz")
    except (HTTPError, OSError):
        return False
    return answer.status == 200 and isinstance(answer.body, dict) and answer.body.get("status") == "ok"


def ready(ask: Ask) -> Check:
    """What the server says of itself."""
    answer = ask("/readyz")
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.status == 404 or not body:
        return unknown("server", "it does not say whether it is ready; a proxy keeps /readyz to itself")
    said = str(body.get("status"))
    if said == "ready":
        return well("server", "ready")
    checks = body.get("checks", {})
    told = f"{said}: {json.dumps(checks)}"
    todo = "the other checks say more; see the server's log"
    return warn("server", told, todo) if said == "degraded" else fail("server", told, todo)


def its_clock(answer: Told, now: datetime) -> Check:
    """This machine's clock against the one that stands in an answer, which is of whole seconds."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return unknown("clock", "the server's answer has no date")
    return clock("clock", now - theirs - timedelta(seconds=0.5), "the server's")


def ports(settings: Settings, *, serving: bool) -> Looks:
    """Whether the ports are ours, free, or somebody else's."""
    for name, address in (("API port", settings.listen), ("device port", settings.device_listen)):
        taken = _is_taken(address)
        if serving == taken:
            yield well(name, f"{address} is {'ours' if serving else 'free'}")
        elif taken:
            todo = (
                f"end what holds it (ss -ltnp), or set another WAVEGATE_{'DEVICE_' if 'device' in name else ''}LISTEN"
            )
            yield fail(name, f"{address} is held by another program", todo)
        else:
            yield fail(name, f"nobody listens on {address} although the API answers", "see the server's log")


def port_certificate(settings: Settings, now: datetime) -> Check:
    """The certificate that the device port shows, which renews itself."""
    host = settings.device_listen.host
    name, wanted = "device port's certificate", settings.device_endpoint.rpartition(":")[0].strip("[]")
    try:
        shown = _shown(host, settings.device_listen.port)
    except OSError as error:
        return fail(name, f"no TLS there: {error}", "see the server's log")
    expires = datetime.fromisoformat(shown.expires)
    if wanted not in shown.names:
        todo = "restart the server: the names of the certificate are those of WAVEGATE_DEVICE_ENDPOINT at its start"
        return fail(name, f"it is for {', '.join(shown.names)}, not for {wanted}", todo)
    return certificate(
        name, expires, now, "it renews itself after 20 of 30 days; see the server's log", soon=_PORT_SOON
    )


def site_certificate(url: str, now: datetime) -> Check:
    """The certificate of the public URL, as a client with the system's authorities sees it."""
    parts = urlsplit(url)
    name, host = "TLS certificate", parts.hostname or ""
    if parts.scheme != "https":
        if host in {"127.0.0.1", "localhost", "::1"}:
            return well(name, f"{url} is on this machine and without TLS")
        todo = "put a TLS proxy before the server (docs/operate.md) and name it in WAVEGATE_PUBLIC_URL"
        return fail(name, f"{url} is without TLS: passwords and keys go over the network as text", todo)
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, parts.port or 443), timeout=_SECONDS) as line,
            context.wrap_socket(line, server_hostname=host) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        return fail(name, f"clients refuse it: {error.verify_message}", "renew it, or install the whole chain")
    except OSError as error:
        return unknown(name, f"{host} cannot be asked from here: {error}", "look at it from a client's network")
    assert der is not None
    expires = load_der_x509_certificate(der).not_valid_after_utc
    return certificate(name, expires, now, "renew it; certbot or your proxy should do so by itself")


def remote(ask: Ask, url: str, now: datetime, *, with_key: bool) -> Looks:
    """All that can be said from elsewhere, and what could not be."""
    try:
        answer = ask("/healthz")
    except (HTTPError, OSError) as error:
        yield fail("server", f"{url} does not answer: {error}", "start it; look at the address, proxy and network")
        return
    if answer.status != 200 or not isinstance(answer.body, dict):
        yield fail("server", f"{url} answers {answer.status} and is no Wavegate", "look at the address and the proxy")
        return
    yield ready(ask)
    yield its_clock(answer, now)
    yield site_certificate(url, now)
    if with_key:
        yield from _as_caller(ask, now)
    else:
        yield unknown("credential", "none was given", "give --api-key-file to see more")
    yield unknown("the server's machine", f"{', '.join(ON_THE_SERVER)}: not to be seen from here", _THERE)


def _as_caller(ask: Ask, now: datetime) -> Looks:
    me = ask("/api/v1/auth/me")
    if me.status != 200:
        yield fail("credential", f"it is refused ({me.status})", "make a new key: `publish key create`")
        return
    expires = datetime.fromisoformat(me.body["credential"]["expires_at"])
    told = f"{me.body['credential']['kind']} of {me.body['org']}, valid until {expires:%Y-%m-%d}"
    if expires - now <= _KEY_SOON and me.body["credential"]["kind"] == "api_key":
        yield warn("credential", told, "rotate it: `publish key rotate`")
    else:
        yield well("credential", told)
    repository = ask("/api/v1/repository")
    if repository.status != 200:
        yield unknown("metadata", f"this credential may not see it ({repository.status})", "it needs repository:read")
        return
    late = repository.body["warnings"]
    for line in late:
        yield warn("metadata", str(line), "see the message; on the server `publish doctor` says more")
    if not late:
        yield well("metadata", f"{len(repository.body['roles'])} roles last")


@dataclass(frozen=True, slots=True)
class _Shown:
    expires: str
    names: tuple[str, ...]


def _shown(host: str, port: int) -> _Shown:
    # Whom to trust is the devices' question; here only dates and names are read.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), timeout=_SECONDS) as line,
        context.wrap_socket(line, server_hostname="localhost") as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    if der is None:
        raise OSError("it shows no certificate")
    shown = load_der_x509_certificate(der)
    names = shown.extensions.get_extension_for_class(SubjectAlternativeName).value
    told = [*names.get_values_for_type(DNSName), *map(str, names.get_values_for_type(IPAddress))]
    return _Shown(shown.not_valid_after_utc.isoformat(), tuple(told))


def _is_taken(address: Address) -> bool:
    host = "127.0.0.1" if address.host == "0.0.0.0" else "::1" if address.host == "::" else address.host
    try:
        with socket.create_connection((host, address.port), timeout=_SECONDS):
            return True
    except OSError:
        return False
