"""What is counted when the server is scraped: devices, rollouts, what waits to be sent or signed, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from api.wiring import Wavegate
from fleet.model import DeviceStatus
from rollout.model import State
from store.errors import StoreError
from store.rollout_lists import RolloutFilter

_ACTIVE: Final = (State.DRAFT, State.WAITING, State.RUNNING, State.PAUSED)


def gauges(wiring: Wavegate, now: datetime) -> Iterator[GaugeMetricFamily]:
    """Every gauge; when the database is away its own are absent and ``wavegate_database_up`` is 0."""
    build = GaugeMetricFamily("wavegate_build_info", "Always 1; the label says which version.", labels=["version"])
    build.add_metric([wiring.version], 1)
    yield build
    yield GaugeMetricFamily(
        "wavegate_device_ca_expiry_seconds",
        "Seconds until the CA of device certificates expires.",
        value=(wiring.device_ca.not_after - now).total_seconds(),
    )
    yield GaugeMetricFamily(
        "wavegate_drafts_waiting",
        "Drafts of metadata that wait for signatures.",
        value=len(wiring.repository.drafts.all()),
    )
    try:
        counted = list(_counted(wiring))
    except StoreError:
        counted = []
    yield GaugeMetricFamily(
        "wavegate_database_up", "Whether the database answers (1) or not (0).", value=float(bool(counted))
    )
    yield from counted


def _counted(wiring: Wavegate) -> Iterator[GaugeMetricFamily]:
    devices = GaugeMetricFamily("wavegate_devices", "Devices by status.", labels=["status"])
    found = wiring.fleet.count_by_status(wiring.org)
    for status in DeviceStatus:
        devices.add_metric([status.value], found.get(status, 0))
    yield devices
    rollouts = GaugeMetricFamily("wavegate_rollouts", "Rollouts that have not ended, by state.", labels=["state"])
    for state in _ACTIVE:
        rollouts.add_metric([state.value], wiring.rollout_store.count(wiring.org, RolloutFilter(state=state)))
    yield rollouts
    yield GaugeMetricFamily(
        "wavegate_webhook_deliveries_waiting",
        "Webhook deliveries that are still to be made, now or later.",
        value=wiring.deliveries.count_waiting(wiring.org),
    )
