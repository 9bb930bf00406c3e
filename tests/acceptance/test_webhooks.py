"""The installed commands, a running server, and a receiver beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.acceptance.conftest import Home
from tests.simulators.webhook_receiver import webhook_receiver

Wait = Callable[[Callable[[], Any]], Any]


def test_an_operator_subscribes_tests_rotates_and_replays(make_home: Callable[..., Home], wait_until: Wait) -> None:
    home = make_home()
    home.serve(WAVEGATE_WEBHOOK_ALLOW="127.0.0.1")
    home.log_in()
    with webhook_receiver() as receiver:
        made = home.publish("webhook", "create", receiver.url, "--event", "group")
        hook = made["id"]
        home.publish("webhook", "test", hook)
        wait_until(lambda: len(receiver.got) == 1)
        rotated = home.publish("webhook", "rotate-secret", hook)
        home.publish("group", "create", "canary")
        wait_until(lambda: len(receiver.got) == 2)
        home.publish("group", "create", "late")
        wait_until(lambda: any(b'"late"' in one.body for one in receiver.got))

        def delivered() -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = home.publish("webhook", "deliveries", hook, "--state", "delivered")["items"]
            return items if len(items) == 3 else []

        log = wait_until(delivered)
        assert [one["type"] for one in log] == ["group.created", "group.created", "webhook.tested"]
        seen = len(receiver.got)
        home.publish("webhook", "replay", hook, log[0]["id"])
        wait_until(lambda: len(receiver.got) > seen)
        first, second, last = receiver.got[0], receiver.got[1], receiver.got[-1]
        assert first.signatures == [first.signature_by(made["secret"])]
        assert second.signatures == [second.signature_by(rotated["secret"]), second.signature_by(made["secret"])]
        assert json.loads(last.body)["data"]["details"]["name"] == "late"
        home.publish("webhook", "change", hook, "--disable")
        assert home.publish("webhook", "list")["items"][0]["enabled"] is False
        refused = home.publish("webhook", "create", "https://169.254.169.254/", check=False)
        assert (refused.returncode, "not a public address" in refused.stderr) == (2, True)
        home.publish("webhook", "delete", hook)
        assert home.publish("webhook", "list")["items"] == []
