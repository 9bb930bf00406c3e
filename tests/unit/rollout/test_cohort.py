"""Cohorts: computed by anybody, nested, even."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rollout.cohort import bucket, reach
from tests.unit.rollout.world import FLEET, SALT


def test_a_bucket_is_what_the_documentation_says() -> None:
    # printf '\x00\x01…\x0fdev_f31' | sha256sum; the first 8 bytes mod 10,000
    assert bucket(SALT, "dev_f31") == 5
    assert bucket(SALT, "dev_f00") == 9816


def test_shares_nest() -> None:
    inside = {percent: {device for device in FLEET if bucket(SALT, device) < reach(percent)} for percent in (1, 10, 50)}
    assert [len(inside[percent]) for percent in (1, 10, 50)] == [2, 6, 20]
    assert inside[1] < inside[10] < inside[50]


def test_everybody_and_nobody() -> None:
    assert all(bucket(SALT, device) < reach(100) for device in FLEET)
    assert not any(bucket(SALT, device) < reach(0) for device in FLEET)


@given(st.binary(min_size=16, max_size=16), st.text(st.characters(exclude_categories=["Cs"])))
def test_every_device_has_a_place(salt: bytes, device: str) -> None:
    assert 0 <= bucket(salt.hex(), device) < 10_000
