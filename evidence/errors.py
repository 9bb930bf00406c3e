"""What can be wrong with evidence that leaves the house.

EvidenceError
├── UnknownWebhook           no such webhook in this organisation
├── UnknownDelivery          no such delivery of this webhook
├── InvalidWebhook           its URL, events or overlap cannot be
├── TooManyWebhooks          the organisation has as many as it may
├── WebhookChanged           somebody else changed it meanwhile
├── WebhookDisabled          nothing is sent to it
└── SecretUnreadable         the secret was sealed with a key that is not here
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
