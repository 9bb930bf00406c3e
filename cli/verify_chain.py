"""The chain of signatures from the root to an artifact, told from the metadata that a stock client has accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp


def chain_to(path: str, folder: Path) -> list[dict[str, Any]]:
    """Every role that vouches for the target, beginning with root.

    Args:
        path: A target path that the client has found.
        folder: The client's metadata; every file in it was verified when it was written.

    Returns:
        Of each role ``role``, ``version``, ``expires``, ``delegated_by`` (None for root), ``threshold`` and
        ``signed_by``: the ids of the keys whose signatures hold.
    """
    root = Metadata[Root].from_file(str(folder / "root.json"))
    links = [_link("root", root, root.signed, None)]
    timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json"))
    links.append(_link("timestamp", timestamp, root.signed, "root"))
    snapshot = Metadata[Snapshot].from_file(str(folder / "snapshot.json"))
    links.append(_link("snapshot", snapshot, root.signed, "root"))
    targets = Metadata[Targets].from_file(str(folder / "targets.json"))
    return [*links, _link("targets", targets, root.signed, "root"), *_below(path, folder, "targets", targets.signed)]


def _below(path: str, folder: Path, name: str, role: Targets) -> list[dict[str, Any]]:
    """The links from ``role`` to the one that holds the target; empty when it holds it itself."""
    if path in role.targets or role.delegations is None:
        return []
    for child, is_terminating in role.delegations.get_roles_for_target(path):
        file = folder / f"{quote(child, '')}.json"
        if not file.is_file():  # the client had found it before it came to this one
            continue
        metadata = Metadata[Targets].from_file(str(file))
        links = _below(path, folder, child, metadata.signed)
        if links or path in metadata.signed.targets:
            return [_link(child, metadata, role, name), *links]
        if is_terminating:
            break
    return []


def _link(name: str, metadata: Metadata[Any], delegator: Root | Targets, delegated_by: str | None) -> dict[str, Any]:
    result = delegator.get_verification_result(name, metadata.signed_bytes, metadata.signatures)
    return {
        "role": name,
        "version": metadata.signed.version,
        "expires": metadata.signed.expires.isoformat().replace("+00:00", "Z"),
        "delegated_by": delegated_by,
        "threshold": result.threshold,
        "signed_by": sorted(result.signed),
    }
