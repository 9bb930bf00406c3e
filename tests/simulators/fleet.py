"""The fleet in memory: a second, honest implementation of ``fleet.ports.Fleet``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from evidence.model import AuditEvent
from fleet.errors import (
    DeviceExists,
    EnrolmentRefused,
    GroupChanged,
    GroupExists,
    GroupInUse,
    UnknownDevice,
    UnknownGroup,
    WrongGroupKind,
)
from fleet.errors import UnknownToken as UnknownTokenError
from fleet.model import Certificate, CheckIn, Device, DeviceCode, DeviceEdit, DeviceStatus, EnrolToken, Group, Preview
from fleet.selector import Selector, parse

T = TypeVar("T", Device, EnrolToken, Group)


class FleetSimulator:
    """Keeps everything in dictionaries behind one lock, which is its transaction; ``events`` is the audit trail.

    ``group_in_use`` says whether a group's name stands in a rollout that is not over. Who meets a selector is found out
    whenever somebody asks, at the latest time that any call has named. It knows no waves, so nobody is held back.
    """

    def __init__(self, *, group_in_use: Callable[[str, str], bool] = lambda org, name: False) -> None:
        self._now = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.RLock()
        self._devices: dict[str, Device] = {}
        self._certificates: dict[str, Certificate] = {}
        self._tokens: dict[str, EnrolToken] = {}
        self._codes: dict[str, DeviceCode] = {}  # by device
        self._groups: dict[str, Group] = {}
        self._members: dict[str, set[str]] = {}
        self._group_in_use = group_in_use
        self.events: list[AuditEvent] = []

    def device(self, org: str, id_or_name: str) -> Device:
        with self._lock:
            for device in self._devices.values():
                if device.org == org and id_or_name in (device.id, device.name):
                    return self._shown(device)
        raise UnknownDevice(f"no device {id_or_name!r} in {org}")

    def device_by_fingerprint(self, fingerprint: str) -> tuple[Device, Certificate]:
        with self._lock:
            certificate = self._certificates.get(fingerprint)
            if certificate is None:
                raise UnknownDevice("no device has this certificate")
            return self._shown(self._devices[certificate.device]), certificate

    def enrol(
        self, org: str, token_sha256: str, device: Device, certificate: Certificate, event: AuditEvent, *, now: datetime
    ) -> None:
        with self._lock:
            token = self._tokens.get(token_sha256)
            if token is None or token.org != org:
                raise EnrolmentRefused("the token is not known")
            if now >= token.expires_at or token.uses >= token.max_uses:
                raise EnrolmentRefused("the token is expired or used up")
            if any(other.org == org and other.name == device.name for other in self._devices.values()):
                raise DeviceExists(f"a device named {device.name!r} exists")
            self._tokens[token_sha256] = replace(token, uses=token.uses + 1)
            self._devices[device.id] = replace(device, labels={**device.labels, **token.labels}, groups=())
            self._certificates[certificate.fingerprint] = certificate
            for group in self._groups.values():
                if group.org == org and group.name in token.groups and not group.selector:
                    self._members[group.id].add(device.id)
            self._now = max(self._now, now)
            self.events.append(event)

    def add_devices(
        self,
        org: str,
        added: Sequence[tuple[Device, DeviceCode]],
        events: Sequence[AuditEvent],
        *,
        edits: Sequence[DeviceEdit] = (),
    ) -> None:
        with self._lock:
            names = [device.name for device in self._devices.values() if device.org == org]
            for device, _ in added:
                if device.name in names:
                    raise DeviceExists(f"a device named {device.name!r} exists")
                names.append(device.name)
            edited = [(self._owned(org, edit.device), edit) for edit in edits]
            for device, code in added:
                self._devices[device.id] = replace(device, groups=())
                self._codes[device.id] = code
                self._put(org, device.id, joins=device.groups)
            for device, edit in edited:
                if edit.labels is not None:
                    self._devices[device.id] = replace(device, labels=edit.labels)
                self._put(org, device.id, joins=edit.joins, leaves=edit.leaves)
            self.events.extend(events)

    def devices_named(self, org: str, names: Sequence[str]) -> Mapping[str, Device]:
        with self._lock:
            return {
                one.name: self._shown(one) for one in self._devices.values() if one.org == org and one.name in names
            }

    def selector_groups(self, org: str) -> frozenset[str]:
        with self._lock:
            return frozenset(group.name for group in self._groups.values() if group.org == org and group.selector)

    def put_code(self, code: DeviceCode, event: AuditEvent) -> None:
        with self._lock:
            self._owned(code.org, code.device)
            self._codes[code.device] = code
            self.events.append(event)

    def code(self, sha256: str) -> DeviceCode | None:
        with self._lock:
            return next((code for code in self._codes.values() if code.sha256 == sha256), None)

    def enrol_by_code(
        self, org: str, code_sha256: str, device: Device, certificate: Certificate, event: AuditEvent, *, now: datetime
    ) -> None:
        with self._lock:
            code = self.code(code_sha256)
            if code is None or code.org != org or code.device != device.id:
                raise EnrolmentRefused("the code is not known")
            if code.used_at is not None or now >= code.expires_at:
                raise EnrolmentRefused("the code is expired or used")
            self._codes[device.id] = replace(code, used_at=now)
            self._devices[device.id] = replace(
                self._owned(org, device.id),
                status=DeviceStatus.ACTIVE,
                platform=device.platform,
                hostname=device.hostname,
                os_family=device.os_family,
                os_name=device.os_name,
                agent_version=device.agent_version,
            )
            self._certificates = {f: c for f, c in self._certificates.items() if c.device != device.id}
            self._certificates[certificate.fingerprint] = certificate
            self._now = max(self._now, now)
            self.events.append(event)

    def token(self, token_sha256: str) -> EnrolToken:
        with self._lock:
            if token_sha256 not in self._tokens:
                raise EnrolmentRefused("the token is not known")
            return self._tokens[token_sha256]

    def add_certificate(self, certificate: Certificate, event: AuditEvent, org: str) -> None:
        with self._lock:
            self._owned(org, certificate.device)
            self._certificates[certificate.fingerprint] = certificate
            self.events.append(event)

    def check_in(self, org: str, device: str, what: CheckIn) -> None:
        with self._lock:
            known = self._owned(org, device)
            self._devices[device] = replace(
                known,
                agent_version=what.agent_version,
                hostname=what.hostname,
                os_family=what.os_family,
                os_name=what.os_name,
                platform=what.platform or known.platform,
                running={running.product: running for running in what.running},
                state=what.state,
                reboot_pending=what.reboot_pending,
                last_seen_at=what.at,
            )
            self._now = max(self._now, what.at)

    def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
        with self._lock:
            there = {device: what for device, what in said.items() if self._is_owned(org, device)}
            for device, what in there.items():
                self.check_in(org, device, what)
            return len(there)

    def seen_many(self, org: str, seen: Mapping[str, datetime]) -> int:
        with self._lock:
            there = {device: at for device, at in seen.items() if self._is_owned(org, device)}
            for device, at in there.items():
                self._devices[device] = replace(self._devices[device], last_seen_at=at)
                self._now = max(self._now, at)
            return len(there)

    def _is_owned(self, org: str, device: str) -> bool:
        return device in self._devices and self._devices[device].org == org

    def of_device(self, org: str, device: str) -> frozenset[str]:
        with self._lock:
            known = self._devices.get(device)
            return frozenset() if known is None or known.org != org else frozenset(self._shown(known).groups)

    def relabel(
        self, org: str, device: str, change: Callable[[Mapping[str, str]], Mapping[str, str]], event: AuditEvent
    ) -> bool:
        with self._lock:
            known = self._owned(org, device)
            after = dict(change(known.labels))
            if after == known.labels:
                return False
            self._devices[device] = replace(known, labels=after)
            self.events.append(event)
            return True

    def revoke(self, org: str, device: str, event: AuditEvent) -> None:
        with self._lock:
            self._devices[device] = replace(self._owned(org, device), status=DeviceStatus.REVOKED)
            self._codes.pop(device, None)
            self.events.append(event)

    def delete(self, org: str, device: str, event: AuditEvent) -> None:
        with self._lock:
            self._owned(org, device)
            del self._devices[device]
            self._codes.pop(device, None)
            self._certificates = {f: c for f, c in self._certificates.items() if c.device != device}
            for members in self._members.values():
                members.discard(device)
            self.events.append(event)

    def devices(
        self, org: str, *, after: str | None, limit: int, filters: Mapping[str, str], sort: str = "created_at"
    ) -> Sequence[Device]:
        def stands(device: Device) -> tuple[str, ...]:
            return (device.name, device.id) if sort.endswith("name") else (device.id,)

        with self._lock:
            found = sorted(self._filtered(org, filters), key=stands, reverse=sort.startswith("-"))
        if after is not None:
            ids = [device.id for device in found]
            found = found[ids.index(after.partition(" ")[0]) + 1 :]
        return found[:limit]

    def count_devices(self, org: str, *, filters: Mapping[str, str]) -> int:
        with self._lock:
            return len(self._filtered(org, filters))

    def add_token(self, token: EnrolToken, event: AuditEvent) -> None:
        with self._lock:
            self._tokens[token.sha256] = token
            self.events.append(event)

    def tokens(self, org: str, *, after: str | None, limit: int) -> Sequence[EnrolToken]:
        with self._lock:
            return self._page([t for t in self._tokens.values() if t.org == org], after, limit)

    def delete_token(self, org: str, token_id: str, event: AuditEvent) -> None:
        with self._lock:
            for sha256, token in self._tokens.items():
                if token.org == org and token.id == token_id:
                    del self._tokens[sha256]
                    self.events.append(event)
                    return
        raise UnknownTokenError(f"no enrolment token {token_id!r}")

    def add_group(self, group: Group, event: AuditEvent) -> None:
        with self._lock:
            if any(other.org == group.org and other.name == group.name for other in self._groups.values()):
                raise GroupExists(f"a group named {group.name!r} exists")
            self._check_named(group.org, group.selector)
            self._groups[group.id] = group
            self._members[group.id] = set()
            self.events.append(event)

    def group(self, org: str, id_or_name: str) -> Group:
        with self._lock:
            for group in self._groups.values():
                if group.org == org and id_or_name in (group.id, group.name):
                    return self._sized(group)
        raise UnknownGroup(f"no group {id_or_name!r} in {org}")

    def groups(self, org: str, *, after: str | None, limit: int) -> Sequence[Group]:
        with self._lock:
            own = [self._sized(group) for group in self._groups.values() if group.org == org]
            return self._page(own, after, limit)

    def edit_group(self, after: Group, event: AuditEvent, *, seen: int) -> None:
        with self._lock:
            before = self._seen_group(after.org, after.id, seen)
            if bool(before.selector) != bool(after.selector):
                raise WrongGroupKind(f"the group {before.name} stays of its kind")
            self._check_named(after.org, after.selector)
            change = {"description": after.description, "selector": after.selector, "revision": seen + 1}
            self._groups[after.id] = replace(before, **change)  # type: ignore[arg-type]
            self.events.append(event)

    def delete_group(self, org: str, group_id: str, event: AuditEvent, *, seen: int | None = None) -> None:
        with self._lock:
            group = self._seen_group(org, group_id, seen)
            tokens = [
                token
                for token in self._tokens.values()
                if token.org == org and token.expires_at > event.at and token.uses < token.max_uses
            ]
            selectors = [parse(one.selector) for one in self._groups.values() if one.org == org and one.selector]
            if (
                self._group_in_use(org, group.name)
                or any(group.name in token.groups for token in tokens)
                or any(group.name in selector.groups for selector in selectors)
            ):
                raise GroupInUse(f"group {group.name!r} is in use")
            del self._groups[group.id], self._members[group.id]
            self.events.append(event)

    def preview(self, org: str, selector: Selector, *, now: datetime, limit: int) -> Preview:
        with self._lock:
            self._check_named(org, str(selector))
            of_org = [self._shown(device) for device in self._devices.values() if device.org == org]
            found = sorted((d for d in of_org if selector.holds(d, now)), key=lambda device: device.id)
            active = sum(device.status is DeviceStatus.ACTIVE for device in found)
            return Preview(devices=len(found), active=active, sample=tuple(found[:limit]))

    def join(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        return self._move(org, group_id, device_id, event, is_in=True)

    def leave(self, org: str, group_id: str, device_id: str, event: AuditEvent) -> bool:
        return self._move(org, group_id, device_id, event, is_in=False)

    def _move(self, org: str, group_id: str, device_id: str, event: AuditEvent, *, is_in: bool) -> bool:
        with self._lock:
            group = self._seen_group(org, group_id, None)
            if group.selector:
                raise WrongGroupKind(f"the group {group.name} is made by its selector")
            members = self._members[group.id]
            if (self._owned(org, device_id).id in members) == is_in:
                return False
            (members.add if is_in else members.remove)(device_id)
            self._groups[group.id] = replace(group, revision=group.revision + 1)
            self.events.append(event)
            return True

    def _seen_group(self, org: str, group_id: str, seen: int | None) -> Group:
        group = self._groups.get(group_id)
        if group is None or group.org != org:
            raise UnknownGroup(f"no group {group_id!r} in {org}")
        if seen is not None and group.revision != seen:
            raise GroupChanged(f"the group {group.name} is at revision {group.revision}, you saw {seen}")
        return group

    def _check_named(self, org: str, text: str) -> None:
        for name in parse(text).groups if text else ():
            named = [group for group in self._groups.values() if (group.org, group.name) == (org, name)]
            if not named:
                raise UnknownGroup(f"the selector names the group {name}, which is not there")
            if named[0].selector:
                raise WrongGroupKind(f"the selector names the group {name}, which has one itself")

    def _sized(self, group: Group) -> Group:
        shown = (self._shown(device) for device in self._devices.values() if device.org == group.org)
        return replace(group, devices=sum(group.name in device.groups for device in shown))

    def _put(self, org: str, device: str, *, joins: Sequence[str], leaves: Sequence[str] = ()) -> None:
        for group in self._groups.values():
            if group.org == org and not group.selector:
                if group.name in joins:
                    self._members[group.id].add(device)
                if group.name in leaves:
                    self._members[group.id].discard(device)

    def _owned(self, org: str, device_id: str) -> Device:
        device = self._devices.get(device_id)
        if device is None or device.org != org:
            raise UnknownDevice(f"no device {device_id!r} in {org}")
        return device

    def _shown(self, device: Device) -> Device:
        names = [self._groups[group].name for group, members in self._members.items() if device.id in members]
        static = replace(device, groups=tuple(names))
        for group in self._groups.values():
            if group.org == device.org and group.selector and parse(group.selector).holds(static, self._now):
                names.append(group.name)
        return replace(device, groups=tuple(sorted(names)))

    def _filtered(self, org: str, filters: Mapping[str, str]) -> list[Device]:
        def fits(device: Device) -> bool:
            return (
                device.org == org
                and filters.get("status", device.status.value) == device.status.value
                and filters.get("platform", device.platform) == device.platform
                and ("group" not in filters or filters["group"] in device.groups)
                and filters.get("name", "") in device.name
                and ("label" not in filters or filters["label"] in map("=".join, device.labels.items()))
                and filters.get("os_family", device.os_family) == device.os_family
                and filters.get("os_name", "").lower() in device.os_name.lower()
                and all(_has_word(device, word) for word in filters.get("q", "").split())
                and ("seen_since" not in filters or _seen(device, filters["seen_since"]))
                and ("unseen_since" not in filters or not _seen(device, filters["unseen_since"]))
            )

        return [shown for shown in map(self._shown, self._devices.values()) if fits(shown)]

    @staticmethod
    def _page(items: Iterable[T], after: str | None, limit: int) -> list[T]:
        return sorted((item for item in items if after is None or item.id > after), key=lambda item: item.id)[:limit]


def _has_word(device: Device, word: str) -> bool:
    told = [device.name, device.hostname, *map("=".join, device.labels.items())]
    return any(word.lower() in one.lower() for one in told)


def _seen(device: Device, since: str) -> bool:
    return device.last_seen_at is not None and device.last_seen_at >= datetime.fromisoformat(since)
