"""Devices in the field keep working: device.proto against buf's rules, and against the one that was released."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.buf.program import RELEASED, buf

ROOT = Path(__file__).resolve().parents[2]
PROTO = Path("api") / "device" / "device.proto"
FAULTS_FOUND = 100  # buf's exit code for them, unlike that for a file it cannot read


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what buf reads, to change."""
    (tmp_path / PROTO).parent.mkdir(parents=True)
    for name in (Path("buf.yaml"), PROTO):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def change(tree: Path, before: str, after: str) -> None:
    text = (tree / PROTO).read_text()
    assert text.count(before) == 1, before
    (tree / PROTO).write_text(text.replace(before, after))


def test_the_proto_breaks_no_rule_and_no_device_built_from_the_released_one() -> None:
    assert buf(ROOT, "lint") == (0, [])
    assert buf(ROOT, "breaking", "--against", RELEASED) == (0, [])


def test_a_field_and_a_call_may_be_added(tree: Path) -> None:
    change(tree, "  uint32 next_check_in_seconds = 5;", "  uint32 next_check_in_seconds = 5;\n  string words = 20;")
    change(
        tree,
        "  // A fresh certificate",
        "  // The same.\n  rpc Say(SayRequest) returns (SayResponse);\n  // A fresh certificate",
    )
    with (tree / PROTO).open("a") as proto:
        proto.write("\n// More.\nmessage SayRequest {}\n// More.\nmessage SayResponse {}\n")
    assert buf(tree, "breaking", "--against", RELEASED) == (0, [])
    assert buf(tree, "lint") == (0, [])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("bool counted = 1;", "", 'Previously present field "1" with name "counted" on message "ReportResponse"'),
        ("bool counted = 1;", "bool counted = 2;", 'Previously present field "1" with name "counted"'),
        ("bool counted = 1;", "string counted = 1;", 'changed type from "bool" to "string"'),
        ("PROGRESS_FAILED = 4;", "PROGRESS_FAILED = 6;", 'Previously present enum value "4" on enum "Progress"'),
        ("rpc Report(", "rpc Tell(", 'Previously present RPC "Report" on service "DeviceService" was deleted'),
        ("repeated string products", "string products", 'changed cardinality from "repeated"'),
        ("package wavegate.device.v1;", "package wavegate.device.v2;", '"wavegate.device.v1" to "wavegate.device.v2"'),
    ],
)
def test_a_change_that_devices_would_not_understand_is_found(tree: Path, before: str, after: str, said: str) -> None:
    change(tree, before, after)
    code, found = buf(tree, "breaking", "--against", RELEASED)
    assert code == FAULTS_FOUND, found
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("bool give_back = 3;", "bool giveBack = 3;", 'Field name "giveBack" should be lower_snake_case'),
        ("PROGRESS_FAILED = 4;", "FAILED = 4;", 'Enum value name "FAILED" should be prefixed with "PROGRESS_"'),
        (
            "  // Progress of one decision; idempotent by report id.\n",
            "",
            'RPC "Report" should have a non-empty comment',
        ),
    ],
)
def test_a_name_or_a_missing_comment_that_buf_warns_of_is_found(tree: Path, before: str, after: str, said: str) -> None:
    change(tree, before, after)
    code, found = buf(tree, "lint")
    assert code == FAULTS_FOUND, found
    assert any(said in line for line in found), found
