"""Ceremony, rotation and a claimed product with the installed commands; no offline key is ever on the server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from tests.acceptance.conftest import BIN, Home
from tests.acceptance.test_attestations import attest
from tests.acceptance.test_publishing import client


def person(folder: Path, name: str) -> dict[str, str]:
    """A key made on somebody's own machine: no server, no home."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WAVEGATE_")}
    made = subprocess.run(
        [BIN / "publish", "repo", "key", "new", "--out", folder / name, "--name", name, "-o", "json"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told: dict[str, str] = json.loads(made.stdout)
    return told


def test_production_from_the_ceremony_to_a_product_signed_by_its_team(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    ann, bob, cem = (person(tmp_path, name) for name in ("ann", "bob", "cem"))
    root_keys = [word for one in (ann, bob, cem) for word in ("--root-key", one["public"])]
    home = make_home("--production", *root_keys)
    draft = home.made["draft"]
    assert home.made["root_sha256"] is None
    assert [path for path in home.folder.rglob("*.pem") if path.stem in ("root", "targets")] == []
    refused = home.publish("serve", check=False)
    assert refused.returncode == 1
    assert "not signed yet" in refused.stderr

    # Ann signs in the home, Bob without a network from a file.
    first = home.publish("repo", "sign", draft, "--home", home.folder, "--key", ann["uri"])
    assert first["serial"] is None
    again = home.publish("repo", "sign", draft, "--home", home.folder, "--key", ann["uri"])
    assert again["serial"] is None, "the same key counts once"
    exported, signed = tmp_path / "draft.json", tmp_path / "bob.json"
    home.publish("repo", "draft", "export", draft, "--home", home.folder, "--out", exported)
    home.publish("repo", "sign", "--offline-file", exported, "--key", bob["uri"], "--out", signed)
    last = home.publish("repo", "draft", "upload", signed, "--home", home.folder)
    assert last["serial"] == 1
    assert home.publish("repo", "draft", "list", "--home", home.folder)["items"] == []

    home.serve()
    artifact = tmp_path / "fw.bin"
    artifact.write_bytes(b"firmware")
    home.publish("push", artifact, "--product", "pump", "--version", "1.0")
    stock = tmp_path / "stock"
    assert client(home, stock).get_targetinfo("pump/1.0/any/fw.bin") is not None

    # A rotation: drafted by the server, signed by two of the three, followed by the client that was there before.
    [rotation] = home.publish("repo", "rotate", "timestamp", "snapshot")["items"]
    assert "! timestamp" not in " ".join(rotation["parts"][0]["difference"])
    assert home.publish("repo", "sign", rotation["id"], "--key", cem["uri"])["serial"] is None
    assert home.publish("repo", "sign", rotation["id"], "--key", bob["uri"])["serial"] is not None
    client(home, stock).refresh()
    assert home.publish("repo", "status")["root_version"] == 2
    assert home.publish("repo", "rotate", "--finish", check=False).returncode == 5, "the overlap is not over"

    # The pump team claims its product.
    dan, eve = person(tmp_path, "dan"), person(tmp_path, "eve")
    claim = home.publish("product", "claim", "pump", "--key", dan["public"], "--key", eve["public"])
    for one in (ann, bob):
        home.publish("repo", "sign", claim["id"], "--key", one["uri"])
    done = home.publish("repo", "sign", claim["id"], "--key", eve["uri"])
    assert done["serial"] is not None
    artifact.write_bytes(b"firmware two")
    unsigned = home.publish("push", artifact, "--product", "pump", "--version", "2.0", check=False)
    assert unsigned.returncode == 5
    assert "pump is claimed" in unsigned.stderr
    signed = attest(artifact, CryptoSigner.generate_ed25519())
    told = ("--product", "pump", "--version", "2.0", "--attest", signed)
    stranger = home.publish("push", artifact, *told, "--key", ann["uri"], check=False)
    assert stranger.returncode == 2
    pushed: Any = home.publish("push", artifact, *told, "--key", dan["uri"])
    assert [one["state"] for one in pushed["attestations"]] == ["unverified"]
    assert pushed["target_path"] == "pump/2.0/any/fw.bin"
    assert [one["version"] for one in home.publish("artifact", "list", "--product", "pump")["items"]] == ["2.0", "1.0"]
    for version in ("1.0", "2.0"):
        assert client(home, stock).get_targetinfo(f"pump/{version}/any/fw.bin") is not None
    waits = home.publish("artifact", "yank", "pump/1.0/any/fw.bin", "--reason", "bad", check=False)
    assert waits.returncode == 7
    status: Any = home.publish("repo", "status")
    assert [one["title"] for one in status["drafts"]] == ["yank pump/1.0/any/fw.bin"]
    gone = home.publish("artifact", "yank", "pump/1.0/any/fw.bin", "--reason", "bad", "--key", dan["uri"])
    assert gone["yanked"]["reason"] == "bad"
    attached = home.publish("attestation", "attach", pushed["id"], attest(artifact, CryptoSigner.generate_ed25519()),
                            "--key", eve["uri"])  # fmt: skip
    assert attached["target_path"] == "pump/2.0/any/fw.bin.att.1.dsse"
    gone = home.publish("artifact", "revoke", "pump/1.0/any/fw.bin", "--reason", "worse", "--key", dan["uri"])
    assert gone["withdrawn"]["revoked"] is True
    assert client(home, stock).get_targetinfo("pump/1.0/any/fw.bin") is None
    home.publish("push", artifact, "--product", "valve", "--version", "1.0")
    assert client(home, tmp_path / "new").get_targetinfo("valve/1.0/any/fw.bin") is not None
    assert home.publish("repo", "check")["ok"] is True
