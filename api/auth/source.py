"""Where a request comes from, when there may be proxies before us."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from flask import Request

_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_MOST_HOPS: Final = 50  # a header of nothing but addresses of ours ends somewhere


def source_of(request: Request, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """The address to count failures by: the last one that no trusted proxy has.

    Each proxy adds the address it was called from at the right end of ``X-Forwarded-For``. The header is read from
    there, one entry for each proxy that is trusted, so whatever a caller wrote into it themselves is never reached.
    Without trusted proxies, or when the request comes from none, the header is not looked at.

    Returns:
        An IPv4 address, also where it came mapped into IPv6, or the /64 of an IPv6 address, which one caller has
        whole; what the server says when its peer has no address.
    """
    peer = _address(request.remote_addr or "")
    if peer is None:
        return request.remote_addr or ""
    told = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
    for entry in reversed(told[-_MOST_HOPS:]):
        if not any(peer in network for network in trusted):
            break
        before = _address(entry)
        if before is None:
            break
        peer = before
    return str(peer) if isinstance(peer, IPv4Address) else str(IPv6Network((peer, 64), strict=False))


def told_id(request: Request, trusted: Sequence[IPv4Network | IPv6Network]) -> str | None:
    """The id that a trusted proxy gave the request in ``X-Request-Id``: 8 to 64 of ``A-Z a-z 0-9 . _ -``.

    Anybody else's is not looked at: it would stand in the log in the place of ours.
    """
    if not trusted:
        return None
    peer, told = _address(request.remote_addr or ""), request.headers.get("X-Request-Id", "")
    if peer is None or not any(peer in network for network in trusted) or _ID.fullmatch(told) is None:
        return None
    return told


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: bare, in brackets, or with a port; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
