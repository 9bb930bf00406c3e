"""Sends webhooks: one POST, guarded, and what came of it told in an outcome."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from typing import Final

from api.guarded import ANSWER_SECONDS, Guarded, NotSent, Resolve, reason_of, resolve
from evidence.errors import InvalidWebhook
from evidence.webhooks.addresses import Allowed
from evidence.webhooks.model import Outcome

KEPT_ANSWER: Final = 1024  # bytes of an answer that the delivery log shows; no more are read
USER_AGENT: Final = "wavegate-webhooks/1"


class GuardedSender:
    """Fulfils ``evidence.webhooks.ports.Sender``; the arguments are those of :class:`api.guarded.Guarded`."""

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._guarded = Guarded(allowed, resolver=resolver, tls=tls, seconds=seconds)

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST once. What goes wrong is told in the outcome; nothing is raised for it."""
        began = time.monotonic()
        seconds = self._guarded.seconds

        def took() -> int:
            return int((time.monotonic() - began) * 1000)

        try:
            # A receiver says yes or no by its status; an answer that breaks off after it changes nothing.
            answered = self._guarded.request(
                "POST", url, {"user-agent": USER_AGENT, **headers}, body, most=KEPT_ANSWER, whole=False
            )
        except (InvalidWebhook, NotSent) as error:
            return Outcome(None, str(error), took())
        except TimeoutError:
            return Outcome(None, f"no whole answer within {seconds:g} s", took())
        except ssl.SSLCertVerificationError as error:
            return Outcome(None, f"the receiver's certificate is refused: {error.verify_message}", took())
        except (OSError, http.client.HTTPException, ValueError) as error:
            if took() >= seconds * 1000:
                return Outcome(None, f"no whole answer within {seconds:g} s", took())
            return Outcome(None, f"no answer: {reason_of(error)}", took())
        status, trouble = answered.status, ""
        if 300 <= status < 400:
            trouble = f"it answered {status}; redirects are not followed, give the receiver's final URL"
        elif not 200 <= status < 300:
            trouble = f"it answered {status}"
        wait = answered.headers.get("retry-after", "")
        retry_after = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 10 else None
        return Outcome(status, trouble, took(), answered.body.decode("utf-8", "replace"), retry_after)
