"""The roles: who delegates to whom, how long each lives, when it is due, and what its signed part looks like."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import SPECIFICATION_VERSION, Targets

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"
SNAPSHOT: Final = "snapshot"
TARGETS: Final = "targets"
DECISIONS: Final = "decisions"
BRAKES: Final = "brakes"
REVOCATIONS: Final = "revocations"
RELEASES: Final = "releases"

PRODUCT_PREFIX: Final = "product-"  # of the roles that product teams sign themselves
WAVES_PREFIX: Final = "waves-"  # of the roles by which approvers sign the decisions of one product themselves

BIN_BITS: Final = 6  # 64 bins: the least that is worth it
MAX_BIN_BITS: Final = 14  # 16,384 bins: beyond, every client pays for a snapshot of more than half a megabyte

DOCUMENTS: Final = (DECISIONS, BRAKES, REVOCATIONS)  # of one key; what devices act on, and no artifact
REVOCATION_LISTS: Final = "revocations/*/all.json"
# One key signs them and a commit gives them one version, and no signed file says which role it is: without a hash a
# mirror could serve the decisions as the brakes, and a device would see no brake. What is absent must be absent.
PINNED: Final = DOCUMENTS

BIN_PREFIX: Final = "releases"
NEXT_PREFIX: Final = "r"  # with a number; short, since every client fetches the names of all bins
# Re-binning signs everything anew: half a power off costs clients nothing that they would notice, two powers do.
BITS_OFF: Final = 2

# How a repository is laid out, chosen when it is made.
BINS: Final = "bins"  # succinct hash bins: the number of roles follows the number of targets
PATHS: Final = "paths"  # a role per product: for clients that read no succinct roles
WITHDRAWN: Final = "releases-revocations"  # records of what was withdrawn, which the bins hold in the other layout

OFFLINE_LIFE: Final = timedelta(days=365)
TIMESTAMP_LIFE: Final = timedelta(hours=48)
TIMESTAMP_EVERY: Final = timedelta(hours=6)
SNAPSHOT_LIFE: Final = timedelta(days=14)
DOCUMENTS_LIFE: Final = timedelta(days=7)
WAVES_LIFE: Final = timedelta(days=90)
RELEASES_LIFE: Final = timedelta(days=90)
RELEASES_JITTER: Final = 0.1  # bins made in one commit come due spread over six days, not in one burst

_BIN: Final = re.compile(rf"({BIN_PREFIX}[0-9]*|{NEXT_PREFIX}[0-9]+)-[0-9a-f]+")
AHEAD_TOLERANCE: Final = timedelta(minutes=1)

_SPEC: Final = ".".join(SPECIFICATION_VERSION)
_EXPIRES: Final = "%Y-%m-%dT%H:%M:%SZ"


def delegator(role: str) -> str:
    """The role that holds the keys of ``role``."""
    if role in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS):
        return ROOT
    is_below_targets = role in (*DOCUMENTS, RELEASES) or is_product(role) or is_waves(role)
    return TARGETS if is_below_targets else RELEASES


def is_product(role: str) -> bool:
    """Say whether ``role`` is signed by a product team's own keys."""
    return role.startswith(PRODUCT_PREFIX)


def is_waves(role: str) -> bool:
    """Say whether ``role`` holds decisions that approvers sign with their own keys."""
    return role.startswith(WAVES_PREFIX)


def is_offline(role: str) -> bool:
    """Say whether ``role`` is signed by keys that the server does not hold."""
    return role in (ROOT, TARGETS) or is_product(role) or is_waves(role)


class Rule(NamedTuple):
    """Which keys may sign a role, and how many of them must."""

    keyids: tuple[str, ...]
    threshold: int


def rule_of(delegator_body: Mapping[str, Any], role: str) -> Rule | None:
    """The rule for ``role`` in the signed part of its delegator; None when it is not delegated there."""
    if delegator_body["_type"] == ROOT:
        found = delegator_body["roles"].get(role)
    else:
        delegations = delegator_body.get("delegations", {})
        found = delegations.get("succinct_roles")
        if found is None:
            found = next((one for one in delegations.get("roles", []) if one["name"] == role), None)
    return None if found is None else Rule(tuple(found["keyids"]), int(found["threshold"]))


def key_of(role: str) -> str:
    """Name in the keyring of the key that signs ``role``."""
    if role in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS):
        return role
    return DECISIONS if role in DOCUMENTS else RELEASES


def life(role: str, version: int) -> timedelta:
    """How long a version of a role is valid from its signing; the same role and version always give the same span."""
    if is_waves(role):
        return WAVES_LIFE
    if is_offline(role):
        return OFFLINE_LIFE
    if role == TIMESTAMP:
        return TIMESTAMP_LIFE
    if role == SNAPSHOT:
        return SNAPSHOT_LIFE
    if role in DOCUMENTS:
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
    if is_offline(role):
        return False
    if left > life(role, version) + AHEAD_TOLERANCE:
        return True
    if role == TIMESTAMP:
        return left <= TIMESTAMP_LIFE - TIMESTAMP_EVERY
    if role in (SNAPSHOT, *DOCUMENTS):
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
    """The signed part of the first root with one key for each role; ``keys`` by role name."""
    return first_root_body({role: ([key], 1) for role, key in keys.items()}, now)


def first_root_body(holders: Mapping[str, tuple[Sequence[SSlibKey], int]], now: datetime) -> dict[str, Any]:
    """The signed part of the first root; ``holders`` has keys and threshold by role name."""
    return _body("root", ROOT, 1, now) | {
        "consistent_snapshot": True,
        "keys": {key.keyid: key.to_dict() for keys, _ in holders.values() for key in keys},
        "roles": {
            role: {"keyids": [key.keyid for key in keys], "threshold": threshold}
            for role, (keys, threshold) in holders.items()
        },
    }


def targets_body(decisions: SSlibKey, releases: SSlibKey, version: int, now: datetime) -> dict[str, Any]:
    """The signed part of top-level targets: delegations only. Their order is their precedence."""
    return _body("targets", TARGETS, version, now) | {
        "delegations": {
            "keys": {key.keyid: key.to_dict() for key in (decisions, releases)},
            "roles": [
                _delegation(DECISIONS, decisions, ["decisions/*/*"], terminating=True),
                _delegation(BRAKES, decisions, ["brakes/*/*"], terminating=True),
                revocations_delegation([decisions.keyid], 1),
                _delegation(RELEASES, releases, ["*/*/*/*", "revocations/*/*"], terminating=False),
            ],
        },
        "targets": {},
    }


def revocations_delegation(keyids: Sequence[str], threshold: int) -> dict[str, Any]:
    """The delegation of the lists of revoked artifacts. Records of withdrawn ones, beside them, stay in the bins.

    Those grow for ever and no device asks for them; this role is fetched by every device.
    """
    return {
        "keyids": list(keyids),
        "name": REVOCATIONS,
        "paths": [REVOCATION_LISTS],
        "terminating": True,
        "threshold": threshold,
    }


def with_revocations(delegated: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What targets delegates, in order, with the role of revocations behind brakes if it is not among them.

    Repositories made before there was such a role get it with the next targets, whatever that is signed for.
    """
    rules = [dict(one) for one in delegated]
    names = [one["name"] for one in rules]
    if REVOCATIONS not in names:
        brakes = names.index(BRAKES)
        added = revocations_delegation(rules[brakes]["keyids"], rules[brakes]["threshold"])
        rules.insert(brakes + 1, added)
    return rules


def is_revocation_list(path: str) -> bool:
    """Say whether a target path is that of a product's list of revoked artifacts."""
    segments = path.split("/")
    return len(segments) == 3 and segments[0] == REVOCATIONS and segments[2] == "all.json"


def claim(product: str, keyids: Sequence[str], threshold: int) -> dict[str, Any]:
    """The delegation of one product's artifacts to its team. Terminating: nobody else's word counts for its paths."""
    return {
        "keyids": list(keyids),
        "name": f"{PRODUCT_PREFIX}{product}",
        "paths": [f"{product}/*/*/*"],
        "terminating": True,
        "threshold": threshold,
    }


def approvers(product: str, keyids: Sequence[str], threshold: int) -> dict[str, Any]:
    """The delegation of one product's decisions to its approvers. Terminating: the online key's word does not count."""
    return {
        "keyids": list(keyids),
        "name": f"{WAVES_PREFIX}{product}",
        "paths": [f"{DECISIONS}/{product}/*"],
        "terminating": True,
        "threshold": threshold,
    }


def releases_body(
    releases: SSlibKey, version: int, now: datetime, *, prefix: str = BIN_PREFIX, bits: int = BIN_BITS
) -> dict[str, Any]:
    """The signed part of ``releases``: the hash bins and nothing else, so that re-binning needs no ceremony."""
    return _body("targets", RELEASES, version, now) | {
        "delegations": {
            "keys": {releases.keyid: releases.to_dict()},
            "succinct_roles": {
                "bit_length": bits,
                "keyids": [releases.keyid],
                "name_prefix": prefix,
                "threshold": 1,
            },
        },
        "targets": {},
    }


def rebinned_body(body: Mapping[str, Any], version: int, now: datetime, *, prefix: str, bits: int) -> dict[str, Any]:
    """``releases`` with other bins; keys and threshold stay as they are."""
    delegations = body["delegations"]
    bins = dict(delegations["succinct_roles"]) | {"bit_length": bits, "name_prefix": prefix}
    return renewed_body(RELEASES, body, version, now) | {"delegations": dict(delegations) | {"succinct_roles": bins}}


def with_keys(delegations: Mapping[str, Any], rule: Rule, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What ``releases`` delegates, to the same roles, with other keys; ``keys`` by keyid."""
    told = {"keyids": list(rule.keyids), "threshold": rule.threshold}
    after = dict(delegations) | {"keys": {keyid: keys[keyid] for keyid in rule.keyids}}
    if "succinct_roles" in after:
        return after | {"succinct_roles": dict(after["succinct_roles"]) | told}
    return after | {"roles": [dict(one) | told for one in after["roles"]]}


def as_delegator(body: Mapping[str, Any]) -> Targets:
    """A role's signed part in the form that can verify what it delegates to."""
    return Targets.from_dict(copy.deepcopy(dict(body)))


def paths_body(releases: SSlibKey, version: int, now: datetime) -> dict[str, Any]:
    """The signed part of ``releases`` in the layout of paths, with the one role that is not of a product."""
    return _body("targets", RELEASES, version, now) | {
        "delegations": {
            "keys": {releases.keyid: releases.to_dict()},
            "roles": [_delegation(WITHDRAWN, releases, ["revocations/*/*"], terminating=True)],
        },
        "targets": {},
    }


def with_product(body: Mapping[str, Any], product: str) -> dict[str, Any]:
    """``releases`` in the layout of paths, one product more; its role has the keys of those that are there."""
    delegations = body["delegations"]
    (first, *_) = delegations["roles"]
    added = dict(first) | {"name": product_role(product), "paths": [f"{product}/*/*/*"]}
    return dict(body) | {"delegations": dict(delegations) | {"roles": [*delegations["roles"], added]}}


def product_role(first: str) -> str:
    """The role of the layout of paths for target paths that begin with this segment."""
    return f"{RELEASES}-{first}"


def wanted_bits(targets: int) -> int:
    """The power of two of bins next to ``sqrt(5 N)``: there snapshot and bin together are smallest for a client.

    Source: docs/adr/0040-bins-follow-the-number-of-targets.md
    """
    return min(max(round(math.log2(5 * max(targets, 1)) / 2), BIN_BITS), MAX_BIN_BITS)


def next_prefix(prefix: str) -> str:
    """What the names of the next bins begin with: ``r2``, ``r3`` and so on, none ever again.

    Earlier versions wrote ``releases2``, which is followed by ``r3``.
    """
    return f"{NEXT_PREFIX}{int(prefix.removeprefix(BIN_PREFIX).removeprefix(NEXT_PREFIX) or 1) + 1}"


def bin_prefix(role: str) -> str | None:
    """The prefix of a bin's name; None for a name that is no bin's."""
    match = _BIN.fullmatch(role)
    return None if match is None else match[1]


def bin_number(path: str, bits: int) -> int:
    """The bin of a target path: the leading ``bits`` of its SHA-256 (TAP 15)."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") >> (32 - bits)


def holder_body(role: str, targets: Mapping[str, Any], version: int, now: datetime) -> dict[str, Any]:
    """The signed part of a role that holds targets and delegates to nobody."""
    return _body("targets", role, version, now) | {"targets": targets}


def renewed_body(role: str, body: Mapping[str, Any], version: int, now: datetime) -> dict[str, Any]:
    """The same content under a new version and expiry."""
    return dict(body) | {"version": version, "expires": time_out(now + life(role, version))}


def meta_rows(names: Iterable[str], version: int) -> dict[str, Any]:
    """What snapshot says of roles that all have this version."""
    return {f"{name}.json": {"version": version} for name in names}


def pinned(before: Mapping[str, Any], signed: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """Hashes that the snapshot is to name: of the files signed now, else those that the snapshot ``before`` named.

    Args:
        before: ``meta`` of the snapshot before, empty for the first.
        signed: Files by role name.
    """
    # Approvers may hold keys for two products: without a hash one product's decisions could be served as the other's.
    named = [*PINNED, *(name.removesuffix(".json") for name in before if name.startswith(WAVES_PREFIX))]
    hashes = {role: {"sha256": hashlib.sha256(signed[role]).hexdigest()} for role in named if role in signed}
    for role in named:
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
    return snapshot_of_rows(meta, version, now)


def snapshot_of_rows(meta: Mapping[str, Any], version: int, now: datetime) -> dict[str, Any]:
    """The same from rows as :func:`meta_rows` makes them."""
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
