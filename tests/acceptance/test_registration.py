"""`publish serve` on a home that is not there: who runs the server registers, and publishes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.acceptance.conftest import BIN, Home, Server

PASSWORD = "a long enough password"


@pytest.mark.nightly
def test_a_server_without_a_home_is_registered_and_published_to(tmp_path: Path) -> None:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WAVEGATE_")},
        "WAVEGATE_HOME": str(tmp_path / "wavegate"),
        "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
        "WAVEGATE_CONFIG_DIR": str(tmp_path / "cli-config"),
    }
    home: Any = SimpleNamespace(environ=environ, folder=tmp_path / "wavegate")
    server = Server(cast("Home", home), {})
    try:
        code = tmp_path / "wavegate" / "setup-code"
        assert f"publish register SLUG --email YOU@EXAMPLE.COM --url {server.url} --setup-code-file {code}" in (
            server.log.read_text()
        )
        assert code.read_text().strip() not in server.log.read_text()
        (tmp_path / "password").write_text(PASSWORD)
        (tmp_path / "app.bin").write_bytes(b"firmware")

        def publish(*arguments: str | Path) -> str:
            done = subprocess.run(
                [BIN / "publish", *map(str, arguments)],
                env={**environ, "WAVEGATE_URL": server.url},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        password = ("--password-file", tmp_path / "password")
        publish("register", "acme", "--email", "ada@example.com", *password, "--setup-code-file", code)
        publish("login", "--email", "ada@example.com", *password)
        assert '"role": "admin"' in publish("whoami", "-o", "json")
        pushed = publish("push", tmp_path / "app.bin", "--product", "app", "--version", "1.0.0", "-o", "json")
        assert '"target_path": "app/1.0.0/any/app.bin"' in pushed
        assert server.terminate() == 0
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
