"""The demo's story, told by doing: a baseline, a release that fails and is taken back, a release that arrives."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from cli.demo import stock_client
from cli.demo.fleet import GROUPS, SMALL_MEMORY_MIB, Device, Fleet
from cli.demo.product import DemoFailed, Product
from cli.demo.release import PRODUCT, Release, build_release
from cli.demo.screen import Screen

BASELINE: Final = "1.0.0"
BAD: Final = "1.1.0"
GOOD: Final = "1.2.0"
APPROVER: Final = "ann"
MIN_ARTIFACT_BYTES: Final = 50 * 1024 * 1024
# Distributions for the large release, taken in this order until it is large enough.
_LARGE: Final = ("grpcio", "sqlalchemy", "tuf", "rich", "lxml", "cryptography", "granian", "wavegate")
_POLL_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.4
_MOVE_WITHIN_SECONDS: Final = 90.0  # for one leg of a rollout; two cores need about ten
_ENDED: Final = frozenset({"completed", "aborted", "superseded"})

Rollout = dict[str, Any]  # as REST tells it


class Story:
    """Runs once. What it had to show is in :attr:`claims` afterwards, each with whether it held."""

    def __init__(self, product: Product, fleet: Fleet, screen: Screen, folder: Path) -> None:
        self.claims: list[tuple[str, bool]] = []
        self._product = product
        self._fleet = fleet
        self._screen = screen
        self._folder = folder
        self._releases: dict[str, Release] = {}
        self._published: dict[str, dict[str, Any]] = {}

    def tell(self) -> None:
        """From an empty folder to the proof.

        Raises:
            DemoFailed: A command or process failed, or nothing moved for too long.
        """
        self._begin()
        self._bring_in_devices()
        self._release_baseline()
        self._release_bad_one()
        self._release_good_one()
        self._show_devices()
        self._show_audit_trail()
        self._prove()

    def _begin(self) -> None:
        self._screen.chapter("A server of our own")
        self._product.start()
        self._screen.say(f"serving at {self._product.url}, reference at {self._product.url}/docs")
        email = f"{APPROVER}@demo.example"
        made = self._product.publish("user", "create", email, "--name", "Ann Approver", "--role", "approver")
        self._product.login(email, made["password"], person=APPROVER)

    def _bring_in_devices(self) -> None:
        self._screen.chapter(f"{len(self._fleet.devices)} devices in {len(GROUPS)} groups")
        tokens = {}
        for group, count in GROUPS.items():
            self._product.publish("group", "create", group)
            made = self._product.publish("enroll-token", "create", group, "--group", group, "--max-uses", str(count))
            tokens[group] = made["token"]
        with self._screen.counting(
            "wavegate-agent enroll, each with a key of its own", len(self._fleet.devices)
        ) as bar:
            self._fleet.enrol(self._product.url, tokens, bar.step)
        self._fleet.run(_POLL_SECONDS)
        self._screen.say(f"wavegate-agent run: {len(self._fleet.devices)} processes, polling every {_POLL_SECONDS:g} s")

    def _release_baseline(self) -> None:
        self._screen.chapter(f"{PRODUCT} {BASELINE}: what everybody runs")
        self._push(build_release(self._folder, BASELINE, ("rich",), needs_memory_mib=128))
        # Every device of a wave must report: what comes next looks at all of them.
        waves = [f"{group},success=100,min_reports={count}" for group, count in GROUPS.items()]
        rollout = self._create(BASELINE, waves)
        done = self._follow(rollout, lambda now: now["state"] == "completed")
        self._claim(f"{BASELINE} completed", done["state"] == "completed")
        self._claim(f"all {len(self._fleet.devices)} devices run {BASELINE}", self._all_run(BASELINE))

    def _release_bad_one(self) -> None:
        self._screen.chapter(f"{PRODUCT} {BAD}: does not start on devices with {SMALL_MEMORY_MIB} MiB")
        self._push(build_release(self._folder, BAD, ("rich", "urllib3"), needs_memory_mib=512))
        first, *others = GROUPS
        waves = [
            f"{first},approvals=1,soak=3s,success=100,max_failures=2",
            *(f"{group},approvals=1" for group in others),
        ]
        rollout = self._create(BAD, waves)
        self._approve(rollout, 1)
        paused = self._follow(rollout, lambda now: now["state"] == "paused")
        self._screen.say(f"why: {paused['why']}")
        tags = self._tags(rollout)
        self._claim(
            f"{BAD} failed in wave 1 and paused by itself",
            paused["state"] == "paused" and "rollout.wave.failed" in tags and "rollout.paused" not in tags,
        )
        canaries = [device for device in self._fleet.devices if device.group == first]
        small = {device for device in canaries if device.memory_mib == SMALL_MEMORY_MIB}
        # A device tells of its failure first and then installs what it ran before.
        self._wait_for(rollout, lambda: {device for device in canaries if device.running == BASELINE} == small)
        returned = {device for device in canaries if device.running == BASELINE}
        stayed = {device for device in canaries if device.running == BAD}
        self._screen.say(f"{_names(returned)} went back by themselves, {_names(stayed)} run {BAD}")
        self._claim(
            f"exactly the small devices of wave 1 went back to {BASELINE} by themselves",
            returned == small and returned | stayed == set(canaries),
        )
        self._product.publish(
            *("rollout", "abort", rollout, "--mode", "roll_back", "--reason", "does not start on small devices"),
            person=None,
        )
        aborted = self._wait_for(rollout, lambda: self._all_run(BASELINE))
        self._claim(f"{BAD} was aborted", aborted["state"] == "aborted")
        self._claim(f"the devices of wave 1 are back on {BASELINE}", self._all_run(BASELINE))
        reached = {item["device_name"] for item in self._items(f"/rollouts/{rollout}/devices")}
        self._claim(f"{BAD} reached nobody outside of {first}", reached == {device.name for device in canaries})

    def _release_good_one(self) -> None:
        self._screen.chapter(f"{PRODUCT} {GOOD}: starts everywhere")
        release = build_release(self._folder, GOOD, _LARGE, needs_memory_mib=128, at_least_bytes=MIN_ARTIFACT_BYTES)
        self._push(release)
        first, second, third = GROUPS
        rollout = self._create(
            GOOD,
            [
                f"{first},approvals=1,soak=3s,success=100,min_reports={GROUPS[first]},max_failures=1",
                f"{second},approvals=1,soak=3s,success=90,max_failure_rate=20,min_reports={GROUPS[second]}",
                f"{third},soak=1s,success=90,max_failure_rate=20,min_reports={GROUPS[third]}",
            ],
        )
        self._approve(rollout, 1)
        self._follow(rollout, lambda now: now["state"] == "waiting" and now["waves"][0]["state"] == "passed")
        self._approve(rollout, 2)
        done = self._follow(rollout, lambda now: now["state"] == "completed")
        self._claim(f"{GOOD} completed in three waves", [w["state"] for w in done["waves"]] == ["passed"] * 3)
        approvers = {approval["by"]["id"] for wave in done["waves"] for approval in wave["approvals"]}
        creator = done["created_by"]["id"] if isinstance(done["created_by"], dict) else done["created_by"]
        self._claim(
            "its waves were approved by another person than its creator", bool(approvers) and creator not in approvers
        )
        self._claim(f"the artifact has {release.length / 2**20:.0f} MiB", release.length >= MIN_ARTIFACT_BYTES)

    def _show_devices(self) -> None:
        self._screen.chapter("What each device runs")
        seen = self._wait_for_server_to_know()
        self._screen.table(
            ("device", "group", "memory", "on its disk", "as it told the server"),
            [
                (d.name, d.group, f"{d.memory_mib} MiB", d.running or "-", seen.get(d.name, "-"))
                for d in self._fleet.devices
            ],
        )
        self._claim(f"all {len(self._fleet.devices)} devices run {GOOD}", self._all_run(GOOD))
        told = {device.name: seen.get(device.name) for device in self._fleet.devices}
        self._claim("the server knows it", set(told.values()) == {GOOD})

    def _show_audit_trail(self) -> None:
        self._screen.chapter("The audit trail, devices' enrolments left out")
        events = sorted(self._items("/audit/events"), key=lambda event: int(event["seq"]))
        told = [event for event in events if event["tag"].startswith(("artifact.", "rollout.", "user."))]
        self._screen.table(
            ("seq", "at", "what", "by", "subject"),
            [
                (str(event["seq"]), event["at"][11:19], event["tag"], _actor(event["by"]), event["subject"])
                for event in told
            ],
        )
        sequence = [int(event["seq"]) for event in events]
        self._claim("the trail has no gap", sequence == list(range(sequence[0], sequence[0] + len(sequence))))
        tags = [event["tag"] for event in told]
        must = {"rollout.submitted", "rollout.wave.approved", "rollout.wave.opened", "rollout.wave.failed"}
        must |= {"rollout.aborted", "rollout.wave.passed", "rollout.completed"}
        self._claim("every step of the rollouts is in it", must <= set(tags))
        enrolled = [event for event in events if event["tag"] == "device.enrolled"]
        self._claim("and every enrolment", len(enrolled) == len(self._fleet.devices))

    def _prove(self) -> None:
        self._screen.chapter("The proof: a stock TUF client (python-tuf), given the root and nothing else")
        paths: dict[str, Path] = {}
        for version, release in self._releases.items():
            artifact = self._published[version]
            paths[artifact["target_path"]] = release.artifact
            paths[artifact["sboms"][0]["target_path"]] = release.sbom
        fetched = stock_client.fetch(
            self._product.root.read_bytes(),
            list(paths),
            metadata_url=self._product.metadata_url,
            targets_url=self._product.targets_url,
            folder=self._folder / "stock-client",
        )
        for one in fetched:
            self._screen.say(f"{one.sha256[:16]}…  {one.length:>10} bytes  {one.path}")
        ours = {path: _sha256(file) for path, file in paths.items()}
        same = {one.path: one.sha256 for one in fetched} == ours
        self._claim("it fetched and verified every artifact and SBOM, byte for byte what was pushed", same)

    def _push(self, release: Release) -> None:
        pushed = self._product.publish(
            *("push", str(release.artifact), "--product", PRODUCT, "--version", release.version),
            *("--sbom", str(release.sbom)),
            person=None,
        )
        self._releases[release.version], self._published[release.version] = release, pushed
        self._screen.say(
            f"{pushed['target_path']}: {release.length / 2**20:.1f} MiB, signed as serial {pushed['serial']} "
            f"with an SBOM of {release.components} components"
        )

    def _create(self, version: str, waves: list[str]) -> str:
        arguments = [part for wave in waves for part in ("--wave", wave)]
        made = self._product.publish(
            "rollout", "create", "--product", PRODUCT, "--version", version, *arguments, person=None
        )
        return str(made["id"])

    def _approve(self, rollout: str, wave: int) -> None:
        self._product.publish("rollout", "approve", rollout, "--wave", str(wave), "--yes", person=APPROVER)

    def _follow(self, rollout: str, arrived: Callable[[Rollout], bool]) -> Rollout:
        """Show a rollout until it has ``arrived``, or ended or paused otherwise; returns it as it is then."""
        client = self._product.client()
        deadline = time.monotonic() + _MOVE_WITHIN_SECONDS
        with self._screen.following() as follower:
            while True:
                now: Rollout = client.get(f"/rollouts/{rollout}")
                follower.show(now)
                if arrived(now) or now["state"] in _ENDED or now["state"] == "paused":
                    return now
                self._fleet.check()
                if time.monotonic() > deadline:
                    raise DemoFailed(f"{now['version']} stays {now['state']}: {now['why']}")
                time.sleep(_LOOK_SECONDS)

    def _wait_for(self, rollout: str, holds: Callable[[], bool]) -> Rollout:
        """Wait until something holds on the devices, or long enough; returns the rollout as it is then."""
        deadline = time.monotonic() + _MOVE_WITHIN_SECONDS
        while not holds() and time.monotonic() < deadline:
            self._fleet.check()
            time.sleep(_LOOK_SECONDS)
        found: Rollout = self._product.client().get(f"/rollouts/{rollout}")
        return found

    def _wait_for_server_to_know(self) -> dict[str, str]:
        """Version by device name as last told to the server, which hears of a change a moment after it."""
        deadline = time.monotonic() + _MOVE_WITHIN_SECONDS
        while True:
            seen = {
                device["name"]: running["version"]
                for device in self._items("/devices")
                for running in device["running"]
                if running["product"] == PRODUCT
            }
            actual = {device.name: device.running for device in self._fleet.devices}
            if seen == actual or time.monotonic() > deadline:
                return seen
            time.sleep(_LOOK_SECONDS)

    def _tags(self, rollout: str) -> list[str]:
        return [event["tag"] for event in self._items(f"/rollouts/{rollout}/events")]

    def _items(self, path: str) -> list[dict[str, Any]]:
        return list(self._product.client().items(path, limit=None))

    def _all_run(self, version: str) -> bool:
        return all(device.running == version for device in self._fleet.devices)

    def _claim(self, claim: str, holds: bool) -> None:
        self.claims.append((claim, holds))
        self._screen.verdict(claim, holds)


def _names(devices: Iterable[Device]) -> str:
    return ", ".join(sorted(device.name for device in devices)) or "none"


def _actor(by: dict[str, Any]) -> str:
    return f"{by.get('name') or by['id']} ({by['kind']})"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
