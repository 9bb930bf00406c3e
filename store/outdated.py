"""Which devices run something older than there is for them.

There is something newer of a product when an artifact of it stands in the same channel as the one that the device runs,
for the device's platform or for ``any``, with a higher version, neither yanked nor withdrawn (nor revoked). What a
rollout, an exclusion or a pin makes of it is not asked: a number of releases, not of offers. Of a product whose
artifact is not one of the organisation's, the channel is not known, and it does not count.

Source: docs/adr/0151-updates-available-is-read-not-kept.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, exists, func, literal, or_, select

from rollout.model import ANY_PLATFORM
from store.columns import among
from store.models import artifacts, device_running, devices

_BATCH: Final = 500  # devices in one statement


def outdated(connection: Connection, org: str, ids: Sequence[str]) -> Mapping[str, int]:
    """How many products of each of these devices; one that is up to date is absent. One statement for each 500."""
    running, runs, newer = device_running, artifacts.alias("runs"), artifacts.alias("newer")

    def is_newer(platform: ColumnElement[str]) -> ColumnElement[bool]:
        return exists().where(
            newer.c.org == org,
            newer.c.product == running.c.product,
            newer.c.channel == runs.c.channel,
            newer.c.platform == platform,
            newer.c.order_key > running.c.order_key,
            newer.c.yanked.is_(None),
            newer.c.withdrawn.is_(None),
        )

    found: dict[str, int] = {}
    for start in range(0, len(ids), _BATCH):
        query = (
            select(running.c.device, func.count().label("products"))
            .join(devices, devices.c.id == running.c.device)
            .join(runs, (runs.c.org == org) & (runs.c.path == running.c.path))
            .where(
                among(connection, running.c.device, ids[start : start + _BATCH]),
                devices.c.org == org,
                or_(is_newer(devices.c.platform), is_newer(literal(ANY_PLATFORM))),
            )
            .group_by(running.c.device)
        )
        found |= {row.device: int(row.products) for row in connection.execute(query)}
    return found
