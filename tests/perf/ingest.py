"""1 GiB into a local repository against cp, sync, openssl; and through the API against a bare socket."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from cli.demo.product import Product, foreign_variables, installed
from repo_signing.model import NewArtifact
from tests.perf.large_publish import LENGTH
from tests.perf.measure import Result, cost_of, cpu_of_session, paired
from tests.perf.synthetic import BENCH, opened, synthetic

PAIRS: Final = 3
LOCAL_GOAL: Final = 1.15
API_GOAL: Final = 1.4
_BLOCK: Final = 1024**2
# The least that any server must do: receive, hash, write, fsync. Prints its CPU seconds.
_BARE: Final = """
import hashlib, os, socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
digest, buffer = hashlib.sha256(), bytearray(128 * 1024)
before = time.process_time()
with open(sys.argv[1], "wb", buffering=0) as out:
    while count := connection.recv_into(buffer):
        digest.update(memoryview(buffer)[:count])
        out.write(memoryview(buffer)[:count])
    os.fsync(out.fileno())
print(time.process_time() - before, flush=True)
"""


def measure(folder: Path) -> list[Result]:
    file = folder / "one-gibibyte.bin"
    with file.open("wb") as out:
        for _ in range(LENGTH // _BLOCK):
            out.write(os.urandom(_BLOCK))
    return [_local(folder, file), _through_the_api(folder, file)]


def _local(folder: Path, file: Path) -> Result:
    if shutil.which("openssl") is None:
        raise RuntimeError("the yardstick needs the command openssl")
    synthetic(folder / "local", 1000)
    repository = opened(folder / "local")
    rounds = iter(range(PAIRS + 1))

    def ours() -> float:
        version = f"{next(rounds)}.0"
        _change(file, version)
        before = time.process_time()
        with file.open("rb", buffering=0) as stream:
            staged = repository.stage(stream)
        new = NewArtifact(
            staged=staged,
            product="large",
            version=version,
            platform="any",
            channel="stable",
            file_name="x.bin",
            publisher=BENCH,
        )
        record, _ = repository.publish(new, now=datetime.now(UTC))
        spent = time.process_time() - before
        repository.blob_path(record.sha256).unlink()
        return spent

    def theirs() -> float:
        copy = folder / "copy.bin"
        script = 'cp "$1" "$2" && sync && openssl dgst -sha256 "$2"'
        cost = cost_of(["/bin/sh", "-c", script, "sh", str(file), str(copy)], env=foreign_variables())
        copy.unlink()
        return cost.cpu_seconds

    ratio, mine, yardstick = paired(ours, theirs, PAIRS)
    detail = f"{median(mine):.2f} s against {median(yardstick):.2f} s of CPU, {PAIRS} pairs"
    return Result("publish 1 GiB, local / cp, sync, openssl dgst", ratio, LOCAL_GOAL, "x", detail)


def _through_the_api(folder: Path, file: Path) -> Result:
    home = folder / "product"
    home.mkdir()
    with Product(home) as product:
        product.start()
        assert product.server is not None
        server = product.server.pid
        variables = product.environment(person=None)
        rounds = iter(range(PAIRS + 1))

        def ours() -> float:
            version = f"{next(rounds)}.0"
            _change(file, version)
            before = cpu_of_session(server)
            arguments = ["push", str(file), "--product", "large", "--version", version]
            cost_of([installed("publish"), *arguments], env=variables, cwd=folder)
            spent = cpu_of_session(server) - before
            with file.open("rb") as content:
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            (product.home / "orgs" / product.org / "repository" / "blobs" / sha256[:2] / sha256).unlink()
            return spent

        ratio, mine, yardstick = paired(ours, lambda: _bare(folder, file), PAIRS)
    detail = f"{median(mine):.2f} s against {median(yardstick):.2f} s of the server's CPU, {PAIRS} pairs"
    name = "publish 1 GiB through the API, server / bare socket, sha256, write, fsync"
    return Result(name, ratio, API_GOAL, "x", detail)


def _bare(folder: Path, file: Path) -> float:
    copy = folder / "received.bin"
    with subprocess.Popen([sys.executable, "-c", _BARE, str(copy)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as connection, file.open("rb") as content:
            connection.sendfile(content)
        spent = float(process.stdout.readline())
    copy.unlink()
    return spent


def _change(file: Path, mark: str) -> None:
    with file.open("r+b") as out:
        out.write(mark.encode().ljust(16))
        out.flush()
        os.fsync(out.fileno())
