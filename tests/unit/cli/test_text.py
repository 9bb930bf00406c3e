"""What a person sees in a table."""

from __future__ import annotations

import pytest

from cli.text import cell, fields, moment, size, table, visible


def test_columns_line_up_also_under_wide_characters() -> None:
    assert table(("name", "state"), [("東京", "active"), ("a", None)]).splitlines() == [
        "NAME  STATE",
        "東京  active",
        "a     -",
    ]


def test_an_empty_table_says_so() -> None:
    assert table(("name",), [], empty="there is no group yet") == "there is no group yet"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kiosk-1", "kiosk-1"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9bx", "\\x9bx"),
        ("Zürich", "Zürich"),
    ],
)
def test_what_could_steer_the_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (["a", "b"], "a, b"),
        ({"k": 1}, "k=1"),
    ],
)
def test_values_are_told_in_words(value: object, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (52428800, "50.0 MiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_lengths_are_told_as_people_say_them(length: int, shown: str) -> None:
    assert size(length) == shown


def test_times_are_cut_to_the_second() -> None:
    assert moment("2026-11-21T10:00:00.123456Z") == "2026-11-21 10:00:00Z"
    assert moment(None) == "-"


def test_fields_line_up() -> None:
    assert fields([("id", "art_01"), ("sha256", None)]) == "id      art_01\nsha256  -"
