"""A real PgBouncer from Debian's packages, without root, on a port of loopback before a PostgreSQL of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from tests.simulators.debian import libraries, unpacked
from tests.simulators.listening import free_port, wait_until_listening


@contextmanager
def running_pgbouncer(server_url: str, *, connections: int) -> Iterator[str]:
    """Address of the same server behind a PgBouncer, which lends ``connections`` of each database, for a transaction.

    A machine where it cannot be had skips the test.
    """
    program = shutil.which("pgbouncer")
    tree = None if program else unpacked("pgbouncer", with_needed=True)
    server = make_url(server_url)
    place = str(server.query.get("host", server.host))
    # Not below pytest's own folder, which is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="wavegate-pgbouncer-"))
    folder.chmod(0o755)
    port = free_port()
    lines = [
        "[databases]",
        f"* = host={place} port={server.port or 5432} user={server.username}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        "pool_mode = transaction",
        f"default_pool_size = {connections}",
        "server_idle_timeout = 2",
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    environ = dict(os.environ)
    if tree is not None:
        copied = folder / "tree"
        shutil.copytree(tree / "usr", copied, ignore=shutil.ignore_patterns("share"))
        program, environ["LD_LIBRARY_PATH"] = str(copied / "sbin" / "pgbouncer"), libraries(copied)
    assert program is not None
    process = subprocess.Popen(
        [program, folder / "pgbouncer.ini"],
        env=environ,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=_user(place) if os.geteuid() == 0 else None,
    )
    try:
        wait_until_listening(process, port)
        yield server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    finally:
        process.kill()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _user(place: str) -> int:
    """Whom it runs as, for it refuses to be root: whoever may reach the server's socket, which is its owner."""
    return Path(place).stat().st_uid if place.startswith("/") else pwd.getpwnam("nobody").pw_uid
