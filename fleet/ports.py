"""What the fleet room needs from outside; ``store`` fulfils it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from evidence.model import AuditEvent
from fleet.model import Certificate, CheckIn, Device, DeviceCode, DeviceEdit, EnrolToken, Group, Preview
from fleet.selector import Selector


class Fleet(Protocol):
    """Devices, groups and tokens at rest. Every method is one transaction, events in it. ``org`` is the slug;
    what belongs to another organisation is unknown here."""

    def device(self, org: str, id_or_name: str) -> Device:
        """Raises UnknownDevice."""

    def device_by_fingerprint(self, fingerprint: str) -> tuple[Device, Certificate]:
        """The device a certificate was issued to, whatever its status; raises UnknownDevice."""

    def enrol(
        self, org: str, token_sha256: str, device: Device, certificate: Certificate, event: AuditEvent, *, now: datetime
    ) -> None:
        """Use up one place of the token; add the device, with the token's groups and labels, and its certificate.

        Raises EnrolmentRefused (unknown, expired or used-up token) or DeviceExists; nothing is stored then.
        """

    def add_devices(
        self,
        org: str,
        added: Sequence[tuple[Device, DeviceCode]],
        events: Sequence[AuditEvent],
        *,
        edits: Sequence[DeviceEdit] = (),
    ) -> None:
        """Add pending devices, each with its code, to the static groups whose names they carry, and edit others.

        Groups that are gone are passed over. Raises DeviceExists, naming one whose name is taken, or UnknownDevice for
        an edit of one that is gone; nothing is stored then.
        """

    def devices_named(self, org: str, names: Sequence[str]) -> Mapping[str, Device]:
        """Devices by name; a name that nobody has is absent."""

    def selector_groups(self, org: str) -> frozenset[str]:
        """Names of the groups that are made by a selector."""

    def put_code(self, code: DeviceCode, event: AuditEvent) -> None:
        """Store a code in place of the one its device has; raises UnknownDevice."""

    def code(self, sha256: str) -> DeviceCode | None:
        """The code with this digest, used and expired ones too; None when it is no device's code (any more)."""

    def enrol_by_code(
        self, org: str, code_sha256: str, device: Device, certificate: Certificate, event: AuditEvent, *, now: datetime
    ) -> None:
        """Use the code up: its device gets the status, the platform and what it says of itself from ``device``, and
        this certificate in place of all that it had.

        Raises EnrolmentRefused (unknown, expired or used code, or another device's); nothing is stored then.
        """

    def token(self, token_sha256: str) -> EnrolToken:
        """Raises EnrolmentRefused for an unknown one."""

    def add_certificate(self, certificate: Certificate, event: AuditEvent, org: str) -> None:
        """Store a renewed certificate beside the old one."""

    def check_in(self, org: str, device: str, what: CheckIn) -> None:
        """Store what a device said and when; no audit event, it is a heartbeat."""

    def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
        """As :meth:`check_in` for many devices by id; those that are gone are passed over. How many were kept."""

    def seen_many(self, org: str, seen: Mapping[str, datetime]) -> int:
        """Devices by id that said what they had said before, and when; those that are gone are passed over. How many
        were kept."""

    def of_device(self, org: str, device: str) -> frozenset[str]:
        """Names of the groups the device is told it is in: all but those it is held back from."""

    def relabel(
        self, org: str, device: str, change: Callable[[Mapping[str, str]], Mapping[str, str]], event: AuditEvent
    ) -> bool:
        """Ask ``change`` for the labels in place of those it is given; False (and no event) when they are the same.

        Raises UnknownDevice, and what ``change`` raises; nothing is stored then.
        """

    def revoke(self, org: str, device: str, event: AuditEvent) -> None:
        """Set the status to revoked and end the device's code; raises UnknownDevice."""

    def delete(self, org: str, device: str, event: AuditEvent) -> None:
        """Remove all of the device but its audit trail; raises UnknownDevice."""

    def devices(
        self, org: str, *, after: str | None, limit: int, filters: Mapping[str, str], sort: str = "created_at"
    ) -> Sequence[Device]:
        """Devices, beginning behind ``after``: an id, or in an order by name the id, a space and the name.

        Filters: status, platform, os_family; group (name or id); name, os_name (substring); label (``name=value``);
        q (words, each part of the name, the host name or a label); seen_since, unseen_since (RFC 3339; who never
        called is unseen). Sorts: created_at, name, and both with ``-`` before for the other way round.
        """

    def count_devices(self, org: str, *, filters: Mapping[str, str]) -> int:
        """How many devices the filters leave."""

    def add_token(self, token: EnrolToken, event: AuditEvent) -> None:
        """Store a new enrolment token."""

    def tokens(self, org: str, *, after: str | None, limit: int) -> Sequence[EnrolToken]:
        """Tokens in order of id."""

    def delete_token(self, org: str, token_id: str, event: AuditEvent) -> None:
        """Remove a token; raises UnknownToken."""

    def add_group(self, group: Group, event: AuditEvent) -> None:
        """Store it, with the devices its selector finds. Raises GroupExists, UnknownGroup, WrongGroupKind."""

    def group(self, org: str, id_or_name: str) -> Group:
        """Raises UnknownGroup."""

    def groups(self, org: str, *, after: str | None, limit: int) -> Sequence[Group]:
        """Groups in order of id."""

    def edit_group(self, after: Group, event: AuditEvent, *, seen: int) -> None:
        """Put description and selector of ``after`` in place; the revision becomes ``seen + 1``.

        Raises UnknownGroup (also one that the selector names), GroupChanged (the stored revision is not ``seen``) or
        WrongGroupKind (static to selector or back, or the selector names a group made by a selector).
        """

    def delete_group(self, org: str, group_id: str, event: AuditEvent, *, seen: int | None = None) -> None:
        """Raises UnknownGroup, GroupChanged (``seen`` is given and not the revision) or GroupInUse.

        In use: by a draft, waiting, running or paused rollout, an enrolment token that still lets devices in at the
        event's time, or another group's selector; the message names them.
        """

    def preview(self, org: str, selector: Selector, *, now: datetime, limit: int) -> Preview:
        """Who the selector finds now, with the first ``limit`` devices; raises UnknownGroup, WrongGroupKind."""

    def join(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        """Put a device into a static group; False (and no event) when it was in. Raises WrongGroupKind."""

    def leave(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        """Take a device out of a static group; False (and no event) when it was not in. Raises WrongGroupKind."""
