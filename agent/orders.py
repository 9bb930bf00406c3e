"""Commands that the server gave: each is written down before anything is done for it, and is carried out once.

===========  =================================================================================================
stage        begun again after a power cut as
===========  =================================================================================================
held         logs are collected and sent anew; a reboot waits for its moment
rebooting    nothing is run again: another boot id says that it is done, the same one after a while that it is not
===========  =================================================================================================

What came of it is written down in one write with the end, and is said until a check-in that had it is answered. Ids of
what ended are remembered, so that an answer that came late or twice does nothing again.
Source: docs/adr/0156-commands-are-answered-until-they-are-held.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from agent.config import AgentConfig
from agent.errors import CallRefused, NotRecognised, ServerAway
from agent.home import Home
from agent.identity import load_credentials
from agent.link import Answer, Link
from agent.machine import Machine
from agent.state import LOGS, MAX_ORDERS, REBOOT, Memory, Order, OrderHeld, OrderResult, OrderStage, State, Step

REBOOT_TAKES: Final = timedelta(minutes=15)  # from the command to another boot id; a big machine's firmware is slow
LONGEST_PAUSE: Final = 60  # minutes between two tries to send a bundle

_LOG: Final = logging.getLogger(__name__)


class Orders:
    """Carries commands out; between two steps of an update and never in one, for it is asked there."""

    def __init__(
        self,
        home: Home,
        config: AgentConfig,
        memory: Memory,
        link: Link,
        machine: Machine,
        clock: Callable[[], datetime],
        zone: tzinfo,
    ) -> None:
        self._home = home
        self._config = config
        self._memory = memory
        self._link = link
        self._machine = machine
        self._clock = clock
        self._zone = zone

    def reboots_now(self) -> bool:
        """Whether a reboot was asked for that may come at any moment: nothing is to be installed meanwhile."""
        for order in self._memory.state.orders:
            if order.stage is OrderStage.REBOOTING:
                self._see_whether_it_rebooted(order, self._clock())
        return any(order.stage is OrderStage.REBOOTING for order in self._memory.state.orders)

    def carry_out(self) -> None:
        """Do what can be done now. A server that is away is asked again later; nothing of it raises but OSError."""
        # Logs first: what they tell may be gone after the boot.
        for order in sorted(self._memory.state.orders, key=lambda one: one.kind != LOGS):
            now = self._clock()
            if self.reboots_now():
                return
            if now >= datetime.fromisoformat(order.expires_at):
                self._end(order, "expired", "its time was over on this device before it could be done")
            elif datetime.fromisoformat(order.not_before) <= now and self._clock_is_right(now):
                if order.kind == LOGS:
                    self._send_logs(order, now)
                else:
                    self._reboot(order, now)

    def _send_logs(self, order: OrderHeld, now: datetime) -> None:
        if order.again_at and timedelta(0) < datetime.fromisoformat(order.again_at) - now <= timedelta(days=1):
            return
        try:
            self._link.upload_logs(order.id, self._machine.bundle(order.max_bytes))
        except CallRefused as error:
            self._end(order, "upload_refused", str(error))
        except (ServerAway, NotRecognised) as error:
            pause = timedelta(minutes=min(2**order.tries, LONGEST_PAUSE))
            _LOG.warning("the logs could not be sent, again in %s: %s", pause, error)
            later = replace(order, tries=order.tries + 1, again_at=(now + pause).isoformat())
            self._memory.write(self._memory.state.with_order(later))
        else:
            self._memory.write(self._memory.state.without_order(order.id, None))

    def _reboot(self, order: OrderHeld, now: datetime) -> None:
        work = self._memory.state.work
        if work is not None and work.step is not Step.DOWNLOADING:
            return
        window = self._config.window
        if order.own_window and window is not None and window.closes_at(now, local=self._zone) is None:
            return
        boot_id = self._machine.boot_id()
        if not self._machine.can_reboot():
            self._end(order, "no_reboot_command", "agent.toml has no reboot_command")
        elif not boot_id:
            self._end(order, "no_boot_id", f"{self._config.boot_id_file} does not say which boot this is")
        else:
            begun = replace(order, stage=OrderStage.REBOOTING, boot_id=boot_id, since=now.isoformat())
            self._memory.write(self._memory.state.with_order(begun))
            outcome = self._machine.reboot()
            if not outcome.ok:
                self._end(begun, "reboot_failed", outcome.detail)

    def _see_whether_it_rebooted(self, order: OrderHeld, now: datetime) -> None:
        boot_id = self._machine.boot_id()
        if boot_id and boot_id != order.boot_id:
            result = OrderResult(id=order.id, done=True, boot_id=boot_id)
            self._memory.write(self._memory.state.without_order(order.id, result))
        elif not timedelta(0) <= now - datetime.fromisoformat(order.since) < REBOOT_TAKES:
            minutes = REBOOT_TAKES // timedelta(minutes=1)
            self._end(
                order, "reboot_did_not_happen", f"the same boot goes on {minutes} minutes after the command ended"
            )

    def _clock_is_right(self, now: datetime) -> bool:
        return now >= load_credentials(self._home).certificate.not_valid_before_utc

    def _end(self, order: OrderHeld, code: str, detail: str) -> None:
        _LOG.warning("the command %s failed: %s: %s", order.id, code, detail)
        result = OrderResult(id=order.id, done=False, code=code, detail=detail)
        self._memory.write(self._memory.state.without_order(order.id, result))


def taken_up(state: State, answer: Answer, told: tuple[OrderResult, ...]) -> State:
    """The state after a check-in that said ``told`` was answered: new commands are held, dropped ones are not."""
    state = replace(state, order_results=tuple(one for one in state.order_results if one not in told))
    for one in state.orders:
        if one.id in answer.dropped and one.stage is OrderStage.HELD:
            state = state.without_order(one.id, None)
    known = {one.id for one in state.orders} | {one.id for one in state.order_results}
    for order in answer.orders:
        if order.id in known:
            continue
        code = _fault(order, state)
        if code:
            result = OrderResult(id=order.id, done=False, code=code, detail="")
            state = state.without_order(order.id, result)
        else:
            state = state.with_order(OrderHeld(**asdict(order)))
    return state


def _fault(order: Order, state: State) -> str:
    if order.id in state.orders_ended:
        return "ended_before"  # asked for again by a server that was restored from a backup
    if order.kind not in (LOGS, REBOOT):
        return "unsupported"
    if len(state.orders) >= MAX_ORDERS:
        return "too_many_commands"
    try:
        begins, ends = datetime.fromisoformat(order.not_before), datetime.fromisoformat(order.expires_at)
    except ValueError:
        return "unreadable"
    return "" if begins.tzinfo is not None and ends.tzinfo is not None else "unreadable"
