"""Object stores to test against: moto's S3 in this process, and Ceph's radosgw itself.

Ceph comes from Debian, unpacked into ``.cache`` without root: a monitor, one object daemon in memory and a gateway, on
loopback, about 1 GB of memory while it runs. Its conditional writes are its own, which is why it is here.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3

from repo_signing.bucket import BucketAddress
from tests.simulators.debian import NotToBeHad, fetched
from tests.simulators.listening import free_port

ACCESS_KEY: Final = "AKWAVEGATETEST"
SECRET_KEY: Final = "never-a-secret"
REGION: Final = "us-east-1"
_PATIENCE_SECONDS: Final = 120
_STARTS: Final = 3

# What a gateway needs of a cluster, in memory and without authentication between its own parts.
_CONFIG: Final = """[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 0
run dir = {run}
admin socket =
pid file =
log file = {run}/$name.log
log to stderr = false
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd class dir = {lib}/rados-classes
keyring = {run}/keyring
[mon.a]
mon data = {run}/mon
mon addr = v1:127.0.0.1:{mon}
[osd]
osd data = {run}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd max object name len = 256
osd max object namespace len = 64
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{http} tcp_nodelay=1
rgw thread pool size = 64
rgw num rados handles = 1
rgw enable lc threads = false
rgw enable gc threads = false
rgw dynamic resharding = false
"""

# A new object daemon must be known to the monitor; Debian's own client for that is bound to Debian's Python.
_ANNOUNCE: Final = """
import ctypes, json, sys
rados, cluster = ctypes.CDLL("librados.so.2"), ctypes.c_void_p()
assert rados.rados_create(ctypes.byref(cluster), b"admin") == 0
assert rados.rados_conf_read_file(cluster, sys.argv[1].encode()) == 0
assert rados.rados_connect(cluster) == 0
command = (ctypes.c_char_p * 1)(json.dumps({"prefix": "osd new", "uuid": sys.argv[2]}).encode())
out, said, length, said_length = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_size_t(), ctypes.c_size_t()
code = rados.rados_mon_command(
    cluster, command, ctypes.c_size_t(1), b"", ctypes.c_size_t(0),
    ctypes.byref(out), ctypes.byref(length), ctypes.byref(said), ctypes.byref(said_length),
)
rados.rados_shutdown(cluster)
sys.exit(0 if code == 0 else 1)
"""


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server on loopback."""

    endpoint: str

    def new_bucket(self) -> BucketAddress:
        """Make a bucket of the caller's own; the address has a prefix in it."""
        name = f"wavegate-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return BucketAddress(url=f"s3://{name}/fleet", endpoint=self.endpoint, region=REGION, allow_http=True)

    def client(self) -> Any:
        """Amazon's own client, for looking at a bucket from outside."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )


@contextmanager
def running_moto() -> Iterator[S3Server]:
    """Moto's S3 server, a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


@contextmanager
def running_radosgw() -> Iterator[S3Server]:
    """A Ceph cluster of three processes with an S3 gateway; raises NotToBeHad."""
    tree = _ceph()
    run = Path(tempfile.mkdtemp(prefix="wavegate-ceph-"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for attempt in range(_STARTS):
            try:
                endpoint = _started(tree, run / str(attempt), started)
                break
            except (subprocess.SubprocessError, OSError, TimeoutError) as error:
                # Mostly somebody else took the port that was free a moment ago.
                _end(started)
                if attempt + 1 == _STARTS:
                    told = (getattr(error, "stderr", b"") or b"").decode(errors="replace")[-500:]
                    raise NotToBeHad(f"Ceph did not start: {told or error}") from error
        yield S3Server(endpoint)
    finally:
        _end(started)
        shutil.rmtree(run, ignore_errors=True)


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    while started:
        process = started.pop()
        process.kill()  # nobody needs its data
        process.wait()


def _started(tree: Path, run: Path, started: list[subprocess.Popen[bytes]]) -> str:
    lib = next(path.parent for path in tree.glob("usr/lib/*/librados.so.2"))
    mon, http, fsid, osd = free_port(), free_port(), str(uuid.uuid4()), str(uuid.uuid4())
    run.mkdir()
    config = run / "ceph.conf"
    config.write_text(_CONFIG.format(fsid=fsid, mon=mon, http=http, run=run, lib=lib))
    (run / "mon").mkdir()
    (run / "osd").mkdir()
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    env = plain | {"LD_LIBRARY_PATH": f"{lib}:{lib}/ceph:{tree}/lib/{lib.name}"}

    def call(program: str, *arguments: str) -> None:
        path = str(tree / "usr" / "bin" / program) if not program.startswith("/") else program
        subprocess.run([path, *arguments], env=env, check=True, capture_output=True, timeout=_PATIENCE_SECONDS)

    def begin(program: str, *arguments: str) -> None:
        with (run / f"{program}.out").open("wb") as out:
            command = [str(tree / "usr" / "bin" / program), "-c", str(config), "-f", *arguments]
            started.append(subprocess.Popen(command, env=env, stdout=out, stderr=out))

    address = f"[v1:127.0.0.1:{mon}]"
    call("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, f"{run}/monmap")
    call("ceph-mon", "-c", str(config), "--mkfs", "-i", "a", "--monmap", f"{run}/monmap")
    begin("ceph-mon", "-i", "a")
    call(sys.executable, "-c", _ANNOUNCE, str(config), osd)
    call("ceph-osd", "-c", str(config), "--mkfs", "-i", "0", "--osd-uuid", osd)
    begin("ceph-osd", "-i", "0")
    begin("radosgw", "-n", "client.rgw")
    user = ["--uid", "tester", "--display-name", "tester", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
    call("radosgw-admin", "-c", str(config), "-n", "client.rgw", "user", "create", *user)
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", http), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise TimeoutError("the gateway does not listen") from None
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{http}"


def _ceph() -> Path:
    """The tree of Debian's Ceph packages with all they need; raises NotToBeHad."""
    tree = fetched("radosgw", "ceph-mon", "ceph-osd", with_needed=True)
    if not (tree / "usr" / "bin" / "radosgw").is_file():
        raise NotToBeHad(f"{tree} holds no radosgw; remove the folder to fetch it again")
    return tree
