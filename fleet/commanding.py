"""What people ask of devices, and what devices answer: the rule and the audit event of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from evidence.ids import new_id
from evidence.model import SCHEDULER, Actor, ActorKind, AuditEvent
from evidence.times import rfc3339
from fleet.command import OPEN, Bundle, Command, CommandState, Exchange, Kind, Moved, Result, Verb, move
from fleet.command_ports import BundleFiles, CommandRows, Staged
from fleet.errors import (
    CommandOver,
    DeviceRevoked,
    InvalidFleetInput,
    LogQuotaReached,
    LogsDamaged,
    LogsNotHere,
    UnknownCommand,
)
from fleet.model import Device, DeviceStatus
from fleet.ports import Fleet
from fleet.rules import told

MOST_AHEAD: Final = timedelta(days=366)  # a command that a device could find next year was forgotten by everybody
SOON: Final = timedelta(hours=24)  # for a reboot without a window: a device that is away for a day is not to surprise
MAX_REASON: Final = 1_000  # characters
MAX_OPEN: Final = 20  # commands of one device; each answer to it has all that it does not hold
MAX_DETAIL: Final = 1_000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTerms:
    """``most_bytes`` of one bundle, ``quota_bytes`` of all of an organisation, and how long one is kept."""

    most_bytes: int = 64 * 1024**2
    quota_bytes: int = 10 * 1024**3
    kept: timedelta = timedelta(days=30)


class Commands:
    """The use cases."""

    def __init__(self, fleet: Fleet, rows: CommandRows, files: BundleFiles, terms: LogTerms) -> None:
        self._fleet = fleet
        self.rows = rows
        self._files = files
        self.terms = terms

    # By people

    def request_logs(
        self, org: str, device: str, *, life: timedelta, reason: str = "", by: Actor, now: datetime
    ) -> Command:
        """Ask a device for a bundle; while one is asked for already, that is the answer.

        Writes ``device.logs_requested``. Raises UnknownDevice, DeviceRevoked, InvalidFleetInput, LogQuotaReached.
        """
        if not timedelta(0) < life <= MOST_AHEAD:
            raise InvalidFleetInput(f"the request would last {life}, expected more than nothing and at most 366 days")
        asked = self._asked(org, device, reason)
        if self.rows.bytes_kept(org) >= self.terms.quota_bytes:
            raise _quota_reached(self.terms.quota_bytes)
        command = Command(
            id=new_id("log"),
            org=org,
            device=asked.id,
            kind=Kind.LOGS,
            by=by,
            made_at=now,
            not_before=now,
            expires_at=now + life,
            reason=reason,
        )
        return self._add(command, asked, "device.logs_requested", lambda _other: True)

    def schedule_reboot(
        self,
        org: str,
        device: str,
        *,
        begins: datetime | None = None,
        ends: datetime | None = None,
        own_window: bool = False,
        reason: str = "",
        by: Actor,
        now: datetime,
    ) -> Command:
        """Have a device reboot once between two moments; without them from now on, within 24 hours.

        Scheduled alike already, that is the answer; otherwise it takes the place of what is scheduled. Writes
        ``device.reboot_scheduled``, and ``device.reboot_cancelled`` of the one before.

        Raises UnknownDevice, DeviceRevoked, InvalidFleetInput.
        """
        # Told alike again, a window that begins now is the one that began before.
        starts = begins or now
        until = ends or min(starts, now + MOST_AHEAD) + SOON
        if not max(now, starts) < until <= now + MOST_AHEAD:
            raise InvalidFleetInput(
                f"the window is {rfc3339(starts)} to {rfc3339(until)}; expected an end that is after its beginning and "
                "now, and at most 366 days ahead"
            )
        asked = self._asked(org, device, reason)
        command = Command(
            id=new_id("rbt"),
            org=org,
            device=asked.id,
            kind=Kind.REBOOT,
            by=by,
            made_at=now,
            not_before=starts,
            expires_at=until,
            own_window=own_window,
            reason=reason,
        )

        def is_alike(other: Command) -> bool:
            begun = other.not_before <= now if begins is None else other.not_before == begins
            ending = other.expires_at == until or (begins is None and ends is None and other.expires_at < until)
            return begun and ending and other.own_window == own_window

        return self._add(command, asked, "device.reboot_scheduled", is_alike)

    def cancel(self, org: str, command_id: str, *, by: Actor, now: datetime) -> Command:
        """Take a command back; a device that holds it drops it at its next call, unless it has begun.

        Raises UnknownCommand, CommandOver.
        """
        return self.rows.change(org, command_id, lambda found: move(found, Verb.CANCEL, by=by, now=now))

    def cancel_reboot(self, org: str, device: str, *, by: Actor, now: datetime) -> Command:
        """Take back what is scheduled for a device; raises UnknownDevice, UnknownCommand, CommandOver."""
        found = self._fleet.device(org, device)
        for command in self.rows.open_of(org, found.id):
            if command.kind is Kind.REBOOT:
                return self.cancel(org, command.id, by=by, now=now)
        raise UnknownCommand(f"no reboot of {found.name} is scheduled")

    def delete_logs(self, org: str, command_id: str, *, by: Actor, now: datetime) -> None:
        """Remove a bundle that is here, or take back the request for it. Writes ``device.logs_deleted`` or
        ``device.logs_cancelled``; raises UnknownCommand, and CommandOver when there is neither."""
        found = self._logs(org, command_id)
        if found.is_open:
            self.cancel(org, command_id, by=by, now=now)
            return
        event = AuditEvent("device.logs_deleted", found.device, by, now, {"command": found.id})
        bundle = self.rows.forget_bundle(org, found.id, event)
        if bundle is None:
            raise CommandOver(f"{found.id} is {found.state} and has no bundle (any more)")
        self._files.remove(org, bundle.file)

    def bundle(self, org: str, command_id: str) -> tuple[Command, Bundle, Path]:
        """A bundle, and where its bytes are; raises UnknownCommand, LogsNotHere."""
        found = self._logs(org, command_id)
        bundle = self.rows.bundles(org, [found.id]).get(found.id)
        path = None if bundle is None else self._files.fetch(org, bundle.file)
        if bundle is None or path is None:
            raise LogsNotHere(f"{found.id} is {found.state}; its bundle is not here")
        return found, bundle, path

    # By devices

    def exchange(self, device: Device, held: Sequence[str], results: Sequence[Result], *, now: datetime) -> Exchange:
        """Take what became of commands, and answer what the device is to take up and to drop.

        A command is answered until the device says that it holds it, or what became of it. A device without open
        commands that holds none costs nothing here.
        """
        for result in results:
            self._take(device, result, now)
        if not (device.has_commands or held):
            return Exchange()
        wanted = [one for one in self.rows.open_of(device.org, device.id) if now < one.expires_at]
        told = {result.id for result in results}
        deliver = [
            one for one in wanted if one.id not in held and one.id not in told and self._deliver(device, one, now)
        ]
        known = {one.id for one in wanted}
        return Exchange(deliver=tuple(deliver), drop=tuple(one for one in held if one not in known | told))

    def upload(self, device: Device, command_id: str, *, now: datetime) -> bool:
        """Whether the bundle is to be sent; False when it is here.

        Raises UnknownCommand, CommandOver, LogQuotaReached.
        """
        found = self._of(device, command_id)
        if found.state is CommandState.DONE:
            return False
        if found.state not in OPEN or now >= found.expires_at:
            raise CommandOver(f"{found.id} is {found.state} and wanted no more")
        if self.rows.bytes_kept(device.org) >= self.terms.quota_bytes:
            raise _quota_reached(self.terms.quota_bytes)
        return True

    def stage(self, device: Device) -> AbstractContextManager[Staged]:
        """Begin to take a bundle in; half of one leaves nothing."""
        return self._files.stage(device.org, limit=self.terms.most_bytes)

    def take_bundle(
        self, device: Device, command_id: str, staged: Staged, *, sha256: str, length: int, files: int, now: datetime
    ) -> None:
        """Keep what has come. Writes ``device.logs_uploaded``.

        Raises UnknownCommand, CommandOver, LogQuotaReached, LogsDamaged (other bytes came than were sent).
        """
        if (staged.sha256, staged.length) != (sha256, length):
            raise LogsDamaged(
                f"{staged.length} bytes with SHA-256 {staged.sha256} came, {length} with {sha256} were sent; send again"
            )
        bundle = Bundle(
            command=command_id,
            org=device.org,
            device=device.id,
            length=length,
            sha256=sha256,
            files=files,
            received_at=now,
            kept_until=now + self.terms.kept,
        )
        more = {"length": length, "sha256": sha256, "files": files}

        def finish(found: Command) -> Moved:
            if found.state not in OPEN:
                raise CommandOver(f"{found.id} is {found.state} and wanted no more")
            # It cannot send what it was not told of: the answer that told it is what was lost.
            begun = move(found, Verb.DELIVER, by=_actor(device), now=now).command
            return move(begun, Verb.FINISH, by=_actor(device), now=now, told=more)

        self._of(device, command_id)
        # The bytes first: a bundle without bytes would be a lie, bytes without a bundle are swept.
        staged.keep(bundle.file)
        try:
            self.rows.keep_bundle(bundle, finish, most=self.terms.quota_bytes)
        except (UnknownCommand, CommandOver, LogQuotaReached):
            # Unless the same bytes came twice at once, and the other was first.
            if not self.rows.known_files(device.org, [bundle.file]):
                self._files.remove(device.org, bundle.file)
            raise

    # By time

    def sweep(self, org: str, *, now: datetime) -> int:
        """End what is overdue, and put away bundles that are kept no longer and bytes that nobody knows; how many."""
        ended = 0
        for found in self.rows.overdue(org, now, limit=1_000):
            try:
                self.rows.change(org, found.id, lambda one: move(one, Verb.EXPIRE, by=SCHEDULER, now=now))
                ended += 1
            except (CommandOver, UnknownCommand):
                continue  # it ended in between
        forgotten = self.rows.forget_bundles(org, now, limit=1_000)
        there = self._files.left_over(org, now)
        known = self.rows.known_files(org, there)
        for one in {*forgotten, *(one for one in there if one not in known)}:
            self._files.remove(org, one)
        return ended + len(forgotten)

    def _asked(self, org: str, device: str, reason: str) -> Device:
        if len(reason) > MAX_REASON or not reason.isprintable():
            raise InvalidFleetInput(f"a reason has at most {MAX_REASON} printable characters")
        found = self._fleet.device(org, device)
        if found.status is DeviceStatus.REVOKED:
            raise DeviceRevoked(f"{found.name} is revoked and is answered nothing; enrol it again")
        return found

    def _add(self, command: Command, device: Device, tag: str, is_alike: Callable[[Command], bool]) -> Command:
        data = {"name": device.name, "command": command.id, "expires_at": rfc3339(command.expires_at)}
        if command.kind is Kind.REBOOT:
            data |= {"not_before": rfc3339(command.not_before), "own_window": str(command.own_window).lower()}
        if command.reason:
            data["reason"] = command.reason

        def choose(others: Sequence[Command]) -> tuple[Command, Sequence[Moved]]:
            same = [one for one in others if one.kind is command.kind and command.made_at < one.expires_at]
            for one in same:
                if is_alike(one):
                    return one, ()
            if len(others) - len(same) >= MAX_OPEN:
                raise InvalidFleetInput(f"{device.name} has {len(others)} open commands, which is all it may have")
            replaced = {"code": "replaced", "detail": f"{command.id} takes its place"}
            return command, [move(one, Verb.CANCEL, by=command.by, now=command.made_at, told=replaced) for one in same]

        return self.rows.add(choose, AuditEvent(tag, device.id, command.by, command.made_at, data))

    def _logs(self, org: str, command_id: str) -> Command:
        found = self.rows.command(org, command_id)
        if found.kind is not Kind.LOGS:
            raise UnknownCommand(f"no log bundle {command_id}")
        return found

    def _of(self, device: Device, command_id: str) -> Command:
        found = self._logs(device.org, command_id)
        if found.device != device.id:
            raise UnknownCommand(f"no log bundle {command_id}")
        return found

    def _deliver(self, device: Device, command: Command, now: datetime) -> bool:
        """Note that the device is told; False when the command was taken back in between."""
        if command.state is CommandState.DELIVERED:
            return True
        try:
            self.rows.change(
                device.org, command.id, lambda found: move(found, Verb.DELIVER, by=_actor(device), now=now)
            )
        except (CommandOver, UnknownCommand):
            return False
        return True

    def _take(self, device: Device, result: Result, now: datetime) -> None:
        detail = told(result.detail, MAX_DETAIL)
        said = {"code": result.code, "detail": detail, "boot_id": result.boot_id}
        more = {name: value for name, value in said.items() if value}

        def end(found: Command) -> Moved:
            if found.device != device.id or (found.kind is Kind.LOGS and result.done):
                raise UnknownCommand(f"no command {found.id} of this device ends so")
            verb = Verb.FINISH if result.done else Verb.FAIL
            if found.state is CommandState.WAITING:
                found = move(found, Verb.DELIVER, by=_actor(device), now=now).command
            return move(found, verb, by=_actor(device), now=now, told=more)

        try:
            self.rows.change(device.org, result.id, end)
        except (UnknownCommand, CommandOver):
            return  # told before, or by now nobody's: the device need not say it again


def _actor(device: Device) -> Actor:
    return Actor(ActorKind.DEVICE, device.id, device.name)


def _quota_reached(most: int) -> LogQuotaReached:
    return LogQuotaReached(f"the log bundles here have {most} bytes or more, which is all there may be; delete some")
