"""The selector language: what it takes, what it means, and what it refuses with which words."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidSelector
from fleet.model import Device, DeviceStatus, Running
from fleet.selector import Selector, parse
from fleet.version_order import order_key
from rollout.versions import is_older
from tests.simulators.selectors import selectors, versions

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DEVICE = Device(
    id="dev_1",
    org="acme",
    name="device-1",
    status=DeviceStatus.ACTIVE,
    platform="linux-amd64",
    created_at=NOON - timedelta(days=90),
    labels={"site": "berlin", "net/zone": "dmz 1"},
    groups=("canary",),
    last_seen_at=NOON - timedelta(days=3),
    running={"app": Running(product="app", version="1.10", path="p", sha256="ab" * 32)},
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("labels.site = berlin", True),
        ("labels.site = munich", False),
        ("labels.site != munich", True),
        ("labels.rack = 7", False),
        ("labels.rack != 7", True),
        ("labels.site in (munich, berlin)", True),
        ("labels.site not in (munich, berlin)", False),
        ("labels.rack not in (7, 8)", True),
        ("labels.site exists", True),
        ("labels.rack exists", False),
        ("labels.rack not exists", True),
        ('labels.net/zone = "dmz 1"', True),
        ("platform = linux-amd64", True),
        ("platform in (linux-arm64, windows)", False),
        ("product = app", True),
        ("product in (shell, app)", True),
        ("product != app", False),
        ("product != shell", True),
        ("group = canary", True),
        ("group != canary", False),
        ("version(app) = 1.10.0", True),
        ("version(app) != 1.10", False),
        ("version(app) >= 1.9", True),
        ("version(app) > 1.10", False),
        ("version(app) <= 1.10", True),
        ("version(app) < 1.10", False),
        ("version(app) < 1.11-rc.1", True),
        ("version(app) in (1.9, 1.10)", True),
        ("version(shell) = 1", False),
        ("version(shell) != 1", True),
        ("version(shell) < 9", False),
        ("version(shell) >= 0", False),
        ("last_seen < 7d", True),
        ("last_seen < 72h", False),
        ("last_seen > 71h", True),
        ("last_seen > 3d", False),
        ("labels.site=berlin and platform=linux-amd64 and version(app)>=1.2 and last_seen<7d", True),
        ("labels.site=berlin and platform=linux-arm64", False),
    ],
)
def test_a_selector_holds_for_a_device(text: str, holds: bool) -> None:
    assert parse(text).holds(DEVICE, NOON) is holds


@pytest.mark.parametrize(("text", "holds"), [("last_seen < 3650d", False), ("last_seen > 3650d", True)])
def test_a_device_that_never_called_was_last_seen_longer_ago_than_any_span(text: str, holds: bool) -> None:
    silent = Device(
        id="dev_2", org="acme", name="n", status=DeviceStatus.ACTIVE, platform="p", created_at=NOON, last_seen_at=None
    )
    assert parse(text).holds(silent, NOON) is holds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the selector ends where a fact such as labels.site or platform is expected"),
        ("labels.site", "the selector ends where one of =, !=, in, exists is expected"),
        ("labels.site =", "the selector ends where a value is expected"),
        ("labels.site = berlin or platform = x", "at character 22 of the selector: 'or', expected 'and'"),
        ("labels.site = berlin and", "the selector ends where a fact such as labels.site or platform is expected"),
        ("labels.Site = berlin", "at character 1 of the selector: 'labels.Site', expected labels.<key>"),
        ("hostname = x", "at character 1 of the selector: 'hostname', expected labels.<key>, platform"),
        ('"platform" = x', "at character 1 of the selector: 'platform', expected labels.<key>"),
        ("platform > x", "at character 10 of the selector: '>', expected one of =, !=, in"),
        ("platform exists", "at character 10 of the selector: 'exists', expected one of =, !=, in"),
        ("platform = and", "at character 12 of the selector: 'and', expected a value, in double quotes"),
        ("platform = (x)", "at character 12 of the selector: '(', expected a value"),
        ("platform in x", "at character 13 of the selector: 'x', expected '('"),
        ("platform in ()", "at character 14 of the selector: ')', expected a value"),
        ("platform in (x,)", "at character 16 of the selector: ')', expected a value"),
        ("platform in (x", "the selector ends where ')' is expected"),
        ("platform = a b", "at character 14 of the selector: 'b', expected 'and'"),
        ("platform = 'a'", """at character 12 of the selector: "'a'", expected a fact"""),
        ('platform = "a', "at character 12 of the selector: '\"a', expected a fact"),
        ('platform = "a\x07"', "expected a value of at most 255 printable characters"),
        ("version = 1", "at character 9 of the selector: '=', expected '('"),
        ("version(App) = 1", "at character 9 of the selector: 'App', expected a product"),
        ("version(app) exists", "expected one of =, !=, in, <, <=, >, >="),
        ("last_seen = 7d", "at character 11 of the selector: '=', expected '>'"),
        ("last_seen < 7", "at character 13 of the selector: '7', expected a span of at most ten years"),
        ("last_seen < 0d", "expected a span of at most ten years"),
        ("last_seen < 3651d", "expected a span of at most ten years"),
        ("platform\n= x", "at character 9 of the selector"),
        ("platform = ü", "at character 12 of the selector"),
        (" and ".join(["platform = x"] * 17), "the selector has 17 terms, at most 16 are read"),
        ("platform in (" + ", ".join(map(str, range(51))) + ")", "a list of 51 values in the selector, at most 50"),
        ("platform = " + "x" * 256, "expected a value of at most 255 printable characters"),
        ("x" * 2_001, "the selector has 2001 characters, at most 2000 are read"),
    ],
)
def test_what_is_outside_the_grammar_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(InvalidSelector) as refused:
        parse(text)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("labels.site=berlin and platform!=x", "labels.site = berlin and platform != x"),
        ("platform in (x)", "platform = x"),
        ("platform not in(a,b,a)", "platform not in (a, b)"),
        ("version( app )>=1.2  and last_seen<7d", "version(app) >= 1.2 and last_seen < 7d"),
        ('platform = "plain"', "platform = plain"),
        (r'platform = "a \"b\" \\ ü"', r'platform = "a \"b\" \\ ü"'),
        ('platform = "and"', 'platform = "and"'),
        ('platform = ""', 'platform = ""'),
    ],
)
def test_a_selector_has_one_written_form(text: str, written: str) -> None:
    assert str(parse(text)) == written


@given(selectors())
def test_the_written_form_reads_back_as_the_same_selector(selector: Selector) -> None:
    assert parse(str(selector)) == selector


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidSelector):
        assert parse(str(parse(text))) == parse(text)


def test_the_static_groups_of_a_selector_are_told_once() -> None:
    assert parse("group in (a, b) and group != a and labels.x = c").groups == ("a", "b")


def test_versions_stand_in_the_order_written() -> None:
    ascending = ["0.9", "1.0-alpha", "1.0-alpha.1", "1.0-rc.2", "1.0-rc.10", "1.0", "1.0.1", "1.2", "1.10", "1.a", "b"]
    keys = [order_key(version) for version in ascending]
    assert all(one < other for one, other in pairwise(keys))
    assert order_key("1.0.0+build7") == order_key("1.0") == order_key("1")


@given(versions(), versions())
def test_the_order_is_the_agent_s(one: str, other: str) -> None:
    assert (order_key(one) < order_key(other)) is is_older(one, other)
    assert (order_key(one).encode() < order_key(other).encode()) is is_older(one, other)
