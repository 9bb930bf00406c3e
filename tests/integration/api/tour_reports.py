"""What devices report while the tour looks on: one installs, one fails, one asks for its permit, one sends logs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from api.wiring import Wavegate
from fleet.command import Command
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


def send_logs(wiring: Wavegate, device: str, command: str, content: bytes = b"(gzip)") -> Command:
    """The device takes the command up and sends a bundle of these bytes."""
    commands, now = wiring.commands, datetime.now(UTC)
    sender = wiring.fleet.device("acme", device)
    assert command in [one.id for one in commands.exchange(sender, [], [], now=now).deliver]
    with commands.stage(sender) as staged:
        staged.write(content)
        sha256 = hashlib.sha256(content).hexdigest()
        commands.take_bundle(sender, command, staged, sha256=sha256, length=len(content), files=3, now=now)
    return commands.rows.command("acme", command)
