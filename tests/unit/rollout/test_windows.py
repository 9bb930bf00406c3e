"""Windows on the wall clock, across changes of summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.windows import DAYS, InvalidWindow, Window, parse_window, window_faults, window_from_dict, window_to_dict

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
SATURDAY_NIGHT = Window(days=("sat",), start="23:00", minutes=240, zone="Europe/Berlin")

windows = st.builds(
    Window,
    days=st.sets(st.sampled_from(DAYS), min_size=1).map(lambda chosen: tuple(d for d in DAYS if d in chosen)),
    start=st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.integers(0, 59)),
    minutes=st.integers(1, 3 * 24 * 60),
    zone=st.sampled_from(ZONES),
)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("moment", "closes"),
    [
        ("2026-10-24T20:59:59+00:00", None),  # 22:59:59 in Berlin, summer
        ("2026-10-24T21:00:00+00:00", "2026-10-25T01:00:00+00:00"),
        ("2026-10-25T00:59:59+00:00", "2026-10-25T01:00:00+00:00"),  # 02:59:59, for the first time that night
        ("2026-10-25T01:00:00+00:00", None),  # 02:00:00, for the second time: four hours are over
        ("2026-03-28T22:00:00+00:00", "2026-03-29T02:00:00+00:00"),  # from 23:00 winter to 04:00 summer
        ("2026-03-28T21:59:59+00:00", None),
    ],
)
def test_a_window_lasts_its_hours_in_the_nights_the_clocks_change(moment: str, closes: str | None) -> None:
    found = SATURDAY_NIGHT.closes_at(datetime.fromisoformat(moment))
    assert found == (None if closes is None else datetime.fromisoformat(closes))


def test_a_start_that_the_clocks_skip_is_as_much_later() -> None:
    skipped = Window(days=("sun",), start="02:30", minutes=30, zone="Europe/Berlin")
    assert skipped.opens_at(datetime(2026, 3, 28, tzinfo=UTC)) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_a_start_that_the_clocks_show_twice_is_the_first() -> None:
    twice = Window(days=("sun",), start="02:30", minutes=30, zone="Europe/Berlin")
    assert twice.opens_at(datetime(2026, 10, 24, tzinfo=UTC)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_windows_that_meet_are_one() -> None:
    days = Window(days=("sat", "sun"), start="00:00", minutes=24 * 60, zone="UTC")
    assert days.closes_at(datetime(2026, 11, 21, 5, tzinfo=UTC)) == datetime(2026, 11, 23, tzinfo=UTC)


def test_local_is_the_zone_of_who_asks() -> None:
    noon = Window(days=DAYS, start="12:00", minutes=60, zone="local")
    moment = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)
    assert noon.closes_at(moment) is None
    assert noon.closes_at(moment, local=ZoneInfo("Asia/Kathmandu")) == datetime(2026, 11, 21, 7, 15, tzinfo=UTC)


@settings(max_examples=150, deadline=None)
@given(windows, moments)
def test_the_next_opening_is_a_start_on_the_wall_clock_and_open_for_its_length(
    window: Window, moment: datetime
) -> None:
    opens = window.opens_at(moment)
    wall = opens.astimezone(ZoneInfo(window.zone))
    assert moment <= opens
    assert DAYS[wall.weekday()] in window.days
    # Off by what the clocks were put forward, where they skip the start.
    shown = wall.hour * 60 + wall.minute - int(window.start[:2]) * 60 - int(window.start[3:])
    assert shown in (0, 30, 60)
    closes = window.closes_at(opens)
    assert closes is not None
    assert closes >= opens + timedelta(minutes=window.minutes)


@settings(max_examples=150, deadline=None)
@given(windows, moments)
def test_a_moment_is_inside_if_and_only_if_a_window_that_started_has_not_ended(
    window: Window, moment: datetime
) -> None:
    length = timedelta(minutes=window.minutes)
    inside, start = False, window.opens_at(moment - length - timedelta(days=1))
    while start <= moment:
        inside = inside or start <= moment < start + length
        start = window.opens_at(start + timedelta(seconds=1))
    closes = window.closes_at(moment)
    assert (closes is not None) == inside
    if closes is not None:
        assert closes > moment


@settings(max_examples=60, deadline=None)
@given(windows)
def test_a_window_survives_its_text_and_its_json(window: Window) -> None:
    assert parse_window(window.words()) == window
    assert window_from_dict(window_to_dict(window)) == window
    assert window_faults(window, local_is_known=False) == []


def test_days_are_told_as_ranges_too() -> None:
    assert parse_window("fri-mon 16:00 8h UTC").days == ("mon", "fri", "sat", "sun")
    assert parse_window("daily 00:00 1h30m local").minutes == 90


@pytest.mark.parametrize("text", ["", "sat 02:00 4h", "sat 02:00 4 UTC", "someday 02:00 4h UTC", "sat-x 02:00 4h UTC"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(InvalidWindow):
        parse_window(text)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"days": ()}, "days are some of"),
        ({"start": "24:00"}, "the start is a time of day"),
        ({"minutes": 0}, "the length is 1 minute to 7 days"),
        ({"minutes": 10_081}, "the length is 1 minute to 7 days"),
        ({"zone": "../etc/passwd"}, "is no time zone known here"),
        ({"zone": "Europe"}, "is no time zone known here"),
        ({"zone": "local"}, "the zone 'local' is a device's own"),
    ],
)
def test_every_fault_of_a_window_is_told(changed: dict[str, object], fault: str) -> None:
    fields: dict[str, object] = {"days": ("sat",), "start": "02:00", "minutes": 60, "zone": "UTC", **changed}
    (found,) = window_faults(Window(**fields), local_is_known=False)  # type: ignore[arg-type]
    assert fault in found
