"""How values are written into columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import postgresql, sqlite

from store.columns import JsonText, UtcDateTime
from store.errors import NaiveTime

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SQLITE = sqlite.dialect()


def test_a_time_of_any_zone_is_written_in_utc() -> None:
    written = UtcDateTime().process_bind_param(
        datetime(2026, 11, 21, 13, 0, tzinfo=timezone(timedelta(hours=1))), SQLITE
    )
    assert written == NOON
    assert written is not None
    assert written.tzinfo is UTC


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(NaiveTime, match="2026-11-21T12:00:00 has no zone"):
        UtcDateTime().process_bind_param(datetime(2026, 11, 21, 12, 0), SQLITE)  # noqa: DTZ001


@pytest.mark.parametrize("read", [NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=-8)))])
def test_a_time_is_read_as_utc_whatever_the_database_says(read: datetime) -> None:
    found = UtcDateTime().process_result_value(read, SQLITE)
    assert found == NOON
    assert found is not None
    assert found.tzinfo is UTC


def test_json_is_written_with_sorted_keys_and_in_ascii() -> None:
    written = JsonText().process_bind_param({"b": "ü\x00\ud800", "a": [1, None, True]}, SQLITE)
    assert written == '{"a":[1,null,true],"b":"\\u00fc\\u0000\\ud800"}'
    assert JsonText().process_result_value(written, SQLITE) == {"b": "ü\x00\ud800", "a": [1, None, True]}


def test_no_value_is_null_and_not_json_s_null() -> None:
    assert JsonText().process_bind_param(None, SQLITE) is None
    assert JsonText().process_result_value(None, SQLITE) is None


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        JsonText().process_bind_param({"rate": float("inf")}, SQLITE)


def test_ids_are_ordered_bytewise_on_postgresql() -> None:
    from store.account_models import users

    assert users.c.id.type.compile(postgresql.dialect()) == 'VARCHAR COLLATE "C"'  # type: ignore[no-untyped-call]
