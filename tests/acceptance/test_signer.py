"""The online keys in a process of their own, with the installed commands."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import BIN, START_SECONDS, Home
from tests.acceptance.test_publishing import client


@pytest.fixture
def short() -> Iterator[Path]:
    # Not below pytest's folders: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="wg-signer-") as folder:
        yield Path(folder)


def test_a_server_publishes_through_the_signer_and_holds_no_key(make_home: Callable[..., Home], short: Path) -> None:
    home = make_home("--layout", "paths")
    there = ("--home", short / "signer", "--socket", short / "run" / "s")
    told = home.publish("signer", "hand-over", *there)
    assert told["keys"] == ["decisions", "releases", "snapshot", "timestamp"]
    assert home.publish("signer", "hand-over", *there)["keys"] == []
    keys = home.folder / "orgs" / home.made["org"] / "keys"
    assert list(keys.rglob("*.pem")) == []
    assert list((short / "signer").rglob("root*")) == []
    refused = home.publish("signer", "serve", "--home", short / "signer", "--socket", "s", check=False)
    assert refused.returncode == 2
    assert "give an absolute path" in refused.stderr

    command: list[str | Path] = [BIN / "publish", "signer", "serve", *there]
    with subprocess.Popen(command, env=home.environ, stderr=subprocess.PIPE, text=True) as signer:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (short / "run" / "s").is_socket():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            home.serve()
            artifact = short / "fw.bin"
            for version in ("1.0", "2.0"):
                artifact.write_bytes(f"firmware {version}".encode())
                home.publish("push", artifact, "--product", "pump", "--version", version)
            assert client(home, short / "stock").get_targetinfo("pump/2.0/any/fw.bin") is not None
            assert home.publish("repo", "check")["findings"] == []
            [draft] = home.publish("repo", "rotate", "timestamp")["items"]
            offline = keys.parent / "offline-keys" / "root.pem"
            assert home.publish("repo", "sign", draft["id"], "--key", offline, "--yes")["serial"] > 0
            assert client(home, short / "stock").get_targetinfo("pump/2.0/any/fw.bin") is not None
            assert len(list((short / "signer" / "online").glob("timestamp*"))) == 2
            assert list(keys.rglob("*.pem")) == []
            refused = home.publish("repo", "rotate", "timestamp", "--key", "timestamp=sealed:/key.pem", check=False)
            assert refused.returncode == 2
            assert "is no key that a server takes by its address" in refused.stderr
            signer.terminate()
            assert signer.wait(timeout=30) == 0
        finally:
            signer.kill()
    assert not (short / "run" / "s").exists()
    artifact.write_bytes(b"firmware 3.0")
    failed = home.publish("push", artifact, "--product", "pump", "--version", "3.0", check=False)
    assert failed.returncode != 0
    assert client(home, short / "stock").get_targetinfo("pump/2.0/any/fw.bin") is not None
