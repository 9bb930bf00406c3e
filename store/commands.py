"""Commands of devices and their log bundles at rest.

Whether a device has an open command stands in its own row, which is read at each of its calls anyway: a call of a
device that has none asks no more than before, whichever server it comes to.
Order of locks on PostgreSQL: the device's row, then its commands, then the head of the audit log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, exists, func, insert, or_, select, update

from evidence.model import Actor, AuditEvent
from fleet.command import OPEN, Bundle, Command, CommandState, Kind, Moved
from fleet.command_ports import Pending
from fleet.errors import LogQuotaReached, UnknownCommand
from store.account_models import orgs
from store.audit import append
from store.columns import AnyRow
from store.database import Database
from store.fleet_rows import to_devices
from store.groups import require_device
from store.models import device_commands, devices, log_bundles

_COMMAND = device_commands.c
_BUNDLE = log_bundles.c
_OPEN = _COMMAND.state.in_(sorted(state.value for state in OPEN))


class SqlCommands:
    """Fulfils ``fleet.command_ports.CommandRows``. Every method is one transaction, events in it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, choose: Callable[[Sequence[Command]], tuple[Command, Sequence[Moved]]], event: AuditEvent) -> Command:
        """Add what ``choose`` answers to the open commands of the event's subject; raises UnknownDevice."""
        with self._database.write() as connection:
            org = _lock(connection, event.subject)
            others = _open_of(connection, org, event.subject)
            command, moved = choose(others)
            if command in others:
                return command
            _write(connection, [one.command for one in moved])
            connection.execute(insert(device_commands), command_row(command))
            _note_open(connection, command.device)
            append(connection, org, [*(one.event for one in moved if one.event is not None), event])
            return command

    def command(self, org: str, command_id: str) -> Command:
        """Raises UnknownCommand."""
        with self._database.read() as connection:
            return _command(connection, org, command_id)

    def change(self, org: str, command_id: str, change: Callable[[Command], Moved]) -> Command:
        """Keep what ``change`` makes of it; raises UnknownCommand, and what ``change`` raises."""
        with self._database.write() as connection:
            return _change(connection, org, command_id, change)

    def open_of(self, org: str, device: str) -> Sequence[Command]:
        """Open commands of a device, the oldest first."""
        with self._database.read() as connection:
            return _open_of(connection, org, device)

    def of_device(self, org: str, device: str, kind: Kind, *, after: str | None, limit: int) -> Sequence[Command]:
        """Commands of a device of a kind, the newest first, behind the one of the id ``after``."""
        query = _of_device(org, device, kind).order_by(_COMMAND.id.desc()).limit(limit)
        if after is not None:
            query = query.where(_COMMAND.id < after)
        with self._database.read() as connection:
            return [_to_command(row) for row in connection.execute(query)]

    def count_of_device(self, org: str, device: str, kind: Kind) -> int:
        """How many there are."""
        query = select(func.count()).select_from(_of_device(org, device, kind).subquery())
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def overdue(self, org: str, now: datetime, *, limit: int) -> Sequence[Command]:
        """Open commands whose time is over."""
        query = select(device_commands).where(_COMMAND.org == org, _OPEN, _COMMAND.expires_at <= now).limit(limit)
        with self._database.read() as connection:
            return [_to_command(row) for row in connection.execute(query)]

    def pending(self, org: str, *, after: str | None, limit: int) -> Sequence[Pending]:
        """Devices that need a reboot or have one scheduled, in order of id, behind the device ``after``."""
        query = select(devices).where(_pending(org)).order_by(devices.c.id).limit(limit)
        if after is not None:
            query = query.where(devices.c.id > after)
        with self._database.read() as connection:
            found = to_devices(connection, [*connection.execute(query)])
            ids = [one.id for one in found]
            reboots = select(device_commands).where(_COMMAND.device.in_(ids), _REBOOT, _OPEN)
            scheduled = {row.device: _to_command(row) for row in connection.execute(reboots)}
        return [Pending(device=one, why=one.reboot_pending, scheduled=scheduled.get(one.id)) for one in found]

    def count_pending(self, org: str) -> int:
        """How many there are."""
        query = select(func.count()).select_from(devices).where(_pending(org))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def keep_bundle(self, bundle: Bundle, change: Callable[[Command], Moved], *, most: int) -> None:
        """Keep a bundle, and what ``change`` makes of its command; raises UnknownCommand, LogQuotaReached."""
        with self._database.write() as connection:
            # Two bundles that come at once are counted one after the other.
            connection.execute(
                select(orgs.c.slug).where(orgs.c.slug == bundle.org).with_for_update(key_share=True)
            ).one()
            kept = _bytes_kept(connection, bundle.org)
            if kept + bundle.length > most:
                raise LogQuotaReached(
                    f"the bundle has {bundle.length} bytes, {kept} are kept and {most} are all there may be"
                )
            _lock(connection, bundle.device)
            row = {name: getattr(bundle, name) for name in _BUNDLE.keys()}  # noqa: SIM118  (columns)
            # First the refusals: what has no command cannot be stored.
            found = _command(connection, bundle.org, bundle.command, lock=True)
            moved = change(found)
            connection.execute(insert(log_bundles), row)
            _keep(connection, bundle.org, moved)

    def bundles(self, org: str, commands: Sequence[str]) -> Mapping[str, Bundle]:
        """Those of these commands' bundles that are kept."""
        query = select(log_bundles).where(_BUNDLE.org == org, _BUNDLE.command.in_(commands))
        with self._database.read() as connection:
            return {row.command: _to_bundle(row) for row in connection.execute(query)}

    def bytes_kept(self, org: str) -> int:
        """Of all bundles of the organisation."""
        with self._database.read() as connection:
            return _bytes_kept(connection, org)

    def forget_bundles(self, org: str, now: datetime, *, limit: int) -> Sequence[str]:
        """Forget bundles that are to be kept no longer; the names of their files."""
        over = select(_BUNDLE.command).where(_BUNDLE.org == org, _BUNDLE.kept_until <= now).limit(limit)
        gone = delete(log_bundles).where(_BUNDLE.command.in_(over)).returning(*log_bundles.c)
        with self._database.write() as connection:
            return [_to_bundle(row).file for row in connection.execute(gone)]

    def forget_bundle(self, org: str, command_id: str, event: AuditEvent) -> Bundle | None:
        """Forget one; None, and no event, when there is none."""
        gone = delete(log_bundles).where(_BUNDLE.org == org, _BUNDLE.command == command_id).returning(*log_bundles.c)
        with self._database.write() as connection:
            row = connection.execute(gone).first()
            if row is None:
                return None
            append(connection, org, [event])
            return _to_bundle(row)

    def known_files(self, org: str, names: Sequence[str]) -> frozenset[str]:
        """Which of these files are those of bundles that are kept."""
        ids = [name.partition(".")[0] for name in names]
        return frozenset(bundle.file for bundle in self.bundles(org, ids).values()).intersection(names)


_REBOOT = _COMMAND.kind == Kind.REBOOT.value


def _pending(org: str) -> ColumnElement[bool]:
    scheduled = exists().where(_COMMAND.device == devices.c.id, _REBOOT, _OPEN)
    # The flag first: of a fleet few have a command.
    return and_(
        devices.c.org == org,
        or_(devices.c.reboot_pending > "", and_(devices.c.has_commands.is_(True), scheduled)),
    )


def _of_device(org: str, device: str, kind: Kind) -> Select[tuple[object, ...]]:
    return select(device_commands).where(_COMMAND.org == org, _COMMAND.device == device, _COMMAND.kind == kind.value)


def _lock(connection: Connection, device: str) -> str:
    """Hold the device's row; the organisation it is of. Raises UnknownDevice."""
    held = select(devices.c.org).where(devices.c.id == device).with_for_update(key_share=True)
    org: str | None = connection.execute(held).scalar()
    if org is None:
        require_device(connection, "", device)
    return str(org)


def _change(connection: Connection, org: str, command_id: str, change: Callable[[Command], Moved]) -> Command:
    _lock(connection, _command(connection, org, command_id).device)
    return _keep(connection, org, change(_command(connection, org, command_id, lock=True)))


def _keep(connection: Connection, org: str, moved: Moved) -> Command:
    _write(connection, [moved.command])
    _note_open(connection, moved.command.device)
    append(connection, org, [] if moved.event is None else [moved.event])
    return moved.command


def _write(connection: Connection, commands: Sequence[Command]) -> None:
    for command in commands:
        row = command_row(command)
        changed = {name: row[name] for name in ("state", "delivered_at", "ended_at", "code", "detail")}
        connection.execute(update(device_commands).where(_COMMAND.id == command.id).values(changed))


def _note_open(connection: Connection, device: str) -> None:
    there = exists().where(_COMMAND.device == device, _OPEN)
    connection.execute(
        update(devices).where(devices.c.id == device).values(has_commands=select(there).scalar_subquery())
    )


def _open_of(connection: Connection, org: str, device: str) -> list[Command]:
    query = (
        select(device_commands).where(_COMMAND.org == org, _COMMAND.device == device, _OPEN).order_by(_COMMAND.made_at)
    )
    return [_to_command(row) for row in connection.execute(query)]


def _command(connection: Connection, org: str, command_id: str, *, lock: bool = False) -> Command:
    query = select(device_commands).where(_COMMAND.org == org, _COMMAND.id == command_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise UnknownCommand(f"no log bundle or reboot {command_id}")
    return _to_command(row)


def _bytes_kept(connection: Connection, org: str) -> int:
    query = select(func.coalesce(func.sum(_BUNDLE.length), 0)).where(_BUNDLE.org == org)
    return int(connection.execute(query).scalar_one())


def command_row(command: Command) -> dict[str, object]:
    """The columns of ``device_commands``."""
    return {
        "id": command.id,
        "org": command.org,
        "device": command.device,
        "kind": command.kind.value,
        "made_by": command.by.to_dict(),
        "made_at": command.made_at,
        "not_before": command.not_before,
        "expires_at": command.expires_at,
        "own_window": command.own_window,
        "reason": command.reason,
        "state": command.state.value,
        "delivered_at": command.delivered_at,
        "ended_at": command.ended_at,
        "code": command.code,
        "detail": command.detail,
    }


def _to_command(row: AnyRow) -> Command:
    return Command(
        id=row.id,
        org=row.org,
        device=row.device,
        kind=Kind(row.kind),
        by=Actor.from_dict(row.made_by),
        made_at=row.made_at,
        not_before=row.not_before,
        expires_at=row.expires_at,
        own_window=row.own_window,
        reason=row.reason,
        state=CommandState(row.state),
        delivered_at=row.delivered_at,
        ended_at=row.ended_at,
        code=row.code,
        detail=row.detail,
    )


def _to_bundle(row: AnyRow) -> Bundle:
    return Bundle(
        command=row.command,
        org=row.org,
        device=row.device,
        length=row.length,
        sha256=row.sha256,
        files=row.files,
        received_at=row.received_at,
        kept_until=row.kept_until,
    )
