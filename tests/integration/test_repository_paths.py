"""The layout of paths: a role for each product, for clients that read no succinct roles."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from keys.keyring import create_keyring
from repo_signing.ceremony import create_repository
from repo_signing.errors import WrongLayout
from repo_signing.model import NewArtifact
from repo_signing.repository import SignedRepository
from tests.simulators.projection import ProjectionSimulator
from tests.simulators.repository import ANN, RepositoryHome, StockClient, publish, staged


@pytest.fixture
def home(tmp_path: Path) -> RepositoryHome:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    keyring = create_keyring(tmp_path / "keys", tmp_path / "offline-keys")
    root = create_repository(tmp_path / "repository", keyring, now=now, layout="paths")
    return RepositoryHome(tmp_path, ProjectionSimulator(), root, now)


def publish_product(repository: SignedRepository, product: str, home: RepositoryHome) -> str:
    new = NewArtifact(
        staged=staged(repository, product.encode()),
        product=product,
        version="1.0",
        platform="any",
        channel="stable",
        file_name="x.bin",
        publisher=ANN,
    )
    return repository.publish(new, now=home.now)[0].path


def test_each_product_gets_its_role_with_its_first_artifact(home: RepositoryHome) -> None:
    repository = home.open()
    old = StockClient(repository, home.folder / "old", home.root)
    assert old.fetch("app/1.0/linux/app.bin") is None
    products = ["app2", "3f", "a_b.c+d", "releases"]
    paths = [publish_product(repository, product, home) for product in products]
    publish(repository, "1.0", home.now, sboms=(b"{}",))
    for name in ("old", "new"):
        client = StockClient(home.open(), home.folder / name, home.root)
        for product, path in zip(products, paths, strict=True):
            assert client.fetch(path) == product.encode()
        assert client.fetch("app/1.0/linux/app.bin") == b"app 1.0"
        assert client.fetch("app/1.0/linux/app.bin.sbom.0.cyclonedx-json") == b"{}"
        assert client.fetch("nobody/1.0/any/x.bin") is None
    names = [role.name for role in repository.status(now=home.now).roles]
    assert [name for name in names if name.startswith("releases-")] == sorted(
        ["releases-revocations", "releases-app", *(f"releases-{product}" for product in products)]
    )


def test_everything_else_works_as_with_bins(home: RepositoryHome) -> None:
    repository = home.open()
    publish(repository, "1.0", home.now)
    publish(repository, "2.0", home.now)
    repository.yank("app/1.0/linux/app.bin", reason="broken", by=ANN, now=home.now)
    repository.commit_documents({"decisions/app/pilot.json": b"open"}, now=home.now)
    assert home.open().check(now=home.now) == []
    assert repository.status(now=home.now).artifacts == 2
    renewed = repository.refresh(now=home.later(days=89))
    assert {"releases", "releases-app", "releases-revocations"} <= set(renewed)
    assert home.open().rebuild() == 2
    assert repository.layout == "paths"


def test_a_server_that_slept_past_every_expiry_can_publish_a_new_product_first(home: RepositoryHome) -> None:
    asleep = home.later(days=89, hours=23)  # the longest that is believed without a word
    repository = home.open()
    publish(repository, "1.0", asleep)
    updater = StockClient(repository, home.folder / "client", home.root).updater()
    updater._trusted_set.reference_time = asleep
    assert updater.get_targetinfo("app/1.0/linux/app.bin") is not None


def test_no_bins_can_be_changed(home: RepositoryHome) -> None:
    with pytest.raises(WrongLayout, match="a role for each product"):
        home.open().rebin(bits=7, now=home.now)


def test_targets_are_served_under_both_kinds_of_names(home: RepositoryHome) -> None:
    repository = home.open()
    record, _ = publish(repository, "1.0", home.now)
    digest = hashlib.sha256(b"app 1.0").hexdigest()
    assert record.sha256 == digest
    for name in (f"app/1.0/linux/{digest}.app.bin", f"{digest}.app/1.0/linux/app.bin"):
        served = repository.target_file(name)
        assert served is not None
        assert served.read_bytes() == b"app 1.0"
    for name in (f"{digest}.app", f"{digest}./1.0/linux/app.bin", f"{digest}.app/../linux/app.bin"):
        assert repository.target_file(name) is None
