"""The Wilson interval beside a rate; expected values from the closed form, as published tables have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.interval import Rate, rate


@pytest.mark.parametrize(
    ("hits", "results", "percent", "low", "high"),
    [
        (8, 8, 100.0, 67.6, 100.0),
        (0, 8, 0.0, 0.0, 32.4),
        (1, 1, 100.0, 20.7, 100.0),
        (1, 10, 10.0, 1.8, 40.4),
        (5, 10, 50.0, 23.7, 76.3),
        (81, 263, 30.8, 25.5, 36.6),
        (999, 1000, 99.9, 99.4, 100.0),
    ],
)
def test_a_rate_has_its_95_percent_interval(hits: int, results: int, percent: float, low: float, high: float) -> None:
    assert rate(hits, results) == Rate(hits, results, percent, low, high)


def test_no_result_gives_no_rate() -> None:
    assert rate(0, 0) is None


@given(st.integers(1, 10**9), st.data())
def test_the_interval_holds_the_rate_and_stays_within_0_and_100(results: int, data: st.DataObject) -> None:
    found = rate(data.draw(st.integers(0, results)), results)
    assert found is not None
    assert 0 <= found.low <= found.percent <= found.high <= 100
