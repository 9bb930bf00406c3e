"""The verification that the documentation gives away works on what is really sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from api.webhook_sender import GuardedSender
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.webhooks.addresses import Allowed
from evidence.webhooks.message import MAX_BODY, body_of, headers_of, new_secret
from evidence.webhooks.model import Told
from tests.simulators.webhook_receiver import Got, webhook_receiver

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
ADA = Actor(ActorKind.USER, "usr_1", "Ada", "ses_1")


def verified() -> Callable[[str, dict[str, str], bytes], bool]:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/webhooks.md", "exec"), names)
    check: Callable[[str, dict[str, str], bytes], bool] = names["verified"]
    return check


def received(*secrets: str, now: datetime) -> Got:
    body = body_of(Told(7, "evt_7", AuditEvent("group.created", "grp_1", ADA, now, {"name": "canäry"})), "acme")
    with webhook_receiver() as receiver:
        sender = GuardedSender(Allowed.parse(["127.0.0.1"]))
        assert sender.send(receiver.url, headers_of("evt_7", body, secrets, now=now), body).status == 204
        (got,) = receiver.got
    return got


def test_the_documented_check_takes_what_is_sent_and_nothing_else() -> None:
    check, secret, other = verified(), new_secret(), new_secret()
    got = received(secret, now=datetime.now(UTC))
    assert check(secret, got.headers, got.body) is True
    assert check(other, got.headers, got.body) is False
    assert check(secret, got.headers, got.body + b" ") is False
    assert check(secret, {**got.headers, "webhook-id": "evt_8"}, got.body) is False
    # Moving a byte over the boundary between two signed parts must not give the same content.
    moved = {**got.headers, "webhook-id": f"evt_7.{got.headers['webhook-timestamp'][:1]}"}
    assert check(secret, moved, got.body) is False
    old = received(secret, now=datetime.now(UTC) - timedelta(minutes=6))
    assert check(secret, old.headers, old.body) is False


def test_the_documented_check_takes_either_secret_during_a_rotation() -> None:
    check, new, old = verified(), new_secret(), new_secret()
    got = received(new, old, now=datetime.now(UTC))
    assert [check(secret, got.headers, got.body) for secret in (new, old, new_secret())] == [True, True, False]


def test_a_body_tells_no_credential_and_is_never_too_long() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    told = Told(7, "evt_7", AuditEvent("group.created", "grp_1", ADA, now, {"name": "x" * MAX_BODY}))
    assert body_of(told, "acme") == (
        b'{"type":"group.created","timestamp":"2026-11-22T12:00:00Z","data":{"id":"evt_7","seq":7,"org":"acme",'
        b'"subject":"grp_1","by":{"kind":"user","id":"usr_1","name":"Ada"},"details":null}}'
    )
