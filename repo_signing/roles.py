"""The roles: who delegates to whom, how long each lives, when it is due, and what its signed part looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import SPECIFICATION_VERSION

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"
SNAPSHOT: Final = "snapshot"
TARGETS: Final = "targets"
DECISIONS: Final = "decisions"
BRAKES: Final = "brakes"
RELEASES: Final = "releases"

# One key signs both and a commit gives both one version, and no signed file says which role it is: without a hash a
# mirror could serve the decisions as the brakes, and a device would see no brake.
PINNED: Final = (BRAKES, DECISIONS)

BIN_BITS: Final = 6  # 64 bins: the least that is worth it; docs/design aims at sqrt(5 N) for N targets
BIN_PREFIX: Final = "releases"

OFFLINE_LIFE: Final = timedelta(days=365)
TIMESTAMP_LIFE: Final = timedelta(hours=48)
TIMESTAMP_EVERY: Final = timedelta(hours=6)
SNAPSHOT_LIFE: Final = timedelta(days=14)
DOCUMENTS_LIFE: Final = timedelta(days=7)
RELEASES_LIFE: Final = timedelta(days=90)
RELEASES_JITTER: Final = 0.1  # bins made in one commit come due spread over six days, not in one burst

AHEAD_TOLERANCE: Final = timedelta(minutes=1)

_SPEC: Final = ".".join(SPECIFICATION_VERSION)
_EXPIRES: Final = "%Y-%m-%dT%H:%M:%SZ"


def delegator(role: str) -> str:
    """The role that holds the keys of ``role``."""
    if role in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS):
        return ROOT
    return TARGETS if role in (DECISIONS, BRAKES, RELEASES) else RELEASES


def key_of(role: str) -> str:
    """Name in the keyring of the key that signs ``role``."""
    if role in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS):
        return role
    return DECISIONS if role in (DECISIONS, BRAKES) else RELEASES


def life(role: str, version: int) -> timedelta:
    """How long a version of a role is valid from its signing; the same role and version always give the same span."""
    if role in (ROOT, TARGETS):
        return OFFLINE_LIFE
    if role == TIMESTAMP:
        return TIMESTAMP_LIFE
    if role == SNAPSHOT:
        return SNAPSHOT_LIFE
    if role in (DECISIONS, BRAKES):
        return DOCUMENTS_LIFE
    # Derived, not drawn: so the moment of signing can be told from the expiry, and tests see what production does.
    share = int.from_bytes(hashlib.sha256(f"{role}:{version}".encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=int(RELEASES_LIFE.total_seconds() * (1 - RELEASES_JITTER * share)))


def is_due(role: str, version: int, expires: datetime, now: datetime) -> bool:
    """Say whether an online role should be signed anew.

    Timestamp after 6 h, releases and its bins after two thirds of their life, the others after half. Offline roles are
    never due here: the server holds none of their keys. One that lives longer than any made now would was signed by a
    clock that was ahead, and is due at once: a mirror could hold clients on it for that long.
    """
    left = expires - now
    if role in (ROOT, TARGETS):
        return False
    if left > life(role, version) + AHEAD_TOLERANCE:
        return True
    if role == TIMESTAMP:
        return left <= TIMESTAMP_LIFE - TIMESTAMP_EVERY
    if role in (SNAPSHOT, DECISIONS, BRAKES):
        return left <= life(role, version) / 2
    return left <= life(role, version) / 3


def signed_at(expires: datetime) -> datetime:
    """When a timestamp that expires then was signed: the moment of the repository's last commit, to the second."""
    return expires - TIMESTAMP_LIFE


def time_out(moment: datetime) -> str:
    """A moment as TUF writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime(_EXPIRES)


def time_in(text: str) -> datetime:
    """Read a moment as TUF writes it."""
    return datetime.strptime(text, _EXPIRES).replace(tzinfo=UTC)


def root_body(keys: Mapping[str, SSlibKey], now: datetime) -> dict[str, Any]:
    """The signed part of the first root; ``keys`` by role name."""
    return _body("root", ROOT, 1, now) | {
        "consistent_snapshot": True,
        "keys": {key.keyid: key.to_dict() for key in keys.values()},
        "roles": {role: {"keyids": [key.keyid], "threshold": 1} for role, key in keys.items()},
    }


def targets_body(decisions: SSlibKey, releases: SSlibKey, version: int, now: datetime) -> dict[str, Any]:
    """The signed part of top-level targets: delegations only. Their order is their precedence."""
    return _body("targets", TARGETS, version, now) | {
        "delegations": {
            "keys": {key.keyid: key.to_dict() for key in (decisions, releases)},
            "roles": [
                _delegation(DECISIONS, decisions, ["decisions/*/*"], terminating=True),
                _delegation(BRAKES, decisions, ["brakes/*/*"], terminating=True),
                _delegation(RELEASES, releases, ["*/*/*/*", "revocations/*/*"], terminating=False),
            ],
        },
        "targets": {},
    }


def releases_body(releases: SSlibKey, version: int, now: datetime) -> dict[str, Any]:
    """The signed part of ``releases``: the hash bins and nothing else, so that re-binning needs no ceremony."""
    return _body("targets", RELEASES, version, now) | {
        "delegations": {
            "keys": {releases.keyid: releases.to_dict()},
            "succinct_roles": {
                "bit_length": BIN_BITS,
                "keyids": [releases.keyid],
                "name_prefix": BIN_PREFIX,
                "threshold": 1,
            },
        },
        "targets": {},
    }


def holder_body(role: str, targets: Mapping[str, Any], version: int, now: datetime) -> dict[str, Any]:
    """The signed part of a role that holds targets and delegates to nobody."""
    return _body("targets", role, version, now) | {"targets": targets}


def renewed_body(role: str, body: Mapping[str, Any], version: int, now: datetime) -> dict[str, Any]:
    """The same content under a new version and expiry."""
    return dict(body) | {"version": version, "expires": time_out(now + life(role, version))}


def pinned(before: Mapping[str, Any], signed: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """Hashes that the snapshot is to name: of the files signed now, else those that the snapshot ``before`` named.

    Args:
        before: ``meta`` of the snapshot before, empty for the first.
        signed: Files by role name.
    """
    hashes = {role: {"sha256": hashlib.sha256(signed[role]).hexdigest()} for role in PINNED if role in signed}
    for role in PINNED:
        known = before.get(f"{role}.json", {}).get("hashes")
        if role not in hashes and known is not None:
            hashes[role] = known
    return hashes


def snapshot_body(
    versions: Mapping[str, int], version: int, now: datetime, hashes: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The signed part of snapshot; ``versions`` by role name, without root, snapshot and timestamp.

    Versions, and ``hashes`` of the few roles of which one could be passed off as another (:data:`PINNED`); hashes of
    all would make the file four times as long.
    """
    meta: dict[str, dict[str, Any]] = {f"{role}.json": {"version": number} for role, number in versions.items()}
    for role, digest in hashes.items():
        meta[f"{role}.json"]["hashes"] = dict(digest)
    return _body("snapshot", SNAPSHOT, version, now) | {"meta": meta}


def timestamp_body(snapshot_version: int, snapshot_length: int, version: int, now: datetime) -> dict[str, Any]:
    """The signed part of timestamp. It names no hash of the snapshot: an idle poll stays within 400 bytes."""
    meta = {"snapshot.json": {"length": snapshot_length, "version": snapshot_version}}
    return _body("timestamp", TIMESTAMP, version, now) | {"meta": meta}


def bin_names(prefix: str = BIN_PREFIX, bits: int = BIN_BITS) -> Iterable[str]:
    """Names of all bins, in order."""
    width = len(f"{2**bits - 1:x}")
    return (f"{prefix}-{number:0{width}x}" for number in range(2**bits))


def _body(kind: str, role: str, version: int, now: datetime) -> dict[str, Any]:
    return {
        "_type": kind,
        "expires": time_out(now + life(role, version)),
        "spec_version": _SPEC,
        "version": version,
    }


def _delegation(role: str, key: SSlibKey, paths: list[str], *, terminating: bool) -> dict[str, Any]:
    return {"keyids": [key.keyid], "name": role, "paths": paths, "terminating": terminating, "threshold": 1}
