"""Plans: what makes one valid, and reading one back from its JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from rollout.errors import InvalidPlan
from rollout.model import ArtifactRef, Gate, Plan, Priority, WavePlan

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
MAX_WAVES: Final = 500
MAX_APPROVALS: Final = 20
MAX_COUNT: Final = 1_000_000_000  # devices; beyond any fleet, within every database's integers
MAX_SPAN_SECONDS: Final = 366 * 24 * 3600
MAX_NOTE_LENGTH: Final = 2_000  # characters
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

Faults = list[tuple[str, str]]


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
    priority: Priority = Priority.NORMAL

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
            priority=self.priority,
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
    widest: dict[str, int] = {}
    for number, wave in enumerate(plan.waves[:MAX_WAVES], start=1):
        where = f"waves.{number}"
        _check_slug(f"{where}.group", wave.group, faults)
        _check_range(f"{where}.percent", wave.percent, 1, 100, faults)
        before = widest.get(wave.group, 0)
        if 1 <= wave.percent <= before:
            # Cohorts only grow: a wave that reaches nobody new would never have anything to report.
            faults.append(
                (f"{where}.percent", f"expected more than the {before} % an earlier wave of {wave.group!r} reaches")
            )
        widest[wave.group] = max(before, wave.percent)
        _check_gate(f"{where}.gate", wave.gate, faults)
    return faults


def plan_from_dict(fields: Mapping[str, object]) -> Plan:
    """Read what ``rollout.model.plan_to_dict`` wrote; raises InvalidPlan for a missing, unknown or mistyped field.

    Only the form is checked: a stored plan stays readable when :func:`check_plan` learns new rules.
    """
    reader = _Reader(fields, "")
    artifacts = {
        platform: ArtifactRef(
            id=one.text("id"), path=one.text("path"), length=one.number("length"), sha256=one.text("sha256")
        )
        for platform, one in reader.named("artifacts").items()
    }
    waves = tuple(
        WavePlan(group=one.text("group"), percent=one.number("percent"), gate=_read_gate(one.inner("gate")))
        for one in reader.listed("waves")
    )
    plan = Plan(
        product=reader.text("product"),
        version=reader.text("version"),
        channel=reader.text("channel"),
        artifacts=artifacts,
        waves=waves,
        keep_open=reader.flag("keep_open"),
        allow_downgrade=reader.flag("allow_downgrade"),
        note=reader.text("note"),
        priority=reader.priority("priority"),
    )
    reader.finish()
    return plan


def gate_from_dict(fields: Mapping[str, object]) -> Gate:
    """Read what ``rollout.model.gate_to_dict`` wrote, as strictly as :func:`plan_from_dict`."""
    reader = _Reader(fields, "")
    gate = _read_gate(reader)
    reader.finish()
    return gate


def _read_gate(reader: _Reader) -> Gate:
    return Gate(
        approvals=reader.number("approvals"),
        not_before=reader.time_or_none("not_before"),
        soak_seconds=reader.number("soak_seconds"),
        success_percent=reader.number("success_percent"),
        min_reports=reader.number("min_reports"),
        max_failures=reader.number_or_none("max_failures"),
        max_failure_rate_percent=reader.number_or_none("max_failure_rate_percent"),
        deadline_seconds=reader.number_or_none("deadline_seconds"),
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
    if gate.not_before is not None and gate.not_before.utcoffset() != timedelta(0):
        faults.append((f"{where}.not_before", "expected a time in UTC"))


def _check_slug(where: str, text: str, faults: Faults) -> None:
    if SLUG.fullmatch(text) is None:
        faults.append(
            (where, f"expected 1 to 100 of a-z 0-9 . _ + -, beginning with a letter or digit, found {text!r}")
        )


def _check_range(where: str, number: int, least: int, most: int, faults: Faults) -> None:
    if isinstance(number, bool) or not least <= number <= most:
        faults.append((where, f"expected {least} to {most}, found {number}"))


class _Reader:
    """Takes fields out of a mapping and gathers what is wrong with them, so that all faults are told at once."""

    def __init__(self, fields: object, where: str, faults: Faults | None = None) -> None:
        self._where = where
        self._faults: Faults = [] if faults is None else faults
        self._inner: list[_Reader] = []
        self._left: dict[str, object] = {}
        if isinstance(fields, Mapping):
            self._left = {str(key): value for key, value in fields.items()}
        else:
            self._fault("", f"expected an object, found {type(fields).__name__}")

    def finish(self) -> None:
        self._refuse_rest()
        if self._faults:
            raise InvalidPlan(self._faults)

    def text(self, key: str) -> str:
        value = self._take(key)
        if isinstance(value, str):
            return value
        self._fault(key, f"expected text, found {type(value).__name__}")
        return ""

    def number(self, key: str) -> int:
        value = self._take(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._fault(key, f"expected a whole number, found {type(value).__name__}")
        return 0

    def number_or_none(self, key: str) -> int | None:
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.number(key)

    def flag(self, key: str) -> bool:
        value = self._take(key)
        if isinstance(value, bool):
            return value
        self._fault(key, f"expected true or false, found {type(value).__name__}")
        return False

    def priority(self, key: str) -> Priority:
        """Absent means normal."""
        value = self._left.pop(key, Priority.NORMAL)
        if isinstance(value, str) and value in set(Priority):
            return Priority(value)
        self._fault(key, f"expected one of {', '.join(Priority)}, found {value!r}")
        return Priority.NORMAL

    def time_or_none(self, key: str) -> datetime | None:
        value = self._take(key)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self._fault(key, f"expected an RFC 3339 time with its zone or null, found {value!r}")
            return None
        return moment.astimezone(UTC)

    def inner(self, key: str) -> _Reader:
        return self._inside(key, self._take(key))

    def named(self, key: str) -> dict[str, _Reader]:
        value = self._take(key)
        if not isinstance(value, Mapping):
            self._fault(key, f"expected an object, found {type(value).__name__}")
            return {}
        return {str(name): self._inside(f"{key}.{name}", one) for name, one in value.items()}

    def listed(self, key: str) -> list[_Reader]:
        value = self._take(key)
        if not isinstance(value, list | tuple):
            self._fault(key, f"expected a list, found {type(value).__name__}")
            return []
        return [self._inside(f"{key}.{number}", one) for number, one in enumerate(value, start=1)]

    def _inside(self, key: str, value: object) -> _Reader:
        reader = _Reader(value, self._path(key), self._faults)
        self._inner.append(reader)
        return reader

    def _take(self, key: str) -> object:
        if key not in self._left:
            self._fault(key, "is missing")
        return self._left.pop(key, None)

    def _refuse_rest(self) -> None:
        for key in self._left:
            self._fault(key, "is not known here")
        for reader in self._inner:
            reader._refuse_rest()

    def _fault(self, key: str, what: str) -> None:
        self._faults.append((self._path(key), what))

    def _path(self, key: str) -> str:
        return ".".join(part for part in (self._where, key) if part)
