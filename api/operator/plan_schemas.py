"""What a plan is made of, as the routes speak it: gates, waves, windows, templates, rules for devices."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.operator.artifacts import Segment
from api.operator.routes import Body, Moment
from rollout import metrics, model, windows
from rollout.templates import Call

Percent = Annotated[int | float, Field(ge=0.01, le=100, description="share of the group, up to two decimals")]


class Metric(Body):
    """What a number must be: every sample of it. Sources are named by the server's operator."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    source: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", examples=["production"])
    query: str | None = Field(None, max_length=2_000, description="PromQL, of a Prometheus server")
    path: str | None = Field(None, max_length=2_000, description="JSON pointer into the answer of a check, instead")
    op: metrics.Op
    threshold: float
    on: metrics.OnViolation = Field(metrics.OnViolation.WAIT, description="`fail`: pauses the rollout")
    for_seconds: int = Field(0, ge=0, le=604_800, description="with `on: fail`: only when it did not hold so long")


class Gate(Body):
    """What must hold before a wave opens, passes, or pauses the rollout; `null` switches a rule off."""

    approvals: int = Field(0, ge=0, le=20, description="distinct people, the creator excluded")
    not_before: Moment | None = None
    soak_seconds: int = Field(0, ge=0, le=31_536_000, description="least time the wave runs before it may pass")
    success_percent: int = Field(90, ge=1, le=100, description="of the wave's acting devices")
    min_reports: int = Field(1, ge=1, le=1_000_000, description="results needed before judging")
    max_failures: int | None = Field(None, ge=1, le=1_000_000, description="pauses at this many failures")
    max_failure_rate_percent: int | None = Field(10, ge=0, le=100, description="pauses above this rate")
    deadline_seconds: int | None = Field(None, ge=1, le=31_536_000, description="pauses when not passed by then")
    advance: model.Advance = Field(
        model.Advance.AUTO, description="who opens the wave after this one: the scheduler, or an operator's word"
    )
    report_timeout_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="a device without a result is silent after that long without a word"
    )
    silent: model.Silent = Field(model.Silent.FAIL, description="silent devices are failures, or left out")

    metrics: list[Metric] = Field(default=[], max_length=20, description="all must hold before the wave passes")


class WavePlan(Body):
    """One group's turn. `percent` is the share of it reached once this wave is open; `count` says instead how many."""

    group: Segment
    percent: Percent = 100
    count: int | None = Field(None, ge=1, le=1_000_000_000, description="devices of the group, instead of percent")
    gate: Gate = Field(default_factory=Gate)


class TemplateWave(WavePlan):
    """A wave of a template; the group `*` stands for each group that a rollout names."""

    group: str = Field("*", pattern=r"^(\*|[a-z0-9][a-z0-9._+-]{0,99})$")


class Window(Body):
    """A part of the week on the wall clock of a time zone; `minutes` is elapsed time."""

    days: list[str] = Field(min_length=1, max_length=7, description="mon to sun, in order")
    start: str = Field(max_length=5, description="HH:MM")
    minutes: int = Field(ge=1, le=10_080)
    zone: str = Field(max_length=100, description="IANA name, e.g. Europe/Berlin; `local` is a device's own")


class DeviceRequirement(Body):
    """What else a device must run, at least."""

    product: Segment
    at_least: Segment


class RetryPolicy(Body):
    """How often a device tries again by itself. The pause doubles with each try."""

    count: int = Field(ge=1, le=10)
    backoff_seconds: int = Field(60, ge=0, le=31_536_000)
    codes: list[str] = Field(default=[], max_length=100, description="failure codes; any when empty")


class Budget(Body):
    """How many devices with one value of a label, such as `site`, may update at once: at most N, or all but N."""

    label: str = Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,62}$", description="devices without it count together")
    max_updating: int | None = Field(None, ge=1, le=1_000_000_000)
    min_available: int | None = Field(None, ge=1, le=1_000_000_000, description="instead of max_updating")
    lease_seconds: int = Field(
        3_600, ge=60, le=2_592_000, description="how long a permit lasts that does not come back; longer than an update"
    )


class TemplateCall(Body):
    """A template that makes the waves. `gate` is every wave's."""

    name: Segment
    groups: list[Segment] = Field(default=[], max_length=500)
    gate: Gate | None = None
    start: Percent | None = Field(None, description="of `exponential` alone, which begins at 1 %")
    factor: float | None = Field(None, gt=1, le=10_000, description="of `exponential` alone: 10")


def gate(told: Gate) -> model.Gate:
    """A gate as the engine takes it."""
    measured = tuple(metrics.Metric(**one.model_dump()) for one in told.metrics)
    return model.Gate(**{**told.model_dump(), "metrics": measured})


def wave_plan(told: WavePlan) -> model.WavePlan:
    """A wave as the engine takes it."""
    return model.WavePlan(group=told.group, percent=told.percent, gate=gate(told.gate), count=told.count)


def window(told: Window) -> windows.Window:
    """A window as the engine takes it."""
    return windows.Window(days=tuple(told.days), start=told.start, minutes=told.minutes, zone=told.zone)


def window_shown(found: windows.Window) -> Window:
    """A window as the API shows it."""
    return Window(days=list(found.days), start=found.start, minutes=found.minutes, zone=found.zone)


def template_call(told: TemplateCall) -> Call:
    """A call of a template as the engine takes it."""
    return Call(
        groups=tuple(told.groups),
        gate=None if told.gate is None else gate(told.gate),
        start=told.start,
        factor=told.factor,
    )
