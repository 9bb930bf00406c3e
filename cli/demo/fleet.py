"""The demo's devices: every one an agent process with a home, a key, a certificate and a TUF cache of its own."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.demo import device_hook
from cli.demo.product import DemoFailed, end, foreign_variables, installed, last_lines
from cli.demo.release import PRODUCT

GROUPS: Final = {"canary": 4, "early": 8, "everyone-else": 12}  # 24 devices, each in one group
SMALL_MEMORY_MIB: Final = 256
LARGE_MEMORY_MIB: Final = 1024
_ENROL_AT_ONCE: Final = 3  # an enrolment is mostly the start of Python; more than cores gains nothing
_ENROL_WITHIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Device:
    """A simulated device; what it runs is what stands on its own disk, whatever the server believes."""

    name: str
    group: str
    memory_mib: int
    folder: Path

    @property
    def running(self) -> str | None:
        """The version that is installed, None before the first."""
        try:
            release: dict[str, str] = json.loads((self.folder / "running.json").read_text())
        except FileNotFoundError:
            return None
        return release["version"]

    def environment(self) -> dict[str, str]:
        return foreign_variables() | {"WAVEGATE_AGENT_HOME": str(self.folder / "agent")}


class Fleet:
    """24 devices in three groups; every second one has little memory. End the agents with :meth:`stop`."""

    def __init__(self, folder: Path) -> None:
        self._agents: list[subprocess.Popen[bytes]] = []
        self.devices: list[Device] = []
        for group, count in GROUPS.items():
            for _ in range(count):
                number = len(self.devices) + 1
                memory = SMALL_MEMORY_MIB if number % 2 == 0 else LARGE_MEMORY_MIB
                device = Device(f"gw-{number:02}", group, memory, folder / f"gw-{number:02}")
                device.folder.mkdir(parents=True)
                (device.folder / "device.json").write_text(json.dumps({"memory_mib": memory}))
                self.devices.append(device)

    def enrol(self, url: str, tokens: dict[str, str], progress: Callable[[str], None]) -> None:
        """Let every device make its key and get its certificate, with its group's token; a few at once.

        Raises:
            DemoFailed: A device was refused.
        """

        def one(device: Device) -> None:
            hook = [sys.executable, "-I", "-S", str(Path(device_hook.__file__).resolve())]
            ran = subprocess.run(
                [
                    *(installed("wavegate-agent"), "enroll", "--url", url, "--token", tokens[device.group]),
                    *("--name", device.name, "--product", PRODUCT),
                    *("--install-command", shlex.join([*hook, "install", str(device.folder)])),
                    *("--health-command", shlex.join([*hook, "health", str(device.folder)])),
                ],
                env=device.environment(),
                cwd=device.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_ENROL_WITHIN_SECONDS,
            )
            if ran.returncode != 0:
                raise DemoFailed(f"{device.name} could not enrol: {ran.stderr.strip()}")
            progress(device.name)

        with ThreadPoolExecutor(_ENROL_AT_ONCE) as pool:
            try:
                for done in [pool.submit(one, device) for device in self.devices]:
                    done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def run(self, interval_seconds: float) -> None:
        """Start ``wavegate-agent run`` on every device; each logs to ``agent.log`` in its folder."""
        for device in self.devices:
            with (device.folder / "agent.log").open("ab") as log:
                self._agents.append(
                    subprocess.Popen(
                        [installed("wavegate-agent"), "run", "--interval", str(interval_seconds)],
                        env=device.environment(),
                        cwd=device.folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def check(self) -> None:
        """Raise DemoFailed when an agent is no longer running."""
        for device, agent in zip(self.devices, self._agents, strict=True):
            if agent.poll() is not None:
                log = last_lines(device.folder / "agent.log")
                raise DemoFailed(f"the agent of {device.name} ended with {agent.returncode}\n{log}")

    def stop(self) -> None:
        """End all agents; returns when they are gone."""
        agents, self._agents = self._agents, []
        end(agents)
