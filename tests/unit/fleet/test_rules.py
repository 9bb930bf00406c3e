"""Names, labels, tokens, and when a device is online."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.errors import EnrolmentRefused, FleetError, InvalidFleetInput
from fleet.model import Device, DeviceStatus
from fleet.rules import (
    checked_description,
    checked_device_name,
    checked_group_name,
    checked_labels,
    checked_platform,
    checked_token_name,
    online,
    told,
)
from fleet.token import new_token_text, parse_token_text

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROOT = "5f" * 32


@pytest.mark.parametrize("name", ["press-1", "A", "Hall3_Press.7", "9" * 100])
def test_a_device_may_be_called(name: str) -> None:
    assert checked_device_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "a" * 101, "dev_01JD3ZQ5W8X9Y0A1B2C3D4E5F6", "a\x00"]
)
def test_a_device_may_not_be_called(name: str) -> None:
    with pytest.raises(InvalidFleetInput, match="device name"):
        checked_device_name(name)


@pytest.mark.parametrize("name", ["canary", "eu-west.1", "a+b_c", "x" * 95])
def test_a_group_may_be_called(name: str) -> None:
    assert checked_group_name(name) == name


@pytest.mark.parametrize("name", ["", "Canary", "..", "a/b", "a" * 96, "a\n", "grp_01JD3ZQ5W8X9Y0A1B2C3D4E5F6"])
def test_a_group_may_not_be_called(name: str) -> None:
    with pytest.raises(InvalidFleetInput, match="group name"):
        checked_group_name(name)


def test_any_is_no_devices_platform() -> None:
    assert checked_platform("linux-x86_64") == "linux-x86_64"
    with pytest.raises(InvalidFleetInput, match="names its own"):
        checked_platform("any")


@pytest.mark.parametrize("name", ["", " lab", "lab ", "a\nb", "x" * 101])
def test_a_token_may_not_be_called(name: str) -> None:
    with pytest.raises(InvalidFleetInput, match="token name"):
        checked_token_name(name)


@pytest.mark.parametrize(
    "labels",
    [
        {"Site": "x"},
        {"": "x"},
        {"a" * 64: "x"},
        {"site": "x" * 256},
        {"site": "a\nb"},
        {f"l{n}": "" for n in range(33)},
    ],
)
def test_labels_outside_the_grammar_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidFleetInput):
        checked_labels(labels)


def test_labels_inside_the_grammar_are_kept() -> None:
    assert checked_labels({"site": "Köln 3", "a/b.c-d_e": ""}) == {"site": "Köln 3", "a/b.c-d_e": ""}


def test_a_description_may_have_lines_and_no_other_control_characters() -> None:
    assert checked_description("two\nlines") == "two\nlines"
    with pytest.raises(InvalidFleetInput):
        checked_description("bell\a")
    with pytest.raises(InvalidFleetInput):
        checked_description("x" * 1001)


def test_what_a_device_tells_is_cut_to_fit() -> None:
    assert told(" a\x1b[31mb\n") == "a[31mb"
    assert told("x" * 300) == "x" * 255


def test_a_device_is_online_while_two_heartbeats_may_have_got_lost() -> None:
    device = Device(id="dev_1", org="acme", name="a", status=DeviceStatus.ACTIVE, platform="linux", created_at=NOON)
    assert not online(device, NOON)
    seen = replace(device, last_seen_at=NOON)
    assert online(seen, NOON + timedelta(minutes=15))
    assert not online(seen, NOON + timedelta(minutes=15, seconds=1))


def test_a_token_holds_the_digest_of_the_root_and_256_random_bits() -> None:
    first, second = new_token_text(ROOT), new_token_text(ROOT)

    assert first.text.startswith(f"wge_{ROOT}_")
    assert len(first.text) == 4 + 64 + 1 + 43
    assert first.text != second.text
    assert parse_token_text(first.text).root_sha256 == ROOT
    assert first.sha256 == hashlib.sha256(first.text.encode()).hexdigest()


def test_a_token_is_not_shown_by_accident() -> None:
    token = new_token_text(ROOT)
    assert token.text not in repr(token)


@pytest.mark.parametrize(
    "text", ["", "wge_x", f"wge_{ROOT}", f"wge_{ROOT}_short", f"wgk_{ROOT}_{'a' * 43}", "x" * 10_000]
)
def test_a_malformed_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(EnrolmentRefused) as refused:
        parse_token_text(text)

    assert text == "" or text not in str(refused.value)


def test_a_root_digest_that_is_none_makes_no_token() -> None:
    with pytest.raises(InvalidFleetInput):
        new_token_text("5F" * 32)


def test_every_error_of_the_room_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in FleetError.__subclasses__()]
    assert len(codes) == len(set(codes)) == 19
