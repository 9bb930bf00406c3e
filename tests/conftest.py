"""What holds for every test: nothing of the user's own settings gets in, and chance is repeatable where it must be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.databases import PGBOUNCER, POSTGRESQL, SQLITE, Databases, private_postgresql
from tests.simulators.pgbouncer import running_pgbouncer

settings.register_profile("wavegate", deadline=None)
settings.register_profile("wavegate-ci", parent=settings.get_profile("wavegate"), derandomize=True, print_blob=True)
settings.load_profile("wavegate-ci" if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all" else "wavegate")


@pytest.fixture(autouse=True, scope="session")
def nobody_s_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home folder and no ``WAVEGATE_*`` of the user's; ``WAVEGATE_TEST_*`` stays.

    A developer who is logged in to a real server must be able to run the tests without touching it.
    """
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if (name.startswith("WAVEGATE_") and not name.startswith("WAVEGATE_TEST_")) or name.startswith("XDG_"):
                patch.delenv(name)
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "PYTHONPATH"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """Address of a PostgreSQL server where databases may be created."""
    given = os.environ.get("WAVEGATE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with private_postgresql() as server:
        yield server.url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What opens a home runs on both databases: on PostgreSQL each night, and daily where it is marked so.

    What is marked ``pooler`` runs once more on PostgreSQL, behind a pooler.
    """
    if "databases" not in metafunc.fixturenames:
        return
    kinds: list[Any] = [SQLITE]
    if metafunc.definition.get_closest_marker(SQLITE) is None:
        daily = metafunc.definition.get_closest_marker(POSTGRESQL) is not None
        marks = [] if daily else [pytest.mark.nightly]
        kinds.append(pytest.param(POSTGRESQL, marks=marks))
        if metafunc.definition.get_closest_marker("pooler") is not None:
            kinds.append(pytest.param(PGBOUNCER, marks=marks))
    metafunc.parametrize("databases", kinds, indirect=True)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Where homes keep their rows."""
    with ExitStack() as stack:
        server: str | None = None if request.param == SQLITE else request.getfixturevalue("postgresql_url")
        pooler = None
        if server is not None and request.param == PGBOUNCER:
            pooler = stack.enter_context(running_pgbouncer(server, connections=3))
        made = Databases(server, pooler=pooler)
        stack.callback(made.close)
        yield made
