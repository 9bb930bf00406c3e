"""What the agent says to the server, and when: a server that is away changes nothing but the words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from agent.choice import NOTED_AT_MOST
from agent.errors import CallRefused, NotRecognised, ServerAway
from agent.home import Home
from agent.identity import Credentials, Keypair, issued_by, load_credentials, replace_credentials
from agent.link import Facts, Link, Renewal, Said
from agent.machine import Machine
from agent.orders import taken_up
from agent.state import Memory, PermitWait, Release

UNANSWERED_SECONDS: Final = 60  # before a permit is asked for again of a server that is away
REFUSED_SECONDS: Final = 300  # or that knows no permits

_LOG: Final = logging.getLogger(__name__)


class Talk:
    """Check-ins, reports and renewals. After one call that nobody answered it stays silent until ``begin``."""

    def __init__(
        self,
        home: Home,
        facts: Facts,
        link: Link,
        memory: Memory,
        clock: Callable[[], datetime],
        machine: Machine,
    ) -> None:
        self._home = home
        self._facts = facts
        self._link = link
        self._memory = memory
        self._clock = clock
        self._machine = machine
        self._silent = False
        self._told: tuple[tuple[Release, ...], str, str] | None = None

    def begin(self) -> None:
        """A new poll: renew the certificate at two thirds of its life, check in if it is time, hand over reports."""
        self._silent = False
        self._renew_if_due()
        state = self._memory.state
        # Without groups there is nothing to do but to wait for some, so that is asked at every poll.
        if self._told is None or not state.groups or self._is_due(state.check_in_due_at):
            self._check_in()
        self.send_reports()

    def _is_due(self, noted: str) -> bool:
        # What lies further ahead than any server says was noted by a clock that was set back since.
        return not noted or not timedelta(0) < datetime.fromisoformat(noted) - self._clock() <= NOTED_AT_MOST

    def end(self) -> None:
        """Hand over what the poll brought; check in again if something of it is news."""
        self.send_reports()
        if self._news() != self._told or self._memory.state.order_results:
            self._check_in()

    def send_reports(self) -> None:
        """Hand over what waits, oldest first; a report leaves the outbox only when the server took or refused it."""
        for report in self._memory.state.outbox:
            if self._silent:
                return
            try:
                self._link.report(report)
            except CallRefused as error:
                _LOG.warning("the server refuses report %s: %s", report.id, error)
            except (ServerAway, NotRecognised) as error:
                self._fall_silent(error)
                return
            state = self._memory.state
            self._memory.write(replace(state, outbox=tuple(r for r in state.outbox if r.id != report.id)))
        self._give_permits_back()

    def _give_permits_back(self) -> None:
        for rollout in self._memory.state.permits_back:
            try:
                self._link.give_permit_back(rollout)
            except CallRefused as error:
                _LOG.warning("the server does not take the permit of %s back: %s", rollout, error)
            except (ServerAway, NotRecognised) as error:
                self._fall_silent(error)
                return
            state = self._memory.state
            self._memory.write(replace(state, permits_back=tuple(r for r in state.permits_back if r != rollout)))

    def _wait(self, release: Release, why: str, seconds: float) -> PermitWait:
        return PermitWait(
            rollout=release.rollout,
            attempt=release.attempt,
            until=text_of(self._clock() + timedelta(seconds=seconds)),
            words=f"{release.version} is here and waits for a permit: {why}",
        )

    def ask_permit(self, release: Release) -> PermitWait | None:
        """Ask for the permit that the release needs; None when it was given. No answer is a no."""
        if self._silent:
            return self._wait(release, "the server does not answer", UNANSWERED_SECONDS)
        try:
            answer = self._link.permit(release.rollout, release.attempt)
        except CallRefused as error:
            return self._wait(release, f"the server refuses: {error}", REFUSED_SECONDS)
        except (ServerAway, NotRecognised) as error:
            self._fall_silent(error)
            return self._wait(release, "the server does not answer", UNANSWERED_SECONDS)
        return None if answer.granted else self._wait(release, answer.reason, max(1, answer.ask_again_seconds))

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _check_in(self) -> None:
        if self._silent:
            return
        running, words, reboot_pending = news = self._news()
        state = self._memory.state
        held = tuple(one.id for one in state.orders)
        said = Said(held=held, results=state.order_results, reboot_pending=reboot_pending)
        try:
            answer = self._link.check_in(self._facts, running, words, said)
        except (ServerAway, NotRecognised, CallRefused) as error:
            self._fall_silent(error)
            return
        now = self._clock()
        self._told = news
        self._memory.write(
            replace(
                taken_up(state, answer, said.results),
                groups=answer.groups,
                products=answer.products,
                server_trouble="",
                checked_in_at=text_of(now),
                check_in_due_at=text_of(now + timedelta(seconds=max(1, answer.next_check_in_seconds))),
            )
        )

    def _renew_if_due(self) -> None:
        if not load_credentials(self._home).renewal_is_due(self._clock()):
            return
        key = Keypair()
        try:
            renewal = self._link.renew(key.request(Encoding.DER))
        except (ServerAway, NotRecognised, CallRefused) as error:
            self._fall_silent(error)
            return
        if not _fits_together(renewal, key):
            _LOG.warning("the server answered with a certificate of another key or CA; the old one stays")
            return
        renewed = Credentials(key.private_pem, renewal.chain)
        replace_credentials(self._home, renewed, device_ca=renewal.device_ca)
        self._link.dial_again()

    def _fall_silent(self, error: ServerAway | NotRecognised | CallRefused) -> None:
        self._silent = True
        trouble, ends = f"{error.code}: {error}", load_credentials(self._home).certificate.not_valid_after_utc
        if self._clock() >= ends:
            trouble += (
                f"; by this device's clock its certificate expired at {ends:%Y-%m-%d %H:%M} UTC: signed releases are "
                "followed all the same, and reports wait; set the clock if it is wrong, else enrol it anew (--again)"
            )
        self._memory.write(replace(self._memory.state, server_trouble=trouble))

    def _news(self) -> tuple[tuple[Release, ...], str, str]:
        state = self._memory.state
        lines = [f"{product}: {words}" for product, words in sorted(state.words.items())]
        if state.repository_trouble:
            lines.append(state.repository_trouble)
        return tuple(state.running.values()), "; ".join(lines), self._machine.reboot_pending()


def _fits_together(renewal: Renewal, key: Keypair) -> bool:
    try:
        return key.fits(renewal.chain) and (not renewal.device_ca or issued_by(renewal.device_ca, renewal.chain))
    except ValueError:
        return False


def text_of(moment: datetime) -> str:
    """RFC 3339 UTC."""
    return moment.isoformat().replace("+00:00", "Z")
