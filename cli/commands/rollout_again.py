"""`publish rollout roll-back`, `clone`, `rerun` and `recount`: after a rollout has gone its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli import words
from cli.client import segment
from cli.errors import VerificationFailed
from cli.invocation import Invocation
from cli.options import server_options
from cli.plan import told_of
from cli.plan_options import fields_of, plan_options
from cli.text import table

_COUNTERS = ("acting", "succeeded", "failed", "rolled_back", "failures", "finishes")


@click.command("roll-back")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit trail and told to devices.")
@server_options
def roll_back(invocation: Invocation, rollout_id: str, reason: str) -> None:
    """Call devices back from a rollout that is completed or aborted: each returns to what it ran before.

    One that is under way is ended with `abort --mode roll_back`. To choose the version devices return to, clone.
    """
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/roll-back", {"reason": reason})
    invocation.emit(told, lambda: words.rollout(told))


@click.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@plan_options
@click.option("--submit", is_flag=True, help="Submit it at once.")
@server_options
def clone(
    invocation: Invocation, rollout_id: str, plan: Path | None, waves: tuple[str, ...], submit: bool, **given: Any
) -> None:
    """Make a draft like a rollout, in whatever state that is. Only what is named here differs."""
    changes = told_of(plan=plan, waves=waves, given=fields_of(given))
    changes.pop("draft", None)
    if submit:
        changes["submit"] = True
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/clone", changes)
    invocation.emit(told, lambda: words.rollout(told))


@click.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--draft", is_flag=True, help="Do not submit it yet.")
@server_options
def rerun(invocation: Invocation, rollout_id: str, draft: bool) -> None:
    """Run a rollout that has ended once more, with the same plan, for devices that failed or never got it.

    Devices that run the release already say so and change nothing.
    """
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/rerun", {"draft": True} if draft else {})
    invocation.emit(told, lambda: words.rollout(told))


@click.command()
@click.argument("rollout_ids", metavar="[ROLLOUT]...", nargs=-1)
@server_options
def recount(invocation: Invocation, rollout_ids: tuple[str, ...]) -> None:
    """Check rollouts, all of them by default: counters against devices, events against state, state against what is
    served. Exit 8 when one is not sound."""
    client = invocation.client()
    wanted = rollout_ids or tuple(item["id"] for item in client.items("/rollouts", limit=None))
    found = [client.get(f"/rollouts/{segment(rollout_id)}/recount") for rollout_id in wanted]
    rows = [
        (one["id"], one["state"], tally["wave"], *(_pair(tally, name) for name in _COUNTERS))
        for one in found
        for tally in one["waves"]
    ]
    faults = [f"{one['id']}: {fault}" for one in found for fault in one["faults"]]
    invocation.emit(
        {"items": found},
        lambda: "\n".join(
            [
                table(("id", "state", "wave", *_COUNTERS), rows, empty="no device has reported"),
                *(faults or [f"{len(found)} rollouts checked, all sound"]),
            ]
        ),
    )
    if faults:
        raise VerificationFailed(
            f"{len(faults)} faults in {len(found)} rollouts", hint="keep a backup of now before anything else"
        )


def _pair(tally: dict[str, Any], name: str) -> str:
    kept, counted = tally["kept"][name], tally["counted"][name]
    return f"{kept}" if kept == counted else f"{kept} (counted {counted})"
