"""The agent: one poll after the other.

A class to be used in a process of its own or inside another; it has no thread, clock or sleep of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from agent.choice import Act, Choice, Situation, braked, choose
from agent.config import AgentConfig
from agent.documents import brakes_for, decisions_for, exclusions, revoked
from agent.errors import RepositoryAway, RepositoryRefused
from agent.home import Home
from agent.hooks import Hooks
from agent.identity import Identity, load_credentials
from agent.link import Facts, Link
from agent.machine import Machine
from agent.orders import Orders
from agent.state import Ended, Memory, Release, State, StateFile, Step
from agent.steps import Steps, Surroundings
from agent.talk import Talk, text_of
from agent.trust import Repository, View
from rollout.decision import Brake

REFRESH_NOTED_EVERY: Final = timedelta(minutes=10)  # an idle poll must not wear out the device's flash


@dataclass(frozen=True, slots=True, kw_only=True)
class PollResult:
    """How a poll went: whether the repository was read, and what ended in it."""

    refreshed: bool
    ended: tuple[Ended, ...]


class Agent:
    """One device. ``poll`` does all that can be done now and returns; nothing waits but commands and downloads.

    ``link`` talks to the server, ``repository`` reads the signed repository, ``hooks`` install and judge, ``machine``
    is what commands of the server touch; a state file of one's own (for a simulation) may be given. Hold
    ``home.locked()`` around it where another might run.
    """

    def __init__(
        self,
        home: Home,
        identity: Identity,
        config: AgentConfig,
        facts: Facts,
        *,
        link: Link,
        repository: Repository,
        hooks: Hooks,
        surroundings: Surroundings,
        machine: Machine,
        state_file: StateFile | None = None,
    ) -> None:
        self._home = home
        self._identity = identity
        self._config = config
        self._repository = repository
        self._clock = surroundings.clock
        self._zone = surroundings.zone
        self._memory = Memory(state_file or StateFile(home.state))
        clock, zone = surroundings.clock, surroundings.zone
        self._talk = Talk(home, facts, link, self._memory, clock, machine)
        self._orders = Orders(home, config, self._memory, link, machine, clock, zone)
        self._steps = Steps(home, config, self._memory, repository, hooks, self, surroundings, self._talk)
        self._drop_partial()

    @property
    def state(self) -> State:
        """Where the agent is, as last written."""
        return self._memory.state

    def poll(self) -> PollResult:
        """Talk to the server, refresh, go on with what was begun, act on what is new, tell what came of it.

        A server or mirror that is away is no error: it is in the state's words, and the next poll tries again.

        Raises:
            OSError: The home cannot be written; nothing was done that could not be remembered.
        """
        self._steps.ended.clear()
        self._talk.begin()
        view = self._refresh()
        try:
            if not self._orders.reboots_now():
                self._take_steps(view)
        except (RepositoryAway, RepositoryRefused) as error:
            self._note(error)
        self._prune()
        self._orders.carry_out()
        self._talk.end()
        return PollResult(refreshed=view is not None, ended=tuple(self._steps.ended))

    def choose(self, product: str, view: View) -> Choice:
        """What the signed documents mean for a product here and now; raises RepositoryAway, RepositoryRefused."""
        situation = Situation(
            device=self._identity.device_id,
            platform=self._config.platform,
            running=self.state.running.get(product),
            ended=self.state.ended,
            now=self._clock(),
            revoked=revoked(view, product),
            groups=self.state.groups,
            exclusions=exclusions(view, self._identity.org, product),
            pin=self._config.pin_of(product),
            versions={name: release.version for name, release in self.state.running.items()},
            window=self._config.window,
            zone=self._zone,
            permit_wait=self.state.permit_waits.get(product),
            signed_time=load_credentials(self._home).certificate.not_valid_before_utc,
        )
        decisions = decisions_for(view, self._identity.org, product, self.state.groups)
        return choose(decisions, self._brakes(product, self.state.running.get(product), view), situation)

    def stop_on(self, release: Release, view: View) -> str | None:
        """Why a release must not go on: a brake's reason, or that it was revoked; None when it may.

        Raises RepositoryAway, RepositoryRefused.
        """
        why = revoked(view, release.product).get(release.sha256)
        if why is not None:
            return f"revoked: {why}"
        brake = braked(release.rollout, release.wave, self._brakes(release.product, release, view))
        return None if brake is None else brake.reason

    def close(self) -> None:
        """Hang up; the state stays."""
        self._talk.close()
        self._repository.close()

    def _take_steps(self, view: View | None) -> None:
        if self.state.work is not None:
            self._steps.go_on(self.state.work, view)
        for product in self._products() if view is not None else ():
            if self.state.work is None and view is not None:
                self._act_on(product, view)

    def _act_on(self, product: str, view: View) -> None:
        choice = self.choose(product, view)
        self._memory.write(self._without_unwanted(product, choice).saying(product, choice.reason, choice.words))
        if choice.release is None or choice.wait:
            return
        if choice.act is Act.INSTALL:
            self._steps.begin(choice.release, view)
        elif choice.act is Act.ADOPT:
            self._steps.adopt(choice.release)
        elif choice.act is Act.RETURN:
            before = self.state.previous.get(product)
            revocations = revoked(view, product)
            if before is not None and before.sha256 in revocations:
                before = None  # from one bad release to another is no way back
            code = "revoked" if choice.release.sha256 in revocations else "rolled_back"
            self._steps.leave(choice.release, before, code, choice.words)

    def _without_unwanted(self, product: str, choice: Choice) -> State:
        """Forget what was fetched to wait for its moment once something else is chosen."""
        kept = self.state.fetched.get(product)
        wanted = choice.act is Act.INSTALL and choice.release is not None and choice.release.sha256 == kept
        return self.state if kept is None or wanted else self.state.with_fetched(product, None)

    def _refresh(self) -> View | None:
        try:
            view = self._repository.refresh()
        except (RepositoryAway, RepositoryRefused) as error:
            self._note(error)
            return None
        now, noted = self._clock(), self.state.refreshed_at
        if not noted or abs(now - datetime.fromisoformat(noted)) >= REFRESH_NOTED_EVERY:
            noted = text_of(now)
        self._memory.write(replace(self.state, repository_trouble="", refreshed_at=noted))
        return view

    def _note(self, error: RepositoryAway | RepositoryRefused) -> None:
        self._memory.write(replace(self.state, repository_trouble=f"{error.code}: {error}"))

    def _products(self) -> Sequence[str]:
        return list(dict.fromkeys([*(self._config.products or self.state.products), *self.state.running]))

    def _brakes(self, product: str, release: Release | None, view: View) -> list[Brake]:
        # A device taken out of a group still listens for the call back of what that group gave it.
        groups = [*self.state.groups, *([release.group] if release is not None else [])]
        return brakes_for(view, self._identity.org, product, groups)

    def _prune(self) -> None:
        """Drop artifacts that nothing runs, returns to or installs."""
        work = self.state.work
        needed = {r.sha256 for r in (*self.state.running.values(), *self.state.previous.values())}
        needed |= {r.sha256 for r in (work.release, work.before) if r is not None} if work is not None else set()
        needed |= set(self.state.fetched.values())
        for file in self._home.artifacts.iterdir():
            if file.name not in needed:
                file.unlink()
        self._drop_partial()

    def _drop_partial(self) -> None:
        """Drop what was fetched in part of anything but the work under way."""
        work = self.state.work
        for file in self._home.downloads.iterdir():
            if work is None or work.step is not Step.DOWNLOADING or file.name != work.release.sha256:
                file.unlink()
