"""Lines of the log: what they hold, and what never gets into one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from api.logs import about, also, fields, start_logging
from keys.secret import API_KEY, new_secret

log = logging.getLogger("wavegate.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    about()
    root.handlers[:] = handlers
    root.setLevel(level)


def written(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on stderr once the lines that are held are written."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return capsys.readouterr().err


def test_a_json_line_has_the_event_s_fields_and_those_of_the_work_it_belongs_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging("info", "json")
    about(request_id="req_1")
    also(org="acme")
    log.info("%s went out", "mail", extra=fields(status=200, code=None))
    told = json.loads(written(capsys))
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "info",
        "logger": "wavegate.test",
        "message": "mail went out",
        "request_id": "req_1",
        "org": "acme",
        "status": 200,
    }


def test_what_follows_is_about_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("info", "json")
    about(request_id="req_1", org="acme")
    about(job="refresh")
    log.info("signed")
    assert {"request_id", "org"} & json.loads(written(capsys)).keys() == set()


def test_without_a_terminal_the_lines_are_json_and_a_text_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("info")
    log.info("one")
    assert json.loads(written(capsys))["message"] == "one"
    start_logging("info", "text")
    log.info("two\n2026 ERROR forged: \x1b[2J", extra=fields(org="a\nb"))
    line = written(capsys).splitlines()[-1]
    assert line.endswith(r"INFO wavegate.test: two\n2026 ERROR forged: \x1b[2J org=a\nb")


def test_an_error_is_told_with_its_stack_in_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("info", "json")
    try:
        raise ZeroDivisionError("by\nzero")
    except ZeroDivisionError:
        log.exception("failed")
    lines = written(capsys).splitlines()
    assert len(lines) == 1
    assert "ZeroDivisionError: by\nzero" in json.loads(lines[0])["error"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_in_an_error_of_a_library_does_not_reach_the_line(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = new_secret(API_KEY).text
    hook = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    start_logging("info", form)
    try:
        raise ValueError(f"{secret} is no good")
    except ValueError:
        log.exception("refused %s", hook)
    said = written(capsys)
    assert secret not in said
    assert hook not in said
    assert "refused whsec_[redacted]" in said
    assert "wgk_[redacted] is no good" in said


def test_half_a_character_does_not_cost_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("info", "json")
    log.info("a device is named %s", "\ud83d")
    assert json.loads(written(capsys))["message"] == "a device is named \ud83d"
