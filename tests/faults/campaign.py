"""Many faults of one kind in one command, each on a home of its own, and the verdict on all of them together."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tests.faults.home import Case, Template
from tests.faults.injector import SPACE_TAKING, Ended, Injector, Point
from tests.faults.one_shot import DONE, REFUSED, Order

T = TypeVar("T")

# A kill before, or a failure of, each call that changes a file; a kill within each write; a file that cannot be opened.
KINDS: Final = ("kill", "torn", "EIO", "ENOSPC", "unreadable")


@dataclass(frozen=True)
class Verdict:
    """How many points were hit, in how many the fault bit (a torn or failed call that was forgiven does not), and
    what went wrong, in words."""

    points: int
    bitten: int
    wrong: list[str]


class Campaign:
    """Faults of every kind in the processes of one injector."""

    def __init__(self, template: Template, injector: Injector) -> None:
        self._template = template
        self._injector = injector

    def run(self, command: str, kind: str, *, at_most: int | None) -> Verdict:
        """Hit every point, or ``at_most`` so many, evenly spread over the run."""
        faults = spread(list(self._faults(command, kind)), at_most)
        bitten, wrong = 0, []
        for number, (words, hit) in enumerate(faults):
            case = self._template.copy(command)
            try:
                ended = hit(case)
                bitten += ended.code != DONE
                self._judge(case, command, kind, ended, recover_first=number % 2 == 0)
            except Exception:  # noqa: BLE001 - every point is to be judged
                wrong.append(f"{command}, {kind} at {words}: {traceback.format_exc(limit=-3)}")
            shutil.rmtree(case.folder)
        self._template.check_untouched()
        return Verdict(len(faults), bitten, wrong)

    def _judge(self, case: Case, command: str, kind: str, ended: Ended, *, recover_first: bool) -> None:
        if kind in ("kill", "torn"):
            assert ended.was_killed, f"the fault did not bite: {ended}"
        else:
            assert ended.code in (DONE, REFUSED), f"not a clear message: {ended.told}"
        case.check_survived(command, acknowledged=ended.code == DONE, recover_first=recover_first)

    def _faults(self, command: str, kind: str) -> Iterable[tuple[str, Callable[[Case], Ended]]]:
        trial = self._template.copy(command)
        points = self._injector.points(trial.order(command), trial.folder / "log")
        shutil.rmtree(trial.folder)
        if kind == "torn":
            writes = sum(point.call == "write" for point in points)
            return [(f"write no. {at}", self._torn(command, at)) for at in range(writes)]
        points = [point for point in points if point.is_change != (kind == "unreadable")]
        if kind == "ENOSPC":
            points = [point for point in points if point.call in SPACE_TAKING]
        return [(str(point), self._at(command, kind, point)) for point in points]

    def _torn(self, command: str, at: int) -> Callable[[Case], Ended]:
        return lambda case: self._injector.run(case.order(command, torn_at=at))

    def _at(self, command: str, kind: str, point: Point) -> Callable[[Case], Ended]:
        def hit(case: Case) -> Ended:
            order: Order = case.order(command)
            if kind == "kill":
                return self._injector.kill_at(order, point)
            # A full disk stays full; but for `openat`, which also reads, and reading needs no space.
            stays = kind == "ENOSPC" and point.call != "openat"
            return self._injector.fail_at(order, point, "EIO" if kind == "unreadable" else kind, from_then_on=stays)

        return hit


def spread(items: Sequence[T], at_most: int | None) -> list[T]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if at_most is None or len(items) <= at_most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (at_most - 1))] for number in range(at_most)]
