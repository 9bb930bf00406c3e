"""What the agent remembers: one value, written whole before and after every step.

``Work`` is the step under way; everything else is settled. Reports wait in the same file, so that a step and the report
about it are kept or lost together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agent.durable import write_durably
from agent.errors import StateUnreadable
from agent.reason import Reason

FORMAT: Final = 1
MAX_OUTBOX: Final = 200  # reports; a device that is away for months must not fill its disk
MAX_ENDED: Final = 100  # rollouts remembered
MAX_ORDERS: Final = 32  # commands held
MAX_ORDERS_ENDED: Final = 200  # commands remembered
LOGS: Final = "logs"
REBOOT: Final = "reboot"


class Step(StrEnum):
    """Where a piece of work can be when the power fails; ``idle`` is the absence of work."""

    IDLE = "idle"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    CONFIRMING = "confirming"
    ROLLING_BACK = "rolling_back"


class Progress(StrEnum):
    """What is told to the server, in the words of the protocol."""

    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One artifact as one decision offered it; ``wave``, ``attempt`` and ``needs_permit`` are the decision's."""

    product: str
    version: str
    path: str
    length: int
    sha256: str
    rollout: str
    group: str
    wave: int
    attempt: int
    needs_permit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The step under way. ``before`` is what to return to; ``tries`` counts how often this step was begun.

    While rolling back, ``ending`` says how the rollout ended for this device (failed or rolled back), ``code`` why, and
    ``failures`` counts the tries that came to an end.
    """

    step: Step
    release: Release
    before: Release | None
    tries: int = 0
    ending: Progress | None = None
    code: str = ""
    detail: str = ""
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a rollout's attempt ended here; ``at`` is RFC 3339 UTC, empty when it was written before that was kept."""

    attempt: int
    progress: Progress
    version: str
    code: str = ""
    detail: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingReport:
    """A report the server has not taken yet; ``id`` stays the same however often it is sent."""

    id: str
    rollout: str
    attempt: int
    progress: Progress
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitWait:
    """A permit that was asked for and not given: not to be asked for again before ``until`` (RFC 3339 UTC)."""

    rollout: str
    attempt: int
    until: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command as the server gave it; ``kind`` is empty when it is none that is known here, times are RFC 3339."""

    id: str
    kind: str
    not_before: str
    expires_at: str
    own_window: bool = False
    max_bytes: int = 0


class OrderStage(StrEnum):
    """Where a command is that was taken up."""

    HELD = "held"
    REBOOTING = "rebooting"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderHeld(Order):
    """A command that has not ended. ``boot_id`` and ``since`` tell of a reboot that was begun, ``tries`` and
    ``again_at`` of a bundle that could not be sent."""

    stage: OrderStage = OrderStage.HELD
    boot_id: str = ""
    since: str = ""
    tries: int = 0
    again_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderResult:
    """What came of a command, until the server has taken it."""

    id: str
    done: bool
    code: str = ""
    detail: str = ""
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that must outlive the process. Times are RFC 3339 UTC text, empty for never.

    ``fetched`` maps a product to the SHA-256 of an artifact that is here and waits for its moment, ``permit_waits`` to
    the permit that it waits for. ``permits_back`` are rollouts whose permit is no longer needed and not given back yet.
    """

    groups: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    running: Mapping[str, Release] = field(default_factory=dict)
    previous: Mapping[str, Release] = field(default_factory=dict)
    work: Work | None = None
    ended: Mapping[str, Ended] = field(default_factory=dict)
    outbox: tuple[PendingReport, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    repository_trouble: str = ""
    server_trouble: str = ""
    refreshed_at: str = ""
    checked_in_at: str = ""
    check_in_due_at: str = ""
    fetched: Mapping[str, str] = field(default_factory=dict)
    permit_waits: Mapping[str, PermitWait] = field(default_factory=dict)
    permits_back: tuple[str, ...] = ()
    orders: tuple[OrderHeld, ...] = ()
    order_results: tuple[OrderResult, ...] = ()
    orders_ended: tuple[str, ...] = ()

    @property
    def step(self) -> Step:
        """Where the agent is."""
        return Step.IDLE if self.work is None else self.work.step

    def saying(self, product: str, reason: Reason, words: str) -> State:
        """Tell why the agent does what it does with a product: programs by the reason, people in one line."""
        return replace(self, words={**self.words, product: words}, reasons={**self.reasons, product: reason.value})

    def enrolled_again(self, *, is_same_device: bool) -> State:
        """After another enrolment: calls in at once. What another device had to say to the server is its own."""
        fresh = replace(self, check_in_due_at="", server_trouble="")
        return fresh if is_same_device else replace(fresh, outbox=(), permit_waits={}, permits_back=())

    def with_report(self, report: PendingReport) -> State:
        """Put a report into the outbox; of too many, the oldest that tells no result goes first."""
        waiting = [*self.outbox, report]
        while len(waiting) > MAX_OUTBOX:
            passing = next(
                (r for r in waiting if r.progress in (Progress.DOWNLOADING, Progress.INSTALLING)), waiting[0]
            )
            waiting.remove(passing)
        return replace(self, outbox=tuple(waiting))

    def with_ended(self, rollout: str, ended: Ended) -> State:
        """Remember how a rollout ended here; the oldest memory goes when there are too many."""
        kept = {**{r: e for r, e in self.ended.items() if r != rollout}, rollout: ended}
        return replace(self, ended=dict(list(kept.items())[-MAX_ENDED:]))

    def with_fetched(self, product: str, sha256: str | None) -> State:
        """Keep an artifact of a product for later, or none; what is not here waits for no permit either."""
        others = {p: digest for p, digest in self.fetched.items() if p != product}
        if sha256 is not None:
            return replace(self, fetched={**others, product: sha256})
        return replace(self, fetched=others).with_permit_wait(product, None)

    def with_permit_wait(self, product: str, wait: PermitWait | None) -> State:
        """Wait for a permit for a product, or for none."""
        others = {p: other for p, other in self.permit_waits.items() if p != product}
        return replace(self, permit_waits=others if wait is None else {**others, product: wait})

    def with_permit_back(self, release: Release) -> State:
        """Have a release's permit given back, if it needed one."""
        if not release.needs_permit or release.rollout in self.permits_back:
            return self
        return replace(self, permits_back=(*self.permits_back, release.rollout)[-MAX_OUTBOX:])

    def with_order(self, order: OrderHeld) -> State:
        """Hold a command, or hold it as it is now."""
        held = {one.id: one for one in self.orders}
        return replace(self, orders=tuple((held | {order.id: order}).values()))

    def without_order(self, order_id: str, result: OrderResult | None) -> State:
        """End a command, and remember that; its result is told where the server does not know it."""
        ended = (*(one for one in self.orders_ended if one != order_id), order_id)[-MAX_ORDERS_ENDED:]
        results = self.order_results if result is None else (*self.order_results, result)[-MAX_ORDERS:]
        held = tuple(one for one in self.orders if one.id != order_id)
        return replace(self, orders=held, order_results=results, orders_ended=ended)

    def with_running(self, product: str, release: Release | None, previous: Release | None) -> State:
        """Say what runs of a product, and what ran before it (kept to return to)."""
        running = {p: r for p, r in self.running.items() if p != product}
        earlier = {p: r for p, r in self.previous.items() if p != product}
        if release is not None:
            running[product] = release
        if previous is not None:
            earlier[product] = previous
        return replace(self, running=running, previous=earlier)


class StateFile:
    """``state.json``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> State:
        """The state, or a fresh one when there is no file yet.

        Raises:
            StateUnreadable: It is damaged, or of a format this version does not know. A fresh start would forget what
                runs, so nothing is guessed.
        """
        try:
            stored = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return State()
        except (OSError, ValueError) as error:
            raise StateUnreadable(_unreadable(self._path, str(error))) from error
        try:
            if stored["format"] != FORMAT:
                raise StateUnreadable(_unreadable(self._path, f"format {stored['format']!r}, expected {FORMAT}"))
            return _state_in(stored)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateUnreadable(_unreadable(self._path, repr(error))) from error

    def save(self, state: State) -> None:
        """Write it so that a power cut leaves the old or the new one."""
        write_durably(self._path, json.dumps({"format": FORMAT, **asdict(state)}, sort_keys=True).encode())


def _unreadable(path: Path, why: str) -> str:
    return f"{path} cannot be read ({why}); restore it, or move it away if what the device runs may be installed anew"


def _state_in(stored: Mapping[str, Any]) -> State:
    return State(
        groups=tuple(stored["groups"]),
        products=tuple(stored["products"]),
        running={product: Release(**release) for product, release in stored["running"].items()},
        previous={product: Release(**release) for product, release in stored["previous"].items()},
        work=None if stored["work"] is None else _work_in(stored["work"]),
        ended={
            rollout: Ended(**{**ended, "progress": Progress(ended["progress"])})
            for rollout, ended in stored["ended"].items()
        },
        outbox=tuple(
            PendingReport(**{**report, "progress": Progress(report["progress"])}) for report in stored["outbox"]
        ),
        words=dict(stored["words"]),
        reasons=dict(stored.get("reasons", {})),
        repository_trouble=stored["repository_trouble"],
        server_trouble=stored["server_trouble"],
        refreshed_at=stored["refreshed_at"],
        checked_in_at=stored["checked_in_at"],
        check_in_due_at=stored["check_in_due_at"],
        fetched=dict(stored.get("fetched", {})),
        permit_waits={product: PermitWait(**wait) for product, wait in stored.get("permit_waits", {}).items()},
        permits_back=tuple(stored.get("permits_back", ())),
        orders=tuple(OrderHeld(**{**one, "stage": OrderStage(one["stage"])}) for one in stored.get("orders", ())),
        order_results=tuple(OrderResult(**one) for one in stored.get("order_results", ())),
        orders_ended=tuple(stored.get("orders_ended", ())),
    )


def _work_in(stored: Mapping[str, Any]) -> Work:
    before, ending = stored["before"], stored["ending"]
    return Work(
        step=Step(stored["step"]),
        release=Release(**stored["release"]),
        before=None if before is None else Release(**before),
        tries=stored["tries"],
        ending=None if ending is None else Progress(ending),
        code=stored["code"],
        detail=stored["detail"],
    )


class Memory:
    """The state in hand and on disk: what is in hand was written first."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._state = file.load()

    @property
    def state(self) -> State:
        """As last written."""
        return self._state

    def write(self, state: State) -> None:
        """Make it last, unless it is what stands already. Raises OSError; the old state stands then."""
        if state != self._state:
            self._file.save(state)
            self._state = state
