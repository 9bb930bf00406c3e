"""What a receiver gets: the body of an event, and the headers that prove who sent it.

Source: the Standard Webhooks specification, sections "Webhook metadata" and "Signature scheme".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from evidence.times import rfc3339
from evidence.webhooks.model import Told

SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32  # the specification asks for 24 to 64
MAX_BODY: Final = 20 * 1024  # bytes; receivers commonly refuse more


def new_secret() -> str:
    """Make a secret as the receiver is told it: ``whsec_`` and base64 of 256 random bits."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def body_of(told: Told, org: str) -> bytes:
    """The JSON of an event, the same bytes at every attempt: ``type``, ``timestamp`` (of the event), ``data``.

    The credential that was used stays in the audit log. Details of an event that is too long are null; the audit log
    has them under ``data.id``.
    """
    event = told.event
    data: dict[str, object] = {
        "id": told.id,
        "seq": told.seq,
        "org": org,
        "subject": event.subject,
        "by": {"kind": event.by.kind.value, "id": event.by.id, "name": event.by.name},
        "details": dict(event.data),
    }
    message: dict[str, object] = {
        "type": event.tag,
        "timestamp": rfc3339(event.at),
        "data": data,
    }
    body = _encoded(message)
    if len(body) > MAX_BODY:
        data["details"] = None
        body = _encoded(message)
    return body


def headers_of(message: str, body: bytes, signing: Sequence[str], *, now: datetime) -> dict[str, str]:
    """The headers of one attempt at ``now``, with a signature by each of the secrets."""
    timestamp = int(now.timestamp())
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message, timestamp, body) for secret in signing),
    }


def signature(secret: str, message: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and base64 of the HMAC-SHA256 over ``id.timestamp.body``; neither id nor timestamp can hold a dot."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    made = hmac.new(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"


def _encoded(message: dict[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
