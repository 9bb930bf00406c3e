"""Where webhooks may go: names and addresses of the public network, and what the server's operator allows besides.

A URL is judged twice: as text when it is stored, and by the address that its name means when something is sent. Only
the second holds off a name that turns private later; the first tells the person who typed it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from evidence.errors import InvalidWebhook

MAX_URL: Final = 2048  # characters
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
# As browsers and the C library see it, a name whose last part is a number is an address: 2130706433, 0x7f.1, 127.1.
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
_PRIVATE_NAMES: Final = (
    "localhost",
    "local",
    "internal",
    "localdomain",
    "lan",
    "home",
    "corp",
    "intranet",
    "home.arpa",
)
_URL_CHARACTERS: Final = re.compile(r"[\x21-\x7e]+")
_FIRST_FREE_PORT: Final = 1024  # below it other protocols listen, which a request could be made to speak
_HTTPS: Final = 443

# What `is_global` of the standard library lets pass in one release or another, or is public and yet is no receiver.
_REFUSED: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",  # a cloud's own agent endpoint, on a public address
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be reached although it is private: networks, and hosts by name. Their receivers may be without TLS.
    ``setting`` is what an operator is told to change."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    setting: str = "webhook_allow"

    @classmethod
    def parse(cls, entries: Sequence[str], setting: str = "webhook_allow") -> Allowed:
        """Read entries such as ``10.0.0.0/8``, ``127.0.0.1`` or ``hooks.example``; ValueError names a bad one."""
        networks: list[IPv4Network | IPv6Network] = []
        hosts: set[str] = set()
        for entry in entries:
            host = entry.lower().rstrip(".")
            try:
                networks.append(ip_network(entry))
            except ValueError:
                if "/" in entry or _HOST.fullmatch(host) is None or _is_number(host):
                    raise ValueError(f"{entry!r} is neither a network such as 10.0.0.0/8 nor a host name") from None
                hosts.add(host)
        return cls(tuple(networks), frozenset(hosts), setting)

    def __str__(self) -> str:
        return ",".join([*map(str, self.networks), *sorted(self.hosts)])

    def has(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether one of the networks has the address."""
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Place:
    """A URL taken apart. ``path`` has the query with it."""

    secure: bool
    host: str
    port: int
    path: str


def place_of(url: str, allowed: Allowed) -> Place:
    """Take a receiver's URL apart, and refuse what cannot be one.

    Raises:
        InvalidWebhook: It is no https URL, has credentials or a fragment, an unusual port, or names something private.
    """
    if len(url) > MAX_URL:
        raise InvalidWebhook(f"the URL has {len(url)} characters, at most {MAX_URL} are possible")
    if _URL_CHARACTERS.fullmatch(url) is None or "\\" in url:
        raise InvalidWebhook("the URL has blanks, backslashes or letters beyond ASCII; write them percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidWebhook(f"the URL cannot be read: {error}") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("https", "http") or not host:
        raise InvalidWebhook("the URL is not https://host[:port]/path")
    if "@" in parts.netloc or "#" in url:
        raise InvalidWebhook("the URL has credentials or a fragment; receivers check the signature instead")
    is_allowed = _check_host(host, allowed)
    secure = parts.scheme == "https"
    if not secure and not is_allowed:
        raise InvalidWebhook(f"the URL is without TLS; take https, or have the host put into `{allowed.setting}`")
    port = (_HTTPS if secure else 80) if port is None else port
    if not is_allowed and port != _HTTPS and port < _FIRST_FREE_PORT:
        raise InvalidWebhook(f"port {port} is no receiver's; take 443, or one from {_FIRST_FREE_PORT} on")
    path = parts.path or "/"
    return Place(secure, host, port, f"{path}?{parts.query}" if parts.query else path)


def why_refused(address: str, host: str, allowed: Allowed) -> str | None:
    """Why nothing is sent to this address, which ``host`` was found to be; None when it may be.

    What is inside an IPv6 address that stands for an IPv4 one (mapped, compatible, NAT64) is judged as IPv4.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address!r} is no address"
    for one in (found, _inner(found)):
        if one is not None and allowed.has(one):
            return None
    meant = _inner(found) or found
    if host in allowed.hosts and not _is_never_a_receiver(meant):
        return None
    public = meant.is_global and not meant.is_multicast and not any(meant in network for network in _REFUSED)
    if public and (meant.version == 4 or meant in _GLOBAL_UNICAST):
        return None
    return f"{found} is not a public address; the server's operator can allow it with `{allowed.setting}`"


def _check_host(host: str, allowed: Allowed) -> bool:
    """Whether the operator allowed this host; raises InvalidWebhook for one that is private and not allowed."""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        reason = why_refused(host, host, allowed)
        if reason is not None:
            raise InvalidWebhook(reason)
        return allowed.has(_inner(address) or address) or allowed.has(address)
    if _HOST.fullmatch(host) is None or len(host) > 253 or _is_number(host):
        raise InvalidWebhook(f"{host!r} is no host name; an address is written 192.0.2.1 or [2001:db8::1]")
    if host in allowed.hosts:
        return True
    if "." not in host or host.endswith(tuple(f".{name}" for name in _PRIVATE_NAMES)):
        raise InvalidWebhook(f"{host} is a private name; the server's operator can allow it with `{allowed.setting}`")
    return False


def _is_number(host: str) -> bool:
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_never_a_receiver(address: IPv4Address | IPv6Address) -> bool:
    # A host's name being allowed must not open the way to a cloud's metadata, wherever that name points.
    return address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
