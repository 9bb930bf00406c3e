"""A real Prometheus server from Debian's package, without root: it scrapes a page that the test writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.simulators.debian import NotToBeHad, fetched
from tests.simulators.listening import free_port

_START_SECONDS: Final = 60


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Its URL; it scrapes ``target`` (``host:port``) ten times a second. Raises NotToBeHad."""
    program = _program()
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 100ms, scrape_timeout: 100ms}\n"
        f"scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    port = free_port()
    call = [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, url)
        yield url
    finally:
        process.kill()
        process.wait()


def ask(url: str, query: str) -> list[str]:
    """What an instant query answers now, value by value."""
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=10) as answer:
        return [one["value"][1] for one in json.load(answer)["data"]["result"]]


def _program() -> Path:
    found = shutil.which("prometheus")
    if found is not None:
        return Path(found)
    return fetched("prometheus") / "usr" / "bin" / "prometheus"


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        if process.poll() is not None:
            raise NotToBeHad(f"Prometheus ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise NotToBeHad("Prometheus did not get ready")
        time.sleep(0.1)
