"""The agent under tuf-conformance's client protocol, before a repository that a test bends as it likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from tests.conformance.client import main
from tests.conformance.simulator import Bent
from tests.simulators.lying_mirror import LyingMirror
from tests.simulators.tuf_clients import clock_ahead


class Bench:
    """A repository, the mirror that serves it, and the client's two folders."""

    def __init__(self, folder: Path, repository: Bent, mirror: LyingMirror) -> None:
        self.repository, self.mirror, self.folder = repository, mirror, folder
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()

    def arguments(self, *rest: str) -> list[str]:
        return ["--metadata-dir", str(self.metadata), "--metadata-url", self.mirror.metadata_url, *rest]

    def init(self, root: bytes | None = None) -> int:
        trusted = self.folder / "initial_root.json"
        trusted.write_bytes(self.repository.trusted_root if root is None else root)
        return main(["--metadata-dir", str(self.metadata), "init", str(trusted)])

    def refresh(self, ahead: timedelta = timedelta(0)) -> int:
        with clock_ahead(ahead):
            return main(self.arguments("refresh"))

    def download(self, *names: str) -> int:
        flags = [flag for name in names for flag in ("--target-name", name)]
        where = ["--target-dir", str(self.targets), "--target-base-url", self.mirror.targets_url]
        return main(self.arguments(*flags, *where, "download"))

    def trusted(self) -> dict[str, int]:
        files = sorted(self.metadata.glob("*.json"))
        return {path.name.removesuffix(".json"): Metadata.from_file(str(path)).signed.version for path in files}

    def downloaded(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.targets.iterdir())

    def asked(self) -> list[str]:
        return [path.removeprefix("metadata/") for path in self.mirror.requests if path.startswith("metadata/")]


def edited(content: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """A JSON file, changed."""
    document = json.loads(content)
    edit(document)
    return json.dumps(document).encode()
