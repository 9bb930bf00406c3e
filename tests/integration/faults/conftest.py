"""Fixtures of the tests that inject faults."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.campaign import Campaign
from tests.faults.home import Template
from tests.faults.injector import Impossible, Injector


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return Template(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    try:
        made = Injector()
    except Impossible as why:
        reason = f"NO FAULT WAS INJECTED: {why}"
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)
    with made:
        yield made


@pytest.fixture
def campaign(template: Template, injector: Injector) -> Campaign:
    return Campaign(template, injector)
