"""Records beside their bin: what only the server and auditors read is not fetched by every device.

Bins made by a re-binning, so those of a repository with thousands of targets, hold of each target its length and hash.
The ``custom`` fields stand in one file for each bin, the *sheet* ``<version>.<bin>.records.json``: an object of target
path to ``custom``. The bin's signed part names length and SHA-256 of its sheet, so the records are as signed as before.
What a device acts on, ``yanked``, stays in the bin. In memory a role always has its whole ``custom`` fields.

Source: docs/adr/0066-records-beside-their-bin.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from repo_signing import roles
from repo_signing.canonical import encode
from repo_signing.errors import RepositoryDamaged

FIELD: Final = "x-wavegate-records"
_ACTED_ON: Final = "yanked"  # the one part of a record that devices read


def has_sheet(role: str) -> bool:
    """Say whether a role signed now has its records beside it: every bin but the first 64 of a repository."""
    return roles.bin_prefix(role) not in (None, roles.BIN_PREFIX)


def sheet_name(version: int, role: str) -> str:
    """The file beside ``<version>.<role>.json``."""
    return f"{version}.{role}.records.json"


def divided(role: str, body: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes | None]:
    """What is signed of a role, and its sheet; the whole and None for a role that has none."""
    if not has_sheet(role):
        return body, None
    records: dict[str, Any] = {}
    targets: dict[str, Any] = {}
    for path, entry in body["targets"].items():
        targets[path] = slim = {"hashes": entry["hashes"], "length": entry["length"]}
        custom = entry.get("custom")
        if custom is not None:
            records[path] = custom
            if custom.get(_ACTED_ON) is not None:
                slim["custom"] = {_ACTED_ON: custom[_ACTED_ON]}
    sheet = encode(records)
    named = {"length": len(sheet), "sha256": hashlib.sha256(sheet).hexdigest()}
    return dict(body) | {"targets": targets, FIELD: named}, sheet


def named_sheet(body: Mapping[str, Any]) -> tuple[int, str] | None:
    """Length and SHA-256 of the sheet that a signed part names; None for one that holds its records itself.

    Raises RepositoryDamaged when what is named is garbled.
    """
    named = body.get(FIELD)
    if named is None:
        return None
    try:
        return int(named["length"]), str(named["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise RepositoryDamaged(f"the field {FIELD} is garbled: {error!r}") from error


def joined(body: dict[str, Any], sheet: bytes) -> dict[str, Any]:
    """The role as it was before :func:`divided`: ``body`` itself, which must be the caller's own, completed.

    Raises RepositoryDamaged when the sheet is not the one it names.
    """
    length, sha256 = named_sheet(body) or (0, "")
    found = hashlib.sha256(sheet).hexdigest()
    if found != sha256:
        raise RepositoryDamaged(
            f"the records have {len(sheet)} bytes and sha256 {found}, signed are {length} and {sha256}; "
            "restore the file from a backup or mirror"
        )
    # In place: a bin is read for every publish, and some hundred new objects each time are what costs.
    targets = body["targets"]
    for path, custom in orjson.loads(sheet).items():
        targets[path]["custom"] = custom
    del body[FIELD]
    return body
