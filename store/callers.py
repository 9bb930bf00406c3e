"""Who calls, asked at every call of every device: one statement, made once."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, func, select

from fleet.errors import UnknownDevice
from fleet.model import Certificate, Device, Running
from store.database import Database
from store.fleet_rows import to_device
from store.held import HELD
from store.lookup import Lookup
from store.models import device_certificates, device_running, devices, group_devices, groups


@cache
def _holder(is_sqlite: bool) -> Lookup:
    """The device and the certificate; in ``in_groups`` name and whether held back of each group, in ``programs`` what
    runs, both as JSON, so that all of it is of one moment."""
    certificate, runs = device_certificates.c, device_running.c
    pair, listed = (func.json_array, func.json_group_array) if is_sqlite else (func.json_build_array, func.json_agg)

    def as_text(rows: ColumnElement[Any]) -> ColumnElement[str]:
        return cast(listed(rows), Text)

    in_groups = (
        select(as_text(pair(groups.c.name, HELD)))
        .join_from(group_devices, groups, groups.c.id == group_devices.c.group_id)
        .where(group_devices.c.device == certificate.device)
        .correlate(device_certificates)
    )
    programs = (
        select(as_text(pair(runs.product, runs.version, runs.path, runs.sha256, runs.rollout)))
        .where(runs.device == certificate.device)
        .correlate(device_certificates)
    )
    shown = (certificate[name] for name in ("fingerprint", "serial", "device", "not_before", "not_after"))
    return Lookup(
        select(
            devices,
            *(column.label(f"certificate_{column.name}") for column in shown),
            in_groups.scalar_subquery().label("in_groups"),
            programs.scalar_subquery().label("programs"),
        )
        .join_from(device_certificates, devices, devices.c.id == certificate.device)
        .where(certificate.fingerprint == bindparam("fingerprint")),
        "fingerprint",
    )


def holder_of(database: Database, fingerprint: str) -> tuple[Device, Certificate]:
    """The device a certificate was issued to, whatever its status; raises UnknownDevice."""
    row = database.look_up(_holder(database.is_sqlite), fingerprint)
    if row is None:
        raise UnknownDevice("no device has this certificate")
    # json_agg() of no rows is NULL, json_group_array() of none is [].
    in_groups: list[tuple[str, bool]] = sorted(json.loads(row.in_groups or "[]"))
    running = {
        product: Running(product=product, version=version, path=path, sha256=sha256, rollout=rollout)
        for product, version, path, sha256, rollout in sorted(json.loads(row.programs or "[]"))
    }
    names = tuple(name for name, _ in in_groups)
    back = tuple(name for name, is_held in in_groups if is_held)
    return to_device(row, names, back, running), Certificate(
        fingerprint=row.certificate_fingerprint,
        serial=row.certificate_serial,
        device=row.certificate_device,
        not_before=row.certificate_not_before,
        not_after=row.certificate_not_after,
    )
