"""Operators who act at once over HTTP, and what must be true of what they were answered."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from evidence.model import AuditEvent
from rollout.machine import replay
from store.audit import AuditLog
from store.database import Database
from store.rollouts import SqlRollouts
from tests.acceptance.conftest import Home

ORG = "acme"
PASSWORD = "a long enough password"
TAGS = {
    "submit": "rollout.submitted",
    "approve": "rollout.wave.approved",
    "refuse": "rollout.wave.refused",
    "pause": "rollout.paused",
    "resume": "rollout.resumed",
    "retry": "rollout.retried",
    "abort": "rollout.aborted",
    "roll-back": "rollout.rolled_back",
}


@dataclass(frozen=True)
class Said:
    """One command as it went: ``status`` 0 when nobody knows whether it was obeyed. Times are of one clock."""

    rollout: str
    verb: str
    begun: float
    answered: float
    status: int
    code: str


@dataclass
class Operator:
    """A person with a token of their own; remembers every command and its answer."""

    id: str
    token: str
    urls: Callable[[], str]
    said: list[Said] = field(default_factory=list)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON; status 0 when the server went away before it answered."""
        request = urllib.request.Request(
            f"{self.urls()}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except (OSError, ValueError):
            return 0, {}

    def say(self, rollout: str, verb: str, **body: object) -> int:
        """Give a command and remember what came of it."""
        begun = time.monotonic()
        status, answer = self.ask("POST", f"/rollouts/{rollout}/{verb}", body)
        code = answer.get("error", {}).get("code", "")
        self.said.append(Said(rollout, verb, begun, time.monotonic(), status, code))
        return status


def hire(home: Home, number: int, urls: Callable[[], str]) -> list[Operator]:
    """People who may do everything, each with a login of their own."""
    home.log_in()
    people = []
    for one in range(number):
        email = f"person-{one}-{time.monotonic_ns()}@example.com"
        boss = Operator("", _admin_token(home), lambda: home.url)
        status, made = boss.ask(
            "POST", "/users", {"email": email, "name": f"person {one}", "role": "admin", "password": PASSWORD}
        )
        assert status == 201, made
        status, login = boss.ask("POST", "/auth/token", {"email": email, "password": PASSWORD})
        assert status == 200, login
        people.append(Operator(made["id"], login["token"], urls))
    return people


def _admin_token(home: Home) -> str:
    stored: Any = home.made.get("token")
    if stored is None:
        asked = Operator("", "", lambda: home.url)
        _, login = asked.ask(
            "POST", "/auth/token", {"email": home.made["admin"]["email"], "password": home.made["admin"]["password"]}
        )
        stored = home.made["token"] = login["token"]
    return str(stored)


def check_everything(home: Home, people: Sequence[Operator]) -> Counter[tuple[str, str]]:
    """What must hold once all is quiet; how often each transition was taken.

    Every answer fits one order of the commands: those obeyed are the events, in the order of their revisions; each
    stands in the history as often as it was answered, none that was refused does, and what was answered before another
    began has the lower revision.
    """
    database = Database(home.database_url)
    rollouts = SqlRollouts(database)
    taken: Counter[tuple[str, str]] = Counter()
    assert rollouts.intents(ORG) == []
    for one in rollouts.list(ORG, after=None, limit=10_000):
        events = rollouts.events(ORG, one.id)
        assert replay(events) == one
        steps = [event for event in events if event.tag != "rollout.completed"]
        assert [event.data["revision"] for event in steps] == list(range(1, one.revision + 1))
        taken.update((str(event.data["from"]), event.tag) for event in steps if "from" in event.data)
        kept, counted = rollouts.recount(ORG, one.id)
        assert kept == counted
        _fits_one_order(one.id, steps, people)
    log = AuditLog(database)
    seqs: list[int] = []
    while found := log.events(ORG, after_seq=seqs[-1] if seqs else 0, limit=1_000):
        seqs += [event.seq for event in found]
    assert seqs == list(range(1, len(seqs) + 1))
    database.close()
    checked = home.publish("rollout", "recount")
    assert [fault for one in checked["items"] for fault in one["faults"]] == []
    assert len(checked["items"]) > 0
    return taken


def _fits_one_order(rollout_id: str, steps: Sequence[AuditEvent], people: Sequence[Operator]) -> None:
    placed: list[tuple[Said, int]] = []
    for person in people:
        for verb, tag in TAGS.items():
            mine = [one for one in person.said if one.rollout == rollout_id and one.verb == verb]
            obeyed = [one for one in mine if one.status == 200]
            unknown = [one for one in mine if one.status == 0 or one.status >= 500]
            # Making a rollout submits it, at revision 2; that is no command of its own.
            told = [
                event
                for event in steps
                if event.tag == tag and event.by.id == person.id and event.data["revision"] != 2
            ]
            assert len(obeyed) <= len(told) <= len(obeyed) + len(unknown), (rollout_id, verb, mine, told)
            if not unknown:
                # One person gives one command after the other, so that the n-th told is the n-th obeyed.
                placed += [(one, int(str(event.data["revision"]))) for one, event in zip(obeyed, told, strict=True)]
    for one, revision in placed:
        for other, later in placed:
            if one.answered < other.begun:
                assert revision < later, (rollout_id, one, other)
