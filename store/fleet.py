"""Devices and enrolment tokens at rest; groups are in ``store.groups``, how devices come in ``store.arrivals``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, delete, func, insert, or_, select, update

from evidence.model import AuditEvent
from fleet.errors import (
    EnrolmentRefused,
    UnknownDevice,
    UnknownToken,
)
from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken
from fleet.rules import ONLINE_WITHIN
from fleet.selector import Fact
from rollout.model import State
from store import membership
from store.arrivals import SqlArrivals
from store.audit import append
from store.callers import holder_of
from store.database import Database
from store.device_filters import filtered
from store.fleet_rows import (
    certificate_row,
    to_devices,
    to_token,
    token_row,
    write_check_ins,
    write_labels,
    write_seen,
)
from store.groups import require_device
from store.models import (
    device_certificates,
    device_codes,
    devices,
    enroll_tokens,
    rollout_devices,
    rollout_groups,
    rollouts,
)
from store.order import Order
from store.outdated import outdated


class SqlFleet(SqlArrivals):
    """Fulfils ``fleet.ports.Fleet``, and with what it inherits ``rollout.ports.Groups``.

    Every method is one transaction, events in it.

    Args:
        online_within: How long after its last call a device counts as online; one that calls later is back.
    """

    def __init__(self, database: Database, *, online_within: timedelta = ONLINE_WITHIN) -> None:
        super().__init__(database)
        self._online_within = online_within

    # Devices

    def device(self, org: str, id_or_name: str) -> Device:
        """Raises UnknownDevice."""
        named = or_(devices.c.id == id_or_name, devices.c.name == id_or_name)
        # A device may be named like another's id; the id wins.
        query = select(devices).where(devices.c.org == org, named).order_by((devices.c.id == id_or_name).desc())
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).first()
            if row is None:
                raise UnknownDevice(f"no device {id_or_name}")
            return to_devices(connection, [row])[0]

    def device_by_fingerprint(self, fingerprint: str) -> tuple[Device, Certificate]:
        """The device a certificate was issued to, whatever its status; raises UnknownDevice."""
        return holder_of(self._database, fingerprint)

    def add_certificate(self, certificate: Certificate, event: AuditEvent, org: str) -> None:
        """Store a renewed certificate beside the old one; raises UnknownDevice."""
        with self._database.write() as connection:
            require_device(connection, org, certificate.device)
            connection.execute(insert(device_certificates), certificate_row(org, certificate))
            append(connection, org, [event])

    def check_in(self, org: str, device: str, what: CheckIn) -> None:
        """Store what a device said and when; no audit event, it is a heartbeat. Raises UnknownDevice."""
        said = {device: what}
        if not self._database.write_together(lambda connection: self._store_check_ins(connection, org, said)):
            raise UnknownDevice(f"no device {device}")

    def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
        """Store what many devices said, by device id, in one transaction; those that are gone are passed over.

        Returns how many were stored.
        """
        if not said:
            return 0
        with self._database.write() as connection:
            return self._store_check_ins(connection, org, said)

    def seen_many(self, org: str, seen: Mapping[str, datetime]) -> int:
        """Store when devices, by id, last called, and nothing else of them, in one transaction; those that are gone
        are passed over.

        Returns how many were stored.
        """
        if not seen:
            return 0
        with self._database.write() as connection:
            stored = write_seen(connection, org, seen)
            membership.place_after_calls(connection, org, sorted(seen), frozenset(), now=max(seen.values()))
            return stored

    def relabel(
        self, org: str, device: str, change: Callable[[Mapping[str, str]], Mapping[str, str]], event: AuditEvent
    ) -> bool:
        """Ask ``change`` for the labels in place of those it is given; False (and no event) when they are the same.

        The device joins and leaves the groups whose selectors look at labels; where it joins, it is held back from
        waves that are open. Raises UnknownDevice, and what ``change`` raises.
        """
        with self._database.write() as connection:
            require_device(connection, org, device)
            before = connection.execute(select(devices.c.labels).where(devices.c.id == device)).scalar_one()
            after = dict(change(before))
            if after == before:
                return False
            write_labels(connection, org, device, after)
            looking = frozenset({Fact.LABEL})
            membership.place(connection, org, [device], now=event.at, facts=looking, edited_at=event.at)
            append(connection, org, [event])
            return True

    def revoke(self, org: str, device: str, event: AuditEvent) -> None:
        """Set the status to revoked and end the device's code; raises UnknownDevice."""
        with self._database.write() as connection:
            require_device(connection, org, device)
            connection.execute(delete(device_codes).where(device_codes.c.device == device))
            membership.step_down(connection, device, gone=False)
            revoked = update(devices).where(devices.c.id == device).values(status=DeviceStatus.REVOKED.value)
            connection.execute(revoked)
            append(connection, org, [event])

    def delete(self, org: str, device: str, event: AuditEvent) -> None:
        """Remove the device with certificates, groups and what it runs; raises UnknownDevice.

        Its audit trail stays, and under its id which step of which rollout it came to, without what it said of it:
        docs/adr/0152-what-stays-of-a-deleted-device.md
        """
        silent = update(rollout_devices).values(detail="")
        # By the primary key, rollout by rollout: there is no index by device, which only this would use.
        of_org = rollout_devices.c.rollout.in_(select(rollouts.c.id).where(rollouts.c.org == org))
        with self._database.write() as connection:
            require_device(connection, org, device)
            membership.step_down(connection, device, gone=True)
            connection.execute(delete(devices).where(devices.c.id == device))
            connection.execute(silent.where(of_org, rollout_devices.c.device == device))
            append(connection, org, [event])

    def devices(
        self, org: str, *, after: str | None, limit: int, filters: Mapping[str, str], sort: str = "created_at"
    ) -> Sequence[Device]:
        """Devices, beginning behind ``after``, a place in the order ``sort``; see ``fleet.ports.Fleet``."""
        query = filtered(select(devices), org, filters)
        query = Order.of(sort).page(query, devices, after=after, limit=limit)
        with self._database.read() as connection:
            return to_devices(connection, [*connection.execute(query)])

    def count_devices(self, org: str, *, filters: Mapping[str, str]) -> int:
        """How many devices the filters leave."""
        query = filtered(select(func.count()).select_from(devices), org, filters)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def count_online(self, org: str, *, filters: Mapping[str, str], since: datetime) -> tuple[int, int]:
        """How many devices the filters leave, and how many of them have called since then."""
        up = func.coalesce(func.sum(case((devices.c.last_seen_at >= since, 1), else_=0)), 0)
        query = filtered(select(func.count(), up).select_from(devices), org, filters)
        with self._database.read() as connection:
            total, online = connection.execute(query).one()
            return int(total), int(online)

    def updates_available(self, org: str, ids: Sequence[str]) -> Mapping[str, int]:
        """Of how many products each of these devices runs an older artifact than there is for it; see
        :mod:`store.outdated`. A device without any is absent."""
        with self._database.read() as connection:
            return outdated(connection, org, ids)

    def count_by_status(self, org: str) -> Mapping[DeviceStatus, int]:
        """How many devices of each status; a status without devices is absent."""
        query = select(devices.c.status, func.count()).where(devices.c.org == org).group_by(devices.c.status)
        with self._database.read() as connection:
            return {DeviceStatus(status): count for status, count in connection.execute(query)}

    def names(self, org: str, ids: Sequence[str]) -> Mapping[str, str]:
        """Names by device id; a device that is gone is absent."""
        query = select(devices.c.id, devices.c.name).where(devices.c.org == org, devices.c.id.in_(ids))
        with self._database.read() as connection:
            return {row.id: row.name for row in connection.execute(query)}

    def products_of(self, org: str, names: Iterable[str]) -> list[str]:
        """Products with a rollout, drafts aside, that has a wave for one of the groups named; ascending."""
        query = (
            select(rollouts.c.product)
            .distinct()
            .join_from(rollout_groups, rollouts, rollouts.c.id == rollout_groups.c.rollout)
            .where(
                rollout_groups.c.org == org,
                rollout_groups.c.name.in_(sorted(names)),
                rollouts.c.state != State.DRAFT.value,
            )
            .order_by(rollouts.c.product)
        )
        with self._database.read() as connection:
            return [*connection.execute(query).scalars()]

    # Tokens

    def token(self, token_sha256: str) -> EnrolToken:
        """Raises EnrolmentRefused for an unknown one."""
        with self._database.read() as connection:
            row = connection.execute(select(enroll_tokens).where(enroll_tokens.c.sha256 == token_sha256)).first()
            if row is None:
                raise EnrolmentRefused("this enrolment token is unknown; ask for a new one")
            return to_token(row)

    def add_token(self, token: EnrolToken, event: AuditEvent) -> None:
        """Store a new enrolment token."""
        with self._database.write() as connection:
            connection.execute(insert(enroll_tokens), token_row(token))
            append(connection, token.org, [event])

    def tokens(self, org: str, *, after: str | None, limit: int) -> Sequence[EnrolToken]:
        """Tokens in order of id."""
        query = select(enroll_tokens).where(enroll_tokens.c.org == org).order_by(enroll_tokens.c.id).limit(limit)
        if after is not None:
            query = query.where(enroll_tokens.c.id > after)
        with self._database.read() as connection:
            return [to_token(row) for row in connection.execute(query)]

    def count_tokens(self, org: str) -> int:
        """How many tokens there are, used up and expired ones too."""
        query = select(func.count()).select_from(enroll_tokens).where(enroll_tokens.c.org == org)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def delete_token(self, org: str, token_id: str, event: AuditEvent) -> None:
        """Remove a token; raises UnknownToken."""
        gone = delete(enroll_tokens).where(enroll_tokens.c.org == org, enroll_tokens.c.id == token_id)
        with self._database.write() as connection:
            if not connection.execute(gone).rowcount:
                raise UnknownToken(f"no enrolment token {token_id}")
            append(connection, org, [event])

    def _store_check_ins(self, connection: Connection, org: str, said: Mapping[str, CheckIn]) -> int:
        moved, stored = write_check_ins(connection, org, said, online_within=self._online_within)
        now = max(what.at for what in said.values())
        membership.place_after_calls(connection, org, sorted(said), moved, now=now)
        return stored
