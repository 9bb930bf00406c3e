"""Nights are counted once, those that were missed too, and months are sums of nights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from fleet.errors import InvalidFleetInput
from fleet.metering import Night, active_at, count_nights, last_settled, month_of

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class MeterSimulator:
    """A meter in memory; on each day as many devices are active as the day of the month says."""

    def __init__(self, began: date | None) -> None:
        self.began = began
        self.nights: dict[date, Night] = {}

    def first_day(self, org: str) -> date | None:
        return self.began

    def counted(self, org: str, first: date, last: date) -> Sequence[Night]:
        return [self.nights[day] for day in sorted(self.nights) if first <= day <= last]

    def count_active(self, org: str, moment: datetime) -> int:
        return (moment - timedelta(days=1)).day

    def keep(self, org: str, night: Night) -> bool:
        return self.nights.setdefault(night.night, night) is night


def test_a_day_is_settled_ten_minutes_after_midnight_in_utc() -> None:
    assert last_settled(datetime(2026, 11, 21, 0, 9, 59, tzinfo=UTC)) == date(2026, 11, 19)
    assert last_settled(datetime(2026, 11, 21, 0, 10, tzinfo=UTC)) == date(2026, 11, 20)
    berlin = datetime.fromisoformat("2026-11-21T01:10:00+01:00")
    assert last_settled(berlin) == date(2026, 11, 20)


def test_nights_are_counted_from_the_first_event_on_and_each_once() -> None:
    meter = MeterSimulator(date(2026, 11, 18))
    assert [(one.night.day, one.active) for one in count_nights(meter, "acme", NOON)] == [(18, 18), (19, 19), (20, 20)]
    assert count_nights(meter, "acme", NOON + timedelta(hours=6)) == []
    assert [one.night for one in count_nights(meter, "acme", NOON + timedelta(days=1))] == [date(2026, 11, 21)]


def test_nights_that_were_missed_are_made_up_for() -> None:
    meter = MeterSimulator(date(2026, 11, 18))
    count_nights(meter, "acme", NOON - timedelta(days=2))
    later = count_nights(meter, "acme", NOON + timedelta(days=2))
    assert [one.night.day for one in later] == [19, 20, 21, 22]
    assert {one.counted_at for one in later} == {NOON + timedelta(days=2)}


def test_a_long_time_is_made_up_for_a_month_at_a_time_and_no_longer_than_four_hundred_nights() -> None:
    meter = MeterSimulator(date(2020, 1, 1))
    turns = [len(count_nights(meter, "acme", NOON)) for _ in range(14)]
    assert turns == [31] * 12 + [28, 0]
    assert min(meter.nights) == date(2025, 10, 17)


def test_an_organisation_of_today_or_without_events_has_no_nights() -> None:
    assert count_nights(MeterSimulator(NOON.date()), "acme", NOON) == ()
    assert count_nights(MeterSimulator(None), "acme", NOON) == ()


def test_a_month_has_its_fullest_night_its_average_and_its_sum() -> None:
    meter = MeterSimulator(date(2026, 11, 19))
    count_nights(meter, "acme", NOON + timedelta(days=20))
    november, december = month_of(meter, "acme", "2026-11"), month_of(meter, "acme", "2026-12")
    assert (len(november.nights), november.most, november.device_nights, november.average) == (12, 30, 294, 24.5)
    assert [one.night.day for one in december.nights] == list(range(1, 11))
    empty = month_of(meter, "acme", "2026-10")
    assert (empty.nights, empty.most, empty.device_nights, empty.average) == ((), 0, 0, 0.0)


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "2026", "0000-01", "1969-12", "2026-1", "novem-ber", ""])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(InvalidFleetInput, match="expected YYYY-MM"):
        month_of(MeterSimulator(None), "acme", month)


def test_the_last_month_of_the_calendar_is_one() -> None:
    assert month_of(MeterSimulator(None), "acme", "9999-12").nights == ()


def test_a_device_is_active_from_enrolling_to_being_revoked_or_deleted() -> None:
    log = [
        ("device.created", "dev_1"),
        ("device.enrolled", "dev_2"),
        ("device.enrolled", "dev_3"),
        ("device.enrolled", "dev_2"),
        ("device.revoked", "dev_2"),
        ("device.revoked", "dev_1"),
    ]
    assert active_at(log) == 1
    assert active_at([*log, ("device.enrolled", "dev_2")]) == 2
    assert active_at([*log, ("device.deleted", "dev_3")]) == 0
