"""What stock clients will say of a commit, asked before a byte of it is written.

The rules are python-tuf's own (``TrustedMetadataSet``, the version is pinned by the lock file), walked in the order in
which its ``Updater`` walks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, T, Targets
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType, UpdaterConfig

from repo_signing import roles
from repo_signing.canonical import encode
from repo_signing.errors import ClientWouldRefuse

# Refuse early: the last fifth of a limit is for the releases made while somebody re-bins.
SHARE_OF_LIMIT: Final = 0.8

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


def check_acceptable(offer: Offer, before: tuple[bytes, bytes] | None, now: datetime) -> None:
    """Walk a new client and, given the ``(timestamp, snapshot)`` it holds, an old one through the offer at ``now``.

    Raises:
        ClientWouldRefuse: One of them would not accept it, or a file is longer than 80 % of what stock clients read.
    """
    files = {roles.TIMESTAMP: offer.timestamp, roles.SNAPSHOT: offer.snapshot, roles.TARGETS: offer.targets}
    for role, content in (files | dict(offer.delegated)).items():
        limit = int(_LIMITS.get(role, _STOCK.targets_max_length) * SHARE_OF_LIMIT)
        if len(content) > limit:
            raise ClientWouldRefuse(
                f"{role} would have {len(content)} bytes, at most {limit} are signed "
                f"({SHARE_OF_LIMIT:.0%} of what stock clients read); more bins are needed"
            )
    try:
        client = _top_level(offer, None, now)
        for role, content in offer.delegated.items():
            client.update_delegated_targets(content, role, roles.delegator(role))
        # Past the snapshot an old client runs the same code on the same bytes: once is enough.
        if before is not None:
            _top_level(offer, before, now)
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


def _load(
    kind: type[T], content: bytes, delegator: Root | Targets | None = None, role: str | None = None
) -> tuple[T, bytes, dict[str, Signature]]:
    """What python-tuf does to load a file, with our encoder for the canonical form in place of its own.

    The two are held equal by a property test; python-tuf's, run twice per file, was half of the cost of a commit.
    """
    metadata = Metadata[T].from_dict(orjson.loads(content))
    if metadata.signed.type != kind.type:
        raise TufError(f"expected {kind.type}, got {metadata.signed.type}")
    payload = encode(metadata.signed.to_dict())
    if delegator is not None:
        delegator.verify_delegate(kind.type if role is None else role, payload, metadata.signatures)
    return metadata.signed, payload, metadata.signatures


def _top_level(offer: Offer, before: Sequence[bytes] | None, now: datetime) -> TrustedMetadataSet:
    client = TrustedMetadataSet(offer.root, EnvelopeType.METADATA)
    client.reference_time = now
    client._load_data = _load  # type: ignore[assignment]  # the attribute is generic in a way that cannot be written
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
