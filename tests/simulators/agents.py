"""A device around the agent: its server, its commands and its power, all in memory or in one folder."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.bundle import Bundle
from agent.config import AgentConfig
from agent.core import Agent
from agent.errors import CallRefused, NotRecognised, ServerAway
from agent.home import Home
from agent.hooks import Outcome
from agent.identity import Credentials, Identity, Keypair, load_identity, save_identity
from agent.link import NOTHING_SAID, Answer, Facts, PermitAnswer, Renewal, Said
from agent.machine import HostMachine
from agent.partial import Terms
from agent.state import Order, PendingReport, Progress, Release, State, StateFile
from agent.steps import Surroundings
from agent.trust import Repository
from keys.device_ca import DeviceCa, create_device_ca
from rollout.decision import (
    Brake,
    Decision,
    DecisionArtifact,
    Stance,
    brake_path,
    decision_path,
    encode_brake,
    encode_decision,
)
from tests.simulators.signed_tree import Mirror, SignedTree, served

DEVICE = "dev_01JD3ZQ5W8X9Y0A1B2C3D4E5F6"
SALT = "00112233445566778899aabbccddeeff"  # with it DEVICE has bucket 1744
BUCKET = 1744
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class PowerCut(BaseException):
    """The device goes dark here; nothing after it is run."""


class Power:
    """Counts the moments at which the device could go dark, and makes it so at one of them."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.moments = 0
        self.cut_at = cut_at

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.cut_at:
            raise PowerCut


class FragileFile(StateFile):
    """Goes dark just before or just after a write."""

    def __init__(self, path: Path, power: Power) -> None:
        super().__init__(path)
        self._power = power

    def save(self, state: State) -> None:
        self._power.moment()
        super().save(state)
        self._power.moment()


@dataclass
class Commands:
    """The device's owner's commands: installing copies the file's bytes to ``installed``, whatever was there.

    Versions in ``refuse`` do not install, those in ``ill`` are not well. ``ran`` lists what was run.
    """

    power: Power = field(default_factory=Power)
    installed: bytes = b""
    refuse: set[str] = field(default_factory=set)
    ill: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    before_health: Callable[[], None] = lambda: None
    ran: list[tuple[str, str]] = field(default_factory=list)

    def install(self, release: Release, file: Path, action: str) -> Outcome:
        self.ran.append((action, release.version))
        self.power.moment()
        if release.version in self.slow:
            return Outcome(False, "the install command did not end", timed_out=True)
        if release.version in self.refuse:
            self.installed = b"half"
            return Outcome(False, "the install command ended with 1")
        self.installed = file.read_bytes()
        self.power.moment()
        return Outcome(True)

    def healthy(self, release: Release, file: Path) -> Outcome:
        self.ran.append(("health", release.version))
        self.power.moment()
        self.before_health()
        return Outcome(False, "port 80 is closed") if release.version in self.ill else Outcome(True)


@dataclass
class Host:
    """The device's machine; it boots by its command, and by whoever calls ``boot``. ``ran`` counts the command."""

    power: Power = field(default_factory=Power)
    boots: int = 1
    ran: int = 0
    works: bool = True
    pending: str = ""
    has_command: bool = True
    obeys: bool = True
    logs: HostMachine | None = None

    def boot(self) -> None:
        self.boots += 1

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def reboot_pending(self) -> str:
        return self.pending

    def can_reboot(self) -> bool:
        return self.has_command

    def reboot(self) -> Outcome:
        self.power.moment()
        self.ran += 1
        self.power.moment()
        if not self.works:
            return Outcome(False, "the reboot command ended with 1")
        if self.obeys:
            self.boots += 1
        return Outcome(True)

    def bundle(self, most_bytes: int) -> Bundle:
        assert self.logs is not None
        return self.logs.bundle(most_bytes)


@dataclass
class Server:
    """The device port in memory; ``away``, ``unknown``, ``refusing`` and ``lose_answers`` make it difficult."""

    groups: tuple[str, ...] = ("canary",)
    products: tuple[str, ...] = ("app",)
    away: bool = False
    unknown: bool = False
    refusing: set[str] = field(default_factory=set)
    heartbeat: int = 300
    check_ins: list[tuple[tuple[Release, ...], str]] = field(default_factory=list)
    received: list[PendingReport] = field(default_factory=list)
    lose_answers: bool = False
    issuer: DeviceCa | None = None
    renewals: int = 0
    dials: int = 0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    permit_answer: PermitAnswer = field(default_factory=lambda: PermitAnswer(granted=True))
    permits_asked: list[tuple[str, int]] = field(default_factory=list)
    permits_back: list[str] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)  # that are open
    came_of: dict[str, str] = field(default_factory=dict)  # what each ended with: done, or the code
    bundles: dict[str, list[bytes]] = field(default_factory=dict)  # what came of each, however often
    said: list[Said] = field(default_factory=list)
    lose_check_ins: bool = False
    lose_uploads: bool = False

    @property
    def reports(self) -> list[tuple[str, int, str, str]]:
        """Reports as counted: each id once, in order of arrival."""
        once = {report.id: report for report in self.received}
        return [(r.rollout, r.attempt, r.progress.value, r.code) for r in once.values()]

    @property
    def results(self) -> list[tuple[str, int, str, str]]:
        """The reports that end an attempt."""
        return [r for r in self.reports if r[2] not in (Progress.DOWNLOADING, Progress.INSTALLING)]

    def check_in(self, facts: Facts, running: Sequence[Release], state: str, said: Said = NOTHING_SAID) -> Answer:
        self._answer()
        self.check_ins.append((tuple(running), state))
        self.said.append(said)
        for result in said.results:
            if self.orders.pop(result.id, None) is not None:
                self.came_of[result.id] = "done" if result.done else result.code
        if self.lose_check_ins:
            raise ServerAway("the answer got lost")
        return Answer(
            groups=self.groups,
            products=self.products,
            next_check_in_seconds=self.heartbeat,
            orders=tuple(one for one in self.orders.values() if one.id not in said.held),
            dropped=tuple(one for one in said.held if one not in self.orders),
        )

    def upload_logs(self, order: str, bundle: Bundle) -> bool:
        self._answer()
        if self.came_of.get(order) == "done":
            return False
        if order not in self.orders:
            raise CallRefused(f"command_over: {order} is wanted no more")
        self.bundles.setdefault(order, []).append(b"".join(bundle))
        del self.orders[order]
        self.came_of[order] = "done"
        if self.lose_uploads:
            raise ServerAway("the answer got lost")
        return True

    def report(self, report: PendingReport) -> bool:
        self._answer()
        if report.rollout in self.refusing:
            raise CallRefused("report_refused: not in an open wave")
        self.received.append(report)
        if self.lose_answers:
            raise ServerAway("the answer got lost")
        return True

    def permit(self, rollout: str, attempt: int) -> PermitAnswer:
        self._answer()
        self.permits_asked.append((rollout, attempt))
        return self.permit_answer

    def give_permit_back(self, rollout: str) -> None:
        self._answer()
        self.permits_back.append(rollout)

    def renew(self, request: bytes) -> Renewal:
        self._answer()
        assert self.issuer is not None
        self.renewals += 1
        issued = self.issuer.issue(request, DEVICE, now=self.clock())
        return Renewal(chain=issued.chain_pem.encode(), device_ca=self.issuer.certificate_pem.encode())

    def dial_again(self) -> None:
        self.dials += 1

    def close(self) -> None:
        pass

    def _answer(self) -> None:
        if self.away:
            raise ServerAway("no answer from the device port")
        if self.unknown:
            raise NotRecognised("the server does not know this device any more")


@dataclass
class Clock:
    now: datetime

    def __call__(self) -> datetime:
        return self.now


@dataclass
class DeviceBench:
    """One device before a mirror of a signed tree; ``agent()`` switches it on, as often as one likes."""

    tree: SignedTree
    mirror: Mirror
    home: Home
    ca: DeviceCa
    clock: Clock
    server: Server = field(default_factory=Server)
    commands: Commands = field(default_factory=Commands)
    host: Host = field(default_factory=Host)
    config: AgentConfig = field(
        default_factory=lambda: AgentConfig(platform="linux-x86_64", products=("app",), health_pause_seconds=0)
    )
    slept: list[float] = field(default_factory=list)
    terms: Terms = field(default_factory=Terms)
    stopping: Callable[[], bool] = lambda: False  # asked between the pieces of a download, too

    def __post_init__(self) -> None:
        self.server.issuer, self.server.clock = self.ca, self.clock
        self._ids = itertools.count(1)
        key = Keypair()
        issued = self.ca.issue(key.request(Encoding.PEM), DEVICE, now=self.clock())
        self.home.create()
        save_identity(
            self.home,
            Identity(
                device_id=DEVICE,
                name="press-1",
                org=self.tree.org,
                device_endpoint="localhost:1",
                metadata_url=f"{self.mirror.url}/metadata/",
                targets_url=f"{self.mirror.url}/targets/",
                root_sha256=self.tree.root_sha256,
                enrolled_at="2026-11-21T12:00:00Z",
            ),
            Credentials(key.private_pem, issued.chain_pem.encode()),
            device_ca=self.ca.certificate_pem.encode(),
            root=self.tree.root,
        )

    def copy_to(self, folder: Path) -> DeviceBench:
        """The same device as it is now, before the same mirror, to go another way."""
        shutil.copytree(self.home.folder, folder, symlinks=True)
        other = copy.copy(self)
        other.home, other.clock = Home(folder), Clock(self.clock.now)
        other.server = replace(
            self.server,
            check_ins=[*self.server.check_ins],
            received=[*self.server.received],
            orders={**self.server.orders},
            came_of={},
            bundles={},
            clock=other.clock,
        )
        other.commands = replace(self.commands, ran=[*self.commands.ran])
        other.host = replace(self.host)
        return other

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates((self.home.identity / "credentials.pem").read_bytes())[0]

    @property
    def identity(self) -> Identity:
        return load_identity(self.home)

    def repository(self) -> Repository:
        return Repository(
            self.home,
            metadata_url=f"{self.mirror.url}/metadata/",
            targets_url=f"{self.mirror.url}/targets/",
            agent="test",
            terms=self.terms,
        )

    def agent(self, power: Power | None = None, state_file: StateFile | None = None) -> Agent:
        """Switch the device on; without a state file of one's own the power may fail at each write of it."""
        power = power or Power()
        self.commands.power = self.host.power = power
        self.host.logs = HostMachine(self.home, self.config, self.clock)
        return Agent(
            self.home,
            self.identity,
            self.config,
            Facts(agent_version="0", hostname="press-1", os_family="linux", os_name="", platform="linux-x86_64"),
            link=self.server,
            repository=self.repository(),
            hooks=self.commands,
            surroundings=Surroundings(
                clock=self.clock,
                sleep=self.slept.append,
                new_report_id=lambda: f"rep_{next(self._ids)}",
                stopping=self.stopping,
            ),
            machine=self.host,
            state_file=state_file or FragileFile(self.home.state, power),
        )

    def poll(self, power: Power | None = None, state_file: StateFile | None = None) -> State:
        """Switch on, poll once, switch off; the state that is left."""
        agent = self.agent(power, state_file)
        try:
            agent.poll()
        finally:
            agent.close()  # connections end with the power, too
        return agent.state

    def offer(self, version: str, rollout: str, *, minutes: int = 0, **changes: Any) -> Decision:
        """Sign an artifact of this version, whose bytes are the version a thousand times, and a decision of it."""
        content = version.encode() * 1000
        path = f"app/{version}/linux-x86_64/app.bin"
        target = self.tree.add_artifact(path, content)
        decision = replace(
            a_decision(version, rollout, path, target.length, target.hashes["sha256"], minutes),
            **changes,
        )
        self.put(decision)
        return decision

    def put(self, decision: Decision) -> None:
        self.tree.put_document(decision_path(decision.product, decision.group), encode_decision(decision))

    def brake(self, decision: Decision, stance: Stance, reason: str = "stopped by Ada", *, wave: int = 1) -> None:
        document = encode_brake(
            Brake(
                org=decision.org,
                product=decision.product,
                channel=decision.channel,
                group=decision.group,
                rollout=decision.rollout,
                plan_hash=decision.plan_hash,
                wave=wave,
                revision=decision.revision + 1,
                stance=stance,
                reason=reason,
            )
        )
        self.tree.put_document(brake_path(decision.product, decision.group), document)

    def release_brake(self) -> None:
        self.tree.put_document(brake_path("app", "canary"), None)


def a_decision(version: str, rollout: str, path: str, length: int, sha256: str, minutes: int = 0) -> Decision:
    """A decision for everybody in the group canary, submitted so many minutes after noon."""
    return Decision(
        org="acme",
        product="app",
        channel="stable",
        group="canary",
        rollout=rollout,
        plan_hash="ab" * 32,
        wave=1,
        revision=3,
        submitted_at=NOON + timedelta(minutes=minutes),
        version=version,
        artifacts={"linux-x86_64": DecisionArtifact(path=path, length=length, sha256=sha256)},
        salt=SALT,
        cohort_from=0,
        cohort_to=10_000,
    )


def make_bench(folder: Path, tree: SignedTree, mirror: Mirror) -> DeviceBench:
    """A device with an identity from a CA of its own, an hour after it enrolled at noon."""
    return DeviceBench(
        tree=tree,
        mirror=mirror,
        home=Home(folder / "home"),
        ca=create_device_ca(folder / "ca", now=NOON),
        clock=Clock(NOON + timedelta(hours=1)),
    )


@contextmanager
def device_bench(folder: Path) -> Iterator[DeviceBench]:
    """A device before a mirror of an empty repository."""
    tree = SignedTree()
    with served(tree.files) as mirror:
        yield make_bench(folder, tree, mirror)
