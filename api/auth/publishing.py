"""From a CI job's identity token to a publish token: verified, matched with who is trusted, and spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from api.auth.issuers import Issuers
from evidence.errors import NoPublisherMatches
from evidence.ids import new_id
from evidence.model import AuditEvent
from evidence.publishing import Publisher, PublishToken, choose, telling
from keys.errors import IdTokenInvalid
from keys.id_token import IdToken, claimed_issuer
from keys.secret import PUBLISH_TOKEN, new_secret
from store.publishers import Publishers


def exchange(
    id_token: str,
    *,
    org: str | None,
    products: Sequence[str],
    publishers: Publishers,
    issuers: Issuers,
    now: datetime,
) -> tuple[Publisher, PublishToken, str]:
    """Give a job a publish token for its identity token, which is spent by it.

    Nobody's issuer is asked for anything before a trusted publisher names it.

    Args:
        org: The organisation, if the caller named one.
        products: What the job wants to publish, if it said so.

    Returns:
        The publisher it stands for, the token as stored, and its text to hand out once.

    Raises:
        IdTokenInvalid, IdTokenKeyUnknown: It is no identity token of the issuer for us and now.
        NoPublisherMatches: It is, and nobody trusts it.
        IdTokenSpent: It was exchanged before.
        IssuerUnreachable: Its keys cannot be had now.
    """
    issuer = claimed_issuer(id_token)
    trusting = publishers.of_issuer(issuer, org)
    if not trusting:
        raise NoPublisherMatches(f"no trusted publisher has the issuer {issuer[:200]!r}")
    identity, audience = _verified(id_token, issuer, trusting, issuers, now)
    publisher = choose([one for one in trusting if one.audience == audience], identity.claims, products=products)
    secret = new_secret(PUBLISH_TOKEN)
    token = PublishToken(
        id=new_id("ptk"),
        publisher=publisher.id,
        org=publisher.org,
        sha256=secret.sha256,
        created_at=now,
        expires_at=now + publisher.life,
        claims=telling(publisher.provider, identity.claims, [*publisher.claims]),
    )
    told = {
        "issuer": issuer,
        "claims": dict(token.claims),
        "products": list(publisher.products),
        "expires_at": token.expires_at.isoformat(),
    }
    event = AuditEvent("trusted_publisher.used", publisher.id, publisher.actor(token.id), now, told)
    publishers.exchange(identity.digest, identity.expires_at, token, event)
    return publisher, token, secret.text


def _verified(
    id_token: str, issuer: str, trusting: Sequence[Publisher], issuers: Issuers, now: datetime
) -> tuple[IdToken, str]:
    """The token, and which of the publishers' audiences it is for."""
    refusal: IdTokenInvalid | None = None
    for audience in dict.fromkeys(one.audience for one in trusting):
        try:
            return issuers.verify(id_token, issuer=issuer, audience=audience, now=now), audience
        except IdTokenInvalid as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal
