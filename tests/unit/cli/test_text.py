"""What a person sees in a table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.text import cell, fields, moment, size, table, visible
from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import on_a_terminal


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


HEADINGS = ("id", "state", "created", "why")
ROW = (
    "rol_01JD9Z4T9C8E6Y3W5V7X9Q2M4N",
    "paused",
    "2026-11-21 10:00:00Z",
    "wave 2: 3 of 40 devices failed, limit 2",
)


def test_what_fits_into_the_terminal_stays_on_one_line() -> None:
    assert table(HEADINGS, [ROW], columns=105).splitlines() == [
        "ID                              STATE   CREATED               WHY",
        "rol_01JD9Z4T9C8E6Y3W5V7X9Q2M4N  paused  2026-11-21 10:00:00Z  wave 2: 3 of 40 devices failed, limit 2",
    ]
    assert table(HEADINGS, [ROW]).count("\n") == 1  # what is no terminal has no width


def test_a_table_wider_than_the_terminal_has_its_words_on_further_lines_and_every_id_whole() -> None:
    assert table(HEADINGS, [ROW], columns=80).splitlines() == [
        "ID                              STATE   CREATED               WHY",
        "rol_01JD9Z4T9C8E6Y3W5V7X9Q2M4N  paused  2026-11-21 10:00:00Z  wave 2: 3 of 40",
        "                                                              devices failed,",
        "                                                              limit 2",
    ]


def test_where_words_alone_are_too_wide_each_row_is_a_block() -> None:
    rows = [(*ROW, "2026-11-22 10:00:00Z"), (*ROW[:3], None, None)]
    assert table((*HEADINGS, "until"), rows, columns=60).splitlines() == [
        "id       rol_01JD9Z4T9C8E6Y3W5V7X9Q2M4N",
        "state    paused",
        "created  2026-11-21 10:00:00Z",
        "why      wave 2: 3 of 40 devices failed, limit 2",
        "until    2026-11-22 10:00:00Z",
        "",
        "id       rol_01JD9Z4T9C8E6Y3W5V7X9Q2M4N",
        "state    paused",
        "created  2026-11-21 10:00:00Z",
        "why      -",
        "until    -",
    ]


def test_a_long_value_is_folded_beside_its_name_and_a_long_word_stays_whole() -> None:
    digest = "sha256 " + "ab" * 32
    assert fields([("why", ROW[3]), ("runs", digest)], columns=30).splitlines() == [
        "why   wave 2: 3 of 40 devices",
        "      failed, limit 2",
        "runs  sha256",
        "      " + "ab" * 32,
    ]


def test_a_list_at_a_terminal_is_not_wider_than_it_and_shows_ids_whole(
    server: ApiServerSimulator, config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVEGATE_API_KEY", "wgk_test")
    running = [{"product": "gateway-firmware", "version": "2026.11.21", "path": "p", "sha256": "ab", "rollout_id": ""}]
    device = {
        "id": "dev_01JD9Z4T9C8E6Y3W5V7X9Q2M4N",
        "name": "gateway-0017.berlin.example.com",
        "status": "active",
        "online": True,
        "platform": "linux-arm64",
        "groups": ["berlin", "canary"],
        "running": running,
        "updates_available": 2,
        "last_seen_at": "2026-11-21T10:00:00Z",
    }
    server.on("GET", "/api/v1/devices", Reply(200, {"items": [device], "next_cursor": None}))
    code, screen = on_a_terminal("device", "list", "--url", server.url, config=config_dir)
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", screen).splitlines() if "not https" not in line]
    assert code == 0
    assert max(len(line) for line in lines) <= 80
    assert "id         dev_01JD9Z4T9C8E6Y3W5V7X9Q2M4N" in lines
