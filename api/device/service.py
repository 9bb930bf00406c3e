"""What devices ask for. The device is the certificate's (``CALLER``), never the message's."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import grpc

from api.device import device_pb2, device_pb2_grpc
from api.device.commands import Uploads, exchange_commands
from api.device.errors import InvalidCall
from api.device.heartbeats import Heartbeats
from api.device.identity import CALLER
from fleet.commanding import Commands
from fleet.enrol import Issuer, renew
from fleet.model import CheckIn, Device, Running
from fleet.ports import Fleet
from fleet.rules import MAX_STATE, told
from rollout.model import Progress, Report
from rollout.permits import PermitAnswer

MAX_RUNNING: Final = 64  # products on one device
MAX_CODE: Final = 64  # characters
MAX_DETAIL: Final = 1_000  # characters
MAX_ATTEMPT: Final = 1_000_000

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REPORT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CODE: Final = re.compile(rf"[a-z0-9_]{{0,{MAX_CODE}}}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

PROGRESS: Final = {
    device_pb2.PROGRESS_DOWNLOADING: Progress.DOWNLOADING,
    device_pb2.PROGRESS_INSTALLING: Progress.INSTALLING,
    device_pb2.PROGRESS_SUCCEEDED: Progress.SUCCEEDED,
    device_pb2.PROGRESS_FAILED: Progress.FAILED,
    device_pb2.PROGRESS_ROLLED_BACK: Progress.ROLLED_BACK,
}

RecordReport = Callable[[str, str, Report, frozenset[str]], bool]
"""``(org, device id, report, names of its groups)``: whether the report changed anything; raises rollout errors."""

ProductsOf = Callable[[str, frozenset[str]], Sequence[str]]
"""``(org, group names)``: products that have a rollout for one of the groups."""


class DevicePermits(Protocol):
    """What a device asks before it installs; ``rollout.permits.Permits`` fulfils it. Both raise UnknownRollout."""

    def ask(self, org: str, device: str, rollout_id: str, attempt: int, *, now: datetime) -> PermitAnswer:
        """Leave to install an attempt, or why not."""

    def give_back(self, org: str, device: str, rollout_id: str) -> None:
        """The device does not install, or has gone back."""


PRODUCTS_FOR: Final = timedelta(seconds=5)  # an answer is given again; a device would ask anew in minutes anyway
MOST_KEPT: Final = 1_024  # sets of groups, of which a fleet has few


class DeviceService(device_pb2_grpc.DeviceServiceServicer):
    """Answers devices; runs behind ``DeviceIdentity``, which also turns what is raised here into a status."""

    def __init__(
        self,
        fleet: Fleet,
        issuer: Issuer,
        report: RecordReport,
        products: ProductsOf,
        heartbeats: Heartbeats,
        permits: DevicePermits,
        *,
        check_in_seconds: int,
        jitter_percent: int,
        certificate_days: int,
        clock: Callable[[], datetime],
        commands: Commands | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self._fleet = fleet
        self._issuer = issuer
        self._report = report
        self._products = products
        self._heartbeats = heartbeats
        self._permits = permits
        self._known: dict[tuple[str, frozenset[str]], tuple[datetime, Sequence[str]]] = {}
        self._check_in_seconds = check_in_seconds
        self._jitter_percent = jitter_percent
        self._certificate_days = certificate_days
        self._clock = clock
        self._commands = commands
        self._uploads = uploads

    def CheckIn(  # noqa: N802
        self,
        request: device_pb2.CheckInRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> device_pb2.CheckInResponse:
        """Store what the device says; answer its groups, products to look for, and when to call again."""
        device = CALLER.get()
        now = self._clock()
        groups = _groups(device)
        if self._heartbeats.take(device, _check_in(request, now)):
            groups = self._fleet.of_device(device.org, device.id)  # what is news may have moved it
        answer = device_pb2.CheckInResponse(
            device_id=device.id,
            device_name=device.name,
            groups=sorted(groups),
            products=self._products_of(device.org, groups, now),
            next_check_in_seconds=self._next_check_in(),
        )
        if self._commands is not None and (device.has_commands or request.held_commands or request.command_results):
            exchange_commands(self._commands, device, request, answer, now)
        return answer

    def Report(  # noqa: N802
        self,
        request: device_pb2.ReportRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> device_pb2.ReportResponse:
        """Count the progress of one decision, once."""
        device, now = CALLER.get(), self._clock()
        counted = self._report(device.org, device.id, _told_report(request, now), _groups(device))
        return device_pb2.ReportResponse(counted=counted)

    def Permit(  # noqa: N802
        self,
        request: device_pb2.PermitRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> device_pb2.PermitResponse:
        """Give leave to install what has a budget, or take it back."""
        device, now = CALLER.get(), self._clock()
        if _ID.fullmatch(request.rollout_id) is None:
            raise InvalidCall("rollout_id is not an id")
        if request.give_back:
            self._permits.give_back(device.org, device.id, request.rollout_id)
            return device_pb2.PermitResponse()
        if not 1 <= request.attempt <= MAX_ATTEMPT:
            raise InvalidCall(f"attempt is {request.attempt}, expected 1 to {MAX_ATTEMPT}")
        answer = self._permits.ask(device.org, device.id, request.rollout_id, request.attempt, now=now)
        return device_pb2.PermitResponse(
            granted=answer.granted,
            reason=answer.reason,
            lease_seconds=answer.lease_seconds,
            ask_again_seconds=0 if answer.granted else self._next_check_in(),
        )

    def RenewCertificate(  # noqa: N802
        self,
        request: device_pb2.RenewCertificateRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> device_pb2.RenewCertificateResponse:
        """Certify the request's key as the calling device's."""
        renewed = renew(
            CALLER.get(),
            request.certificate_request,
            fleet=self._fleet,
            issuer=self._issuer,
            now=self._clock(),
            days=self._certificate_days,
        )
        return device_pb2.RenewCertificateResponse(
            certificate_chain=renewed.certificate_chain, device_ca=renewed.device_ca
        )

    def UploadLogs(  # noqa: N802
        self, request_iterator: Iterator[device_pb2.UploadLogsRequest], context: grpc.ServicerContext
    ) -> device_pb2.UploadLogsResponse:
        """Keep the bundle that a command asked for."""
        if self._uploads is None:
            raise NotImplementedError("no log bundles are taken here")
        return self._uploads.take(CALLER.get(), request_iterator, context)

    def _products_of(self, org: str, groups: frozenset[str], now: datetime) -> Sequence[str]:
        known = self._known.get((org, groups))
        if known is not None and now - known[0] < PRODUCTS_FOR:
            return known[1]
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        products = self._products(org, groups)
        self._known[org, groups] = (now, products)
        return products

    def _next_check_in(self) -> int:
        # Spread, or a fleet that was switched on together would call together for ever.
        spread = self._check_in_seconds * self._jitter_percent / 100
        return max(1, round(self._check_in_seconds + random.uniform(-spread, spread)))


def _groups(device: Device) -> frozenset[str]:
    return frozenset(device.groups).difference(device.held_back)


def _check_in(request: device_pb2.CheckInRequest, now: datetime) -> CheckIn:
    if len(request.running) > MAX_RUNNING:
        raise InvalidCall(f"{len(request.running)} products run, at most {MAX_RUNNING} are kept")
    products = [running.product for running in request.running]
    if len(set(products)) != len(products):
        raise InvalidCall("a product is named twice in 'running'; say once what runs of it")
    for running in request.running:
        if _SLUG.fullmatch(running.product) is None:
            raise InvalidCall("a 'product' in 'running' is not 1 to 100 of a-z 0-9 . _ + -")
        if _SHA256.fullmatch(running.sha256) is None:
            raise InvalidCall(f"the sha256 of {running.product} is not 64 lower-case hex digits")
    return CheckIn(
        agent_version=told(request.agent_version),
        hostname=told(request.hostname),
        os_family=told(request.os_family),
        os_name=told(request.os_name),
        platform=told(request.platform, 100),
        running=tuple(
            Running(
                product=running.product,
                version=told(running.version, 100),
                path=told(running.path, 400),
                sha256=running.sha256,
                rollout=told(running.rollout_id, 64),
            )
            for running in request.running
        ),
        state=told(request.state, MAX_STATE),
        at=now,
        reboot_pending=told(request.reboot_pending, MAX_STATE),
    )


def _told_report(request: device_pb2.ReportRequest, now: datetime) -> Report:
    progress = PROGRESS.get(request.progress)
    if progress is None:
        raise InvalidCall(f"progress {request.progress} is not known here, expected 1 to 5")
    if _REPORT_ID.fullmatch(request.report_id) is None:
        raise InvalidCall("report_id is not 1 to 64 of A-Z a-z 0-9 _ -")
    if _ID.fullmatch(request.rollout_id) is None:
        raise InvalidCall("rollout_id is not an id")
    if not 1 <= request.attempt <= MAX_ATTEMPT:
        raise InvalidCall(f"attempt is {request.attempt}, expected 1 to {MAX_ATTEMPT}")
    if _CODE.fullmatch(request.code) is None:
        raise InvalidCall(f"code is not at most {MAX_CODE} of a-z 0-9 _")
    if len(request.detail) > MAX_DETAIL:
        raise InvalidCall(f"detail has {len(request.detail)} characters, at most {MAX_DETAIL} are kept")
    return Report(
        id=request.report_id,
        rollout=request.rollout_id,
        attempt=request.attempt,
        progress=progress,
        at=now,
        code=request.code,
        detail=told(request.detail, MAX_DETAIL),
    )
