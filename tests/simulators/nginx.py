"""A real nginx from Debian's package, without root, around the ``location`` blocks that a test gives it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.simulators.debian import NotToBeHad, fetched
from tests.simulators.listening import free_port, wait_until_listening

_CONFIG: Final = """
{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 1000000; default_type text/plain; sendfile on;
  types {{ application/json json; text/html html; }}
  {more}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """One that is running; ``pid`` leads a session that its worker is in, too."""

    pid: int
    port: int
    errors: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_nginx(folder: Path, locations: str, *, more: str = "", port: int | None = None) -> Iterator[Nginx]:
    """nginx with its files in ``folder``, a new one; ``more`` stands in its ``http`` block. Raises NotToBeHad."""
    program, port = _program(), port or free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    # Its worker gives up root, and the folders of tests are their owner's alone.
    user = "user root; " if os.geteuid() == 0 else ""
    config.write_text(_CONFIG.format(user=user, folder=folder, port=port, more=more, locations=locations))
    errors = folder / "error.log"
    command = [str(program), "-e", str(errors), "-p", str(folder), "-c", str(config)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(process, port, errors.read_text)
        yield Nginx(process.pid, port, errors)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _program() -> Path:
    found = os.environ.get("BENCH_NGINX") or shutil.which("nginx")
    if found is not None:
        return Path(found)
    program = fetched("nginx") / "usr" / "sbin" / "nginx"
    shown = subprocess.run([program, "-v"], capture_output=True, text=True)
    if shown.returncode != 0:
        raise NotToBeHad(f"nginx lacks libraries that are not here: {shown.stderr.strip()}")
    return program
