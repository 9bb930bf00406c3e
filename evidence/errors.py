"""What can be wrong with evidence that leaves the house.

EvidenceError
├── UnknownWebhook           no such webhook in this organisation
├── UnknownDelivery          no such delivery of this webhook
├── InvalidWebhook           its URL, events or overlap cannot be
├── TooManyWebhooks          the organisation has as many as it may
├── WebhookChanged           somebody else changed it meanwhile
├── WebhookDisabled          nothing is sent to it
├── SecretUnreadable         the secret was sealed with a key that is not here
├── UnknownPublisher         no such trusted publisher in this organisation
├── InvalidPublisher         its issuer, claims or lifetime cannot be
├── TooManyPublishers        the organisation has as many as it may
├── NoPublisherMatches       a job's identity is real, and nobody trusts it
├── IdTokenSpent             a job's identity token was exchanged already
├── IssuerUnreachable        an issuer's keys cannot be had
└── LoginRefused             what a provider of logins says lets nobody in here
"""

from __future__ import annotations

from typing import ClassVar


class EvidenceError(Exception):
    """Root of the room's errors; ``code`` is stable, clients branch on it."""

    code: ClassVar[str] = "evidence_error"


class UnknownWebhook(EvidenceError):
    code = "webhook_not_found"


class UnknownDelivery(EvidenceError):
    code = "webhook_delivery_not_found"


class InvalidWebhook(EvidenceError):
    code = "invalid_webhook"


class TooManyWebhooks(EvidenceError):
    code = "too_many_webhooks"


class WebhookChanged(EvidenceError):
    code = "webhook_changed"


class WebhookDisabled(EvidenceError):
    code = "webhook_disabled"


class SecretUnreadable(EvidenceError):
    code = "webhook_secret_unreadable"


class UnknownPublisher(EvidenceError):
    code = "trusted_publisher_not_found"


class InvalidPublisher(EvidenceError):
    code = "invalid_trusted_publisher"


class TooManyPublishers(EvidenceError):
    code = "too_many_trusted_publishers"


class NoPublisherMatches(EvidenceError):
    code = "no_trusted_publisher"


class IdTokenSpent(EvidenceError):
    code = "id_token_spent"


class IssuerUnreachable(EvidenceError):
    code = "issuer_unreachable"


class LoginRefused(EvidenceError):
    code = "login_refused"
