"""Issuers of identity tokens as they describe themselves, asked over the guarded road and remembered for a while."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from api.guarded import Answered, Guarded, NotSent, reason_of
from evidence.errors import InvalidWebhook, IssuerUnreachable
from keys.errors import IdTokenKeyUnknown
from keys.id_token import IdToken, verify

_KEPT_SECONDS: Final = 600.0
# Anybody can send tokens signed by keys that do not exist, or of an issuer that is down: it is not asked more often for
# that, and its silence does not hold up everybody who serves requests.
_AGAIN_AFTER_SECONDS: Final = 15.0
_AT_ONCE: Final = 4
_TURN_SECONDS: Final = 2.0
_MOST_BYTES: Final = 512 * 1024  # of a document; GitHub's keys are 5 KiB
_MOST_KEYS: Final = 100
_MOST_ISSUERS: Final = 500
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Issuer:
    """What an issuer publishes: its description (OpenID Connect Discovery) and its keys (JWKs)."""

    document: Mapping[str, Any]
    keys: Sequence[Mapping[str, Any]]
    read_at: float


class Issuers:
    """Issuers by their URL. Safe to use from many threads.

    Args:
        monotonic: Seconds that only grow, for how long something is remembered.
    """

    def __init__(self, guarded: Guarded, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._guarded = guarded
        self._monotonic = monotonic
        self._known: dict[str, Issuer] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._turns = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()

    def verify(self, text: str, *, issuer: str, audience: str, now: datetime) -> IdToken:
        """Check an identity token with the keys of an issuer that somebody of ours trusts.

        A key that is not known makes the issuer be asked again, since issuers rotate.

        Raises:
            IdTokenInvalid, IdTokenKeyUnknown: As :func:`keys.id_token.verify`.
            IssuerUnreachable: Its keys cannot be had.
        """
        known = self.describe(issuer)
        try:
            return verify(text, known.keys, issuer=issuer, audience=audience, now=now)
        except IdTokenKeyUnknown:
            fresh = self.describe(issuer, newer_than=known.read_at)
            if fresh is known:
                raise
            return verify(text, fresh.keys, issuer=issuer, audience=audience, now=now)

    def describe(self, issuer: str, *, newer_than: float | None = None) -> Issuer:
        """What an issuer publishes, read now if it was not lately; raises IssuerUnreachable."""
        with self._lock:
            known, failed = self._known.get(issuer), self._failed.get(issuer)
        age = None if known is None else self._monotonic() - known.read_at
        if known is not None and age is not None:
            is_new = newer_than is None or known.read_at > newer_than
            if age < (_KEPT_SECONDS if is_new else _AGAIN_AFTER_SECONDS):
                return known
        if failed is not None and self._monotonic() - failed[0] < _AGAIN_AFTER_SECONDS:
            raise IssuerUnreachable(failed[1])
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise IssuerUnreachable("too many issuers are being asked; try again")
        try:
            found = self._read(issuer)
        except IssuerUnreachable as error:
            self._note(self._failed, issuer, (self._monotonic(), str(error)))
            raise
        finally:
            self._turns.release()
        self._note(self._known, issuer, found)
        return found

    def _read(self, issuer: str) -> Issuer:
        document = self._json("GET", issuer.rstrip("/") + _WELL_KNOWN)
        # Another issuer's description would have its keys count for this one.
        if document.get("issuer") != issuer:
            raise IssuerUnreachable(
                f"{issuer} describes itself as {str(document.get('issuer'))[:200]!r}; write the issuer as it does"
            )
        keys = self._json("GET", str(document.get("jwks_uri"))).get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise IssuerUnreachable(f"{issuer} publishes no keys where it says it does")
        return Issuer(document, keys[:_MOST_KEYS], self._monotonic())

    def _note(self, where: dict[str, Any], issuer: str, what: object) -> None:
        with self._lock:
            if len(where) >= _MOST_ISSUERS:
                where.clear()
            where[issuer] = what

    def ask(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        """One request to an issuer: its status, and its answer when that is a JSON object, else nothing.

        Raises:
            IssuerUnreachable: No answer, or the address is refused.
        """
        sent = {"user-agent": "wavegate/1", "accept": "application/json", **(headers or {})}
        try:
            answered = self._guarded.request(method, url, sent, body, most=_MOST_BYTES + 1, whole=True)
        except (InvalidWebhook, NotSent) as error:
            raise IssuerUnreachable(f"{url[:300]} is not asked: {error}") from error
        except TimeoutError as error:
            raise IssuerUnreachable(f"no whole answer from {url[:300]} within {self._guarded.seconds:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise IssuerUnreachable(f"no answer from {url[:300]}: {reason_of(error)}") from error
        return answered.status, _object(answered)

    def _json(self, method: str, url: str) -> Mapping[str, Any]:
        status, told = self.ask(method, url)
        if status != 200 or not told:
            raise IssuerUnreachable(f"{url[:300]} answered {status}, expected 200 with a JSON object")
        return told


def _object(answered: Answered) -> Mapping[str, Any]:
    if len(answered.body) > _MOST_BYTES:
        return {}
    try:
        told = json.loads(answered.body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
