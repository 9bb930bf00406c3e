"""One small publish into a repository of 10,000 artifacts against the same into one of 100: it must not grow with N."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from evidence.model import Actor, ActorKind, AuditEvent
from keys.keyring import create_keyring
from repo_signing.ceremony import create_repository
from repo_signing.model import ArtifactRecord, NewArtifact
from repo_signing.repository import SignedRepository
from tests.perf.measure import Result, paired

SMALL: Final = 100
LARGE: Final = 10_000
PUBLISHES: Final = 20  # in one measurement
PAIRS: Final = 5
GOAL: Final = 3.0
# Everything that waits becomes one commit, so many at once fill a repository in a few hundred commits, not thousands.
AT_ONCE: Final = 64
BENCH: Final = Actor(ActorKind.SERVICE, "usr_bench", "bench")


class Forgetful:
    """An index that keeps the serial only: what the signed repository costs by itself is measured here."""

    def __init__(self) -> None:
        self._serial = 0

    def projected_serial(self) -> int:
        return self._serial

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        self._serial = max(serial, self._serial)

    def clear(self) -> None:
        self._serial = 0


def measure(folder: Path) -> list[Result]:
    small, large = _filled(folder / "small", SMALL), _filled(folder / "large", LARGE)
    numbers = iter(range(LARGE, 2 * LARGE))

    def cost(repository: SignedRepository) -> float:
        before = time.process_time()
        for _ in range(PUBLISHES):
            _publish(repository, next(numbers))
        return (time.process_time() - before) / PUBLISHES

    ratio, in_large, in_small = paired(lambda: cost(large), lambda: cost(small), PAIRS)
    detail = (
        f"{median(in_large) * 1000:.1f} ms against {median(in_small) * 1000:.1f} ms of CPU a publish, "
        f"{PAIRS} pairs of {PUBLISHES}"
    )
    return [Result(f"publish into {LARGE:,} artifacts / into {SMALL}", ratio, GOAL, "x", detail)]


def _filled(folder: Path, artifacts: int) -> SignedRepository:
    folder.mkdir()
    keyring = create_keyring(folder / "keys", folder / "offline-keys")
    create_repository(folder / "repository", keyring, now=datetime.now(UTC))
    repository = SignedRepository(folder / "repository", keyring, Forgetful())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(_publish, repository, number) for number in range(artifacts)]:
            done.result()
    return repository


def _publish(repository: SignedRepository, number: int) -> None:
    staged = repository.stage(io.BytesIO(f"artifact {number}\n".encode()))
    repository.publish(
        NewArtifact(
            staged=staged,
            product="bench",
            version=f"1.{number}.0",
            platform="any",
            channel="stable",
            file_name="artifact.bin",
            publisher=BENCH,
        ),
        now=datetime.now(UTC),
    )
