"""Plans: what makes one valid, and reading one back from its JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rollout.budget import Budget, budget_faults, read_budget
from rollout.errors import InvalidPlan
from rollout.metrics import metric_faults, read_metric
from rollout.model import Advance, ArtifactRef, Gate, Plan, Priority, Requirement, RetryPolicy, Silent, WavePlan
from rollout.reading import Faults, Reader
from rollout.versions import is_rule
from rollout.windows import InvalidWindow, Window, window_faults, window_from_dict

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
MAX_WAVES: Final = 500
MAX_APPROVALS: Final = 20
MAX_COUNT: Final = 1_000_000_000  # devices; beyond any fleet, within every database's integers
MAX_SPAN_SECONDS: Final = 366 * 24 * 3600
MAX_NOTE_LENGTH: Final = 2_000  # characters
MAX_RULES: Final = 100  # from-versions, requirements, rollouts to wait for, failure codes: each
MAX_RETRIES: Final = 10
_CODE: Final = re.compile(r"[a-z0-9_]{1,64}")
_ROLLOUT: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What an operator asks for; the service adds the artifacts of the release and makes a plan of it."""

    product: str
    version: str
    waves: tuple[WavePlan, ...]
    channel: str = "stable"
    keep_open: bool = True
    allow_downgrade: bool = False
    note: str = ""
    from_versions: tuple[str, ...] = ()
    requires: tuple[Requirement, ...] = ()
    after: tuple[str, ...] = ()
    window: Window | None = None
    spread_seconds: int = 0
    retry: RetryPolicy | None = None
    ignores_freeze: bool = False
    priority: Priority = Priority.NORMAL
    budget: Budget | None = None

    def with_artifacts(self, artifacts: Mapping[str, ArtifactRef]) -> Plan:
        """The plan that carries these artifacts, by platform."""
        return Plan(
            product=self.product,
            version=self.version,
            channel=self.channel,
            artifacts=dict(artifacts),
            waves=self.waves,
            keep_open=self.keep_open,
            allow_downgrade=self.allow_downgrade,
            note=self.note,
            from_versions=self.from_versions,
            requires=self.requires,
            after=self.after,
            window=self.window,
            spread_seconds=self.spread_seconds,
            retry=self.retry,
            ignores_freeze=self.ignores_freeze,
            priority=self.priority,
            budget=self.budget,
        )


def is_plain_text(text: str) -> bool:
    """Whether people can read the text and every store can keep it: no control characters, no lone surrogates."""
    return _CONTROL.search(text) is None


def made_plain(text: str) -> str:
    """The text with a space for everything that :func:`is_plain_text` refuses."""
    return _CONTROL.sub(" ", text)


def check_plan(plan: Plan) -> None:
    """Raise InvalidPlan with every fault of the plan at once."""
    faults = plan_faults(plan)
    if faults:
        raise InvalidPlan(faults)


def plan_faults(plan: Plan) -> Faults:
    """Every fault as (where, what), e.g. ``("waves.2.percent", "expected 1 to 100, found 0")``; waves count from 1."""
    faults: Faults = []
    for where, text in (("product", plan.product), ("version", plan.version), ("channel", plan.channel)):
        _check_slug(where, text, faults)
    if not plan.artifacts:
        faults.append(("artifacts", "expected at least one signed artifact, found none"))
    if len(plan.note) > MAX_NOTE_LENGTH or not is_plain_text(plan.note):
        faults.append(("note", f"expected at most {MAX_NOTE_LENGTH} characters without control characters"))
    if not 1 <= len(plan.waves) <= MAX_WAVES:
        faults.append(("waves", f"expected 1 to {MAX_WAVES} waves, found {len(plan.waves)}"))
    faults.extend(wave_faults(plan.waves))
    _check_rules(plan, faults)
    return faults


def wave_faults(waves: Sequence[WavePlan]) -> Faults:
    """Every fault of the waves, as :func:`plan_faults` tells it."""
    faults: Faults = []
    widest: dict[str, float] = {}
    most: dict[str, int] = {}
    for number, wave in enumerate(waves[:MAX_WAVES], start=1):
        where = f"waves.{number}"
        _check_slug(f"{where}.group", wave.group, faults)
        if wave.count is None:
            _check_percent(f"{where}.percent", wave, widest, faults)
        else:
            _check_count(f"{where}.count", wave, most, widest, faults)
        _check_gate(f"{where}.gate", wave.gate, faults)
    return faults


def _check_percent(where: str, wave: WavePlan, widest: dict[str, float], faults: Faults) -> None:
    if isinstance(wave.percent, bool) or not 0.01 <= wave.percent <= 100:
        faults.append((where, f"expected 0.01 to 100, found {wave.percent}"))
        return
    if round(wave.percent, 2) != wave.percent:
        faults.append((where, f"expected at most two decimals, found {wave.percent}"))
    before = widest.get(wave.group, 0)
    if wave.percent <= before:
        # Cohorts only grow: a wave that reaches nobody new would never have anything to report.
        faults.append((where, f"expected more than the {before} % an earlier wave of {wave.group!r} reaches"))
    widest[wave.group] = max(before, wave.percent)


def _check_count(where: str, wave: WavePlan, most: dict[str, int], widest: dict[str, float], faults: Faults) -> None:
    count = 0 if wave.count is None else wave.count
    _check_range(where, count, 1, MAX_COUNT, faults)
    if wave.percent != 100:
        faults.append((where, "expected either count or percent, found both"))
    before = most.get(wave.group, 0)
    if 1 <= count <= before:
        faults.append((where, f"expected more than the {before} an earlier wave of {wave.group!r} reaches"))
    if wave.group in widest:
        # Which of the two is larger would depend on the group's size on the day.
        faults.append((where, f"an earlier wave of {wave.group!r} is told in percent; a count comes before those"))
    most[wave.group] = max(count, before)


def _check_rules(plan: Plan, faults: Faults) -> None:
    for where, listed in (
        ("from_versions", plan.from_versions),
        ("requires", plan.requires),
        ("after", plan.after),
        ("retry.codes", () if plan.retry is None else plan.retry.codes),
    ):
        if len(listed) > MAX_RULES:
            faults.append((where, f"expected at most {MAX_RULES}, found {len(listed)}"))
    for number, rule in enumerate(plan.from_versions[:MAX_RULES], start=1):
        if not is_rule(rule):
            faults.append(
                (f"from_versions.{number}", f"expected a version or bounds as >=1.2,<2, found {rule[:120]!r}")
            )
    for number, one in enumerate(plan.requires[:MAX_RULES], start=1):
        _check_slug(f"requires.{number}.product", one.product, faults)
        _check_slug(f"requires.{number}.at_least", one.at_least, faults)
        if one.product == plan.product:
            faults.append((f"requires.{number}.product", "expected another product; from_versions is for this one"))
    for number, other in enumerate(plan.after[:MAX_RULES], start=1):
        if _ROLLOUT.fullmatch(other) is None:
            faults.append((f"after.{number}", f"expected a rollout's id, found {other[:120]!r}"))
    if plan.window is not None:
        faults.extend(("window", what) for what in window_faults(plan.window, local_is_known=True))
    _check_range("spread_seconds", plan.spread_seconds, 0, MAX_SPAN_SECONDS, faults)
    for number, wave in enumerate(plan.waves, start=1):
        timeout = wave.gate.report_timeout_seconds
        if plan.spread_seconds and timeout is not None and timeout <= plan.spread_seconds:
            where = f"waves.{number}.gate.report_timeout_seconds"
            faults.append((where, "expected more than spread_seconds: devices that begin last would be silent"))
    if plan.budget is not None:
        faults.extend(budget_faults(plan.budget))
    if plan.retry is not None:
        _check_range("retry.count", plan.retry.count, 1, MAX_RETRIES, faults)
        _check_range("retry.backoff_seconds", plan.retry.backoff_seconds, 0, MAX_SPAN_SECONDS, faults)
        for number, code in enumerate(plan.retry.codes[:MAX_RULES], start=1):
            if _CODE.fullmatch(code) is None:
                faults.append((f"retry.codes.{number}", f"expected a failure code of a-z 0-9 _, found {code[:120]!r}"))


def plan_from_dict(fields: Mapping[str, object]) -> Plan:
    """Read what ``rollout.model.plan_to_dict`` wrote; raises InvalidPlan for a missing, unknown or mistyped field.

    Only the form is checked: a stored plan stays readable when :func:`check_plan` learns new rules.
    """
    reader = Reader(fields, "")
    artifacts = {
        platform: ArtifactRef(
            id=one.text("id"), path=one.text("path"), length=one.number("length"), sha256=one.text("sha256")
        )
        for platform, one in reader.named("artifacts").items()
    }
    waves = tuple(_read_wave(one) for one in reader.listed("waves"))
    plan = Plan(
        product=reader.text("product"),
        version=reader.text("version"),
        channel=reader.text("channel"),
        artifacts=artifacts,
        waves=waves,
        keep_open=reader.flag("keep_open"),
        allow_downgrade=reader.flag("allow_downgrade"),
        note=reader.text("note"),
        from_versions=reader.texts("from_versions") if reader.has("from_versions") else (),
        requires=tuple(
            Requirement(product=one.text("product"), at_least=one.text("at_least"))
            for one in (reader.listed("requires") if reader.has("requires") else ())
        ),
        after=reader.texts("after") if reader.has("after") else (),
        window=_read_window(reader) if reader.has("window") else None,
        spread_seconds=reader.number("spread_seconds") if reader.has("spread_seconds") else 0,
        retry=_read_retry(reader.inner("retry")) if reader.has("retry") else None,
        ignores_freeze=reader.flag("ignores_freeze") if reader.has("ignores_freeze") else False,
        priority=Priority(reader.one_of("priority", list(Priority))) if reader.has("priority") else Priority.NORMAL,
        budget=read_budget(reader.inner("budget")) if reader.has("budget") else None,
    )
    reader.finish()
    return plan


def gate_from_dict(fields: Mapping[str, object]) -> Gate:
    """Read what ``rollout.model.gate_to_dict`` wrote, as strictly as :func:`plan_from_dict`."""
    reader = Reader(fields, "")
    gate = _read_gate(reader)
    reader.finish()
    return gate


def wave_from_dict(fields: Mapping[str, object]) -> WavePlan:
    """Read what ``rollout.model.wave_to_dict`` wrote, as strictly as :func:`plan_from_dict`."""
    reader = Reader(fields, "")
    wave = _read_wave(reader)
    reader.finish()
    return wave


def _read_wave(one: Reader) -> WavePlan:
    return WavePlan(
        group=one.text("group"),
        percent=one.decimal("percent"),
        gate=_read_gate(one.inner("gate")),
        count=one.number("count") if one.has("count") else None,
    )


def _read_retry(one: Reader) -> RetryPolicy:
    return RetryPolicy(
        count=one.number("count"), backoff_seconds=one.number("backoff_seconds"), codes=one.texts("codes")
    )


def _read_window(reader: Reader) -> Window | None:
    try:
        return window_from_dict(reader.mapping("window"))
    except InvalidWindow as error:
        reader.fault("window", str(error))
        return None


def _read_gate(reader: Reader) -> Gate:
    return Gate(
        approvals=reader.number("approvals"),
        not_before=reader.time_or_none("not_before"),
        soak_seconds=reader.number("soak_seconds"),
        success_percent=reader.number("success_percent"),
        min_reports=reader.number("min_reports"),
        max_failures=reader.number_or_none("max_failures"),
        max_failure_rate_percent=reader.number_or_none("max_failure_rate_percent"),
        deadline_seconds=reader.number_or_none("deadline_seconds"),
        advance=Advance(reader.one_of("advance", list(Advance))) if reader.has("advance") else Advance.AUTO,
        report_timeout_seconds=reader.number_or_none("report_timeout_seconds")
        if reader.has("report_timeout_seconds")
        else None,
        silent=Silent(reader.one_of("silent", list(Silent))) if reader.has("silent") else Silent.FAIL,
        metrics=tuple(read_metric(one) for one in (reader.listed("metrics") if reader.has("metrics") else ())),
    )


def _check_gate(where: str, gate: Gate, faults: Faults) -> None:
    _check_range(f"{where}.approvals", gate.approvals, 0, MAX_APPROVALS, faults)
    _check_range(f"{where}.soak_seconds", gate.soak_seconds, 0, MAX_SPAN_SECONDS, faults)
    _check_range(f"{where}.success_percent", gate.success_percent, 1, 100, faults)
    _check_range(f"{where}.min_reports", gate.min_reports, 1, MAX_COUNT, faults)
    if gate.max_failures is not None:
        _check_range(f"{where}.max_failures", gate.max_failures, 1, MAX_COUNT, faults)
    if gate.max_failure_rate_percent is not None:
        _check_range(f"{where}.max_failure_rate_percent", gate.max_failure_rate_percent, 0, 100, faults)
    if gate.deadline_seconds is not None:
        _check_range(f"{where}.deadline_seconds", gate.deadline_seconds, 1, MAX_SPAN_SECONDS, faults)
        if gate.deadline_seconds < gate.soak_seconds:
            faults.append(
                (f"{where}.deadline_seconds", "expected no less than soak_seconds: the wave could never pass")
            )
    _check_silence(where, gate, faults)
    faults.extend(metric_faults(f"{where}.metrics", gate.metrics))
    if gate.not_before is not None and gate.not_before.utcoffset() != timedelta(0):
        faults.append((f"{where}.not_before", "expected a time in UTC"))


def _check_silence(where: str, gate: Gate, faults: Faults) -> None:
    if gate.report_timeout_seconds is None:
        if gate.silent is not Silent.FAIL:
            faults.append((f"{where}.silent", "expected report_timeout_seconds beside it: without, nobody is silent"))
        return
    _check_range(f"{where}.report_timeout_seconds", gate.report_timeout_seconds, 1, MAX_SPAN_SECONDS, faults)
    if gate.deadline_seconds is not None and gate.report_timeout_seconds >= gate.deadline_seconds:
        faults.append(
            (f"{where}.report_timeout_seconds", "expected less than deadline_seconds: nobody would ever be silent")
        )


def _check_slug(where: str, text: str, faults: Faults) -> None:
    if SLUG.fullmatch(text) is None:
        faults.append(
            (where, f"expected 1 to 100 of a-z 0-9 . _ + -, beginning with a letter or digit, found {text!r}")
        )


def _check_range(where: str, number: int, least: int, most: int, faults: Faults) -> None:
    if isinstance(number, bool) or not least <= number <= most:
        faults.append((where, f"expected {least} to {most}, found {number}"))
