"""Any request that can be made of the OpenAPI document gets an answer that it declares, and never a 500."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.integration.api.conftest import Home, open_home
from tests.integration.api.fuzzing import Outcome, fuzz
from tests.integration.api.tour import Tour

SEED = 20_261_122
SHORT, LONG = 600, 20_000  # requests


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, dict[str, list[str]]]]:
    """A home in which somebody has done everything once, and what a request may name of it."""
    with open_home(tmp_path_factory.mktemp("fuzz")) as home:
        tour = Tour(home)
        tour.walk()
        yield home, tour.left_behind()


def told(outcome: Outcome, number: int) -> str:
    faults = "\n\n".join(outcome.faults)
    return f"WAVEGATE_TEST_SEED={number}: {outcome.cases} requests, {dict(outcome.statuses)}\n\n{faults}"


def test_no_request_gets_an_answer_that_is_not_declared(toured: tuple[Home, dict[str, list[str]]]) -> None:
    number = int(os.environ.get("WAVEGATE_TEST_SEED", SEED))
    outcome = fuzz(*toured, cases=SHORT, seed_number=number)
    print(told(outcome, number))  # noqa: T201
    assert outcome.faults == [], told(outcome, number)
    assert outcome.cases >= SHORT


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_no_request_of_twenty_thousand_gets_an_answer_that_is_not_declared(
    toured: tuple[Home, dict[str, list[str]]],
) -> None:
    """Another seed every night; the one that found something is in the message."""
    number = int(os.environ.get("WAVEGATE_TEST_SEED", random.SystemRandom().randrange(2**32)))
    outcome = fuzz(*toured, cases=LONG, seed_number=number)
    print(told(outcome, number))  # noqa: T201
    assert outcome.faults == [], told(outcome, number)
    assert outcome.cases >= LONG
    assert len(outcome.reached) > 60  # operations that did what they are for
