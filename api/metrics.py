"""Reads the metrics that gates of open waves ask for, from sources that the server's operator configured.

A plan names a source and says what to read there; where that is, and with which token, no plan can say. One bounded
request without redirects for each metric, outside of every transaction; whatever goes wrong is a reading of its own.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from api.settings import MetricSource
from rollout.metrics import Metric, Reading, read_anew
from rollout.model import Rollout, State
from rollout.ports import Rollouts

MEASURE_EVERY: Final = timedelta(seconds=10)
ANSWER_SECONDS: Final = 5.0  # for a whole answer, however it drips
MAX_ANSWER: Final = 1024 * 1024  # bytes
MAX_SAMPLES: Final = 1_000
_AT_ONCE: Final = 8  # requests


class NotMeasured(Exception):
    """Why there is no reading, in one line; never a token."""


class Readings(Protocol):
    """Readings at rest; ``store.readings.SqlReadings`` fulfils it."""

    def of(self, rollout: Rollout) -> Mapping[str, Reading]:
        """Of the wave that the rollout is at, by name."""

    def keep(self, rollout: Rollout, readings: Mapping[str, Reading]) -> None:
        """Put these in place of those before."""


class Measurer:
    """Measures for every rollout with an open wave; one process at a time should (the one that judges)."""

    def __init__(self, sources: Mapping[str, MetricSource], rollouts: Rollouts, readings: Readings) -> None:
        self._sources = sources
        self._rollouts = rollouts
        self._readings = readings

    def turn(self, org: str, now: datetime) -> int:
        """Measure what was not measured for ten seconds; how many readings were taken. The same is read once."""
        wanted: list[tuple[Rollout, Metric, Reading | None]] = []
        for rollout_id in self._rollouts.moving(org):
            rollout = self._rollouts.get(org, rollout_id)
            if rollout.state is not State.RUNNING:
                continue
            metrics = rollout.plan.waves[rollout.wave - 1].gate.metrics
            known = self._readings.of(rollout) if metrics else {}
            for metric in metrics:
                before = known.get(metric.name)
                if before is None or now - before.at >= MEASURE_EVERY:
                    wanted.append((rollout, metric, before))
        if not wanted:
            return 0
        questions = list(dict.fromkeys((one.source, one.query, one.path) for _, one, _ in wanted))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wavegate-metric") as pool:
            answers = dict(zip(questions, pool.map(self._answer, questions), strict=True))
        taken: dict[str, dict[str, Reading]] = {}
        for rollout, metric, before in wanted:
            samples, trouble = answers[metric.source, metric.query, metric.path]
            taken.setdefault(rollout.id, {})[metric.name] = read_anew(metric, before, samples, trouble, now)
        for rollout in {rollout.id: rollout for rollout, _, _ in wanted}.values():
            self._readings.keep(rollout, taken[rollout.id])
        return len(wanted)

    def _answer(self, question: tuple[str, str | None, str | None]) -> tuple[Sequence[float], str]:
        name, query, path = question
        source = self._sources.get(name)
        if source is None:
            return (), f"the server has no metric source {name}"
        try:
            if query is not None:
                told = fetch(source, f"{source.url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}")
                return prometheus_samples(told), ""
            return [pointed(fetch(source, source.url), path or "")], ""
        except NotMeasured as why:
            return (), f"{name}: {why}"


def fetch(source: MetricSource, url: str) -> object:
    """GET one JSON value of at most 1 MiB within five seconds, following nothing; raises NotMeasured."""
    headers = {"Accept": "application/json", "User-Agent": "wavegate-metrics"}
    if source.bearer_token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {source.bearer_token_file.read_text('utf-8').strip()}"
        except (OSError, UnicodeDecodeError):
            raise NotMeasured("its token file cannot be read") from None
    deadline = time.monotonic() + ANSWER_SECONDS
    with urllib3.PoolManager(timeout=urllib3.Timeout(total=ANSWER_SECONDS)) as pool:
        try:
            answer = pool.request("GET", url, headers=headers, redirect=False, retries=False, preload_content=False)
            try:
                content = _whole(answer, deadline)
            finally:
                answer.close()
        except (HTTPError, ValueError, OSError) as error:
            raise NotMeasured(f"no answer ({type(error).__name__})") from None
    if answer.status != 200:
        raise NotMeasured(f"it answers with status {answer.status}")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise NotMeasured("its answer is no JSON") from None


def prometheus_samples(told: object) -> list[float]:
    """Samples of an instant query: one of a scalar, all of a vector, none of an empty one; raises NotMeasured.

    Source: Prometheus, "HTTP API", expression query result formats.
    """
    data = told.get("data") if isinstance(told, dict) and told.get("status") == "success" else None
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "scalar":
        return [_sample(result)]
    if kind != "vector" or not isinstance(result, list):
        raise NotMeasured("its answer is neither a scalar nor an instant vector")
    if len(result) > MAX_SAMPLES:
        raise NotMeasured(f"it has {len(result)} samples, at most {MAX_SAMPLES} are looked at; aggregate them")
    return [_sample(one.get("value") if isinstance(one, dict) else None) for one in result]


def pointed(told: object, pointer: str) -> float:
    """The number that a JSON pointer names; true and false are 1 and 0; raises NotMeasured."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(told, dict) and key in told:
            told = told[key]
        elif isinstance(told, list) and key.isascii() and key.isdecimal() and int(key[:9]) < len(told):
            told = told[int(key[:9])]
        else:
            raise NotMeasured(f"its answer has nothing at {pointer}")
    return _finite(told)


def _whole(answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    content = bytearray()
    while piece := answer.read1(65_536):
        content += piece
        if len(content) > MAX_ANSWER:
            raise NotMeasured(f"its answer is longer than {MAX_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise NotMeasured(f"its answer took longer than {ANSWER_SECONDS:g} s")
    return bytes(content)


def _sample(told: object) -> float:
    if not isinstance(told, list) or len(told) != 2 or not isinstance(told[1], str):
        raise NotMeasured("a sample of its answer is no pair of time and value")
    try:
        return _finite(float(told[1]))
    except ValueError:
        raise NotMeasured("a sample of its answer is no number") from None


def _finite(told: object) -> float:
    if not isinstance(told, int | float):
        raise NotMeasured(f"there is no number but {type(told).__name__}")
    try:
        number = float(told)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise NotMeasured("the number is infinite or NaN")
    return number
