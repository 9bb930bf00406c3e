"""Real S3 servers, each started once in a test process, and a bucket of every test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.bucket_home import BucketHome
from tests.simulators.debian import NotToBeHad
from tests.simulators.object_stores import (
    ACCESS_KEY,
    SECRET_KEY,
    S3Server,
    running_moto,
    running_radosgw,
)


@pytest.fixture(scope="session", autouse=True)
def credentials() -> Iterator[None]:
    """Both servers know the same user, from the variables that every S3 program reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw() -> Iterator[S3Server]:
    try:
        with running_radosgw() as server:
            yield server
    except NotToBeHad as error:
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(params=["moto", "radosgw"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """The test runs twice, once on each server."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def home(s3: S3Server, tmp_path: Path) -> BucketHome:
    return BucketHome(tmp_path / "home", s3.new_bucket())


@pytest.fixture
def moto_home(moto: S3Server, tmp_path: Path) -> BucketHome:
    """For what does not depend on the server, and repeats itself many times."""
    return BucketHome(tmp_path / "home", moto.new_bucket())
