"""An installation without extras, for processes whose memory is measured.

The tests' environment holds every extra, and the signer library imports each cloud's client that it finds: 50 MiB that
a server has only where somebody asked for that cloud.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HIDDEN: Final = (
    "google.cloud.kms",
    "azure.identity",
    "azure.keyvault",
    "hvac",
    "boto3",
    "botocore",
    "pkcs11",
    "sigstore",
)


def without_extras(folder: Path) -> dict[str, str]:
    """Environment of a process that finds no extras; ``folder`` is for a file that Python reads first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"sys.modules[{name!r}] = None" for name in _HIDDEN]
    (folder / "sitecustomize.py").write_text("\n".join(["import sys", *lines]) + "\n")
    return {"PYTHONPATH": str(folder)}
