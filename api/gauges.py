"""What is read when the server is scraped: roles and their expiry, devices, rollouts, what waits, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from api.canary import canary_folder, last_reading
from api.installation import Installation
from api.wiring import Wavegate
from fleet.model import DeviceStatus
from repo_signing import roles
from rollout.model import State
from store.errors import StoreError
from store.rollout_lists import RolloutFilter

_ACTIVE: Final = (State.DRAFT, State.WAITING, State.RUNNING, State.PAUSED)
_UP: Final = "wavegate_organization_up"
# Name, help, and labels beside the organisation.
_GAUGES: Final = (
    (_UP, "Whether the organisation can be served (1) or not (0)."),
    ("wavegate_role_expiry_seconds", "Seconds until a role expires; bins as the soonest of them.", "role"),
    ("wavegate_repository_serial", "Serial of the repository."),
    ("wavegate_projected_serial", "Serial up to which the index is complete."),
    ("wavegate_artifacts", "Signed artifacts."),
    ("wavegate_drafts_waiting", "Drafts of metadata that wait for signatures."),
    ("wavegate_devices", "Devices by status.", "status"),
    ("wavegate_rollouts", "Rollouts that have not ended, by state.", "state"),
    ("wavegate_webhook_deliveries_waiting", "Webhook deliveries that are still to be made, now or later."),
    ("wavegate_canary_ok", "Whether the canary's last reading found all well (1) or not (0)."),
    ("wavegate_canary_serial", "Serial that the canary's last reading asked for."),
    ("wavegate_canary_age_seconds", "Seconds since the canary's last reading."),
    ("wavegate_canary_seconds", "Seconds that the canary's last reading took."),
    ("wavegate_canary_failures", "Failed readings in a row."),
)

# Gauge, further labels and value of one organisation.
Reading = tuple[str, list[str], float]


def gauges(installation: Installation, now: datetime) -> Iterator[GaugeMetricFamily]:
    """Every gauge, by organisation.

    An organisation that cannot be read has ``wavegate_organization_up`` 0 and nothing else. When the database is away
    what is in it is absent and ``wavegate_database_up`` is 0.
    """
    shared = installation.shared
    build = GaugeMetricFamily("wavegate_build_info", "Always 1; the label says which version.", labels=["version"])
    build.add_metric([shared.version], 1)
    yield build
    yield GaugeMetricFamily(
        "wavegate_device_ca_expiry_seconds",
        "Seconds until the CA of device certificates expires.",
        value=(shared.device_ca.not_after - now).total_seconds(),
    )
    families = {name: GaugeMetricFamily(name, told, labels=["org", *more]) for name, told, *more in _GAUGES}
    answers = True
    try:
        slugs = installation.slugs()
    except StoreError:
        answers, slugs = False, installation.last_slugs
    for slug in slugs:
        try:
            wiring = installation.organisation(slug)
            read = list(_signed(wiring, now))
        except Exception:  # noqa: BLE001  # the other organisations are read all the same
            read = []
        families[_UP].add_metric([slug], float(bool(read)))
        if read and answers:
            try:
                read += _counted(wiring)
            except StoreError:
                answers = False
        for name, labels, value in read:
            families[name].add_metric([slug, *labels], value)
    yield GaugeMetricFamily(
        "wavegate_database_up", "Whether the database answers (1) or not (0).", value=float(answers)
    )
    yield from families.values()


def _signed(wiring: Wavegate, now: datetime) -> Iterator[Reading]:
    """What stands in the repository and beside it."""
    status = wiring.repository.status(now=now)
    soonest: dict[str, float] = {}
    for role in status.roles:
        name = "releases-bins" if roles.delegator(role.name) == roles.RELEASES else role.name
        left = (role.expires - now).total_seconds()
        soonest[name] = min(left, soonest.get(name, left))
    for name, left in soonest.items():
        yield "wavegate_role_expiry_seconds", [name], left
    yield "wavegate_repository_serial", [], status.serial
    yield "wavegate_projected_serial", [], status.projected_serial
    yield "wavegate_artifacts", [], status.artifacts
    yield "wavegate_drafts_waiting", [], len(wiring.repository.drafts.all())
    reading = last_reading(canary_folder(wiring.settings, wiring.org))
    if reading is not None:
        age = (now - datetime.fromisoformat(reading.at)).total_seconds()
        yield "wavegate_canary_ok", [], float(reading.ok)
        yield "wavegate_canary_serial", [], reading.serial
        yield "wavegate_canary_age_seconds", [], age
        yield "wavegate_canary_seconds", [], reading.seconds
        yield "wavegate_canary_failures", [], reading.failures


def _counted(wiring: Wavegate) -> list[Reading]:
    """What stands in the database."""
    found = wiring.fleet.count_by_status(wiring.org)
    states = ((state, RolloutFilter(state=state)) for state in _ACTIVE)
    return [
        *(("wavegate_devices", [status.value], found.get(status, 0)) for status in DeviceStatus),
        *(("wavegate_rollouts", [state.value], wiring.rollout_store.count(wiring.org, one)) for state, one in states),
        ("wavegate_webhook_deliveries_waiting", [], wiring.deliveries.count_waiting(wiring.org)),
    ]
