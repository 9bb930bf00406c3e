"""Databases and stores of keys for the tests.

Databases are migrated, with the organisations ``acme`` and ``rival`` and nothing else in them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from store.accounts import Accounts
from store.database import Database
from store.models import metadata
from tests.databases import new_database
from tests.simulators.debian import NotToBeHad
from tests.simulators.redis_server import RedisServer, running_redis

BORN = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy: migrating once is faster than a hundred times."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    _prepare(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def one_postgresql_database_url(postgresql_url: str) -> Iterator[str]:
    """A migrated PostgreSQL database for all tests of this process: making one takes longer than most tests."""
    with new_database(postgresql_url) as url:
        _prepare(url)
        yield url


@pytest.fixture
def sqlite_database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite file of the test's own."""
    file = tmp_path / "wavegate.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture
def postgresql_database_url(one_postgresql_database_url: str) -> str:
    """A migrated PostgreSQL database with nothing of other tests in it."""
    database = Database(one_postgresql_database_url)
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    _add_orgs(database)
    database.close()
    return one_postgresql_database_url


@pytest.fixture
def empty_postgresql_url(postgresql_url: str) -> Iterator[str]:
    """A PostgreSQL database of the test's own, without tables."""
    with new_database(postgresql_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The test runs twice, on each kind of database."""
    url: str = request.getfixturevalue(f"{request.param}_database_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database, closed at the end."""
    opened = Database(database_url)
    yield opened
    opened.close()


def _prepare(url: str) -> None:
    database = Database(url)
    database.migrate()
    _add_orgs(database)
    database.close()


def _add_orgs(database: Database) -> None:
    accounts = Accounts(database)
    accounts.add_org("acme", "Acme", now=BORN)
    accounts.add_org("rival", "Rival", now=BORN)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that tests share; who wants to stop one starts their own."""
    try:
        with running_redis(tmp_path_factory.mktemp("redis") / "redis") as server:
            yield server
    except NotToBeHad as error:
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PKCS#11 token with EC keys 2 (P-256) and 3 (P-384)."""
    # Clients of key services take their time to import, and most tests need none.
    from tests.simulators.key_stores import TOKEN_LABEL, TOKEN_PIN, new_token

    try:
        module, config = new_token(tmp_path / "softhsm")
    except NotToBeHad as error:
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(str(error))
        pytest.skip(str(error))
    monkeypatch.setenv("PYKCS11LIB", str(module))
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    pkcs11, curves = import_module("pkcs11"), import_module("pkcs11.util.ec")
    library = pkcs11.lib(str(module))
    library.reinitialize()  # one process loads the module once; it looked at another test's tokens before
    attribute, mechanism = pkcs11.Attribute, pkcs11.Mechanism
    with library.get_token(token_label=TOKEN_LABEL).open(rw=True, user_pin=TOKEN_PIN) as session:
        for number, curve in ((2, "secp256r1"), (3, "secp384r1")):
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC, {attribute.EC_PARAMS: curves.encode_named_curve_parameters(curve)}, local=True
            )
            parameters.generate_keypair(
                id=bytes([number]),
                store=True,
                mechanism=mechanism.EC_KEY_PAIR_GEN,
                public_template={attribute.PRIVATE: 0},
            )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a simulated AWS KMS."""
    from moto import mock_aws

    from tests.simulators.key_stores import sign_digest

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr("moto.kms.utils.ECDSAPrivateKey.sign", sign_digest)
    with mock_aws():
        yield import_module("boto3").client("kms")
