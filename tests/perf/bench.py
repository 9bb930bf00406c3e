"""``make bench``: what the product costs, as ratios against public yardsticks, measured in one run.

Ratios are of CPU seconds (user and system), medians of pairs that run in turn. Goals and their reasons stand in the
design; a missed goal is printed and fails the run only with ``--check``. An error ends with exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.perf.measure import Result

BENCHES: Final = {  # modules, each with `measure(folder) -> list[Result]`; imported when their turn comes
    "start": "tests.perf.start_up",
    "large": "tests.perf.large_publish",
    "many": "tests.perf.many_artifacts",
    "scale": "tests.perf.scale",
    "batch": "tests.perf.batch",
    "ingest": "tests.perf.ingest",
    "idle": "tests.perf.idle_client",
    "agent": "tests.perf.agent_cost",
    "fleet": "tests.perf.fleet_scale",
    "port": "tests.perf.device_port",
    "poll": "tests.perf.poll",
    "api": "tests.perf.api_reads",
}
RESULTS: Final = Path("bench-results.json")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("--check", action="store_true", help="end with exit code 1 when a goal is missed")
    arguments.add_argument("--only", choices=BENCHES, action="append", help="run this one; repeat for more")
    chosen = arguments.parse_args()

    results: list[Result] = []
    for name in chosen.only or BENCHES:
        sys.stderr.write(f"bench: {name}\n")
        with tempfile.TemporaryDirectory(prefix=f"wavegate-bench-{name}-") as folder:
            results += importlib.import_module(BENCHES[name]).measure(Path(folder))
    _write(results)
    _show(results)
    return 1 if chosen.check and not all(result.is_met for result in results) else 0


def _write(results: list[Result]) -> None:
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "results": [
            {
                "name": result.name,
                "value": round(result.value, 3),
                "goal": result.goal,
                "unit": result.unit,
                "met": result.is_met,
                "detail": result.detail,
            }
            for result in results
        ],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


def _show(results: list[Result]) -> None:
    table = Table("what", "measured", "goal", "", "detail")
    for result in results:
        met = "[green]met[/]" if result.is_met else "[red]missed[/]"
        goal, met = ("none", "") if result.goal is None else (f"≤ {result.goal:g} {result.unit}", met)
        table.add_row(result.name, f"{result.value:.2f} {result.unit}", goal, met, result.detail)
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(table)
    console.print(f"written to {RESULTS}")


if __name__ == "__main__":
    sys.exit(main())
