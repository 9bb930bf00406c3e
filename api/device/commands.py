"""Commands on the device port: what a check-in says of them, and the bundle that one of them asks for."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import grpc

from api.device import device_pb2
from api.device.errors import InvalidCall, TooManyStreams
from api.device.identity import DeviceIdentity
from evidence.times import rfc3339
from fleet.command import Command, Kind, Result
from fleet.commanding import Commands
from fleet.model import Device

MAX_HELD: Final = 64  # commands that a device says it holds, and results it tells, in one call
MAX_UPLOADS: Final = 4  # at once; each holds a worker thread
MAX_FILES: Final = 1_000_000  # in one bundle
UPLOAD_SECONDS: Final = 900.0  # a bundle over a poor line; shorter than what a connection may last

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CODE: Final = re.compile(r"[a-z0-9_]{0,64}")
_BOOT_ID: Final = re.compile(r"[A-Za-z0-9_-]{0,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KINDS: Final = {Kind.LOGS: device_pb2.COMMAND_KIND_LOGS, Kind.REBOOT: device_pb2.COMMAND_KIND_REBOOT}


def exchange_commands(
    commands: Commands,
    device: Device,
    request: device_pb2.CheckInRequest,
    answer: device_pb2.CheckInResponse,
    now: datetime,
) -> None:
    """Take what a check-in says of commands, and put into its answer what the device is to do; raises InvalidCall."""
    if len(request.held_commands) > MAX_HELD or len(request.command_results) > MAX_HELD:
        raise InvalidCall(f"more than {MAX_HELD} commands are named; a device holds fewer")
    held = list(request.held_commands)
    if not all(_ID.fullmatch(one) for one in held):
        raise InvalidCall("one of held_commands is not an id")
    exchange = commands.exchange(device, held, [_result(one) for one in request.command_results], now=now)
    answer.commands.extend(_told(one, commands.terms.most_bytes) for one in exchange.deliver)
    answer.dropped_commands.extend(exchange.drop)


def _told(command: Command, most_bytes: int) -> device_pb2.Command:
    return device_pb2.Command(
        id=command.id,
        kind=_KINDS[command.kind],
        not_before=rfc3339(command.not_before),
        expires_at=rfc3339(command.expires_at),
        own_window=command.own_window,
        max_bytes=most_bytes if command.kind is Kind.LOGS else 0,
    )


class Uploads:
    """Takes bundles in; a few at once, each ended when its device is revoked or takes too long."""

    def __init__(
        self,
        identity: DeviceIdentity,
        commands: Commands,
        clock: Callable[[], datetime],
        seconds: float = UPLOAD_SECONDS,
    ) -> None:
        self._identity = identity
        self._commands = commands
        self._clock = clock
        self._seconds = seconds
        self._free = threading.BoundedSemaphore(MAX_UPLOADS)

    def take(
        self, device: Device, parts: Iterator[device_pb2.UploadLogsRequest], context: grpc.ServicerContext
    ) -> device_pb2.UploadLogsResponse:
        """Read a bundle to its end and keep it.

        Raises InvalidCall (parts in another order), NotAuthenticated (revoked meanwhile), TooManyStreams, and what
        ``fleet.commanding`` raises; nothing is left of it then.
        """
        if not self._free.acquire(blocking=False):
            raise TooManyStreams(f"{MAX_UPLOADS} bundles are coming in, which is all there may be; try again later")
        try:
            with self._identity.while_active(context, self._seconds) as check:
                try:
                    return self._taken(device, parts, check)
                except grpc.RpcError as error:  # a line that broke is no error of ours; nobody hears the answer
                    check()
                    raise InvalidCall("the stream broke off; nothing of it is kept") from error
        finally:
            self._free.release()

    def _taken(
        self, device: Device, parts: Iterator[device_pb2.UploadLogsRequest], check: Callable[[], None]
    ) -> device_pb2.UploadLogsResponse:
        first = next(parts, None)
        check()
        command = "" if first is None or first.WhichOneof("part") != "head" else first.head.command_id
        if _ID.fullmatch(command) is None:
            raise InvalidCall("a bundle begins with its head, which names the command it answers")
        if not self._commands.upload(device, command, now=self._clock()):
            return device_pb2.UploadLogsResponse(taken=False)
        with self._commands.stage(device) as staged:
            for part in parts:
                check()
                kind = part.WhichOneof("part")
                if kind == "chunk":
                    staged.write(part.chunk)
                elif kind == "end":
                    if part.end.files > MAX_FILES:
                        raise InvalidCall(f"the bundle is said to hold {part.end.files} files, at most {MAX_FILES}")
                    self._commands.take_bundle(
                        device,
                        command,
                        staged,
                        sha256=_checked_sha256(part.end.sha256),
                        length=part.end.length,
                        files=part.end.files,
                        now=self._clock(),
                    )
                    return device_pb2.UploadLogsResponse(taken=True)
                else:
                    raise InvalidCall("a bundle has one head, then chunks, then its end")
        raise InvalidCall("the bundle has no end; what came is dropped, send it again")


def _result(one: device_pb2.CommandResult) -> Result:
    if _ID.fullmatch(one.id) is None:
        raise InvalidCall("a result names no command")
    if _CODE.fullmatch(one.code) is None or _BOOT_ID.fullmatch(one.boot_id) is None:
        raise InvalidCall("the code of a result is not at most 64 of a-z 0-9 _, or its boot_id not of A-Z a-z 0-9 _ -")
    return Result(id=one.id, done=one.done, code=one.code, detail=one.detail, boot_id=one.boot_id)


def _checked_sha256(text: str) -> str:
    if _SHA256.fullmatch(text) is None:
        raise InvalidCall("the sha256 of the bundle is not 64 lower-case hex digits")
    return text
