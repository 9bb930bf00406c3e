"""Trusted publishers: which CI jobs may publish what, told apart by what their CI system says of them.

A CI system signs an identity token for each job. A publisher names the issuer and the claims that must be in it; a
token with all of them is exchanged for a publish token of a few minutes. Names can be given up and registered by
somebody else, so what tells a repository from its namesake is its number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from evidence.errors import InvalidPublisher, InvalidWebhook, NoPublisherMatches
from evidence.model import Actor, ActorKind
from evidence.webhooks.addresses import Allowed, place_of

MOST_PUBLISHERS: Final = 100  # of an organisation
MOST_PRODUCTS: Final = 50  # of a publisher
MOST_CLAIMS: Final = 20
LONGEST_LIFE: Final = timedelta(minutes=15)  # of a publish token
_LONGEST_VALUE: Final = 500  # characters
_CLAIM: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,199}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}")
_WORKFLOW: Final = re.compile(r"[A-Za-z0-9_.-]+\.ya?ml")
# The token's own affairs, checked for every token: they say nothing of the job.
_REGISTERED: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})


class Provider(StrEnum):
    """Whose tokens they are; ``generic`` is any issuer of OpenID Connect."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GENERIC = "generic"


ISSUERS: Final[Mapping[Provider, str]] = {
    Provider.GITHUB: "https://token.actions.githubusercontent.com",
    Provider.GITLAB: "https://gitlab.com",
}
# What must be named, so that neither a namesake nor another workflow of the same repository passes.
REQUIRED: Final[Mapping[Provider, tuple[str, ...]]] = {
    Provider.GITHUB: ("repository_id", "repository_owner_id", "workflow"),
    Provider.GITLAB: ("project_id", "namespace_id"),
    Provider.GENERIC: (),
}
_NUMBERS: Final = frozenset({"repository_id", "repository_owner_id", "project_id", "namespace_id"})
# What people recognise a job by, in the log and in refusals, beside what was matched.
_TELLING: Final[Mapping[Provider, tuple[str, ...]]] = {
    Provider.GITHUB: ("repository", "job_workflow_ref", "ref", "sha", "run_id", "run_attempt", "actor", "event_name"),
    Provider.GITLAB: ("project_path", "ref", "ref_type", "sha", "pipeline_id", "job_id", "user_login"),
    Provider.GENERIC: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Which jobs of which issuer may publish which products.

    ``claims`` must all be in a token. Of GitHub, ``workflow`` is the name of the file in ``.github/workflows``. A
    publisher never changes: who wants another makes another, and the tokens of the old one die with it.
    """

    id: str
    org: str
    name: str
    provider: Provider
    issuer: str
    audience: str
    claims: Mapping[str, str]
    products: tuple[str, ...]
    life: timedelta
    by: Actor
    created_at: datetime
    last_used_at: datetime | None = None

    def actor(self, credential: str) -> Actor:
        """A job of the publisher as the doer of something."""
        return Actor(ActorKind.SERVICE, self.id, self.name, credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishToken:
    """What a job got for its identity token. ``claims`` are those that tell which job it was."""

    id: str
    publisher: str
    org: str
    sha256: str
    created_at: datetime
    expires_at: datetime
    claims: Mapping[str, str]

    def is_live(self, now: datetime) -> bool:
        """Whether the token counts at ``now``."""
        return now < self.expires_at


def check_publisher(
    provider: Provider, issuer: str, audience: str, claims: Mapping[str, str], life: timedelta, *, allowed: Allowed
) -> None:
    """Refuse what cannot be a publisher.

    Raises:
        InvalidPublisher: The issuer is no address to ask, a claim that has to be named is missing or no number, or a
            bound is passed.
    """
    check_issuer(issuer, allowed)
    if not audience.strip() or len(audience) > _LONGEST_VALUE:
        raise InvalidPublisher(f"the audience has to have 1 to {_LONGEST_VALUE} characters")
    if not timedelta(minutes=1) <= life <= LONGEST_LIFE:
        raise InvalidPublisher(f"the lifetime is {life}, expected 1 to {LONGEST_LIFE.seconds // 60} minutes")
    if not 1 <= len(claims) <= MOST_CLAIMS:
        raise InvalidPublisher(f"{len(claims)} claims are named, expected 1 to {MOST_CLAIMS}")
    missing = [name for name in REQUIRED[provider] if name not in claims]
    if missing:
        raise InvalidPublisher(
            f"a publisher of {provider.value} has to name the claims {', '.join(missing)}; "
            "without them somebody else's job would pass"
        )
    for name, value in claims.items():
        if name in _REGISTERED or _CLAIM.fullmatch(name) is None:
            raise InvalidPublisher(f"{name[:100]!r} is no claim that tells jobs apart")
        if not value or len(value) > _LONGEST_VALUE:
            raise InvalidPublisher(f"the claim {name} has to have 1 to {_LONGEST_VALUE} characters")
        if name in _NUMBERS and provider is not Provider.GENERIC and _NUMBER.fullmatch(value) is None:
            raise InvalidPublisher(f"the claim {name} is {value[:100]!r}, expected the number, not the name")
    if provider is Provider.GITHUB and _WORKFLOW.fullmatch(claims["workflow"]) is None:
        raise InvalidPublisher("the workflow is the name of a file in .github/workflows, such as release.yml")


def check_issuer(issuer: str, allowed: Allowed) -> None:
    """Raise InvalidPublisher unless the issuer is a URL that the server may ask for its keys."""
    try:
        place_of(issuer, allowed)
    except InvalidWebhook as error:
        raise InvalidPublisher(f"the issuer {issuer[:200]!r} cannot be asked for its keys: {error}") from None
    if "?" in issuer:
        raise InvalidPublisher("the issuer has a query; an issuer is https://host[:port][/path]")


def choose(publishers: Sequence[Publisher], claims: Mapping[str, Any], *, products: Collection[str]) -> Publisher:
    """The publisher that a verified token stands for: of those that match, the one that asks most, then the oldest.

    Args:
        publishers: Those of the token's issuer and audience.
        products: What is to be published, as far as the job said so; one publisher must have all of it.

    Raises:
        NoPublisherMatches: There is none, or there are some in several organisations. The message tells the token's
            claims, which its bearer knows, and nothing of ours.
    """
    matching = [one for one in publishers if matches(one, claims) and set(products) <= set(one.products)]
    if not matching:
        shown = {name: text for one in Provider for name, text in telling(one, claims).items()}
        told = ", ".join(f"{name}={text}" for name, text in sorted(shown.items())) or f"sub={claims.get('sub')}"
        wanted = f" and may publish {', '.join(sorted(products))[:300]}" if products else ""
        raise NoPublisherMatches(f"no trusted publisher matches this identity{wanted}: {told[:1000]}")
    if len({one.org for one in matching}) > 1:
        raise NoPublisherMatches(
            "trusted publishers of several organisations match this identity; name one in the path, "
            "/api/v1/orgs/ORG/auth/publish-token, or give each publisher an audience of its own"
        )
    return min(matching, key=lambda one: (-len(one.claims), one.id))


def matches(publisher: Publisher, claims: Mapping[str, Any]) -> bool:
    """Whether a token with these claims is one of the publisher's."""
    return all(_holds(publisher.provider, name, wanted, claims) for name, wanted in publisher.claims.items())


def telling(provider: Provider, claims: Mapping[str, Any], also: Sequence[str] = ()) -> dict[str, str]:
    """The claims by which people recognise a job, shortened; for the log."""
    found = {name: _text(claims.get(name)) for name in (*_TELLING[provider], *also)}
    return {name: value[:_LONGEST_VALUE] for name, value in found.items() if value is not None}


def _holds(provider: Provider, name: str, wanted: str, claims: Mapping[str, Any]) -> bool:
    if provider is Provider.GITHUB and name == "workflow":
        # The claim of this name is the workflow's title, which anybody may choose; the file is told by another. One of
        # a foreign repository (a reusable workflow) does not pass: its owner would decide what we publish.
        place = f"{claims.get('repository')}/.github/workflows/{wanted}"
        return any(claims.get("job_workflow_ref") == f"{place}@{claims.get(end)}" for end in ("ref", "sha"))
    found = _text(claims.get(name))
    if found is not None and provider is Provider.GITHUB and name == "environment":
        return found.casefold() == wanted.casefold()  # as GitHub compares them
    return found == wanted


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int) else None
