"""What `deploy/compose.yaml` puts together, as processes of this machine: PostgreSQL, an object store, nginx, a server.

There is no container engine in tests. What the containers run is run: commands, environments and files are read from
`deploy/`, and only addresses, places and secrets are others.
"""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import make_url

from tests.acceptance.conftest import BIN, START_SECONDS
from tests.integration.api.test_deployment_files import DEPLOY, compose, container_environment
from tests.simulators.debian import NotToBeHad
from tests.simulators.listening import free_port
from tests.simulators.nginx import running_nginx
from tests.simulators.object_stores import ACCESS_KEY, REGION, running_moto

DATABASE_PASSWORD: Final = "canary-of-the-database"
STORE_SECRET: Final = "canary/of+the/object-store"
NEW_PASSWORD: Final = "canary of a person's password"


@dataclass
class Site:
    """The parts that run, and how to reach them."""

    folder: Path
    environ: dict[str, str]
    url: str
    inner: str
    log: Path
    made: dict[str, Any] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None

    def publish(self, *arguments: str | Path, stdin: str = "", **variables: str) -> Any:
        """Run a command of a client or of the server's machine; the JSON that it prints."""
        done = subprocess.run(
            [BIN / "publish", *map(str, arguments)],
            env={**self.environ, "WAVEGATE_URL": self.url, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, f"publish {arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def get(self, url: str) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=self.environ["SSL_CERT_FILE"])
        try:
            with urllib.request.urlopen(url, timeout=20, context=context) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()


def certificate(folder: Path) -> None:
    """A certificate for this machine, as nginx wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)


def environment(folder: Path, ports: dict[str, int], database: str, bucket: str, endpoint: str) -> dict[str, str]:
    """That of the server's container, with this machine's addresses and secrets."""
    given = {**container_environment(), **compose()["services"]["server"]["environment"]}
    given |= {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "WAVEGATE_HOME": str(folder / "home"),
        "WAVEGATE_LISTEN": f"127.0.0.1:{ports['api']}",
        "WAVEGATE_DEVICE_LISTEN": f"127.0.0.1:{ports['device']}",
        "WAVEGATE_DEVICE_ENDPOINT": f"localhost:{ports['device']}",
        "WAVEGATE_PUBLIC_URL": f"https://localhost:{ports['nginx']}",
        "WAVEGATE_CANARY_URL": f"http://127.0.0.1:{ports['api']}",
        "WAVEGATE_TRUSTED_PROXIES": "127.0.0.1",
        "WAVEGATE_STORAGE_URL": bucket,
        "WAVEGATE_STORAGE_ENDPOINT": endpoint,
        "WAVEGATE_STORAGE_REGION": REGION,
        "WAVEGATE_DATABASE_URL": database,
        "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
        "WAVEGATE_CONFIG_DIR": str(folder / "config"),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": STORE_SECRET,
        "SSL_CERT_FILE": str(folder / "fullchain.pem"),
    }
    return {name: str(value) for name, value in given.items()}


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, empty_postgresql_url: str) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("deployment")
    certificate(folder)
    ports = {name: free_port() for name in ("api", "device", "nginx", "spare")}
    with ExitStack() as stack:
        moto = stack.enter_context(running_moto())
        database = make_url(empty_postgresql_url).set(password=DATABASE_PASSWORD)
        bucket = moto.new_bucket()
        shown = database.render_as_string(hide_password=False)
        environ = environment(folder, ports, shown, bucket.url, moto.endpoint)
        log = folder / "serve.log"
        running = Site(folder, environ, environ["WAVEGATE_PUBLIC_URL"], environ["WAVEGATE_CANARY_URL"], log)
        services = compose()["services"]
        init = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in services["init"]["command"]]
        running.made = running.publish(*init, "-o", "json")
        with log.open("wb") as said:
            running.server = subprocess.Popen(
                [BIN / "publish", *services["server"]["command"]], env=environ, stderr=said, start_new_session=True
            )
        stack.callback(end, running.server)
        wait_for(running)
        conf = (DEPLOY / "nginx.conf").read_text()
        for there, here in (
            ("listen 443 ssl", f"listen 127.0.0.1:{ports['nginx']} ssl"),
            ("server:8080", f"127.0.0.1:{ports['api']}"),
            ("/etc/nginx/tls", str(folder)),
            ("/var/cache/nginx/wavegate", str(folder / "cache")),
        ):
            assert there in conf
            conf = conf.replace(there, here)
        try:
            stack.enter_context(running_nginx(folder / "nginx", "", more=conf, port=ports["spare"]))
        except NotToBeHad as why:
            if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
                pytest.fail(str(why))
            pytest.skip(str(why))
        yield running


def end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(site: Site) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if site.get(f"{site.inner}/healthz")[0] == 200:
                return
        except OSError:
            pass
        assert site.server is not None
        assert site.server.poll() is None, site.log.read_text()
        assert time.monotonic() < deadline, site.log.read_text()
        time.sleep(0.2)


@pytest.mark.nightly
def test_the_parts_together_publish_serve_watch_and_end_and_show_no_secret(site: Site, tmp_path: Path) -> None:
    key, admin = site.made["api_key"], site.made["admin"]
    (tmp_path / "new-password").write_text(NEW_PASSWORD)
    site.publish(
        *("login", "--email", admin["email"], "--password-stdin", "--new-password-file", tmp_path / "new-password"),
        *("-o", "json"),
        stdin=admin["password"],
    )
    (tmp_path / "fw.bin").write_bytes(os.urandom(300_000))
    push: list[str | Path] = ["push", tmp_path / "fw.bin", "--product", "fw", "--version", "1", "-o", "json"]
    pushed = site.publish(*push, WAVEGATE_API_KEY=key)
    verify = ["artifact", "verify", pushed["target_path"], "--root", site.made["root"], "-o", "json"]
    site.publish(*verify, WAVEGATE_API_KEY=key)
    assert site.get(f"{site.url}/metrics")[0] == 404
    assert site.get(f"{site.url}/readyz")[0] == 404
    status, metrics = site.get(f"{site.inner}/metrics")
    assert (status, "wavegate_first_process_up 1" in metrics) == (200, True)
    timestamp = f"{site.url}/tuf/acme/metadata/timestamp.json"
    before = site.get(timestamp)[1]
    (tmp_path / "two.bin").write_bytes(b"two")
    site.publish("push", tmp_path / "two.bin", "--product", "fw", "--version", "2", "-o", "json", WAVEGATE_API_KEY=key)
    assert site.get(timestamp)[1] != before, "nginx asks for it anew"
    examined = site.publish("doctor", "-o", "json")
    levels = {one["name"]: one["level"] for one in examined["checks"]}
    assert [name for name, level in levels.items() if level == "fail"] == []
    wanted = ("server", "database", "clock of the database", "storage", "TLS certificate", "device port's certificate")
    assert [name for name in wanted if levels[name] != "ok"] == []
    backup: list[str | Path] = ["repo", "backup", "--no-database", tmp_path / "backup.tar", "-o", "json"]
    assert site.publish(*backup)["keys"] is True
    secrets = [key, admin["password"], NEW_PASSWORD, DATABASE_PASSWORD, STORE_SECRET]
    processes = running_commands()
    assert any("publish serve" in one for one in processes)
    assert [one for one in processes if any(secret in one for secret in secrets)] == []
    assert site.server is not None
    site.server.terminate()
    assert site.server.wait(60) == 0
    lines = [json.loads(line) for line in site.log.read_text().splitlines()]
    assert {"serving", "ended"} <= {line["message"] for line in lines}
    assert [line for line in lines if line["level"] in {"error", "critical"}] == []
    said = site.log.read_text() + metrics + json.dumps(examined)
    assert [secret for secret in secrets if secret in said] == []
    written = {path.name for path in site.folder.iterdir()}
    assert written == {"fullchain.pem", "key.pem", "home", "config", "serve.log", "nginx", "cache"}


def running_commands() -> list[str]:
    """The arguments of every process of this machine, as `ps` shows them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except OSError:
                continue
    return found
