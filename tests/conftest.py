"""What holds for every test: nothing of the user's own settings gets in, and chance is repeatable where it must be."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.databases import POSTGRESQL, SQLITE, Databases, start_postgresql

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
    # Not below pytest's own folder: that one is closed to other users, and PostgreSQL never runs as root.
    folder = Path(tempfile.mkdtemp(prefix="wavegate-postgresql-"))
    try:
        try:
            server = start_postgresql(folder)
        except Exception as error:  # noqa: BLE001  # whatever it is, the tests that need it say so
            reason = f"PostgreSQL did not start: {type(error).__name__}: {error}"
            if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
                pytest.fail(reason)
            pytest.skip(reason)
        try:
            url: str = server.get_uri()
            yield url
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What opens a home runs on both databases: on PostgreSQL each night, and daily where it is marked so."""
    if "databases" not in metafunc.fixturenames:
        return
    kinds: list[Any] = [SQLITE]
    if metafunc.definition.get_closest_marker(SQLITE) is None:
        daily = metafunc.definition.get_closest_marker(POSTGRESQL) is not None
        kinds.append(pytest.param(POSTGRESQL, marks=[] if daily else [pytest.mark.nightly]))
    metafunc.parametrize("databases", kinds, indirect=True)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Where homes keep their rows."""
    server = request.getfixturevalue("postgresql_url") if request.param == POSTGRESQL else None
    made = Databases(server)
    yield made
    made.close()
