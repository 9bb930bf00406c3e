"""A mirror made by `publish repo sync`, read without a network: what a stock client is given in place of a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from cli.errors import UsageFault, VerificationFailed
from repo_signing.errors import RepositoryDamaged
from repo_signing.sheets import joined, named_sheet, sheet_name

BASE: Final = "folder:///"
_CHUNK: Final = 128 * 1024


class MirrorFolder(FetcherInterface):
    """Answers a stock client from ``metadata/`` and ``targets/`` below a folder; raises UsageFault without them."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._metadata: Final = folder / "metadata"
        if not (self._metadata / "timestamp.json").is_file():
            raise UsageFault(
                f"{folder} is no mirror: it has no metadata/timestamp.json", hint="`publish repo sync` makes one"
            )

    def place(self) -> dict[str, str]:
        """The URLs that this fetcher answers."""
        return {"metadata_url": f"{BASE}metadata/", "targets_url": f"{BASE}targets/"}

    def root_bytes(self, sha256: str) -> bytes:
        """The root with this digest; raises VerificationFailed."""
        for path in sorted(self._metadata.glob("*.root.json")):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
        raise VerificationFailed(f"{self._folder} has no root with sha256 {sha256}")

    def paths_of(self, *, artifact_id: str | None = None, sha256: str | None = None) -> list[str]:
        """Target paths of artifacts with this id or digest. A look-up only: nothing of it is verified yet."""
        found = []
        for path, entry in self._entries():
            custom = entry.get("custom")
            if not isinstance(custom, dict) or custom.get("kind") != "artifact":
                continue
            digest = entry.get("hashes", {}).get("sha256")
            if (artifact_id is not None and custom.get("id") == artifact_id) or (
                sha256 is not None and digest == sha256
            ):
                found.append(path)
        return sorted(found)

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            snapshot = self._signed("timestamp.json")["meta"]["snapshot.json"]["version"]
            for name, row in self._signed(f"{int(snapshot)}.snapshot.json")["meta"].items():
                if not (self._metadata / f"{int(row['version'])}.{Path(name).name}").is_file():
                    continue  # of bins before a re-binning only the names are left, and a mirror need not have them
                signed = self._signed(f"{int(row['version'])}.{Path(name).name}")
                if named_sheet(signed) is not None:
                    role = Path(name).name.removesuffix(".json")
                    signed = joined(signed, (self._metadata / sheet_name(int(row["version"]), role)).read_bytes())
                yield from signed.get("targets", {}).items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RepositoryDamaged) as error:
            raise VerificationFailed(f"{self._folder} cannot be read as a mirror: {error!r}") from error

    def _signed(self, name: str) -> dict[str, Any]:
        signed: dict[str, Any] = json.loads((self._metadata / name).read_bytes())["signed"]
        return signed

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = unquote(url.removeprefix(BASE))
        path = self._folder / name
        # Names of roles and targets are signed by then, and still no reason to leave the folder.
        if ".." in name.split("/") or not path.is_file():
            raise DownloadHTTPError(f"{name} is not in {self._folder}", 404)
        return _chunks(path)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
