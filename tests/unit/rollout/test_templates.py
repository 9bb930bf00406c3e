"""Templates become explicit waves."""

from __future__ import annotations

import pytest

from rollout.errors import InvalidTemplate, UnknownTemplate
from rollout.model import Gate
from rollout.templates import Call, Template, expand, exponential_shares


def nothing_stored(name: str) -> Template:
    raise UnknownTemplate(name)


@pytest.mark.parametrize(
    ("name", "groups", "expected"),
    [
        ("canary", ("a",), [("a", 1), ("a", 10), ("a", 50), ("a", 100)]),
        ("all-at-once", ("a", "b"), [("a", 100), ("b", 100)]),
        ("rings", ("inner", "outer"), [("inner", 100), ("outer", 100)]),
        ("exponential", ("a",), [("a", 1), ("a", 10), ("a", 100)]),
    ],
)
def test_the_built_in_ones(name: str, groups: tuple[str, ...], expected: list[tuple[str, float]]) -> None:
    gate = Gate(approvals=2)
    waves = expand(Call(groups=groups, gate=gate), name, nothing_stored)
    assert [(wave.group, wave.percent) for wave in waves] == expected
    assert {wave.gate for wave in waves} == {gate}


@pytest.mark.parametrize(
    ("start", "factor", "shares"),
    [
        (1, 10, (1, 10, 100)),
        (5, 2, (5, 10, 20, 40, 80, 100)),
        (0.01, 100, (0.01, 1, 100)),
        (100, 2, (100,)),
        (0.05, 3, (0.05, 0.15, 0.45, 1.35, 4.05, 12.15, 36.45, 100)),
    ],
)
def test_exponential_growth(start: float, factor: float, shares: tuple[float, ...]) -> None:
    assert exponential_shares(start, factor) == shares


@pytest.mark.parametrize(
    ("start", "factor"), [(0, 2), (101, 2), (1, 1), (1, float("nan")), (0.01, 1.01), (1, 1 + 1e-12)]
)
def test_growth_that_never_arrives_is_refused(start: float, factor: float) -> None:
    with pytest.raises(InvalidTemplate):
        exponential_shares(start, factor)


def test_a_template_is_for_groups() -> None:
    with pytest.raises(InvalidTemplate):
        expand(Call(groups=()), "canary", nothing_stored)
    with pytest.raises(UnknownTemplate):
        expand(Call(groups=("a",)), "bold", nothing_stored)


@pytest.mark.parametrize("call", [Call(groups=("a",), start=2), Call(groups=("a",), factor=3)])
def test_start_and_factor_are_not_silently_left_out_of_other_templates(call: Call) -> None:
    with pytest.raises(InvalidTemplate, match="for the template exponential, found them with 'canary'"):
        expand(call, "canary", nothing_stored)
