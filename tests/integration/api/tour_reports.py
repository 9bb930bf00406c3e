"""What devices report while the tour looks on: one installs, one fails, one asks for its permit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rollout.model import Progress, Report
from tests.integration.api.conftest import Home


def report(home: Home, rollout: str, devices: Sequence[str]) -> None:
    """The first device succeeds, the second fails, the third has begun."""
    told = (
        (devices[0], Progress.SUCCEEDED, "", ""),
        (devices[1], Progress.FAILED, "install_failed", "exit 1"),
        (devices[2], Progress.INSTALLING, "", ""),
    )
    for number, (device, progress, code, detail) in enumerate(told, start=1):
        one = Report(
            id=f"rep_{rollout}_{number}",
            rollout=rollout,
            attempt=1,
            progress=progress,
            at=datetime.now(UTC),
            code=code,
            detail=detail,
        )
        assert home.wiring.rollouts.record_report("acme", device, one)
