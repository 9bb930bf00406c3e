"""A command's states, from the table: each state, each verb."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from evidence.model import Actor, ActorKind
from fleet.command import OPEN, TAGS, TRANSITIONS, Command, CommandState, Kind, Verb, move
from fleet.errors import CommandOver

ADA = Actor(ActorKind.USER, "usr_ada", "Ada")
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REBOOT = Command(
    id="rbt_1",
    org="acme",
    device="dev_1",
    kind=Kind.REBOOT,
    by=ADA,
    made_at=NOON,
    not_before=NOON,
    expires_at=NOON + timedelta(hours=1),
)
ALLOWED = {
    ("waiting", "deliver"): "delivered",
    ("waiting", "expire"): "expired",
    ("waiting", "cancel"): "cancelled",
    ("delivered", "deliver"): "delivered",
    ("delivered", "finish"): "done",
    ("delivered", "fail"): "failed",
    ("delivered", "expire"): "expired",
    ("delivered", "cancel"): "cancelled",
    ("expired", "finish"): "done",
    ("cancelled", "finish"): "done",
}


@pytest.mark.parametrize(("state", "verb"), list(product(CommandState, Verb)))
def test_a_verb_leads_where_the_table_says_and_nowhere_else(state: CommandState, verb: Verb) -> None:
    command = replace(REBOOT, state=state)
    to = ALLOWED.get((state.value, verb.value))
    if to is None:
        with pytest.raises(CommandOver, match=f"rbt_1 is {state.value}: it cannot {verb.value} any more"):
            move(command, verb, by=ADA, now=NOON)
        return
    moved = move(command, verb, by=ADA, now=NOON)
    assert moved.command.state == to
    assert (moved.event is None) == (verb is Verb.DELIVER)


def test_every_way_out_of_the_open_states_has_a_tag_for_each_kind() -> None:
    verbs = {verb for _, verb in TRANSITIONS} - {Verb.DELIVER}
    assert set(TAGS) == set(product(Kind, verbs))
    assert len(set(TAGS.values())) == len(TAGS)
    assert {state for state in CommandState if (state, Verb.CANCEL) in TRANSITIONS} == OPEN


def test_the_first_delivery_is_what_is_remembered() -> None:
    first = move(REBOOT, Verb.DELIVER, by=ADA, now=NOON).command
    again = move(first, Verb.DELIVER, by=ADA, now=NOON + timedelta(minutes=5)).command
    assert again.delivered_at == NOON


def test_what_the_device_says_is_kept_with_the_command_and_told() -> None:
    told = {"code": "reboot_failed", "detail": "ended with 1"}
    moved = move(replace(REBOOT, state=CommandState.DELIVERED), Verb.FAIL, by=ADA, now=NOON, told=told)
    assert (moved.command.code, moved.command.detail, moved.command.ended_at) == ("reboot_failed", "ended with 1", NOON)
    assert moved.event is not None
    assert (moved.event.tag, moved.event.subject) == ("device.reboot_failed", "dev_1")
    assert moved.event.data == {"command": "rbt_1", **told}
