"""How devices come to be at rest: by a token that lets in whoever has it, or known before, each with a code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from evidence.model import AuditEvent
from fleet.errors import DeviceExists, EnrolmentRefused, UnknownDevice
from fleet.model import Certificate, Device, DeviceCode, DeviceEdit, DeviceStatus
from fleet.selector import Fact
from store import membership
from store.audit import append
from store.columns import AnyRow, among, upsert
from store.fleet_rows import add_labels, certificate_row, device_row, to_devices, write_labels_of
from store.groups import SqlGroups, require_device
from store.models import device_certificates, device_codes, devices, enroll_tokens, groups

_CODE: Final = device_codes.c
_BATCH: Final = 500  # names or ids in one statement
_EDITED: Final = frozenset({Fact.LABEL, Fact.GROUP})


class SqlArrivals(SqlGroups):
    """The part of ``fleet.ports.Fleet`` by which devices arrive."""

    def enrol(
        self, org: str, token_sha256: str, device: Device, certificate: Certificate, event: AuditEvent, *, now: datetime
    ) -> None:
        """Use up one place of the token; add the device, with the token's groups and labels, and its certificate.

        The token's labels win over the device's own. Groups of the token that are gone are passed over. The device also
        joins the groups whose selectors it meets; a wave that is open counts it as a late device.
        Raises EnrolmentRefused (unknown, expired or used-up token) or DeviceExists; nothing is stored then.
        """
        with self._database.write() as connection:
            names, labels = _use_token(connection, org, token_sha256, now)
            _insert_devices(connection, org, [replace(device, labels={**device.labels, **labels})])
            connection.execute(insert(device_certificates), certificate_row(org, certificate))
            _change_groups(connection, org, {device.id: names}, (), now)
            membership.place(connection, org, [device.id], now=now)
            append(connection, org, [event])

    def add_devices(
        self,
        org: str,
        added: Sequence[tuple[Device, DeviceCode]],
        events: Sequence[AuditEvent],
        *,
        edits: Sequence[DeviceEdit] = (),
    ) -> None:
        """Add pending devices, each with its code, to the static groups whose names they carry, and edit others.

        They also join the groups whose selectors they meet; those that are edited are held back from waves that are
        open where they join. Raises DeviceExists, naming one whose name is taken, or UnknownDevice for an edit of one
        that is gone; nothing is stored then.
        """
        if not events:
            return
        at = events[0].at
        with self._database.write() as connection:
            _insert_devices(connection, org, [device for device, _ in added])
            if added:
                connection.execute(insert(device_codes), [_code_row(code) for _, code in added])
            _require_devices(connection, org, [edit.device for edit in edits])
            write_labels_of(connection, org, {edit.device: edit.labels for edit in edits if edit.labels is not None})
            _change_groups(connection, org, {device.id: device.groups for device, _ in added}, edits, at)
            membership.place(connection, org, [device.id for device, _ in added], now=at)
            membership.place(connection, org, [edit.device for edit in edits], now=at, facts=_EDITED, edited_at=at)
            append(connection, org, events)

    def devices_named(self, org: str, names: Sequence[str]) -> Mapping[str, Device]:
        """Devices by name; a name that nobody has is absent."""
        found: dict[str, Device] = {}
        with self._database.read() as connection:
            for start in range(0, len(names), _BATCH):
                some = among(connection, devices.c.name, names[start : start + _BATCH])
                rows = [*connection.execute(select(devices).where(devices.c.org == org, some))]
                found |= {one.name: one for one in to_devices(connection, rows)}
        return found

    def selector_groups(self, org: str) -> frozenset[str]:
        """Names of the groups that are made by a selector."""
        query = select(groups.c.name).where(groups.c.org == org, groups.c.selector.is_not(None))
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def put_code(self, code: DeviceCode, event: AuditEvent) -> None:
        """Store a code in place of the one its device has; raises UnknownDevice."""
        row = _code_row(code)
        put = {name: value for name, value in row.items() if name not in {"device", "org"}}
        with self._database.write() as connection:
            require_device(connection, code.org, code.device)
            store = upsert(connection, device_codes).on_conflict_do_update(index_elements=["device"], set_=put)
            connection.execute(store, row)
            append(connection, code.org, [event])

    def code(self, sha256: str) -> DeviceCode | None:
        """The code with this digest, used and expired ones too; None when it is no device's code (any more)."""
        with self._database.read() as connection:
            row = connection.execute(select(device_codes).where(_CODE.sha256 == sha256)).first()
            return None if row is None else _to_code(row)

    def enrol_by_code(
        self, org: str, code_sha256: str, device: Device, certificate: Certificate, event: AuditEvent, *, now: datetime
    ) -> None:
        """Use the code up: its device gets the status, the platform and what it says of itself from ``device``, and
        this certificate in place of all that it had.

        From then on it counts in its groups; a wave that is open counts it as a late device.
        Raises EnrolmentRefused (unknown, expired or used code, or another device's); nothing is stored then.
        """
        refusal = EnrolmentRefused("the device's code was used, or another took its place, just now; ask for a new one")
        is_good = (_CODE.sha256 == code_sha256) & _CODE.used_at.is_(None) & (_CODE.expires_at > now)
        use = update(device_codes).where(_CODE.org == org, _CODE.device == device.id, is_good).values(used_at=now)
        was = select(devices.c.status).where(devices.c.org == org, devices.c.id == device.id)
        said = ("platform", "hostname", "os_family", "os_name", "agent_version")
        with self._database.write() as connection:
            # The device's lock first, as whoever revokes or deletes it takes it; then one statement decides.
            status = connection.execute(was.with_for_update(key_share=True)).scalar()
            if status is None or not connection.execute(use).rowcount:
                raise refusal
            row = device_row(device, {})
            this = update(devices).where(devices.c.id == device.id)
            connection.execute(this.values({name: row[name] for name in said}))
            connection.execute(delete(device_certificates).where(device_certificates.c.device == device.id))
            connection.execute(insert(device_certificates), certificate_row(org, certificate))
            membership.place(connection, org, [device.id], now=now)
            if status != DeviceStatus.ACTIVE.value:
                membership.step_up(connection, device.id)
                connection.execute(this.values(status=DeviceStatus.ACTIVE.value))
            append(connection, org, [event])


def _change_groups(
    connection: Connection,
    org: str,
    arriving: Mapping[str, Sequence[str]],
    edits: Sequence[DeviceEdit],
    at: datetime,
) -> None:
    """Put new devices, by id, into the static groups of these names, and edited ones into theirs and out of others;
    groups that are gone are passed over. An edit counts as one of the group's, which has another revision then."""
    coming, joining, leaving = (defaultdict[str, list[str]](list) for _ in range(3))
    for device, names in arriving.items():
        for name in names:
            coming[name].append(device)
    for edit in edits:
        for name in edit.joins:
            joining[name].append(edit.device)
        for name in edit.leaves:
            leaving[name].append(edit.device)
    named = among(connection, groups.c.name, sorted({*coming, *joining, *leaving}))
    static = (groups.c.org == org) & named & groups.c.selector.is_(None)
    found = select(groups.c.id, groups.c.name).where(static).order_by(groups.c.id)
    for group in connection.execute(found).all():
        membership.put_in(connection, org, group.id, coming[group.name], None)
        joined = membership.put_in(connection, org, group.id, joining[group.name], at)
        left = membership.take_out(connection, group.id, leaving[group.name]) if leaving[group.name] else ()
        if joined or left:
            connection.execute(update(groups).where(groups.c.id == group.id).values(revision=groups.c.revision + 1))


def _require_devices(connection: Connection, org: str, ids: Sequence[str]) -> None:
    # In order of id, as check-ins write them, so that no two wait for each other.
    for start in range(0, len(ids), _BATCH):
        some = sorted(ids)[start : start + _BATCH]
        query = select(devices.c.id).where(devices.c.org == org, among(connection, devices.c.id, some))
        there = {*connection.execute(query.order_by(devices.c.id).with_for_update(key_share=True)).scalars()}
        for one in some:
            if one not in there:
                raise UnknownDevice(f"no device {one}; somebody deleted it just now")


def _use_token(connection: Connection, org: str, sha256: str, now: datetime) -> tuple[Sequence[str], Mapping[str, str]]:
    # One statement decides and counts, so any number of racers make exactly ``max_uses`` winners.
    used = connection.execute(
        update(enroll_tokens)
        .where(
            enroll_tokens.c.org == org,
            enroll_tokens.c.sha256 == sha256,
            enroll_tokens.c.expires_at > now,
            enroll_tokens.c.uses < enroll_tokens.c.max_uses,
        )
        .values(uses=enroll_tokens.c.uses + 1)
        .returning(enroll_tokens.c.group_names, enroll_tokens.c.labels)
    ).first()
    if used is not None:
        return used.group_names, used.labels
    query = select(enroll_tokens).where(enroll_tokens.c.org == org, enroll_tokens.c.sha256 == sha256)
    token = connection.execute(query).first()
    if token is None:
        raise EnrolmentRefused("this enrolment token is unknown; ask for a new one")
    if token.expires_at <= now:
        raise EnrolmentRefused(f"the enrolment token {token.id} expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    raise EnrolmentRefused(f"the enrolment token {token.id} has been used {token.uses} of {token.max_uses} times")


def _insert_devices(connection: Connection, org: str, added: Sequence[Device]) -> None:
    for start in range(0, len(added), _BATCH):
        names = [device.name for device in added[start : start + _BATCH]]
        taken = select(devices.c.name).where(devices.c.org == org, among(connection, devices.c.name, names))
        name = connection.execute(taken.order_by(devices.c.name).limit(1)).scalar()
        if name is not None:
            raise DeviceExists(f"a device named {name} exists already; choose another name or delete it first")
    if not added:
        return
    try:
        connection.execute(insert(devices), [device_row(device, {}) for device in added])
    except IntegrityError as error:
        # Only reached on PostgreSQL, when somebody else took the name between the two statements.
        if "name" in str(error.orig):
            which = f"named {added[0].name}" if len(added) == 1 else "of one of these names"
            raise DeviceExists(f"a device {which} exists already; somebody made it just now") from error
        raise
    add_labels(connection, org, {device.id: device.labels for device in added})


def _code_row(code: DeviceCode) -> dict[str, object]:
    return {
        "device": code.device,
        "org": code.org,
        "id": code.id,
        "sha256": code.sha256,
        "created_by": code.created_by,
        "created_at": code.created_at,
        "expires_at": code.expires_at,
        "used_at": code.used_at,
    }


def _to_code(row: AnyRow) -> DeviceCode:
    return DeviceCode(
        id=row.id,
        org=row.org,
        device=row.device,
        sha256=row.sha256,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )
