"""The bootstrap bundle: what an installer carries to a client, so that nothing is trusted on first use."""

from __future__ import annotations

import hashlib
import json
from typing import Final

_GROUP: Final = 4  # digits; people compare groups, not lines


def bundle_files(org: str, root: bytes, version: int, metadata_url: str, targets_url: str) -> dict[str, str]:
    """The files by name: ``root.json`` (exact bytes), ``map.json`` (TAP 4) and ``fingerprint.txt`` for people.

    Every target path is looked up in this one repository; a client of several adds its other repositories to the map.
    """
    mapping = {
        "repositories": {org: [metadata_url.removesuffix("/metadata")]},
        "mapping": [{"paths": ["*"], "repositories": [org], "threshold": 1, "terminating": True}],
    }
    sha256 = hashlib.sha256(root).hexdigest()
    groups = " ".join(sha256[start : start + _GROUP] for start in range(0, len(sha256), _GROUP))
    text = (
        f"Wavegate repository of {org}\n"
        f"root version  {version}\n"
        f"root sha256   {sha256}\n"
        f"to read aloud {groups}\n"
        f"metadata      {metadata_url}\n"
        f"targets       {targets_url}\n"
        "\n"
        "Compare the sha256 with what you were told by another way before you trust root.json: sha256sum root.json\n"
    )
    return {"root.json": root.decode(), "map.json": json.dumps(mapping, indent=2) + "\n", "fingerprint.txt": text}
