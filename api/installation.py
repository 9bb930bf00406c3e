"""All organisations of a home: opened when they are first asked for, each for itself.

What one of them lacks (a key, a signature, its disk) keeps only itself from being served. Organisations that another
process makes appear here by themselves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import ClassVar, Final

from api.settings import Settings
from api.wiring import NotInitialised, Shared, Wavegate, open_shared, wire
from keys.errors import CustodyError
from repo_signing.errors import RepositoryError

log: Final = logging.getLogger("wavegate")

KNOWN_SECONDS: Final = 1.0  # how long a name that was not there may go on being unknown; strangers ask for any
AGAIN_SECONDS: Final = 5.0  # before an organisation that could not be opened is tried again


class OrganisationUnavailable(Exception):
    """An organisation cannot be served now; the cause is what kept it from being opened."""

    code: ClassVar[str] = "organization_unavailable"


class Installation:
    """A home and its organisations. Threads may share it.

    Args:
        shared: What they all work with.
        opened: Organisations that are open already.
    """

    def __init__(self, shared: Shared, *opened: Wavegate) -> None:
        self.shared: Final = shared
        self._opened: Final = {one.org: one for one in opened}
        self._failed: Final[dict[str, tuple[float, Exception]]] = {}
        self._opening: Final[dict[str, threading.Lock]] = {}  # by slug: a bucket that hangs keeps nobody else waiting
        self._slugs: tuple[str, ...] = ()
        self._read_at = float("-inf")

    @property
    def settings(self) -> Settings:
        """Of the whole installation."""
        return self.shared.settings

    def slugs(self) -> tuple[str, ...]:
        """All organisations, oldest first, open or not; as they were at most a second ago."""
        if time.monotonic() - self._read_at >= KNOWN_SECONDS:
            slugs = tuple(one.slug for one in self.shared.organisations.all())
            self._slugs, self._read_at = slugs, time.monotonic()
        return self._slugs

    def look_again(self) -> None:
        """Have the next question asked of the database; for who has just made an organisation."""
        self._read_at = float("-inf")

    def organisation(self, slug: str) -> Wavegate:
        """An organisation that is known to exist, such as a credential's.

        Raises:
            OrganisationUnavailable: It cannot be opened; it is tried again after some seconds.
        """
        found = self._opened.get(slug)
        return self._open(slug) if found is None else found

    def find(self, slug: str) -> Wavegate | None:
        """The organisation that somebody names; None for a name that is none's. Raises OrganisationUnavailable."""
        found = self._opened.get(slug)
        if found is not None:
            return found
        return self._open(slug) if slug in self.slugs() else None

    def each(self) -> Iterator[Wavegate]:
        """Every organisation that can be served now; the others are passed over, and stand in the log."""
        for slug in self.slugs():
            try:
                yield self.organisation(slug)
            except OrganisationUnavailable:
                continue

    def close(self) -> None:
        """Let go of the database; nothing else is held open."""
        self.shared.close()

    def _open(self, slug: str) -> Wavegate:
        with self._opening.setdefault(slug, threading.Lock()):
            found = self._opened.get(slug)
            if found is not None:
                return found
            failed = self._failed.get(slug)
            if failed is None or time.monotonic() - failed[0] >= AGAIN_SECONDS:
                try:
                    opened = self._opened[slug] = wire(self.shared, slug)
                except (NotInitialised, RepositoryError, CustodyError, OSError) as error:
                    if failed is None or str(failed[1]) != str(error):
                        log.error("the organisation %s cannot be served: %s", slug, error)
                    failed = self._failed[slug] = (time.monotonic(), error)
                else:
                    self._failed.pop(slug, None)
                    return opened
            raise OrganisationUnavailable(
                f"the organisation {slug} cannot be served now, its repository or its keys are not whole; the server's "
                "log says what is missing"
            ) from failed[1]


def open_installation(settings: Settings) -> Installation:
    """Open a home; its organisations open when they are asked for.

    Raises:
        NotInitialised: There is no home, or its making was cut short.
    """
    return Installation(open_shared(settings))
