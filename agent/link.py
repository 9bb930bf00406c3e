"""The device port as the agent calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc

from agent.bundle import Bundle
from agent.errors import CallRefused, NotRecognised, ServerAway
from agent.home import Home
from agent.identity import device_ca_of, load_credentials
from agent.state import LOGS, REBOOT, Order, OrderResult, PendingReport, Progress, Release
from api.device import device_pb2, device_pb2_grpc

CALL_SECONDS: Final = 10.0
UPLOAD_SECONDS: Final = 900.0  # a bundle over a poor line
MAX_DETAIL: Final = 1_000  # characters
MAX_MESSAGE_LENGTH: Final = 64 * 1024  # bytes

_PROGRESS: Final = {
    Progress.DOWNLOADING: device_pb2.PROGRESS_DOWNLOADING,
    Progress.INSTALLING: device_pb2.PROGRESS_INSTALLING,
    Progress.SUCCEEDED: device_pb2.PROGRESS_SUCCEEDED,
    Progress.FAILED: device_pb2.PROGRESS_FAILED,
    Progress.ROLLED_BACK: device_pb2.PROGRESS_ROLLED_BACK,
}
_BY_THE_CLOCK: Final = ("certificate is not yet valid", "certificate has expired")  # what the TLS library says
_ORDERS: Final = {device_pb2.COMMAND_KIND_LOGS: LOGS, device_pb2.COMMAND_KIND_REBOOT: REBOOT}
# What is wrong with the call itself stays wrong; everything else may pass.
_REFUSED: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the device is, as it tells at every check-in."""

    agent_version: str
    hostname: str
    os_family: str
    os_name: str
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a check-in says of commands: those held, by id, what came of others, and why a reboot is due."""

    held: tuple[str, ...] = ()
    results: tuple[OrderResult, ...] = ()
    reboot_pending: str = ""


NOTHING_SAID: Final = Said()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server answers to a check-in. ``products`` is a hint: only signed decisions count."""

    groups: tuple[str, ...]
    products: tuple[str, ...]
    next_check_in_seconds: int
    orders: tuple[Order, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitAnswer:
    """What the server answers to a device that asks for a permit; ``reason`` is for people."""

    granted: bool
    reason: str = ""
    ask_again_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A new certificate with its issuer, and the CAs to trust the device port by, PEM; none: those before stay."""

    chain: bytes
    device_ca: bytes = b""


class Link(Protocol):
    """The server. Every method raises ServerAway, NotRecognised or CallRefused."""

    def check_in(self, facts: Facts, running: Sequence[Release], state: str, said: Said = NOTHING_SAID) -> Answer:
        """Say what runs and why; learn groups, products and commands."""

    def report(self, report: PendingReport) -> bool:
        """Hand over a report; whether it changed anything."""

    def permit(self, rollout: str, attempt: int) -> PermitAnswer:
        """Ask for leave to install what a decision with a budget offers."""

    def give_permit_back(self, rollout: str) -> None:
        """Say that the device does not install, or has gone back."""

    def upload_logs(self, order: str, bundle: Bundle) -> bool:
        """Send the bundle that a command asked for; False when the server had it."""

    def renew(self, request: bytes) -> Renewal:
        """Have a key certified (PKCS #10, DER)."""

    def dial_again(self) -> None:
        """Use the home's present credentials from the next call on."""

    def close(self) -> None:
        """Hang up."""


class GrpcLink:
    """``Link`` over mutual TLS; the connection is made at the first call and kept."""

    def __init__(self, home: Home, endpoint: str) -> None:
        self._home = home
        self._endpoint = endpoint
        self._channel: grpc.Channel | None = None

    def check_in(self, facts: Facts, running: Sequence[Release], state: str, said: Said = NOTHING_SAID) -> Answer:
        """As ``Link``."""
        request = device_pb2.CheckInRequest(
            agent_version=facts.agent_version,
            hostname=facts.hostname,
            os_family=facts.os_family,
            os_name=facts.os_name,
            platform=facts.platform,
            running=[
                device_pb2.Running(
                    product=r.product, version=r.version, path=r.path, sha256=r.sha256, rollout_id=r.rollout
                )
                for r in running
            ],
            state=state[:MAX_DETAIL],
            reboot_pending=said.reboot_pending[:MAX_DETAIL],
            held_commands=said.held,
            command_results=[
                device_pb2.CommandResult(
                    id=one.id, done=one.done, code=one.code, detail=one.detail[:MAX_DETAIL], boot_id=one.boot_id
                )
                for one in said.results
            ],
        )
        answer = self._call(lambda stub: stub.CheckIn(request, timeout=CALL_SECONDS))
        return Answer(
            groups=tuple(answer.groups),
            products=tuple(answer.products),
            next_check_in_seconds=answer.next_check_in_seconds,
            orders=tuple(
                Order(
                    id=one.id,
                    kind=_ORDERS.get(one.kind, ""),
                    not_before=one.not_before,
                    expires_at=one.expires_at,
                    own_window=one.own_window,
                    max_bytes=one.max_bytes,
                )
                for one in answer.commands
            ),
            dropped=tuple(answer.dropped_commands),
        )

    def report(self, report: PendingReport) -> bool:
        """As ``Link``."""
        request = device_pb2.ReportRequest(
            report_id=report.id,
            rollout_id=report.rollout,
            attempt=report.attempt,
            progress=_PROGRESS[report.progress],
            code=report.code,
            detail=report.detail[:MAX_DETAIL],
        )
        return bool(self._call(lambda stub: stub.Report(request, timeout=CALL_SECONDS)).counted)

    def permit(self, rollout: str, attempt: int) -> PermitAnswer:
        """As ``Link``."""
        request = device_pb2.PermitRequest(rollout_id=rollout, attempt=attempt)
        answer = self._call(lambda stub: stub.Permit(request, timeout=CALL_SECONDS))
        return PermitAnswer(
            granted=answer.granted, reason=answer.reason[:MAX_DETAIL], ask_again_seconds=answer.ask_again_seconds
        )

    def give_permit_back(self, rollout: str) -> None:
        """As ``Link``."""
        request = device_pb2.PermitRequest(rollout_id=rollout, give_back=True)
        self._call(lambda stub: stub.Permit(request, timeout=CALL_SECONDS))

    def upload_logs(self, order: str, bundle: Bundle) -> bool:
        """As ``Link``."""
        answer = self._call(lambda stub: stub.UploadLogs(_parts(order, bundle), timeout=UPLOAD_SECONDS))
        return bool(answer.taken)

    def renew(self, request: bytes) -> Renewal:
        """As ``Link``."""
        asked = device_pb2.RenewCertificateRequest(certificate_request=request)
        answer = self._call(lambda stub: stub.RenewCertificate(asked, timeout=CALL_SECONDS))
        return Renewal(chain=str(answer.certificate_chain).encode(), device_ca=str(answer.device_ca).encode())

    def dial_again(self) -> None:
        """As ``Link``. gRPC reads credentials only when a channel is made."""
        self.close()

    def close(self) -> None:
        """As ``Link``."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _call(self, ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(self._stub())
        except grpc.RpcError as error:
            code, why = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAUTHENTICATED:
                raise NotRecognised(
                    f"the server does not know this device any more: {why}; enrol it anew (--again)"
                ) from error
            if code in _REFUSED:
                raise CallRefused(why) from error
            if any(words in why for words in _BY_THE_CLOCK):
                raise ServerAway(
                    f"no answer from {self._endpoint}: by this device's clock the server's certificate is not valid "
                    "now; the clock here or there is wrong"
                ) from error
            raise ServerAway(f"no answer from {self._endpoint}: {code.name.lower()} {why}".rstrip()) from error

    def _stub(self) -> Any:
        if self._channel is None:
            credentials = load_credentials(self._home)
            self._channel = grpc.secure_channel(
                self._endpoint,
                grpc.ssl_channel_credentials(device_ca_of(self._home), credentials.private_key, credentials.chain),
                options=(
                    ("grpc.enable_http_proxy", 0),  # the proxy's environment variables are somebody else's wish
                    ("grpc.max_receive_message_length", MAX_MESSAGE_LENGTH),
                    ("grpc.max_reconnect_backoff_ms", 30_000),
                ),
            )
        return device_pb2_grpc.DeviceServiceStub(self._channel)  # type: ignore[no-untyped-call]


def _parts(order: str, bundle: Bundle) -> Iterator[device_pb2.UploadLogsRequest]:
    yield device_pb2.UploadLogsRequest(head=device_pb2.UploadLogsHead(command_id=order))
    for piece in bundle:
        yield device_pb2.UploadLogsRequest(chunk=piece)
    end = device_pb2.UploadLogsEnd(sha256=bundle.sha256, length=bundle.length, files=bundle.files)
    yield device_pb2.UploadLogsRequest(end=end)
