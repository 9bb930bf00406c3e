"""`publish webhook`: events sent to programs, and what came of it."""

from __future__ import annotations

from typing import Any

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table

_SHOWN_ONCE = "\nThe secret is shown this once; receivers verify signatures with it."
_EVENT_HELP = "A tag with all below it, such as rollout or artifact.published. Repeat for several. [default: all]"


@click.group()
def webhook() -> None:
    """Have events sent to programs of yours, signed (Standard Webhooks). Needs an administrator's login."""


@webhook.command()
@click.argument("receiver", metavar="RECEIVER_URL")
@click.option("--event", "events", multiple=True, metavar="TAG", help=_EVENT_HELP)
@click.option("--description", default="", metavar="TEXT", help="What it is for.")
@server_options
def create(invocation: Invocation, receiver: str, events: tuple[str, ...], description: str) -> None:
    """Send events to RECEIVER_URL from now on."""
    body = {"url": receiver, "events": list(events) or ["*"], "description": description}
    made = invocation.client(as_person=True).post("/webhooks", body)
    invocation.emit(made, lambda: _told(made) + _SHOWN_ONCE)


@webhook.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List the webhooks."""
    items = list(invocation.client(as_person=True).items("/webhooks", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "url", "events", "state"),
            [(item["id"], item["url"], ", ".join(item["events"]), _state(item)) for item in items],
            empty="there is no webhook",
        ),
    )


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@server_options
def show(invocation: Invocation, webhook_id: str) -> None:
    """Show a webhook."""
    told = invocation.client(as_person=True).get(f"/webhooks/{segment(webhook_id)}")
    invocation.emit(told, lambda: _told(told))


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--receiver", metavar="RECEIVER_URL", help="Where to send.")
@click.option("--event", "events", multiple=True, metavar="TAG", help="These in place of those before. Repeat.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--enable/--disable", "enabled", default=None, help="Send again, from now on, or no more.")
@server_options
def change(
    invocation: Invocation,
    webhook_id: str,
    receiver: str | None,
    events: tuple[str, ...],
    description: str | None,
    enabled: bool | None,
) -> None:
    """Change a webhook, disable it, or enable it again."""
    asked: dict[str, Any] = {"url": receiver, "events": list(events) or None, "description": description}
    body = {name: value for name, value in {**asked, "enabled": enabled}.items() if value is not None}
    if not body:
        raise click.UsageError("nothing to change; name an option")
    changed = invocation.client(as_person=True).patch(f"/webhooks/{segment(webhook_id)}", body, etag=None)
    invocation.emit(changed, lambda: _told(changed))


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@server_options
def delete(invocation: Invocation, webhook_id: str) -> None:
    """Delete a webhook and its delivery log."""
    invocation.client(as_person=True).delete(f"/webhooks/{segment(webhook_id)}")
    invocation.emit({"webhook": webhook_id, "deleted": True}, f"deleted webhook {webhook_id}")


@webhook.command("rotate-secret")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option(
    "--overlap-hours",
    type=click.IntRange(min=0, max=168),
    default=24,
    show_default=True,
    help="How long the secret before signs, too.",
)
@server_options
def rotate_secret(invocation: Invocation, webhook_id: str, overlap_hours: int) -> None:
    """Make a new secret. It is shown once."""
    path = f"/webhooks/{segment(webhook_id)}/rotate-secret"
    changed = invocation.client(as_person=True).post(path, {"overlap_hours": overlap_hours})
    invocation.emit(changed, lambda: _told(changed) + _SHOWN_ONCE)


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@server_options
def test(invocation: Invocation, webhook_id: str) -> None:
    """Send an event webhook.tested. The outcome stands in the delivery log."""
    queued = invocation.client(as_person=True).post(f"/webhooks/{segment(webhook_id)}/test", {})
    invocation.emit(queued, f"delivery {queued['id']} is on its way; see `publish webhook deliveries {webhook_id}`")


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--state", type=click.Choice(["waiting", "delivered", "failed"]), help="Only these.")
@list_options
@server_options
def deliveries(invocation: Invocation, webhook_id: str, state: str | None, limit: int | None) -> None:
    """List deliveries of the last 30 days, newest first."""
    path = f"/webhooks/{segment(webhook_id)}/deliveries"
    items = list(invocation.client(as_person=True).items(path, limit=limit, state=state))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "event", "made", "state", "attempts", "last outcome", "next"),
            [
                (
                    item["id"],
                    item["type"],
                    moment(item["created_at"]),
                    item["state"],
                    len(item["attempts"]),
                    _outcome(item),
                    moment(item["next_at"]),
                )
                for item in items
            ],
            empty="nothing was sent to it",
        ),
    )


@webhook.command()
@click.argument("webhook_id", metavar="WEBHOOK")
@click.argument("delivery_id", metavar="DELIVERY")
@server_options
def replay(invocation: Invocation, webhook_id: str, delivery_id: str) -> None:
    """Send a delivery once more, with the same webhook-id."""
    path = f"/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/replay"
    queued = invocation.client(as_person=True).post(path, {})
    invocation.emit(queued, f"delivery {delivery_id} is on its way again")


def _told(item: dict[str, Any]) -> str:
    told = [
        ("id", item["id"]),
        ("url", item["url"]),
        ("events", ", ".join(item["events"])),
        ("description", item["description"]),
        ("state", _state(item)),
    ]
    if item.get("secret"):
        told.append(("secret", item["secret"]))
    return fields(told)


def _state(item: dict[str, Any]) -> str:
    if not item["enabled"]:
        return f"disabled: {item['disabled_because']}"
    return f"failing since {moment(item['failing_since'])}" if item["failing_since"] else "enabled"


def _outcome(item: dict[str, Any]) -> str:
    if not item["attempts"]:
        return ""
    last = item["attempts"][-1]
    return last["trouble"] or f"{last['status']}"
