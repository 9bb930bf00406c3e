"""The two organisations, made once: what one asks of the other changes nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.orgs.filled import Pair


@pytest.fixture(scope="package")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both organisations, full."""
    both = Pair(tmp_path_factory.mktemp("orgs"))
    yield both
    both.installation.close()
