"""Rules over versions."""

from __future__ import annotations

import pytest

from rollout.versions import is_rule, meets


@pytest.mark.parametrize(
    ("version", "rule", "met"),
    [
        ("1.2", ">=1.2,<2", True),
        ("1.10", ">=1.2,<2", True),
        ("1.1.9", ">=1.2,<2", False),
        ("2.0", ">=1.2,<2", False),
        ("2.0-rc.1", ">=1.2,<2", True),
        ("1.2", ">1.2", False),
        ("1.2", "<=1.2.0", True),
        ("1.2", "1.2.0", False),
        ("1.2", "1.2", True),
        ("1.2", "~1.2", False),
    ],
)
def test_a_version_meets_a_rule_by_the_one_order(version: str, rule: str, met: bool) -> None:
    assert meets(version, [rule]) is met


def test_one_rule_of_several_is_enough() -> None:
    assert meets("3.0", ["1.0", ">=3,<4"])
    assert not meets("3.0", [])


@pytest.mark.parametrize("text", ["", ">=", ">=1,", "1.0,2.0", "== 1", "> 1", "x" * 201])
def test_what_is_no_rule_is_told(text: str) -> None:
    assert not is_rule(text)
