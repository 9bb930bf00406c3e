"""Who calls, asked at every call of every device: two statements, made once.

Putting such a statement together takes several times as long as running it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Select, String, bindparam, literal, select, union_all

from fleet.errors import UnknownDevice
from fleet.model import Certificate, Device, Running
from store.columns import AnyRow
from store.fleet_rows import to_device
from store.held import HELD
from store.models import device_certificates, device_running, devices, group_devices, groups


def _holder() -> Select[Any]:
    certificate = device_certificates.c
    shown = (certificate[name] for name in ("fingerprint", "serial", "device", "not_before", "not_after"))
    return (
        select(devices, *(column.label(f"certificate_{column.name}") for column in shown))
        .join_from(device_certificates, devices, devices.c.id == certificate.device)
        .where(certificate.fingerprint == bindparam("fingerprint"))
    )


def _parts() -> Any:
    """Rows of two kinds: a group (the name, whether held back) and a program that runs (product and release)."""
    runs = device_running.c
    nothing = literal("", String)
    of_groups = (
        select(literal(False).label("runs"), groups.c.name, HELD.label("held"), nothing, nothing, nothing, nothing)
        .join_from(group_devices, groups, groups.c.id == group_devices.c.group_id)
        .where(group_devices.c.device == bindparam("device"))
    )
    of_programs = select(
        literal(True), runs.product, literal(False), runs.version, runs.path, runs.sha256, runs.rollout
    ).where(runs.device == bindparam("device"))
    return union_all(of_groups, of_programs)


_HOLDER: Final = _holder()
_PARTS: Final = _parts()


def holder_of(connection: Connection, fingerprint: str) -> tuple[Device, Certificate]:
    """The device a certificate was issued to, whatever its status; raises UnknownDevice."""
    row = connection.execute(_HOLDER, {"fingerprint": fingerprint}).first()
    if row is None:
        raise UnknownDevice("no device has this certificate")
    return _with_parts(connection, row), Certificate(
        fingerprint=row.certificate_fingerprint,
        serial=row.certificate_serial,
        device=row.certificate_device,
        not_before=row.certificate_not_before,
        not_after=row.certificate_not_after,
    )


def _with_parts(connection: Connection, row: AnyRow) -> Device:
    names: list[str] = []
    back: list[str] = []
    running: list[Running] = []
    for is_program, name, is_held, *release in connection.execute(_PARTS, {"device": row.id}):
        if is_program:
            version, path, sha256, rollout = release
            running.append(Running(product=name, version=version, path=path, sha256=sha256, rollout=rollout))
        else:
            names.append(name)
            if is_held:
                back.append(name)
    by_product = {one.product: one for one in sorted(running, key=lambda one: one.product)}
    return to_device(row, tuple(sorted(names)), tuple(sorted(back)), by_product)
