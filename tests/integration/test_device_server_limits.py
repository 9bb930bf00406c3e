"""What one caller of the device port may take: message, streams, silence and pings have an end, others go on."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from api.device import device_pb2, device_pb2_grpc, server
from api.device.server import DeviceServer, DeviceServerSettings
from evidence.model import Actor, ActorKind
from keys.device_ca import DeviceCa, create_device_ca
from tests.simulators.devices import EnrolledDevice, channel, enrol_device, new_token, private_pem, stub, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.permits import DevicePermitsSimulator
from tests.simulators.raw_http2 import (
    ENHANCE_YOUR_CALM,
    GOAWAY,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    raw_connection,
)

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
DEADLINE = 20  # seconds; a call that needs longer on loopback has hung
SILENT = 1_000


@dataclass
class Behind:
    """What stands behind a device port, and two devices of it."""

    fleet: FleetSimulator
    ca: DeviceCa
    folder: Path
    one: EnrolledDevice
    two: EnrolledDevice

    @property
    def trusted(self) -> bytes:
        return self.ca.certificate_pem.encode()

    @contextmanager
    def port(self, answer: Callable[[], bool] = lambda: True, **more: int) -> Iterator[int]:
        """A device port with the limits as they are at this moment; ``answer`` is that to reports."""
        running = DeviceServer(
            self.fleet,
            self.ca,
            lambda org, device, report, groups: answer(),
            lambda org, device: [],
            DevicePermitsSimulator(),
            DeviceServerSettings(listen="127.0.0.1:0", **more),  # type: ignore[arg-type]
            utc_now,
        )
        number = running.start()
        try:
            yield number
        finally:
            running.stop(0)

    @contextmanager
    def raw(self, port: int) -> Iterator[RawConnection]:
        with raw_connection(port, private_pem(self.one.key), self.one.chain, self.folder) as connection:
            yield connection

    def check_in(self, port: int, state: str = "", **more: tuple[tuple[str, str], ...]) -> str:
        """A call of the second device on a connection of its own; the name it is told."""
        with stub(port, self.trusted, private_pem(self.two.key), self.two.chain) as device:
            said = device_pb2.CheckInRequest(state=state)
            answer: device_pb2.CheckInResponse = device.CheckIn(said, timeout=DEADLINE, **more)
            return answer.device_name


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Behind:
    folder = tmp_path_factory.mktemp("limits")
    fleet, ca, now = FleetSimulator(), create_device_ca(folder / "ca", now=utc_now()), utc_now()
    token = new_token(fleet, max_uses=2)
    one, two = (enrol_device(fleet, ca, token, name, now=now) for name in ("one", "two"))
    return Behind(fleet, ca, folder, one, two)


@pytest.fixture(scope="module")
def port(behind: Behind) -> Iterator[int]:
    with behind.port() as number:
        yield number


def refused(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    code: grpc.StatusCode = raised.value.code()
    return code


def test_a_message_of_64_kib_is_taken_and_one_byte_more_is_not(behind: Behind, port: int) -> None:
    overhead = len(device_pb2.CheckInRequest(state="x" * 60_000).SerializeToString()) - 60_000
    most = "x" * (65_536 - overhead)
    with stub(port, behind.trusted, private_pem(behind.two.key), behind.two.chain) as device:
        taken = device.CheckIn(device_pb2.CheckInRequest(state=most), timeout=DEADLINE)
        over = device_pb2.CheckInRequest(state=most + "x")
        assert refused(lambda: device.CheckIn(over, timeout=DEADLINE)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        after = device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE)
    assert (taken.device_name, after.device_name) == ("two", "two")


def test_headers_of_more_than_8_kib_are_refused(behind: Behind, port: int) -> None:
    assert behind.check_in(port, metadata=(("x-more", "x" * 7_000),)) == "two"
    code = refused(lambda: behind.check_in(port, metadata=(("x-more", "x" * 9_000),)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_connection_is_told_that_it_may_have_16_calls_at_once_and_8_kib_of_headers(behind: Behind, port: int) -> None:
    with behind.raw(port) as connection:
        connection.begin()
        told = next(frame.settings for frame in connection.frames() if frame.kind == SETTINGS and not frame.flags)
    assert (told[MAX_CONCURRENT_STREAMS], told[MAX_HEADER_LIST_SIZE]) == (16, 8_192)


def test_of_forty_calls_at_once_those_beyond_the_limit_may_be_refused_and_the_connection_stays(
    behind: Behind, port: int
) -> None:
    with stub(port, behind.trusted, private_pem(behind.two.key), behind.two.chain) as device:
        calls = [device.CheckIn.future(device_pb2.CheckInRequest(), timeout=DEADLINE) for _ in range(40)]
        codes = [call.code() for call in calls]
        after = device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE)
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes.count(grpc.StatusCode.OK) >= 16
    assert after.device_name == "two"


def test_calls_beyond_the_most_of_all_devices_are_refused_until_others_end(behind: Behind) -> None:
    begun, hold = threading.Event(), threading.Event()

    def answer() -> bool:
        begun.set()
        return hold.wait(DEADLINE)

    report = device_pb2.ReportRequest(report_id="r", rollout_id="rol_1", attempt=1, progress="PROGRESS_FAILED")
    with (
        behind.port(answer, max_concurrent_calls=1) as port,
        stub(port, behind.trusted, private_pem(behind.one.key), behind.one.chain) as slow,
    ):
        under_way = slow.Report.future(report, timeout=DEADLINE)
        assert begun.wait(DEADLINE)
        assert refused(lambda: behind.check_in(port)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        hold.set()
        assert under_way.result().counted


def test_who_says_nothing_is_hung_up_on(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_MILLISECONDS", 2_000)  # enough for a real one on a busy machine
    with behind.port() as port:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as silent:
            assert silent.recv(1) == b""
        with behind.raw(port) as without_http:
            assert {frame.kind for frame in without_http.frames()} <= {SETTINGS, WINDOW_UPDATE, GOAWAY}


@pytest.mark.parametrize(
    ("limit", "said"), [("IDLE_MILLISECONDS", "connection idle"), ("CONNECTION_AGE_MILLISECONDS", "max_age")]
)
def test_an_idle_or_an_old_connection_is_ended_and_a_device_dials_again_by_itself(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, limit: str, said: str
) -> None:
    monkeypatch.setattr(server, limit, 1_000)
    with behind.port() as port:
        with behind.raw(port) as idle:
            idle.begin()
            words = next(frame.goodbye[1] for frame in idle.frames() if frame.kind == GOAWAY)
        assert words == said
        key = private_pem(behind.two.key)
        with channel(port, behind.trusted, key, behind.two.chain) as line:
            device = device_pb2_grpc.DeviceServiceStub(line)  # type: ignore[no-untyped-call]
            assert device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE).device_name == "two"
            ended = threading.Event()
            line.subscribe(lambda state: ended.set() if state is grpc.ChannelConnectivity.IDLE else None)
            assert ended.wait(DEADLINE)
            assert device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE).device_name == "two"


def test_connections_beyond_the_most_there_may_be_are_refused_until_others_end(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    with behind.port() as port:
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(behind.raw(port)).begin()
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as one_more:
                assert one_more.recv(1) == b""
        with stub(port, behind.trusted, private_pem(behind.two.key), behind.two.chain) as device:
            answer = device.CheckIn(device_pb2.CheckInRequest(), timeout=DEADLINE, wait_for_ready=True)
    assert answer.device_name == "two"


def test_an_address_with_too_many_connections_loses_those_beyond_and_another_address_none(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ADDRESS_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(server, "HANDSHAKE_MILLISECONDS", 1_000 * DEADLINE)  # silence is not what ends them
    with behind.port(connections_per_address=3) as port, ExitStack() as held:

        def connect(address: str) -> socket.socket:
            source = (address, 0)
            return held.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=source))

        others = [connect("127.0.0.3") for _ in range(3)]
        crowd = [connect("127.0.0.2") for _ in range(20)]
        ended: set[socket.socket] = set()
        while len(ended) < 17:
            more = select.select(set(crowd) - ended, [], [], DEADLINE)[0]
            assert [connection.recv(1) for connection in more] == [b""] * len(more) != []
            ended.update(more)
        assert behind.check_in(port) == "two"
        assert select.select(others, [], [], 0)[0] == []
        assert len(select.select(crowd, [], [], 0)[0]) == 17


def test_who_pings_again_and_again_is_told_to_calm_down_and_hung_up_on(behind: Behind, port: int) -> None:
    with behind.raw(port) as connection:
        connection.begin()
        for _ in range(4):
            connection.send(PING, bytes(8))
        goodbyes = [frame.goodbye for frame in connection.frames() if frame.kind == GOAWAY]
    assert goodbyes[-1] == (ENHANCE_YOUR_CALM, "too_many_pings")
    assert behind.check_in(port) == "two"


@pytest.mark.nightly
def test_a_thousand_silent_connections_and_oversized_messages_disturb_nobody(behind: Behind, port: int) -> None:
    too_much = device_pb2.CheckInRequest(state="x" * 1_000_000)
    with ExitStack() as held, ThreadPoolExecutor(8) as callers:
        silent = [held.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE)) for _ in range(SILENT)]
        shouting = held.enter_context(stub(port, behind.trusted, private_pem(behind.one.key), behind.one.chain))
        shouts = [shouting.CheckIn.future(too_much, timeout=DEADLINE) for _ in range(200)]
        answers = list(callers.map(lambda _: behind.check_in(port), range(100)))
        codes = {shout.code() for shout in shouts}  # unavailable: one call more than a connection may have
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
        assert answers == ["two"] * 100
        assert {connection.recv(1) for connection in silent} == {b""}
    assert behind.check_in(port) == "two"
