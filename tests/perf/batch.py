"""10,000 files of 4 KiB in one batch, signed and recorded, among 100,000; against ``cp -r``, sync and openssl.

Both sides read, hash and durably write every byte once; ours also signs, and writes rows and audit events.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import BinaryIO, Final

from cli.demo.product import foreign_variables
from repo_signing.model import NewArtifact
from repo_signing.repository import SignedRepository
from store.accounts import Accounts
from store.artifacts import ArtifactIndex
from store.database import Database
from tests.perf.measure import Result, cost_of, paired
from tests.perf.synthetic import BENCH, opened, path_of, synthetic

STANDING: Final = 100_000
FILES: Final = 10_000
LENGTH: Final = 4096
PAIRS: Final = 3
GOAL: Final = 4.0


def measure(folder: Path) -> list[Result]:
    if shutil.which("openssl") is None:
        raise RuntimeError("the yardstick needs the command openssl")
    synthetic(folder / "large", STANDING)
    database = Database(f"sqlite:///{folder / 'index.db'}")
    database.migrate()
    Accounts(database).add_org("bench", "bench", now=datetime.now(UTC))
    index = ArtifactIndex(database, "bench")
    index.project(opened(folder / "large").serial(), [], [])  # as if all that stands had been recorded
    repository = opened(folder / "large", index)
    repository.status(now=datetime.now(UTC))  # a server has read its roles once
    source, copies = folder / "files", folder / "copies"
    rounds = iter(range(PAIRS))

    def ours() -> float:
        number = STANDING + next(rounds) * FILES
        _fill(source)
        before = time.process_time()
        publish_all(repository, source, number)
        return time.process_time() - before

    def theirs() -> float:
        script = 'cp -r "$1" "$2" && sync -f "$2" && find "$2" -type f -exec openssl dgst -sha256 {} +'
        cost = cost_of(["/bin/sh", "-c", script, "sh", str(source), str(copies)], env=foreign_variables())
        shutil.rmtree(copies)
        return cost.cpu_seconds

    ratio, mine, yardstick = paired(ours, theirs, PAIRS)
    database.close()
    detail = f"{median(mine):.2f} s against {median(yardstick):.2f} s of CPU, {PAIRS} pairs"
    name = f"batch of {FILES:,} x 4 KiB among {STANDING:,} / cp -r, sync -f, openssl dgst"
    return [Result(name, ratio, GOAL, "x", detail)]


def publish_all(repository: SignedRepository, source: Path, first: int) -> None:
    """Take the files in and sign them in one commit."""
    staged = repository.stage_all(_streams(source))
    now = datetime.now(UTC)
    items = []
    for number, blob in enumerate(staged, start=first):
        product, version, platform, file_name = path_of(number).split("/")
        items.append(
            NewArtifact(
                staged=blob,
                product=product,
                version=version,
                platform=platform,
                channel="stable",
                file_name=file_name,
                publisher=BENCH,
            )
        )
    outcomes = repository.publish_batch(items, now=now)
    assert all(outcome.is_new for outcome in outcomes)


def _streams(source: Path) -> Iterator[BinaryIO]:
    for path in sorted(source.iterdir()):
        with path.open("rb", buffering=0) as stream:
            yield stream


def _fill(source: Path) -> None:
    """New bytes each time: the same ones would be no work for the repository."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for number in range(FILES):
        (source / f"{number:05}.bin").write_bytes(os.urandom(LENGTH))
