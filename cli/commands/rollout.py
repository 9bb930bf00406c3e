"""`publish rollout`: a release on its way to the fleet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli import seeing, words
from cli.client import segment
from cli.commands import rollout_again
from cli.commands.rollout_devices import devices, failures
from cli.commands.rollout_permits import permits
from cli.commands.rollout_rules import freeze, template
from cli.github import write_outputs, write_summary
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.plan import body, span
from cli.plan_options import fields_of, plan_options
from cli.text import moment, table

if TYPE_CHECKING:
    from cli.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])
_STATES = ("draft", "waiting", "running", "paused", "completed", "aborted", "superseded")
_SORTS = ("-created_at", "created_at", "product", "-product")


class _Mode(click.Choice[str]):
    """The API writes ``roll_back``, a command line as readily ``roll-back``; both are understood."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        return super().normalize_choice(str(choice).replace("-", "_"), ctx)


@click.group()
def rollout() -> None:
    """Carry a release to groups of devices, wave by wave. ROLLOUT is an id (rol_…)."""


rollout.add_command(template)
rollout.add_command(freeze)
rollout.add_command(permits)


def _seconds(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else span(value)


def wait_options(command: Command) -> Command:
    """Add ``--wait`` and ``--timeout``."""
    decorated: Any = click.option(
        "--timeout", metavar="SPAN", callback=_seconds, help="With --wait: give up after this, e.g. 30m (exit 7)."
    )(command)
    return click.option(  # type: ignore[no-any-return]
        "--wait", is_flag=True, help="Wait until it is completed (exit 0) or stopped (exit 6)."
    )(decorated)


@rollout.command()
@plan_options
@click.option("--draft", is_flag=True, default=None, help="Do not submit it yet.")
@wait_options
@server_options
def create(
    invocation: Invocation, plan: Path | None, waves: tuple[str, ...], wait: bool, timeout: int | None, **given: Any
) -> None:
    """Make a rollout and submit it.

    A wave is GROUP[:PERCENT] and its rules, e.g. canary:10,approvals=1,soak=30m,max_failures=2. PERCENT is the share of
    the group reached once the wave is open; count=N says how many devices instead. Rules: approvals, not_before (a
    time), soak and deadline (spans such as 30s, 5m, 1h, 2d), success and max_failure_rate (percent), min_reports,
    max_failures, report_timeout (a span) and silent (fail or ignore), advance (manual: the next wave waits for your
    word); none switches a limit off.
    """
    client = invocation.client()
    made = client.post("/rollouts", body(plan=plan, waves=waves, given=fields_of(given)))
    told = {name: made[name] for name in ("id", "state", "plan_hash")}
    write_outputs(told)
    write_summary(f"Rollout of {made['product']} {made['version']}", [*told.items(), ("why", made["why"])])
    _answer(invocation, client, made, wait=wait, timeout=timeout)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@plan_options
@server_options
def edit(invocation: Invocation, rollout_id: str, plan: Path | None, waves: tuple[str, ...], **given: Any) -> None:
    """Replace the plan of a rollout that has not begun. It is a draft again, and approvals are cleared.

    The whole plan is told anew, as for create.
    """
    client = invocation.client()
    told = body(plan=plan, waves=waves, given=fields_of(given))
    current = client.get_tagged(f"/rollouts/{segment(rollout_id)}")
    changed = client.patch(f"/rollouts/{segment(rollout_id)}", told, etag=current.etag)
    invocation.emit(changed, lambda: words.rollout(changed))


@rollout.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only rollouts in this state.")
@click.option("--product", metavar="NAME", help="Only this product's.")
@click.option("--channel", metavar="NAME", help="Only this channel's.")
@click.option("--group", metavar="NAME", help="Only those with a wave for this group.")
@click.option("--sort", type=click.Choice(_SORTS), help="Order. [default: -created_at, newest first]")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None, **wanted: str | None) -> None:
    """List rollouts."""
    items = list(invocation.client().items("/rollouts", limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "product", "version", "channel", "state", "wave", "created", "why"),
            [
                (
                    item["id"],
                    item["product"],
                    item["version"],
                    item["channel"],
                    item["state"],
                    f"{item['wave']}/{len(item['waves'])}",
                    moment(item["created_at"]),
                    item["why"],
                )
                for item in items
            ],
            empty="there is no such rollout",
        ),
    )


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@server_options
def show(invocation: Invocation, rollout_id: str) -> None:
    """Show where a rollout stands, why it does not move, why devices failed, and what comes next."""
    client, path = invocation.client(), f"/rollouts/{segment(rollout_id)}"
    told = client.get(path)

    def in_words() -> str:
        reasons = client.get(f"{path}/failures")["reasons"] if seeing.failed(told) else []
        return f"{words.rollout(told)}\n\n{seeing.standing(told, reasons, seeing.now())}"

    invocation.emit(told, in_words)


@rollout.command()
@click.argument("rollout_id", metavar="[ROLLOUT]", required=False)
@plan_options
@server_options
def preview(
    invocation: Invocation, rollout_id: str | None, plan: Path | None, waves: tuple[str, ...], **given: Any
) -> None:
    """Foresee a plan, told as for create, or the rest of ROLLOUT. Nothing is stored.

    Who would get it, when at the earliest, how many, what blocks, and which devices would not take it.
    """
    from cli.errors import UsageFault

    client = invocation.client()
    if rollout_id is not None:
        if plan is not None or waves or any(value is not None for value in fields_of(given).values()):
            raise UsageFault("name a rollout, or tell a plan, not both")
        told = client.get(f"/rollouts/{segment(rollout_id)}/preview")
    else:
        asked = body(plan=plan, waves=waves, given=fields_of(given))
        asked.pop("draft", None)
        told = client.post("/rollouts/preview", asked)
    invocation.emit(told, lambda: seeing.forecast(told))


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@wait_options
@server_options
def submit(invocation: Invocation, rollout_id: str, wait: bool, timeout: int | None) -> None:
    """Submit a draft: from now on it waits for its first wave's gate."""
    client = invocation.client()
    told = client.post(f"/rollouts/{segment(rollout_id)}/submit", {})
    _answer(invocation, client, told, wait=wait, timeout=timeout)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--wave", "number", type=click.IntRange(min=1), metavar="N", help="Which wave. [default: the next one]")
@click.option("--plan-hash", metavar="HEX", help="Approve only if the plan is still the one with this hash.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@click.option("--key", metavar="URI", help="Sign it with this private key of yours: its .pem or URI.")
@click.option("--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Opens the key.")
@click.option("--through", type=click.IntRange(min=1), metavar="M", help="Sign a schedule: --wave and all up to M.")
@server_options
def approve(
    invocation: Invocation,
    rollout_id: str,
    number: int | None,
    plan_hash: str | None,
    yes: bool,
    key: str | None,
    passphrase_file: Path | None,
    through: int | None,
) -> None:
    """Say yes to one wave: shows who would receive what, and approves exactly that plan.

    Whoever made a rollout cannot approve it, and each person counts once. A person's login is needed.

    Where a product's approvers sign with their own keys (`publish product approvers`), --key is needed. What would be
    signed is read from its bytes on this machine, held against the plan and told; nothing else is ever signed.
    """
    from cli.errors import ApiRefusal, NotApproved, UsageFault

    client = invocation.client(as_person=True)
    told = client.get(f"/rollouts/{segment(rollout_id)}")
    if plan_hash is not None and plan_hash.lower() != told["plan_hash"]:
        raise ApiRefusal(
            409, {"code": "plan_changed", "message": f"the plan is {told['plan_hash']} now, you named {plan_hash}"}
        )
    number = number or max(int(told["wave"]), 1)
    wave = next((wave for wave in told["waves"] if wave["number"] == number), None)
    if wave is None:
        raise UsageFault(f"{told['id']} has {len(told['waves'])} waves, there is no wave {number}")
    is_signed = told.get("mode") == "signed"
    if is_signed != (key is not None) or (through is not None and not is_signed):
        raise UsageFault(
            f"approvers of {told['product']} sign with their own keys: name yours by --key URI"
            if is_signed
            else f"the server signs the waves of {told['product']}: approve without --key and --through"
        )
    click.echo(words.approval(told, wave, _devices_in(client, wave["group"])), err=True)
    if key is not None:
        from cli.approving import sign_waves

        secret = None if passphrase_file is None else passphrase_file.read_text("utf-8").rstrip("\r\n")
        after = sign_waves(client, told, range(number, (through or number) + 1), key, secret, ask=not yes)
        invocation.emit(after, lambda: f"signed for {after['id']}; {after['state']}: {after['why']}")
        return
    if not yes and sys.stdin.isatty() and not click.confirm("Approve?", err=True):
        raise NotApproved("not approved; nothing was sent")
    after = client.post(f"/rollouts/{segment(rollout_id)}/approve", {"wave": number, "plan_hash": told["plan_hash"]})
    invocation.emit(after, lambda: f"approved wave {number} of {after['id']}; {after['state']}: {after['why']}")


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@server_options
def advance(invocation: Invocation, rollout_id: str) -> None:
    """Open the wave that waits for your word, behind one with advance=manual. All else of its gate must hold."""
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/advance", {})
    invocation.emit(told, lambda: words.rollout(told))


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, metavar="TEXT", help="Why not; kept in the audit trail.")
@server_options
def refuse(invocation: Invocation, rollout_id: str, reason: str) -> None:
    """Say no to a plan: the rollout is a draft again. A person's login is needed."""
    told = invocation.client(as_person=True).post(f"/rollouts/{segment(rollout_id)}/refuse", {"reason": reason})
    invocation.emit(told, lambda: words.rollout(told))


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit trail.")
@server_options
def pause(invocation: Invocation, rollout_id: str, reason: str) -> None:
    """Let nobody new start. Devices that have begun may finish."""
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/pause", {"reason": reason})
    invocation.emit(told, lambda: words.rollout(told))


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit trail.")
@wait_options
@server_options
def resume(invocation: Invocation, rollout_id: str, reason: str, wait: bool, timeout: int | None) -> None:
    """Go on where it was paused; what failed before does not count again. After a failed wave only an approver can."""
    client = invocation.client()
    told = client.post(f"/rollouts/{segment(rollout_id)}/resume", {"reason": reason})
    _answer(invocation, client, told, wait=wait, timeout=timeout)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit trail.")
@click.option(
    "--mode",
    type=_Mode(("stop", "roll_back")),
    default="stop",
    show_default=True,
    help="Start nothing new, or bring devices back to what they ran.",
)
@server_options
def abort(invocation: Invocation, rollout_id: str, reason: str, mode: str) -> None:
    """End a rollout for good."""
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/abort", {"reason": reason, "mode": mode})
    invocation.emit(told, lambda: words.rollout(told))


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--device", "devices", multiple=True, metavar="DEVICE_ID", help="Only this device; repeat.")
@click.option("--after", metavar="SPAN", callback=_seconds, help="Not now, but so long from now, e.g. 30m.")
@server_options
def retry(invocation: Invocation, rollout_id: str, devices: tuple[str, ...], after: int | None) -> None:
    """Offer it again to devices that failed: those named, or all; now, or after a while."""
    asked: dict[str, Any] = {"devices": list(devices)} if devices else {}
    if after is not None:
        asked["after_seconds"] = after
    told = invocation.client().post(f"/rollouts/{segment(rollout_id)}/retry", asked)
    invocation.emit(told, lambda: words.rollout(told))


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--interval", metavar="SPAN", default="1s", show_default=True, callback=_seconds, help="Look this often.")
@click.option("--timeout", metavar="SPAN", callback=_seconds, help="Give up after this, e.g. 30m (exit 7).")
@server_options
def watch(invocation: Invocation, rollout_id: str, interval: int, timeout: int | None) -> None:
    """Watch a rollout until it is completed (exit 0) or stopped (exit 6).

    A live view on a terminal, with a bar for each wave; elsewhere one line of JSON for each change, or of text with
    -o table. With -o json it is JSON on a terminal, too.
    """
    _follow(invocation, invocation.client(), rollout_id, interval=max(interval, 1), timeout=timeout)


for _command in (rollout_again.roll_back, rollout_again.clone, rollout_again.rerun, rollout_again.recount):
    rollout.add_command(_command)


def _answer(invocation: Invocation, client: Client, told: dict[str, Any], *, wait: bool, timeout: int | None) -> None:
    """Print a rollout, or follow it to its end."""
    if wait:
        _follow(invocation, client, told["id"], interval=1, timeout=timeout)
    else:
        invocation.emit(told, lambda: words.rollout(told))


def _follow(invocation: Invocation, client: Client, rollout_id: str, *, interval: float, timeout: float | None) -> None:
    from cli.watch import json_line, live, text_line, watch

    if invocation.form != "table" or not sys.stdout.isatty():
        line = text_line if invocation.form == "table" else json_line
        watch(client, rollout_id, show=line, interval=interval, timeout=timeout)
        return
    seen: list[Mapping[str, Any]] = []
    with live(lambda: seen[-1] if seen else None):
        watch(client, rollout_id, show=seen.append, interval=interval, timeout=timeout)


def _devices_in(client: Client, group: str) -> int | None:
    """How many devices a group has; unknown to someone who may approve but not read groups."""
    from cli.errors import ApiRefusal

    try:
        return int(client.get(f"/groups/{segment(group)}")["devices"])
    except ApiRefusal:
        return None


rollout.add_command(devices)
rollout.add_command(failures)
