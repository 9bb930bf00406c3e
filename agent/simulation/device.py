"""One simulated device: the agent's own core, link and repository, with a profile's nature around them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from agent.bundle import Bundle
from agent.config import AgentConfig
from agent.core import Agent
from agent.errors import CallRefused, NotRecognised, RepositoryAway, RepositoryRefused, ServerAway
from agent.home import Home
from agent.hooks import Outcome
from agent.identity import Identity
from agent.link import NOTHING_SAID, Answer, Facts, GrpcLink, Link, PermitAnswer, Renewal, Said
from agent.machine import HostMachine
from agent.partial import Terms
from agent.simulation.profiles import Nature, Network
from agent.simulation.tally import Tally
from agent.state import PendingReport, Release, State, StateFile, Step
from agent.steps import Surroundings
from agent.trust import Repository, View


class RememberedState(StateFile):
    """The state in memory: thousands of devices on one disk would wait for its flushes. ``write`` puts it there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._state = State()

    def load(self) -> State:
        """As last saved."""
        return self._state

    def save(self, state: State) -> None:
        """Remember it."""
        self._state = state

    def write(self) -> None:
        """Leave it to whoever looks into the home."""
        super().save(self._state)


class CountedLink:
    """``Link`` through a simulated network, which counts what the server says behind it."""

    def __init__(self, link: Link, network: Network, tally: Tally) -> None:
        self._link = link
        self._network = network
        self._tally = tally

    def check_in(self, facts: Facts, running: Sequence[Release], state: str, said: Said = NOTHING_SAID) -> Answer:
        """As ``Link``."""
        with self._network.calling(), self._counted():
            began = time.perf_counter()
            answer = self._link.check_in(facts, running, state, said)
            self._tally.check_in(time.perf_counter() - began)
            return answer

    def report(self, report: PendingReport) -> bool:
        """As ``Link``."""
        with self._network.calling(), self._counted():
            counted = self._link.report(report)
            if counted:
                self._tally.report(report)
            return counted

    def permit(self, rollout: str, attempt: int) -> PermitAnswer:
        """As ``Link``."""
        with self._network.calling(), self._counted():
            return self._link.permit(rollout, attempt)

    def give_permit_back(self, rollout: str) -> None:
        """As ``Link``."""
        with self._network.calling(), self._counted():
            self._link.give_permit_back(rollout)

    def upload_logs(self, order: str, bundle: Bundle) -> bool:
        """As ``Link``."""
        with self._network.calling(), self._counted():
            return self._link.upload_logs(order, bundle)

    def renew(self, request: bytes) -> Renewal:
        """As ``Link``."""
        with self._network.calling(), self._counted():
            return self._link.renew(request)

    def dial_again(self) -> None:
        """As ``Link``."""
        self._link.dial_again()

    def close(self) -> None:
        """As ``Link``."""
        self._link.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except CallRefused:
            self._tally.count("refused")  # a report that came after its wave: the server's right, and no error
            raise
        except (ServerAway, NotRecognised) as error:
            self._tally.error(error.code)
            raise


class CountedRepository(Repository):
    """The repository through a simulated network, which counts what goes wrong behind it."""

    def __init__(
        self, home: Home, identity: Identity, network: Network, tally: Tally, *, agent: str, terms: Terms
    ) -> None:
        super().__init__(
            home, metadata_url=identity.metadata_url, targets_url=identity.targets_url, agent=agent, terms=terms
        )
        self._network = network
        self._tally = tally

    def refresh(self, *, aside: bool = False) -> View:
        """As ``Repository``."""
        self._network.fetching()
        try:
            return super().refresh(aside=aside)
        except (RepositoryAway, RepositoryRefused) as error:
            self._tally.error(error.code)
            raise

    def _flush(self) -> None:
        """Not: no power cut of a simulated device empties its cache, and thousands would wait for one disk."""


class SimulatedMachine(HostMachine):
    """A machine whose reboots are another boot id; the one it runs on goes on."""

    def __init__(self, home: Home, config: AgentConfig, clock: Callable[[], datetime]) -> None:
        super().__init__(home, config, clock)
        self._boots = 1

    def boot_id(self) -> str:
        """How often it was booted."""
        return f"boot-{self._boots}"

    def reboot_pending(self) -> str:
        """Never."""
        return ""

    def can_reboot(self) -> bool:
        """Always."""
        return True

    def reboot(self) -> Outcome:
        """Boot again, in no time."""
        self._boots += 1
        return Outcome(True)


class SimulatedDevice:
    """An enrolled device that lives in this process. Its home is its own; nothing else on this machine changes."""

    def __init__(
        self,
        home: Home,
        identity: Identity,
        config: AgentConfig,
        facts: Facts,
        nature: Nature,
        *,
        tally: Tally,
        stopping: Callable[[], bool],
    ) -> None:
        self.id = identity.device_id
        self._network = nature.network
        self._tally = tally
        self._stopping = stopping
        self._state = RememberedState(home.state)
        self._link = CountedLink(GrpcLink(home, identity.device_endpoint), nature.network, tally)
        self._repository = CountedRepository(
            home,
            identity,
            nature.network,
            tally,
            agent=f"wavegate-agent/{facts.agent_version}",
            terms=Terms(keep_free_bytes=config.keep_free_bytes),
        )
        self._agent = Agent(
            home,
            identity,
            config,
            facts,
            link=self._link,
            repository=self._repository,
            hooks=nature.hooks,
            surroundings=Surroundings(
                clock=nature.clock,
                sleep=nature.network.wait,
                new_report_id=lambda: f"rep_{uuid.uuid4().hex}",
                stopping=stopping,
            ),
            machine=SimulatedMachine(home, config, nature.clock),
            state_file=self._state,
        )

    def poll(self) -> None:
        """One poll of the agent. Raises OSError when the home cannot be written."""
        self._network.turn()
        self._agent.poll()
        self._tally.count("polls")
        if self._agent.state.step is Step.DOWNLOADING and not (self._network.is_down or self._stopping()):
            self._tally.error("download_broken_off")

    def hang_up(self, *, keep_channel: bool) -> None:
        """Drop the connection to the repository, and that to the device port; the next poll makes new ones."""
        self._repository.close()
        if not keep_channel:
            self._link.dial_again()

    def close(self, *, leave_state: bool) -> None:
        """Hang up for good; the state is left in the home where somebody will look at it."""
        self._agent.close()
        if leave_state:
            self._state.write()
