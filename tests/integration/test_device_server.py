"""The device port over real TLS on loopback: who is let in, and what is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from api.device import device_pb2
from api.device.server import DevicePortTaken, DeviceServer, DeviceServerSettings
from api.logs import fields_of, keep_fields
from fleet.errors import EnrolmentRefused
from rollout.model import Progress
from rollout.permits import PermitAnswer
from tests.simulators.device_port import DEADLINE, Port, check_in, open_port, refused
from tests.simulators.devices import enrol_device, new_key, new_token, private_pem, request_for, stub, utc_now
from tests.simulators.permits import DevicePermitsSimulator


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    with open_port(tmp_path) as running:
        yield running


def test_a_device_learns_its_name_groups_and_products_from_its_certificate_alone(port: Port) -> None:
    device = port.enrol("press-1")

    answer = check_in(port, private_pem(device.key), device.chain)

    assert (answer.device_id, answer.device_name) == (device.id, "press-1")
    assert (list(answer.groups), list(answer.products)) == (["canary"], ["app"])
    assert 80 <= answer.next_check_in_seconds <= 120


def test_what_a_device_says_is_kept_with_the_time_it_said_it(port: Port) -> None:
    device = port.enrol("press-1")
    said = device_pb2.CheckInRequest(
        agent_version="0.1",
        hostname="press\x00-1" + "x" * 300,
        platform="linux-x86_64",
        running=[
            device_pb2.Running(product="app", version="1.0", path="app/1.0/any/a", sha256="ab" * 32, rollout_id="rol_1")
        ],
        state="up to date",
    )
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        caller.CheckIn(said, timeout=DEADLINE)

    kept = port.fleet.device("acme", "press-1")
    assert (kept.state, kept.agent_version, kept.running["app"].version) == ("up to date", "0.1", "1.0")
    assert kept.running["app"].rollout == "rol_1"
    assert kept.hostname == "press-1" + "x" * 248
    assert kept.last_seen_at is not None


def test_a_genuine_certificate_that_was_never_recorded_is_refused(port: Port) -> None:
    key = new_key()
    issued = port.ca.issue(request_for(key), "dev_ghost", now=utc_now())

    code, why = refused(lambda: check_in(port, private_pem(key), issued.chain_pem.encode()))

    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert why.startswith("device_not_authenticated: ")


@pytest.mark.parametrize("end", [Port.revoke, Port.delete])
def test_a_device_revoked_or_deleted_on_an_open_connection_is_refused_on_its_next_call(
    port: Port, end: Callable[[Port, str], None]
) -> None:
    device = port.enrol("press-1")
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        caller.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE)
        end(port, "press-1")

        for call in (
            lambda: caller.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE),
            lambda: caller.Report(device_pb2.ReportRequest(), timeout=DEADLINE),
            lambda: caller.RenewCertificate(device_pb2.RenewCertificateRequest(), timeout=DEADLINE),
        ):
            assert refused(call)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_certificate_that_expires_on_an_open_connection_ends_it(port: Port) -> None:
    device = port.enrol("press-1")
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        caller.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE)
        port.late_by = timedelta(days=30, minutes=1)

        code, _ = refused(lambda: caller.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE))

    assert code is grpc.StatusCode.UNAUTHENTICATED


def test_a_renewed_certificate_with_a_new_key_is_the_same_device(port: Port) -> None:
    device, key = port.enrol("press-1"), new_key()
    der = x509.load_pem_x509_csr(request_for(key, "dev_somebody_else")).public_bytes(serialization.Encoding.DER)
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        renewed = caller.RenewCertificate(
            device_pb2.RenewCertificateRequest(certificate_request=der), timeout=DEADLINE
        ).certificate_chain

    assert check_in(port, private_pem(key), renewed.encode()).device_id == device.id
    assert [event.tag for event in port.fleet.events][-1] == "device.certificate.renewed"


def test_a_report_reaches_the_rollout_under_the_certificates_device(port: Port) -> None:
    device = port.enrol("press-1")
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        answer = caller.Report(
            device_pb2.ReportRequest(
                report_id="rep_1",
                rollout_id="rol_1",
                attempt=2,
                progress=device_pb2.PROGRESS_FAILED,
                code="health_failed",
                detail="port 80 is closed",
            ),
            timeout=DEADLINE,
        )

    assert answer.counted
    ((org, reporter, report),) = port.reports
    assert (org, reporter) == ("acme", device.id)
    assert (report.id, report.rollout, report.attempt) == ("rep_1", "rol_1", 2)
    assert (report.progress, report.code, report.detail) == (Progress.FAILED, "health_failed", "port 80 is closed")


GOOD_REPORT = {"report_id": "rep_1", "rollout_id": "rol_1", "attempt": 1, "progress": 3}


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"rollout_id": "rol_unknown"}, grpc.StatusCode.NOT_FOUND),
        ({"rollout_id": "rol_of_others"}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"rollout_id": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"rollout_id": "../etc"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"report_id": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"report_id": "x" * 65}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"attempt": 0}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"attempt": 2**32 - 1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"progress": 0}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"progress": 99}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"code": "Not A Code"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"detail": "x" * 1001}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"detail": "x" * 70_000}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_a_tampered_report_is_refused_and_counts_nowhere(
    port: Port, wrong: dict[str, object], status: grpc.StatusCode
) -> None:
    device = port.enrol("press-1")
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        report = device_pb2.ReportRequest(**{**GOOD_REPORT, **wrong})  # type: ignore[arg-type]
        code, _ = refused(lambda: caller.Report(report, timeout=DEADLINE))

    assert code is status
    assert port.reports == []


@pytest.mark.parametrize(
    "running",
    [
        [{"product": "app", "sha256": "ab" * 32}, {"product": "app", "sha256": "cd" * 32}],
        [{"product": "../app", "sha256": "ab" * 32}],
        [{"product": "app", "sha256": "AB" * 32}],
        [{"product": f"p{n}", "sha256": "ab" * 32} for n in range(65)],
    ],
    ids=["twice", "odd name", "odd digest", "too many"],
)
def test_an_odd_list_of_what_runs_is_refused(port: Port, running: list[dict[str, str]]) -> None:
    device = port.enrol("press-1")
    said = device_pb2.CheckInRequest(running=[device_pb2.Running(**one) for one in running])
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        code, _ = refused(lambda: caller.CheckIn(said, timeout=DEADLINE))

    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unexpected_failure_gives_an_id_and_no_detail(port: Port) -> None:
    device = port.enrol("press-1")
    report = device_pb2.ReportRequest(report_id="rep_1", rollout_id="rol_boom", attempt=1, progress=3)  # type: ignore[arg-type]
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        code, why = refused(lambda: caller.Report(report, timeout=DEADLINE))

    assert code is grpc.StatusCode.INTERNAL
    assert "err_" in why
    assert "1234" not in why


def test_health_and_reflection_answer_devices_only(port: Port) -> None:
    device = port.enrol("press-1")
    credentials = grpc.ssl_channel_credentials(port.trusted, private_pem(device.key), device.chain)
    with grpc.secure_channel(f"localhost:{port.port}", credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="wavegate.device.v1.DeviceService")
        assert health.Check(asked, timeout=DEADLINE).status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        (services,) = reflection.ServerReflectionInfo(iter([listing]), timeout=DEADLINE)
        assert "wavegate.device.v1.DeviceService" in {s.name for s in services.list_services_response.service}
        port.revoke("press-1")
        code, _ = refused(lambda: health.Check(asked, timeout=DEADLINE))
        assert refused(lambda: list(reflection.ServerReflectionInfo(iter([listing]), timeout=DEADLINE)))[0] is code

    assert code is grpc.StatusCode.UNAUTHENTICATED


def test_twenty_racers_for_one_place_of_a_token_give_one_device(port: Port) -> None:
    token = new_token(port.fleet, life=timedelta(hours=1))
    start = threading.Barrier(20)

    def race(number: int) -> bool:
        start.wait()
        try:
            enrol_device(port.fleet, port.ca, token, f"racer-{number}", now=utc_now())
        except EnrolmentRefused:
            return False
        return True

    with ThreadPoolExecutor(20) as racers:
        assert sorted(racers.map(race, range(20))) == [False] * 19 + [True]


def test_a_permit_is_asked_for_and_given_back_under_the_certificates_device(port: Port) -> None:
    device = port.enrol("press-1")
    with stub(port.port, port.trusted, private_pem(device.key), device.chain) as caller:
        no = caller.Permit(device_pb2.PermitRequest(rollout_id="rol_1", attempt=2), timeout=DEADLINE)
        port.permits.answer = PermitAnswer(granted=True, lease_seconds=600)
        yes = caller.Permit(device_pb2.PermitRequest(rollout_id="rol_1", attempt=2), timeout=DEADLINE)
        caller.Permit(device_pb2.PermitRequest(rollout_id="rol_1", give_back=True), timeout=DEADLINE)

        for wrong in ({"rollout_id": "rol 1", "attempt": 1}, {"rollout_id": "rol_1"}):
            asked = device_pb2.PermitRequest(**wrong)
            code, why = refused(lambda asked=asked: caller.Permit(asked, timeout=DEADLINE))  # type: ignore[misc]
            assert code is grpc.StatusCode.INVALID_ARGUMENT, why

    assert (no.granted, no.reason) == (False, "not today")
    assert 80 <= no.ask_again_seconds <= 120
    assert (yes.granted, yes.lease_seconds, yes.ask_again_seconds) == (True, 600, 0)
    assert port.permits.asked == [("acme", device.id, "rol_1", 2)] * 2
    assert port.permits.back == [("acme", device.id, "rol_1")]


def test_a_second_server_on_the_same_port_says_so(port: Port) -> None:
    second = DeviceServer(
        port.fleet,
        port.ca,
        port.report,
        lambda *_: [],
        DevicePermitsSimulator(),
        DeviceServerSettings(listen=f"127.0.0.1:{port.port}"),
        port.now,
    )

    with pytest.raises(DevicePortTaken, match="cannot be listened on"):
        second.start()


def test_a_call_is_counted_and_told_by_ids_and_a_made_up_method_is_not(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wavegate.device")
    caplog.handler.addFilter(keep_fields)
    device = port.enrol("press-1")
    check_in(port, private_pem(device.key), device.chain)
    port.revoke(device.id)
    refused(lambda: check_in(port, private_pem(device.key), device.chain))
    credentials = grpc.ssl_channel_credentials(port.trusted, private_pem(device.key), device.chain)
    with grpc.secure_channel(f"localhost:{port.port}", credentials) as line:
        made_up: list[Callable[..., object]] = [
            line.unary_unary(f"/wavegate.device.v1.DeviceService/Brew{number}") for number in range(5)
        ]
        for call in made_up:
            assert refused(partial(call, b"", timeout=DEADLINE))[0] is grpc.StatusCode.UNIMPLEMENTED
    assert port.calls == [("CheckIn", "OK"), ("CheckIn", "UNAUTHENTICATED")]
    told = [(one.levelname, fields_of(one)) for one in caplog.records if one.name == "wavegate.device"]
    for _, line_fields in told:
        assert isinstance(line_fields.pop("duration_ms"), float)
    assert told == [
        ("DEBUG", {"method": "CheckIn", "org": "acme", "device": device.id, "status": "OK"}),
        ("INFO", {"method": "CheckIn", "status": "UNAUTHENTICATED", "code": "device_not_authenticated"}),
    ]
