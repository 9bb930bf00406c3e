"""tuf-js, a second implementation in another language, reads what we publish, and refuses what was tampered with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.demo.product import Product
from tests.acceptance.tuf_js.reader import fetch

ARTIFACT_BYTES = b"firmware, version one\n" * 1000
SBOM = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [{"type": "library", "name": "zlib", "version": "1.3.1", "purl": "pkg:generic/zlib@1.3.1"}],
}


@dataclass(frozen=True)
class Published:
    product: Product
    artifact: str
    sbom: str
    sbom_bytes: bytes

    def fetch(self, folder: Path, *paths: str) -> dict[str, Any]:
        metadata, targets = self.product.metadata_url, self.product.targets_url
        return fetch(self.product.root, list(paths), folder=folder, metadata_url=metadata, targets_url=targets)

    def metadata(self, role: str) -> Path:
        """The newest file of a role on the server's disk."""
        folder = self.product.home / "orgs" / self.product.org / "repository" / "metadata"
        if role == "timestamp":
            return folder / "timestamp.json"
        return max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0]))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("product")
    artifact, sbom = folder / "firmware.bin", folder / "firmware.cdx.json"
    artifact.write_bytes(ARTIFACT_BYTES)
    sbom.write_text(json.dumps(SBOM))
    with Product(folder) as product:
        product.start()
        pushed = product.publish(
            *("push", str(artifact), "--product", "lamp", "--version", "1.0.0", "--sbom", str(sbom)), person=None
        )
        yield Published(product, pushed["target_path"], pushed["sboms"][0]["target_path"], sbom.read_bytes())


def test_tuf_js_fetches_and_verifies_artifact_and_sbom_given_only_the_root(
    published: Published, tmp_path: Path
) -> None:
    told = published.fetch(tmp_path / "client", published.artifact, published.sbom, "lamp/9.9.9/any/firmware.bin")
    assert published.artifact == "lamp/1.0.0/any/firmware.bin"
    got = told["targets"]
    assert Path(got[published.artifact]["file"]).read_bytes() == ARTIFACT_BYTES
    assert Path(got[published.sbom]["file"]).read_bytes() == published.sbom_bytes
    assert got["lamp/9.9.9/any/firmware.bin"] is None


def test_tuf_js_with_a_cache_follows_to_the_next_state(published: Published, tmp_path: Path) -> None:
    before = published.fetch(tmp_path / "client", published.artifact)["timestamp"]
    newer = tmp_path / "newer.bin"
    newer.write_bytes(b"firmware, version two\n")
    published.product.publish("push", str(newer), "--product", "lamp", "--version", "2.0.0", person=None)
    after = published.fetch(tmp_path / "client", "lamp/2.0.0/any/newer.bin", published.artifact)
    assert after["timestamp"] > before
    assert after["targets"]["lamp/2.0.0/any/newer.bin"]["length"] == 22
    assert after["targets"][published.artifact]["length"] == 22_000


def test_tuf_js_refuses_metadata_that_was_changed_after_signing(published: Published, tmp_path: Path) -> None:
    snapshot = published.metadata("snapshot")
    text = snapshot.read_text()
    changed = text.replace('"expires":"20', '"expires":"30', 1)
    assert changed != text
    snapshot.chmod(0o644)
    snapshot.write_text(changed)
    told = published.fetch(tmp_path / "client", published.artifact)
    snapshot.write_text(text)
    assert told["message"].endswith("snapshot was signed by 0/1 keys")


def test_tuf_js_refuses_an_artifact_whose_bytes_were_exchanged(published: Published, tmp_path: Path) -> None:
    blobs = published.product.home / "orgs" / published.product.org / "repository" / "blobs"
    (blob,) = [path for path in blobs.rglob("*") if path.is_file() and path.read_bytes() == ARTIFACT_BYTES]
    blob.chmod(0o644)
    blob.write_bytes(ARTIFACT_BYTES[:-1] + b"!")
    told = published.fetch(tmp_path / "client", published.artifact)
    blob.write_bytes(ARTIFACT_BYTES)
    assert told["refused"] == "LengthOrHashMismatchError"


def test_tuf_js_reads_a_repository_laid_out_by_paths_and_one_whose_bins_were_changed(tmp_path: Path) -> None:
    for layout in ("paths", "bins"):
        folder = tmp_path / layout
        folder.mkdir()
        file = folder / "firmware.bin"
        file.write_bytes(ARTIFACT_BYTES)
        with Product(folder, layout=layout) as product:
            product.start()
            push = ("push", str(file), "--version", "1.0.0", "--product")
            for name in ("lamp", "pump"):
                product.publish(*push, name, person=None)
            published = Published(product, "lamp/1.0.0/any/firmware.bin", "", b"")
            paths = (published.artifact, "pump/1.0.0/any/firmware.bin", "nobody/1.0.0/any/firmware.bin")
            if layout == "bins":
                published.fetch(folder / "client", *paths)
                product.publish("repo", "rebin", "--bits", "8", person=None)
            for client in ("client", "new-client"):
                got = published.fetch(folder / client, *paths)["targets"]
                assert [None if one is None else one["length"] for one in got.values()] == [22_000, 22_000, None]
            told = product.publish("artifact", "verify", published.artifact, "--root", str(product.root))
            assert told["verified"][0]["length"] == 22_000


def test_tuf_js_with_a_cache_follows_rotated_keys_and_a_claimed_product(published: Published, tmp_path: Path) -> None:
    product = published.product
    published.fetch(tmp_path / "client", published.artifact)
    offline = product.home / "orgs" / product.org / "offline-keys"

    def publish(*words: str) -> Any:
        return product.publish(*words, person=None)

    for draft in publish("repo", "rotate", "timestamp", "snapshot", "releases")["items"]:
        role = draft["parts"][0]["role"]
        assert publish("repo", "sign", draft["id"], "--key", str(offline / f"{role}.pem"))["serial"] is not None
    assert published.fetch(tmp_path / "client", published.artifact)["targets"][published.artifact]["length"] == 22_000

    team = publish("repo", "key", "new", "--out", str(tmp_path / "team"))
    claim = publish("product", "claim", "lamp", "--key", team["public"])
    publish("repo", "sign", claim["id"], "--key", team["uri"], "--key", str(offline / "targets.pem"))
    newer = tmp_path / "newer.bin"
    newer.write_bytes(b"firmware, version two\n")
    publish("push", str(newer), "--product", "lamp", "--version", "3.0.0", "--key", team["uri"])
    for folder in ("client", "another"):
        got = published.fetch(tmp_path / folder, "lamp/3.0.0/any/newer.bin", published.artifact)["targets"]
        assert got["lamp/3.0.0/any/newer.bin"]["length"] == 22
        assert got[published.artifact]["length"] == 22_000
