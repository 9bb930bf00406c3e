"""A bench for each test, its client started from the repository's first root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.bench import Bench
from tests.conformance.simulator import Bent
from tests.simulators.lying_mirror import lying_mirror


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    repository = Bent()
    with lying_mirror(repository.files) as mirror:
        bench = Bench(tmp_path, repository, mirror)
        assert bench.init() == 0
        yield bench
