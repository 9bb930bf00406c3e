"""Which devices have not renewed their certificate yet."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from fleet.model import DeviceStatus
from store.database import Database
from store.models import device_certificates, devices


def not_renewed(database: Database, since: datetime, *, now: datetime, limit: int) -> tuple[int, tuple[str, ...]]:
    """Active devices of all organisations that have a valid certificate, and none that begins at ``since`` or later.

    Returns:
        How many, and the first of them as ``org/name``, sorted, at most ``limit``.
    """
    certificate = device_certificates.c
    renewed = select(certificate.device).where(certificate.not_before >= since)
    behind = select(devices.c.org, devices.c.name).where(
        devices.c.status == DeviceStatus.ACTIVE.value,
        devices.c.id.in_(select(certificate.device).where(certificate.not_after > now)),
        devices.c.id.not_in(renewed),
    )
    with database.read() as connection:
        count = connection.execute(select(func.count()).select_from(behind.subquery())).scalar_one()
        first = connection.execute(behind.order_by(devices.c.org, devices.c.name).limit(limit)).all()
    return count, tuple(f"{org}/{name}" for org, name in first)
