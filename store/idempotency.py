"""One effect and one answer for each Idempotency-Key.

The work behind a POST runs in transactions of its own (and signs metadata in between), so the key cannot be written
with it. It is claimed before and answered after: *claim → work → finish*. Whoever comes while a claim is at work waits.
A claim that is not answered for minutes is never worked on again: whether its work was done nobody knows, and done
twice it might start two rollouts.
Source: docs/adr/0131-an-unknown-outcome-is-told.md
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select, update

from store.columns import insert_if_absent
from store.database import Database
from store.errors import IdempotencyInProgress, IdempotencyMismatch, IdempotencyUnknown
from store.models import idempotency_keys

STALE_AFTER: Final = timedelta(minutes=2)  # longer than most requests that have a key; uploads have none
PATIENCE_SECONDS: Final = 10.0  # how long a repeated request waits for the first one's answer
KEPT: Final = timedelta(days=1)  # how long an answer can be asked for again
_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request was answered: HTTP status, body and ``ETag`` as sent."""

    status: int
    body: bytes
    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a key stands for. ``actor`` is the account's id, ``route`` method and path, ``body_sha256`` hex."""

    org: str
    actor: str
    key: str
    route: str
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to do the work of a request, and to answer it."""

    request: Request
    secret: str


class IdempotencyKeys:
    """Keys and the answers they were given."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def once(
        self,
        request: Request,
        work: Callable[[], Answer],
        *,
        clock: Callable[[], datetime],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> tuple[Answer, bool]:
        """Do ``work`` unless it was done under this key, and return its answer and whether it is a replay.

        Answers of 500 and above, and exceptions, are not kept: the next request with the key does the work again.

        Raises:
            IdempotencyMismatch: The key was used for another route or body.
            IdempotencyInProgress: The first request is still at work after ``patience_seconds``.
            IdempotencyUnknown: It was not answered within two minutes.
        """
        held = self._wait(request, clock, patience_seconds)
        if isinstance(held, Answer):
            return held, True
        try:
            answer = work()
        except BaseException:
            self.release(held)
            raise
        if answer.status >= 500:
            self.release(held)
        else:
            self.finish(held, answer)
        return answer, False

    def claim(self, request: Request, *, now: datetime) -> Claim | Answer:
        """Take the work of a request, or get the answer it was given.

        Raises IdempotencyMismatch, IdempotencyInProgress while a claim younger than two minutes is at work, or
        IdempotencyUnknown for an older one.
        """
        claim = Claim(request=request, secret=secrets.token_hex(16))
        with self._database.write() as connection:
            row = {
                "org": request.org,
                "actor": request.actor,
                "key": request.key,
                "route": request.route,
                "body_sha256": request.body_sha256,
                "claim": claim.secret,
                "claimed_at": now,
                "created_at": now,
            }
            if insert_if_absent(connection, idempotency_keys, row):
                return claim
            return _standing(connection, request, now)

    def finish(self, claim: Claim, answer: Answer) -> bool:
        """Keep the answer, however late; False when the key was forgotten meanwhile."""
        with self._database.write() as connection:
            kept = connection.execute(
                update(idempotency_keys)
                .where(*_is(claim.request), idempotency_keys.c.claim == claim.secret)
                .values(status=answer.status, response=answer.body, etag=answer.etag)
            )
            return kept.rowcount == 1

    def release(self, claim: Claim) -> None:
        """Give the claim back undone, so that the next request with the key does the work."""
        with self._database.write() as connection:
            connection.execute(
                delete(idempotency_keys).where(
                    *_is(claim.request),
                    idempotency_keys.c.claim == claim.secret,
                    idempotency_keys.c.status.is_(None),
                )
            )

    def forget(self, *, now: datetime) -> int:
        """Drop keys older than a day; returns how many."""
        with self._database.write() as connection:
            old = delete(idempotency_keys).where(idempotency_keys.c.created_at < now - KEPT)
            return connection.execute(old).rowcount

    def _wait(self, request: Request, clock: Callable[[], datetime], patience_seconds: float) -> Claim | Answer:
        until = time.monotonic() + patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return self.claim(request, now=clock())
            except IdempotencyInProgress:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _standing(connection: Connection, request: Request, now: datetime) -> Answer:
    """The answer that was given."""
    row = connection.execute(select(idempotency_keys).where(*_is(request)).with_for_update()).first()
    if row is None:
        # PostgreSQL only: the claim was given back between the two statements.
        raise IdempotencyInProgress("the first request with this Idempotency-Key has just ended; send it again")
    if (row.route, row.body_sha256) != (request.route, request.body_sha256):
        raise IdempotencyMismatch(
            f"this Idempotency-Key was used for {row.route} with "
            f"{'another body' if row.route == request.route else 'its own body'}; use a new key for a new request"
        )
    if row.status is not None:
        return Answer(status=row.status, body=row.response, etag=row.etag)
    if now - row.claimed_at < STALE_AFTER:
        raise IdempotencyInProgress("the first request with this Idempotency-Key is still at work; send it again later")
    raise IdempotencyUnknown(
        f"the first request with this Idempotency-Key began at {row.claimed_at:%Y-%m-%dT%H:%M:%SZ} and was never "
        "answered: the server may have stopped in the middle; look whether it was done, and if not use a new key"
    )


def _is(request: Request) -> tuple[ColumnElement[bool], ...]:
    return (
        idempotency_keys.c.org == request.org,
        idempotency_keys.c.actor == request.actor,
        idempotency_keys.c.key == request.key,
    )
