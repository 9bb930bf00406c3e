"""A roster as text: what is written is read back, whatever stands in it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidDeviceList
from fleet.model import Device, DeviceStatus
from fleet.roster import SETTABLE, Row, join_list, read_roster, split_list, written

PRESS = Device(
    id="dev_1",
    org="acme",
    name="press-1",
    status=DeviceStatus.ACTIVE,
    platform="linux-arm64",
    created_at=datetime(2026, 11, 21, tzinfo=UTC),
    groups=("by-site", "canary"),
)
VALUES = st.text().filter(str.isprintable)


@given(st.lists(st.text(min_size=1)))
def test_values_in_one_cell_come_out_as_they_went_in(values: list[str]) -> None:
    assert split_list(join_list(values)) == values


@settings(max_examples=50)
@given(st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,62}", fullmatch=True), VALUES, max_size=5))
def test_a_device_that_is_written_is_read_as_it_was(labels: dict[str, str]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([SETTABLE, written(replace(PRESS, labels=labels), frozenset({"by-site"}))])
    assert read_roster(file.getvalue().encode()) == (
        Row(line=2, name="press-1", platform="linux-arm64", groups=("canary",), labels=labels),
    )


def test_a_column_that_is_missing_says_nothing_and_an_empty_cell_that_there_is_none() -> None:
    assert read_roster(b"name,labels\na,\n") == (Row(line=2, name="a", labels={}),)
    assert read_roster(b"groups,name,platform\n,a,\n") == (Row(line=2, name="a", platform="", groups=()),)


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    with pytest.raises(InvalidDeviceList) as refused:
        read_roster(b'name,state\n\na,"two\nlines"\nb c,\n')
    assert [place for place, _ in refused.value.details] == ["line 5, name"]


def test_of_many_faults_fifty_are_told_and_all_are_counted() -> None:
    with pytest.raises(InvalidDeviceList, match=r"line 2, name: .* \(and 59 more\); nothing was imported") as refused:
        read_roster(b"name\n" + b"a b\n" * 60)
    assert len(refused.value.details) == 50
