"""Gates by measurement: what a number from outside must be before a wave passes, and when it pauses the rollout.

Nothing here fetches anything: readings are handed in. What was not measured, or not lately, is never good.
Source: docs/adr/0101-metrics-are-read-by-the-scheduler.md
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from rollout.reading import Faults, Reader

MAX_METRICS: Final = 20
MAX_QUERY: Final = 2_000  # characters
FRESH_FOR: Final = timedelta(minutes=5)  # an older reading says nothing about now
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_POINTER: Final = re.compile(r"(/([^~/\x00-\x1f]|~[01])*)*")
_LONGEST: Final = 7 * 24 * 3600  # seconds


class Op(StrEnum):
    """How each sample must stand to the threshold."""

    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="

    def holds(self, sample: float, threshold: float) -> bool:
        """Whether the sample does; NaN never does."""
        return _COMPARE[self](sample, threshold)


_COMPARE: Final[Mapping[Op, Callable[[float, float], bool]]] = {
    Op.LESS: operator.lt,
    Op.AT_MOST: operator.le,
    Op.MORE: operator.gt,
    Op.AT_LEAST: operator.ge,
}


class OnViolation(StrEnum):
    """What follows when a metric does not hold: the wave waits, or fails."""

    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Each sample of ``source`` must stand in ``op`` to ``threshold``.

    ``source`` names one that the server's operator configured. ``query`` is PromQL for a Prometheus server; ``path`` is
    a JSON pointer (RFC 6901) into what a check answers. One of the two is given. With ``on: fail`` the wave fails when
    the metric has not held for ``for_seconds`` on end.
    """

    name: str
    source: str
    op: Op
    threshold: float
    query: str | None = None
    path: str | None = None
    on: OnViolation = OnViolation.WAIT
    for_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a metric was at a moment: ``samples``, or why there are none. ``violated_since``: on end, by readings."""

    at: datetime
    samples: tuple[float, ...] = ()
    trouble: str = ""
    violated_since: datetime | None = None


def read_anew(metric: Metric, before: Reading | None, samples: Sequence[float], trouble: str, at: datetime) -> Reading:
    """The reading that follows ``before``. What could not be measured neither begins nor ends a violation."""
    since = None if before is None else before.violated_since
    if not trouble and not samples:
        trouble = "there are no samples"
    if not trouble:
        since = None if _holds(metric, samples) else since or at
    return Reading(at=at, samples=() if trouble else tuple(samples), trouble=trouble, violated_since=since)


def lacking(
    metrics: Sequence[Metric], readings: Mapping[str, Reading], *, since: datetime, now: datetime
) -> str | None:
    """The first metric that does not hold, in one line; None when all do. Readings before ``since`` do not count."""
    for metric in metrics:
        reading = readings.get(metric.name)
        if reading is None or reading.at < since:
            return f"metric {metric.name} was not measured yet"
        if now - reading.at > FRESH_FOR:
            return f"metric {metric.name} was last measured at {_clock(reading.at)}"
        if reading.trouble:
            return f"metric {metric.name} is not known: {reading.trouble}"
        if not _holds(metric, reading.samples):
            return f"metric {metric.name} is {_worst(metric, reading.samples)}, {metric.op} {metric.threshold:g} needed"
    return None


def violated(
    metrics: Sequence[Metric], readings: Mapping[str, Reading], *, since: datetime, now: datetime
) -> str | None:
    """The first metric that fails the wave, in one line; None when none does. Not knowing fails nothing."""
    for metric in metrics:
        reading = readings.get(metric.name)
        if metric.on is OnViolation.WAIT or reading is None or reading.trouble or reading.violated_since is None:
            continue
        if reading.at < since or now - reading.at > FRESH_FOR:
            continue
        lasted = reading.at - max(reading.violated_since, since)
        if lasted >= timedelta(seconds=metric.for_seconds):
            worst = _worst(metric, reading.samples)
            span = f" for {metric.for_seconds} s" if metric.for_seconds else ""
            return f"metric {metric.name} is {worst}, {metric.op} {metric.threshold:g} was missed{span}"
    return None


def metric_faults(where: str, metrics: Sequence[Metric]) -> Faults:
    """Every fault as (where, what); metrics count from 1."""
    faults: Faults = []
    if len(metrics) > MAX_METRICS:
        faults.append((where, f"expected at most {MAX_METRICS}, found {len(metrics)}"))
    seen: set[str] = set()
    for number, metric in enumerate(metrics[:MAX_METRICS], start=1):
        here = f"{where}.{number}"
        for field, text in (("name", metric.name), ("source", metric.source)):
            if _NAME.fullmatch(text) is None:
                faults.append((f"{here}.{field}", f"expected 1 to 63 of a-z 0-9 . _ -, found {text[:120]!r}"))
        if metric.name in seen:
            faults.append((f"{here}.name", f"{metric.name!r} is the name of an earlier metric, too"))
        seen.add(metric.name)
        if (metric.query is None) == (metric.path is None):
            faults.append(
                (here, f"expected either query or path, found {'neither' if metric.query is None else 'both'}")
            )
        if metric.query is not None and (not 1 <= len(metric.query) <= MAX_QUERY or not metric.query.isprintable()):
            faults.append((f"{here}.query", f"expected 1 to {MAX_QUERY} printable characters"))
        if metric.path is not None and (len(metric.path) > MAX_QUERY or _POINTER.fullmatch(metric.path) is None):
            faults.append((f"{here}.path", "expected a JSON pointer such as /status/errors"))
        if isinstance(metric.threshold, bool) or not math.isfinite(metric.threshold):
            faults.append((f"{here}.threshold", f"expected a number, found {metric.threshold}"))
        if isinstance(metric.for_seconds, bool) or not 0 <= metric.for_seconds <= _LONGEST:
            faults.append((f"{here}.for_seconds", f"expected 0 to {_LONGEST}, found {metric.for_seconds}"))
        elif metric.for_seconds and metric.on is OnViolation.WAIT:
            faults.append((f"{here}.for_seconds", "expected on: fail beside it: nothing else lasts"))
    return faults


def metric_to_dict(metric: Metric) -> dict[str, object]:
    """JSON form of a metric in a gate."""
    return {
        "name": metric.name,
        "source": metric.source,
        "op": metric.op.value,
        "threshold": metric.threshold,
        "query": metric.query,
        "path": metric.path,
        "on": metric.on.value,
        "for_seconds": metric.for_seconds,
    }


def read_metric(one: Reader) -> Metric:
    """Read what :func:`metric_to_dict` wrote; faults go to the reader."""
    return Metric(
        name=one.text("name"),
        source=one.text("source"),
        op=Op(one.one_of("op", list(Op))),
        threshold=one.decimal("threshold"),
        query=one.text_or_none("query"),
        path=one.text_or_none("path"),
        on=OnViolation(one.one_of("on", list(OnViolation))),
        for_seconds=one.number("for_seconds"),
    )


def _holds(metric: Metric, samples: Sequence[float]) -> bool:
    return bool(samples) and all(metric.op.holds(sample, metric.threshold) for sample in samples)


def _worst(metric: Metric, samples: Sequence[float]) -> str:
    bad = [sample for sample in samples if not metric.op.holds(sample, metric.threshold)]
    most = max(bad) if metric.op in (Op.LESS, Op.AT_MOST) else min(bad)
    return f"{most:g}" if len(samples) == 1 else f"{most:g} ({len(bad)} of {len(samples)} samples)"


def _clock(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
