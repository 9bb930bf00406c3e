"""`publish trusted-publisher`: CI jobs that publish by their own identity."""

from __future__ import annotations

from typing import Any

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, pairs, server_options
from cli.text import fields, moment, table


@click.group("trusted-publisher")
def trusted_publisher() -> None:
    """Let CI jobs publish by their own identity, without a key. Needs an administrator's login."""


@trusted_publisher.command()
@click.argument("name")
@click.option("--provider", type=click.Choice(["github", "gitlab", "generic"]), required=True, help="Whose jobs.")
@click.option("--product", "products", multiple=True, required=True, metavar="NAME", help="What they publish; repeat.")
@click.option("--repository-id", metavar="NUMBER", help="GitHub: of the repository. Required there.")
@click.option("--owner-id", metavar="NUMBER", help="GitHub: of its owner. Required there.")
@click.option("--workflow", metavar="FILE", help="GitHub: in .github/workflows. Required there.")
@click.option("--project-id", metavar="NUMBER", help="GitLab: of the project. Required there.")
@click.option("--namespace-id", metavar="NUMBER", help="GitLab: of its namespace. Required there.")
@click.option("--environment", metavar="NAME", help="Only jobs of this environment.")
@click.option("--ref", metavar="REF", help="Only jobs for this ref, as the CI system writes it.")
@click.option("--claim", "claims", multiple=True, callback=pairs, metavar="NAME=VALUE", help="Any claim; repeat.")
@click.option("--issuer", metavar="ISSUER_URL", help="[default: the public service's; required for generic]")
@click.option("--audience", metavar="TEXT", help="For whom its tokens must be. [default: the server's public URL]")
@click.option(
    "--lifetime-minutes",
    type=click.IntRange(min=1, max=15),
    default=15,
    show_default=True,
    help="How long a job's publish token is good.",
)
@server_options
def create(
    invocation: Invocation,
    name: str,
    provider: str,
    products: tuple[str, ...],
    repository_id: str | None,
    owner_id: str | None,
    workflow: str | None,
    project_id: str | None,
    namespace_id: str | None,
    environment: str | None,
    ref: str | None,
    claims: dict[str, str],
    issuer: str | None,
    audience: str | None,
    lifetime_minutes: int,
) -> None:
    """Trust the jobs whose identity token has these claims.

    Numbers tell a repository from another that was registered under its name later. GitHub shows them with
    `gh api repos/OWNER/NAME --jq .id,.owner.id`, GitLab on the project's and the group's page.
    """
    named = {
        "repository_id": repository_id,
        "repository_owner_id": owner_id,
        "workflow": workflow,
        "project_id": project_id,
        "namespace_id": namespace_id,
        "environment": environment,
        "ref": ref,
    }
    body: dict[str, Any] = {
        "name": name,
        "provider": provider,
        "claims": {**claims, **{claim: value for claim, value in named.items() if value is not None}},
        "products": list(products),
        "lifetime_minutes": lifetime_minutes,
    }
    body |= {key: value for key, value in (("issuer", issuer), ("audience", audience)) if value is not None}
    made = invocation.client(as_person=True).post("/trusted-publishers", body)
    invocation.emit(made, lambda: _told(made))


@trusted_publisher.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List the trusted publishers."""
    items = list(invocation.client(as_person=True).items("/trusted-publishers", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("name", "provider", "products", "claims", "last used", "id"),
            [
                (
                    item["name"],
                    item["provider"],
                    ", ".join(item["products"]),
                    _claims(item),
                    moment(item["last_used_at"]),
                    item["id"],
                )
                for item in items
            ],
            empty="there is no trusted publisher",
        ),
    )


@trusted_publisher.command()
@click.argument("publisher_id", metavar="PUBLISHER")
@server_options
def show(invocation: Invocation, publisher_id: str) -> None:
    """Show a trusted publisher (pub_…)."""
    told = invocation.client(as_person=True).get(f"/trusted-publishers/{segment(publisher_id)}")
    invocation.emit(told, lambda: _told(told))


@trusted_publisher.command()
@click.argument("publisher_id", metavar="PUBLISHER")
@server_options
def delete(invocation: Invocation, publisher_id: str) -> None:
    """Trust a publisher (pub_…) no more; tokens that its jobs have end at once."""
    invocation.client(as_person=True).delete(f"/trusted-publishers/{segment(publisher_id)}")
    invocation.emit({"id": publisher_id, "deleted": True}, f"deleted trusted publisher {publisher_id}")


def _claims(item: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(item["claims"].items()))


def _told(item: dict[str, Any]) -> str:
    return fields(
        [
            ("id", item["id"]),
            ("name", item["name"]),
            ("issuer", item["issuer"]),
            ("audience", item["audience"]),
            ("claims", _claims(item)),
            ("products", ", ".join(item["products"])),
            ("tokens last", f"{item['lifetime_minutes']} minutes"),
            ("last used", moment(item["last_used_at"])),
        ]
    )
