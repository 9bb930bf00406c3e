"""A million artifacts: a publish, what a stock client fetches first, what memory it takes; and many publishes at once.

The same publish goes into a repository of a thousand, so the ratio tells how cost grows with the number.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from repo_signing import roles
from repo_signing.model import NewArtifact
from repo_signing.repository import SignedRepository
from tests.perf.measure import Result, cost_of, paired
from tests.perf.synthetic import BENCH, Forgetful, opened, path_of, synthetic

MANY: Final = 1_000_000
FEW: Final = 1_000
PUBLISHES: Final = 20  # in one measurement
PAIRS: Final = 5
GROWTH_GOAL: Final = 3.0
AT_ONCE: Final = 20
AT_ONCE_GOAL: Final = 1.0
FIRST_REFRESH_GOAL_KB: Final = 160.0
MEMORY_GOAL_MIB: Final = 150.0
_CHILD: Final = (
    "import sys; from pathlib import Path; from tests.perf.scale import publish_some; publish_some(Path(sys.argv[1]))"
)


def measure(folder: Path) -> list[Result]:
    root = synthetic(folder / "many", MANY)
    synthetic(folder / "few", FEW)
    many, few = opened(folder / "many"), opened(folder / "few")
    numbers = iter(range(MANY, 2 * MANY))

    def cpu(repository: SignedRepository) -> float:
        before = time.process_time()
        for _ in range(PUBLISHES):
            publish(repository, next(numbers))
        return (time.process_time() - before) / PUBLISHES

    cpu(many)
    cpu(few)
    ratio, in_many, in_few = paired(lambda: cpu(many), lambda: cpu(few), PAIRS)
    grown = f"{median(in_many) * 1000:.1f} ms against {median(in_few) * 1000:.1f} ms of CPU a publish, {PAIRS} pairs"
    child = cost_of([sys.executable, "-c", _CHILD, str(folder / "many")])
    return [
        Result(f"publish into {MANY:,} artifacts / into {FEW:,}", ratio, GROWTH_GOAL, "x", grown),
        Result(
            f"memory of a process that publishes into {MANY:,}",
            child.peak_bytes / 1024**2,
            MEMORY_GOAL_MIB,
            "MiB",
            f"{PUBLISHES * PAIRS} publishes",
        ),
        _at_once(few, numbers),
        _first_refresh(folder, many, root),
    ]


def publish_some(folder: Path) -> None:
    """What a process does whose memory is measured."""
    serial = opened(folder).serial()
    repository = opened(folder, Forgetful(serial))
    for number in range(3 * MANY, 3 * MANY + PUBLISHES * PAIRS):
        publish(repository, number)


def publish(repository: SignedRepository, number: int) -> None:
    product, version, platform, file_name = path_of(number).split("/")
    wanted = NewArtifact(
        staged=repository.stage(io.BytesIO(f"artifact {number}\n".encode())),
        product=product,
        version=version,
        platform=platform,
        channel="stable",
        file_name=file_name,
        publisher=BENCH,
    )
    repository.publish(wanted, now=datetime.now(UTC))


def _at_once(repository: SignedRepository, numbers: Iterator[int]) -> Result:
    def together() -> float:
        chosen = [next(numbers) for _ in range(AT_ONCE)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            before = time.perf_counter()
            list(pool.map(lambda number: publish(repository, number), chosen))
            return time.perf_counter() - before

    def in_turn() -> float:
        before = time.perf_counter()
        for _ in range(AT_ONCE):
            publish(repository, next(numbers))
        return time.perf_counter() - before

    ratio, ours, theirs = paired(together, in_turn, PAIRS)
    detail = f"{median(ours) * 1000:.0f} ms against {median(theirs) * 1000:.0f} ms, {PAIRS} pairs"
    return Result(f"{AT_ONCE} publishes at once / one after another, wall", ratio, AT_ONCE_GOAL, "x", detail)


class _Counting(FetcherInterface):
    def __init__(self, repository: SignedRepository) -> None:
        self._repository = repository
        self.sizes: dict[str, int] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        path = self._repository.metadata_file(name)
        if path is None:
            raise DownloadHTTPError("not found", 404)
        content = path.read_bytes()
        self.sizes[name] = len(content)
        return iter([content])


def _first_refresh(folder: Path, repository: SignedRepository, root: bytes) -> Result:
    """Refresh and look one target up; against the best number of bins for these very records."""
    fetcher = _Counting(repository)
    (folder / "client").mkdir()
    updater = Updater(str(folder / "client"), "http://r/", fetcher=fetcher, bootstrap=root)
    assert updater.get_targetinfo(path_of(1)) is not None
    fetched = sum(fetcher.sizes.values())
    snapshot = next(size for name, size in fetcher.sizes.items() if ".snapshot." in name)
    bits = repository.bins().bits
    held = sum(size for name, size in fetcher.sizes.items() if ".r2-" in name) * 2**bits
    row = len(b'"r2-7ff.json":{"version":1000001},')
    fixed = fetched - snapshot - held / 2**bits
    best = min(held / 2**power + row * 2**power + fixed for power in range(roles.BIN_BITS, roles.MAX_BIN_BITS + 1))
    detail = f"{fetched / best:.2f} of the best number of bins; snapshot {snapshot}, bin {held // 2**bits} bytes"
    return Result("stock client, first refresh and look-up at 1M", fetched / 1000, FIRST_REFRESH_GOAL_KB, "KB", detail)
