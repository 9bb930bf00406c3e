"""How one device's report moves its row, and what a row adds to its wave's counters."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from rollout.cohort import bucket, reach_of
from rollout.documents import opened
from rollout.errors import ReportRefused
from rollout.model import Counters, DeviceProgress, Progress, Report, Rollout, State

MAX_CODE_LENGTH: Final = 64  # characters
MAX_DETAIL_LENGTH: Final = 1_000  # characters
MAX_REPORT_ID_LENGTH: Final = 100  # characters
_ORDER: Final = {progress: place for place, progress in enumerate(Progress)}
_RESULTS: Final = frozenset({Progress.SUCCEEDED, Progress.FAILED, Progress.ROLLED_BACK})
_UNSTORABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def wave_of(rollout: Rollout, device: str, groups: frozenset[str]) -> int | None:
    """The first opened wave that reaches a device with these groups; None when none does."""
    place = bucket(rollout.salt, device)
    for number, (plan, wave) in enumerate(zip(rollout.plan.waves, rollout.waves, strict=True), start=1):
        if opened(wave) and plan.group in groups and place < reach_of(plan, wave):
            return number
    return None


def advance(
    rollout: Rollout, row: DeviceProgress | None, report: Report, device: str, groups: frozenset[str]
) -> DeviceProgress | None:
    """The device's row after a report, or None when the report is known, late or out of order and moves nothing.

    A device stays in the wave it first reported in, also when it changes groups while it works. Within an attempt it
    moves along ``Progress`` only; a higher attempt begins anew, a lower one is over. Each attempt counts at most one
    result and one failure.

    Raises:
        ReportRefused: No opened wave reaches the device, or the attempt was never offered to it.
    """
    if not 1 <= len(report.id) <= MAX_REPORT_ID_LENGTH or _UNSTORABLE.search(report.id):
        raise ReportRefused(f"a report id has 1 to {MAX_REPORT_ID_LENGTH} printable characters")
    wave = row.wave if row is not None else wave_of(rollout, device, groups)
    if wave is None:
        raise ReportRefused(f"no opened wave of {rollout.id} reaches {device}; it must wait for a signed decision")
    offered = rollout.attempt_for(device) + rollout.plan.tries - 1
    if not 1 <= report.attempt <= offered:
        raise ReportRefused(f"attempt {report.attempt} of {rollout.id} was not offered to {device}, at most {offered}")
    before = row if row is not None and row.attempt == report.attempt else None
    if row is not None and (report.id == row.last_report or report.attempt < row.attempt):
        return None
    if before is not None and _ORDER[report.progress] <= _ORDER[before.progress]:
        return None
    finished_before = before is not None and before.progress in _RESULTS
    failed_before = before is not None and before.progress is Progress.FAILED
    after = DeviceProgress(
        device=device,
        wave=wave,
        attempt=report.attempt,
        progress=report.progress,
        at=report.at,
        code=_UNSTORABLE.sub(" ", report.code)[:MAX_CODE_LENGTH],
        detail=_UNSTORABLE.sub(" ", report.detail)[:MAX_DETAIL_LENGTH],
        failures=0 if row is None else row.failures,
        finishes=0 if row is None else row.finishes,
        last_report=report.id,
    )
    if report.progress in _RESULTS and not finished_before:
        after = replace(after, finishes=after.finishes + 1)
    if _is_failure(rollout, report.progress) and not failed_before:
        after = replace(after, failures=after.failures + 1)
    return after


def counted(row: DeviceProgress | None) -> Counters:
    """What one row adds to the counters of its wave; nothing for a device that has not reported."""
    if row is None:
        return Counters()
    return Counters(
        acting=1,
        succeeded=int(row.progress is Progress.SUCCEEDED),
        failed=int(row.progress is Progress.FAILED),
        rolled_back=int(row.progress is Progress.ROLLED_BACK),
        failures=row.failures,
        finishes=row.finishes,
    )


def moved(counters: Counters, before: DeviceProgress | None, after: DeviceProgress) -> Counters:
    """The wave's counters once a row of it has changed from ``before`` to ``after``."""
    old, new = counted(before), counted(after)
    return Counters(
        acting=counters.acting + new.acting - old.acting,
        succeeded=counters.succeeded + new.succeeded - old.succeeded,
        failed=counters.failed + new.failed - old.failed,
        rolled_back=counters.rolled_back + new.rolled_back - old.rolled_back,
        failures=counters.failures + new.failures - old.failures,
        finishes=counters.finishes + new.finishes - old.finishes,
    )


def _is_failure(rollout: Rollout, progress: Progress) -> bool:
    """Rolling back is a failure too, unless a brake asked for it."""
    if progress is Progress.ROLLED_BACK:
        asked_to = rollout.rolled_back_because is not None
        return not asked_to and rollout.state in {State.RUNNING, State.WAITING, State.COMPLETED}
    return progress is Progress.FAILED
