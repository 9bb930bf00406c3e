"""What stock clients will say of a commit, asked before a byte of it is written.

The rules are python-tuf's own (``TrustedMetadataSet``, the version is pinned by the lock file), walked in the order in
which its ``Updater`` walks them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType, UpdaterConfig

from repo_signing import roles
from repo_signing.canonical import canonical_bytes, encode
from repo_signing.errors import ClientWouldRefuse
from repo_signing.view import View

# Refuse early: the last fifth of a limit is for the releases made while somebody re-bins.
SHARE_OF_LIMIT: Final = 0.8

_SIGNATURES: Final = b'{"signatures":['  # how every file of ours begins
_SIGNED: Final = b'],"signed":'

_STOCK: Final = UpdaterConfig()
_LIMITS: Final = {
    roles.ROOT: _STOCK.root_max_length,
    roles.TIMESTAMP: _STOCK.timestamp_max_length,
    roles.SNAPSHOT: _STOCK.snapshot_max_length,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a client would be served: files by role.

    ``delegated`` is in an order in which every delegator comes before what it delegates to; ``targets`` is not in it.
    """

    root: bytes
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    delegated: Mapping[str, bytes]
    # By ``id`` of the files above: the signed parts that they were encoded from, so that none is parsed to be checked.
    known: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def check_acceptable(offer: Offer, before: tuple[bytes, bytes] | None, now: datetime) -> None:
    """Walk a new client and, given the ``(timestamp, snapshot)`` it holds, an old one through the offer at ``now``.

    Raises:
        ClientWouldRefuse: One of them would not accept it, or a file is longer than 80 % of what stock clients read.
    """
    files = {roles.TIMESTAMP: offer.timestamp, roles.SNAPSHOT: offer.snapshot, roles.TARGETS: offer.targets}
    for role, content in (files | dict(offer.delegated)).items():
        _check_length(role, content)
    try:
        reader = Reader(offer.known)
        client = _top_level(offer, None, now, reader)
        for role, content in offer.delegated.items():
            client.update_delegated_targets(content, role, roles.delegator(role))
        # Past the snapshot an old client runs the same code on the same bytes: once is enough.
        if before is not None:
            _top_level(offer, before, now, reader)
    except (TufError, ValueError, KeyError, TypeError) as error:
        raise ClientWouldRefuse(
            f"a stock client would refuse the result ({error}); nothing was written. "
            "Check the clock, the expiry of root and targets (`publish repo status`) and the keyring"
        ) from error


def check_succeeds(before: bytes, after: bytes) -> None:
    """Raise ClientWouldRefuse unless a client that trusts the root ``before`` takes ``after`` in its place."""
    if len(after) > _STOCK.root_max_length * SHARE_OF_LIMIT:
        raise ClientWouldRefuse(f"root would have {len(after)} bytes, more than is signed; remove keys")
    try:
        TrustedMetadataSet(before, EnvelopeType.METADATA).update_root(after)
    except (TufError, ValueError, KeyError, TypeError) as error:
        raise ClientWouldRefuse(f"a stock client would refuse the new root ({error}); nothing was written") from error


def check_bin(name: str, body: Mapping[str, Any], content: bytes, delegator: Targets) -> None:
    """Ask of a bin by itself what :func:`check_acceptable` asks of all that changed.

    For commits of so many bins that they are not held in memory together. Raises ClientWouldRefuse.
    """
    _check_length(name, content)
    try:
        Reader({id(content): body})(Targets, content, delegator, name)
    except (TufError, ValueError, KeyError, TypeError) as error:
        raise ClientWouldRefuse(f"a stock client would refuse {name} ({error}); nothing becomes visible") from error


def _check_length(role: str, content: bytes) -> None:
    limit = int(_LIMITS.get(role, _STOCK.targets_max_length) * SHARE_OF_LIMIT)
    if len(content) > limit:
        raise ClientWouldRefuse(
            f"{role} would have {len(content)} bytes, at most {limit} are signed "
            f"({SHARE_OF_LIMIT:.0%} of what stock clients read); more bins are needed: `publish repo rebin`"
        )


class Reader:
    """Loads files as python-tuf does, with our encoder for the canonical form in place of its own.

    The two are held equal by a property test; python-tuf's, run twice per file, was half of the cost of a commit. Of
    files that were encoded here the signed part is at hand: it is looked at instead of being parsed from them.

    Args:
        known: By ``id`` of the file its signed part; the files live as long as the reader is used.
    """

    def __init__(self, known: Mapping[int, Mapping[str, Any]]) -> None:
        self._known: Final = known
        self._rows: Final[dict[int, MetaFile]] = {}  # rows of a snapshot are alike: one object for each version

    def __call__(
        self, kind: type[T], content: bytes, delegator: Root | Targets | None = None, role: str | None = None
    ) -> tuple[T, bytes, dict[str, Signature]]:
        """What ``TrustedMetadataSet`` calls for every file; raises what python-tuf's own does."""
        body = self._known.get(id(content))
        head, mark, rest = content.partition(_SIGNED) if body is not None else (b"", b"", b"")
        if body is not None and mark and content.startswith(_SIGNATURES):
            signed = self._signed(body)
            payload = canonical_bytes(rest[:-1])
            signatures = {one["keyid"]: Signature.from_dict(one) for one in orjson.loads(head + b"]}")["signatures"]}
        else:
            metadata = Metadata[T].from_dict(orjson.loads(content))
            signed, signatures = metadata.signed, metadata.signatures
            payload = encode(signed.to_dict())
        if signed.type != kind.type:
            raise TufError(f"expected {kind.type}, got {signed.type}")
        if delegator is not None:
            delegator.verify_delegate(kind.type if role is None else role, payload, signatures)
        return signed, payload, signatures

    def _signed(self, body: Mapping[str, Any]) -> Any:
        if body["_type"] == Targets.type:
            check_entries(body["targets"])
            # What was checked needs no objects; the rest is small, and from_dict takes apart what it is given.
            return Targets.from_dict(copy.deepcopy(dict(body) | {"targets": {}}))
        if body["_type"] == Snapshot.type:
            signed = Snapshot.from_dict(dict(body) | {"meta": {"targets.json": dict(body["meta"]["targets.json"])}})
            signed.meta = {name: self._row(row) for name, row in body["meta"].items()}
            return signed
        return Metadata.from_dict({"signatures": [], "signed": copy.deepcopy(dict(body))}).signed

    def _row(self, row: Mapping[str, Any]) -> MetaFile:
        version = row["version"]
        if len(row) != 1:
            return MetaFile.from_dict(dict(row))
        found = self._rows.get(version)
        if found is None:
            found = self._rows[version] = MetaFile.from_dict(dict(row))
        return found


def check_entries(targets: Mapping[str, Any]) -> None:
    """Refuse target entries that python-tuf's ``TargetFile`` refuses, without making a million of them.

    Raises:
        ValueError, TypeError, KeyError: As from there.
    """
    for path, entry in targets.items():
        length, hashes = entry["length"], entry["hashes"]
        if type(path) is not str or type(length) is not int or length < 0 or not hashes:
            raise ValueError(f"the entry of {path!r} has no length or no hashes")
        for name, digest in hashes.items():
            if type(name) is not str or type(digest) is not str:
                raise TypeError(f"the hashes of {path!r} are no texts")


def _top_level(offer: Offer, before: Sequence[bytes] | None, now: datetime, reader: Reader) -> TrustedMetadataSet:
    client = TrustedMetadataSet(offer.root, EnvelopeType.METADATA)
    client.reference_time = now
    client._load_data = reader  # type: ignore[assignment]  # the attribute is generic in a way that cannot be written
    if before is not None:
        # An expired or outdated local file is no error: it is kept to compare the new one with.
        with suppress(TufError):
            client.update_timestamp(before[0])
    client.update_timestamp(offer.timestamp)
    if before is not None:
        with suppress(TufError):
            client.update_snapshot(before[1], trusted=True)
    client.update_snapshot(offer.snapshot)
    client.update_targets(offer.targets)
    return client


def with_delegators(
    view: View, delegated: Mapping[str, bytes], targets: Mapping[str, Any] | None, now: datetime
) -> dict[str, bytes]:
    """The changed roles after those that delegate to them; with a new targets all unexpired ones that it names, too."""
    names: set[str] = set()
    if targets is not None:
        below = [one["name"] for one in targets["delegations"]["roles"] if one["name"] in view.standing()]
        names = {one for one in below if view.role(one).expires > now}
    elif any(roles.delegator(one) == roles.RELEASES for one in delegated):
        names = {roles.RELEASES}
    first = {name: view.raw(name) for name in sorted(names) if name not in delegated}
    return first | {
        name: delegated[name]
        for name in sorted(delegated, key=lambda one: (roles.delegator(one) == roles.RELEASES, one))
    }
