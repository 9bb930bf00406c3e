"""Templates: shapes of a rollout that become explicit waves before anything is hashed or approved. Pure.

Built in are ``canary`` (1, 10, 50, 100 % of each group), ``all-at-once``, ``exponential`` (from a start by a
factor) and ``rings`` (one group wholly after the other). An organisation stores its own beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from evidence.model import Actor, AuditEvent
from rollout.errors import InvalidTemplate, UnknownTemplate
from rollout.model import Gate, WavePlan
from rollout.plan import MAX_WAVES, SLUG, is_plain_text, wave_faults

MAX_DESCRIPTION_LENGTH: Final = 500  # characters
MAX_TEMPLATES: Final = 200  # per organisation
_EXPONENTIAL: Final = "exponential"
_MOST_STEPS: Final = 1_000  # of exponential growth; whoever takes more would have more than 100 waves
THE_GROUP: Final = "*"  # in a stored template: each of the groups that the rollout names


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a rollout asks of a template. ``gate`` is every wave's, None for the template's own or the defaults.

    ``start`` is a share in percent (0.01 to 100), ``factor`` above 1; both are for ``exponential`` alone, which takes
    1 and 10 for None.
    """

    groups: tuple[str, ...]
    gate: Gate | None = None
    start: float | None = None
    factor: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """An organisation's own. In ``waves`` the group ``*`` stands for each group that a rollout names, in turn."""

    org: str
    name: str
    description: str
    waves: tuple[WavePlan, ...]
    by: Actor
    at: datetime


class Templates(Protocol):
    """Templates at rest. Every method is one transaction, events in it."""

    def all(self, org: str) -> Sequence[Template]:
        """In order of name."""

    def get(self, org: str, name: str) -> Template:
        """Raises UnknownTemplate."""

    def add(self, template: Template, event: AuditEvent) -> None:
        """Raises InvalidTemplate when the name is taken."""

    def remove(self, org: str, name: str, event: AuditEvent) -> None:
        """Raises UnknownTemplate."""


def exponential_shares(start: float, factor: float) -> tuple[float, ...]:
    """Percents from ``start``, each ``factor`` times the one before, up to 100; rounded to hundredths.

    Raises InvalidTemplate for a start outside 0.01 to 100, a factor of 1 or less, or more than 100 steps.
    """
    if not 0.01 <= start <= 100 or not 1 < factor <= 10_000:
        raise InvalidTemplate(f"exponential starts at 0.01 to 100 % and grows by more than 1; found {start}, {factor}")
    shares: list[float] = []
    exact = float(start)
    # Steps are counted, not shares: a factor of hardly more than 1 makes millions of them within one hundredth.
    for _ in range(_MOST_STEPS):
        share = round(exact, 2)
        if share < 100 and share not in shares:
            shares.append(share)
        exact *= factor
        if exact >= 100:
            break
    if exact < 100 or len(shares) > 100:
        raise InvalidTemplate(f"growing from {start} % by {factor} takes more than 100 waves; take a larger factor")
    return (*shares, 100)


def expand(call: Call, name: str, stored: Callable[[str], Template]) -> tuple[WavePlan, ...]:
    """The waves of a template for these groups; ``stored`` answers the organisation's own, or raises UnknownTemplate.

    Raises:
        UnknownTemplate: Neither built in nor stored.
        InvalidTemplate: No group, or numbers out of bounds.
    """
    if name != _EXPONENTIAL and (call.start, call.factor) != (None, None):
        raise InvalidTemplate(f"start and factor are for the template {_EXPONENTIAL}, found them with {name[:120]!r}")
    gate = call.gate or Gate()
    shares = _BUILT_IN.get(name)
    if shares is not None:
        if not call.groups:
            raise InvalidTemplate(f"{name} needs the groups that it is for, found none")
        waves = tuple(
            WavePlan(group=group, percent=share, gate=gate) for group in call.groups for share in shares(call)
        )
    else:
        waves = _own(call, stored(name))
    if len(waves) > MAX_WAVES:
        raise InvalidTemplate(f"that makes {len(waves)} waves, at most {MAX_WAVES} are possible; name fewer groups")
    return waves


def create_template(
    templates: Templates,
    org: str,
    *,
    name: str,
    description: str,
    waves: Sequence[WavePlan],
    by: Actor,
    now: datetime,
) -> Template:
    """Store one; writes ``template.created``. Raises InvalidTemplate."""
    if SLUG.fullmatch(name) is None or name in _BUILT_IN:
        raise InvalidTemplate(
            f"{name[:120]!r} cannot be a template's name: 1 to 100 of a-z 0-9 . _ + -, not a built-in's"
        )
    if len(description) > MAX_DESCRIPTION_LENGTH or not is_plain_text(description):
        raise InvalidTemplate(f"a description has at most {MAX_DESCRIPTION_LENGTH} characters of plain text")
    if not 1 <= len(waves) <= MAX_WAVES:
        raise InvalidTemplate(f"a template has 1 to {MAX_WAVES} waves, found {len(waves)}")
    if len(templates.all(org)) >= MAX_TEMPLATES:
        raise InvalidTemplate(f"there are {MAX_TEMPLATES} templates; delete one that nobody uses")
    groups = ("group",) if any(wave.group == THE_GROUP for wave in waves) else ()
    made = Template(org=org, name=name, description=description, waves=tuple(waves), by=by, at=now)
    faults = wave_faults(_own(Call(groups=groups), made))
    if faults:
        raise InvalidTemplate("; ".join(f"{where}: {what}" for where, what in faults))
    templates.add(made, AuditEvent("template.created", name, by, now, {"waves": len(waves)}))
    return made


def delete_template(templates: Templates, org: str, name: str, *, by: Actor, now: datetime) -> None:
    """Forget one; rollouts made of it stay as they are. Writes ``template.deleted``. Raises UnknownTemplate."""
    if name in _BUILT_IN:
        raise UnknownTemplate(f"{name} is built in and stays; your own are told by `publish rollout template list`")
    templates.remove(org, name, AuditEvent("template.deleted", name, by, now))


def _own(call: Call, template: Template) -> tuple[WavePlan, ...]:
    if (THE_GROUP in {wave.group for wave in template.waves}) != bool(call.groups):
        need = "names its groups itself; use it without" if call.groups else "needs"
        raise InvalidTemplate(f"template {template.name} {need} groups of yours")
    waves: list[WavePlan] = []
    done = False
    for wave in template.waves:
        if wave.group != THE_GROUP:
            waves.append(wave)
        elif not done:
            # All waves of "*" for the first group, then all of them for the next, where the first of them stands.
            done = True
            shape = [one for one in template.waves if one.group == THE_GROUP]
            waves.extend(replace(one, group=group) for group in call.groups for one in shape)
    return tuple(wave if call.gate is None else replace(wave, gate=call.gate) for wave in waves)


_BUILT_IN: Final[Mapping[str, Callable[[Call], Sequence[float]]]] = {
    "canary": lambda _: (1, 10, 50, 100),
    "all-at-once": lambda _: (100,),
    _EXPONENTIAL: lambda call: exponential_shares(call.start or 1, call.factor or 10),
    "rings": lambda _: (100,),
}
BUILT_IN: Final[Mapping[str, str]] = {
    "canary": "1, 10, 50, then 100 % of each group",
    "all-at-once": "each group wholly, in one wave",
    "exponential": "from a start in percent by a factor to 100 % of each group",
    "rings": "one group wholly after the other, innermost first",
}
