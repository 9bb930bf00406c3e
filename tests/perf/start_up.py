"""``publish --help`` against ``python -c pass``: what every call of the command costs before it does anything."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Final

from cli.demo.product import foreign_variables, installed
from tests.perf.measure import Result, cost_of, paired

PAIRS: Final = 21
GOAL: Final = 6.0


def measure(folder: Path) -> list[Result]:
    variables = foreign_variables()
    publish = [installed("publish"), "--help"]
    bare = [sys.executable, "-c", "pass"]
    cost_of(publish, env=variables, cwd=folder)  # the first start compiles and fills the page cache
    ratio, ours, theirs = paired(
        lambda: cost_of(publish, env=variables, cwd=folder).cpu_seconds,
        lambda: cost_of(bare, env=variables, cwd=folder).cpu_seconds,
        PAIRS,
    )
    detail = f"{median(ours) * 1000:.0f} ms against {median(theirs) * 1000:.0f} ms, {PAIRS} pairs"
    return [Result("publish --help / python -c pass", ratio, GOAL, "x", detail)]
