"""Plans as people write them: `--wave` and plan files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import UsageFault
from cli.plan import body, budget, read_plan, span, wave


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("2d", 172800)]
)
def test_a_span_is_told_in_seconds_minutes_hours_or_days(text: str, seconds: int) -> None:
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1.5h", "-3s", "3w", "1h x", "٣s"])
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(UsageFault, match="is no span of time"):
        span(text)


def test_a_wave_may_be_no_more_than_a_group() -> None:
    assert wave("fleet") == {"group": "fleet", "percent": 100, "gate": {}}


def test_a_wave_with_every_rule() -> None:
    text = (
        "canary:10,approvals=1,soak=30s,success=90%,min_reports=2,max_failures=1,"
        "max_failure_rate=10,deadline=1h,not_before=2026-11-30T08:00:00Z"
    )
    assert wave(text) == {
        "group": "canary",
        "percent": 10,
        "gate": {
            "approvals": 1,
            "soak_seconds": 30,
            "success_percent": 90,
            "min_reports": 2,
            "max_failures": 1,
            "max_failure_rate_percent": 10,
            "deadline_seconds": 3600,
            "not_before": "2026-11-30T08:00:00Z",
        },
    }


def test_a_limit_can_be_switched_off() -> None:
    assert wave("fleet,max_failure_rate=none,max_failures=none")["gate"] == {
        "max_failure_rate_percent": None,
        "max_failures": None,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no wave"),
        (":10", "is no wave"),
        ("fleet:", "is no wave"),
        ("fleet:ten", "no whole number"),
        ("fleet,speed=3", "wave fleet: unknown rule 'speed'"),
        ("fleet,soak", "wave fleet, soak: '' is no span of time"),
        ("fleet,soak=none", "wave fleet, soak: 'none' is no span of time"),
        ("fleet,approvals=-1", "wave fleet, approvals: '-1' is no whole number"),
        ("fleet,soak=1s,soak=2s", "soak is given twice"),
        ("fleet,not_before=2026-11-30T08:00:00", "has no time zone"),
        ("fleet,not_before=soon", "is no time"),
    ],
)
def test_a_wave_in_another_form_is_told_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(UsageFault, match=told):
        wave(text)


def test_a_yaml_plan_keeps_its_times_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "product: app\nversion: '1.10'\nkeep_open: false\nwaves:\n"
        "- canary:10,soak=30s\n"
        "- {group: fleet, percent: 50, gate: {not_before: 2026-11-30T08:00:00Z}}\n"
    )
    assert read_plan(path) == {
        "product": "app",
        "version": "1.10",
        "keep_open": False,
        "waves": [
            {"group": "canary", "percent": 10, "gate": {"soak_seconds": 30}},
            {"group": "fleet", "percent": 50, "gate": {"not_before": "2026-11-30T08:00:00Z"}},
        ],
    }


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("plan.json", "{", "cannot be read as a plan"),
        ("plan.yaml", "a: [", "cannot be read as a plan"),
        ("plan.yaml", "!!python/object/apply:os.getcwd []", "cannot be read as a plan"),
        ("plan.yaml", "- canary", "expected a mapping"),
        ("plan.yaml", "wavs: []", "unknown field 'wavs'"),
        ("plan.yaml", "waves: canary", "waves is no list"),
    ],
)
def test_a_plan_file_in_another_form_is_told_what_is_wrong(tmp_path: Path, name: str, text: str, told: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageFault, match=told):
        read_plan(path)


def test_a_plan_file_of_bytes_that_are_no_text_is_no_fault_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xf0\x00\xff")
    with pytest.raises(UsageFault, match="cannot be read as a plan: 'utf-8' codec can't decode byte 0xf0"):
        read_plan(path)


def test_the_command_line_goes_before_the_plan_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"product": "app", "version": "1", "channel": "beta", "waves": ["canary"]}')
    told = body(plan=path, waves=("fleet:50",), given={"version": "2", "note": None})
    assert told == {
        "product": "app",
        "version": "2",
        "channel": "beta",
        "waves": [{"group": "fleet", "percent": 50, "gate": {}}],
    }


@pytest.mark.parametrize(
    ("given", "waves", "told"),
    [
        ({"version": "1"}, ("fleet",), "no product"),
        ({"product": "app"}, ("fleet",), "no version"),
        ({"product": "app", "version": "1"}, (), "no waves"),
    ],
)
def test_a_plan_without_release_or_waves_is_a_usage_error(
    given: dict[str, str], waves: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UsageFault, match=told):
        body(plan=None, waves=waves, given=given)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("site,max_updating=1", {"label": "site", "max_updating": 1}),
        ("site,min_available=2,lease=2h", {"label": "site", "min_available": 2, "lease_seconds": 7200}),
    ],
)
def test_a_budget_in_words(text: str, told: dict[str, object], tmp_path: Path) -> None:
    assert budget(text) == told
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"product: app\nversion: '1'\nwaves: [fleet]\nbudget: '{text}'\n")
    assert read_plan(plan)["budget"] == told


@pytest.mark.parametrize(
    "text",
    [
        "site",
        "site,1",
        "site,max_updating=x",
        "site,max_updating=1,min_available=1",
        "site,lease=1h",
        "site,lease=1h,lease=2h",
    ],
)
def test_what_is_no_budget_never_reaches_the_server(text: str) -> None:
    with pytest.raises(UsageFault):
        budget(text)
