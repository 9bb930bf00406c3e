"""What the demo's devices run to install a release and to see whether it lives.

Called as ``device_hook.py install|health FOLDER`` by the agent, with ``WAVEGATE_FILE`` naming the verified artifact. It
stands for a boot loader and a service: FOLDER holds ``device.json`` (how much memory the device has, in MiB), and
``running.json`` appears there. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import time
from pathlib import Path
from typing import Final

STARTS_WITHIN_SECONDS: Final = 1.0  # how long the service is given to come up before it counts as dead


def install(folder: Path, artifact: Path) -> int:
    """Make the release in ``artifact`` the one that runs: all of it or, when anything goes wrong, nothing."""
    with tarfile.open(artifact) as archive:
        settings = archive.next()
        content = archive.extractfile(settings) if settings is not None else None
        if settings is None or settings.name != "release.json" or content is None:
            print(f"{artifact.name} is no release of this product", file=sys.stderr)
            return 1
        told = content.read()
    # A boot loader would write the image to the other slot and flip a flag; the rename is our flag.
    slot = folder / "running.json.new"
    slot.write_bytes(told)
    slot.replace(folder / "running.json")
    return 0


def health(folder: Path, *, starts_within_seconds: float = STARTS_WITHIN_SECONDS) -> int:
    """Whether what was installed comes up on this device."""
    device = json.loads((folder / "device.json").read_text())
    release = json.loads((folder / "running.json").read_text())
    if release["needs_memory_mib"] <= device["memory_mib"]:
        return 0
    time.sleep(starts_within_seconds)
    print(
        f"{release['product']} {release['version']} did not start: it wants {release['needs_memory_mib']} MiB, "
        f"this device has {device['memory_mib']}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    verb, place = sys.argv[1], Path(sys.argv[2])
    sys.exit(install(place, Path(os.environ["WAVEGATE_FILE"])) if verb == "install" else health(place))
