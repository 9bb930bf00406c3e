"""The table from errors to gRPC status is whole, and the stubs are the proto's."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
import pytest

from api.device.errors import STATUS, DeviceCallRefused, NotAuthenticated, refusal_of
from api.device.generate import generate
from fleet.errors import FleetError
from rollout.errors import ReportRefused, RolloutError

TOP = Path(__file__).parents[3]
LEAVES = [*FleetError.__subclasses__(), *RolloutError.__subclasses__(), *DeviceCallRefused.__subclasses__()]


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_error_a_device_can_cause_has_a_status(leaf: type[Exception]) -> None:
    assert leaf in STATUS


def test_a_refusal_names_the_stable_code() -> None:
    refusal = refusal_of(ReportRefused("not in an open wave"))

    assert refusal.status is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.message == "report_refused: not in an open wave"
    assert refusal_of(NotAuthenticated("who?")).status is grpc.StatusCode.UNAUTHENTICATED


def test_an_unknown_error_is_logged_under_the_id_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        refusal = refusal_of(ZeroDivisionError("secret"))

    told = refusal.message.rsplit(" ", 1)[1]
    assert refusal.status is grpc.StatusCode.INTERNAL
    assert told.startswith("err_")
    assert told in caplog.text
    assert "secret" not in refusal.message


def test_the_committed_stubs_are_what_the_proto_makes(tmp_path: Path) -> None:
    generate(TOP, tmp_path)

    for name in ("device_pb2.py", "device_pb2.pyi", "device_pb2_grpc.py"):
        assert (tmp_path / "api/device" / name).read_text() == (TOP / "api/device" / name).read_text(), name
