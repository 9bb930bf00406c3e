"""How far a rate of few results can be trusted: the Wilson score interval, shown beside the raw rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

Z_95: Final = 1.959963984540054  # standard normal quantile of 0.975: 95 % of intervals made so hold the true rate


@dataclass(frozen=True, slots=True)
class Rate:
    """``hits`` of ``results`` in percent, and the 95 % interval around it; each 0 to 100, to one decimal."""

    hits: int
    results: int
    percent: float
    low: float
    high: float


def rate(hits: int, results: int) -> Rate | None:
    """The rate of ``hits`` among ``results``; None where there is no result to speak of.

    Source: E. B. Wilson, "Probable inference" (1927); unlike the normal interval it stays sensible at 0 and 100 % and
    with a handful of results, which is where a canary wave is judged.
    """
    if results <= 0:
        return None
    share = hits / results
    square = Z_95 * Z_95
    centre = share + square / (2 * results)
    reach = Z_95 * sqrt(share * (1 - share) / results + square / (4 * results * results))
    whole = 1 + square / results
    return Rate(
        hits=hits,
        results=results,
        percent=round(100 * share, 1),
        low=round(max(0.0, 100 * (centre - reach) / whole), 1),
        high=round(min(100.0, 100 * (centre + reach) / whole), 1),
    )
