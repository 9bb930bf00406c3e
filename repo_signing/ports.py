"""What the repository needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from evidence.model import AuditEvent
from repo_signing.model import ArtifactRecord


class Projection(Protocol):
    """The index of the signed metadata; only the projector writes artifact rows, and it reads signed metadata."""

    def projected_serial(self) -> int:
        """Serial up to which the index is complete; 0 when nothing has been projected."""

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        """Bring the index up to ``serial`` in one transaction.

        Put in or replace these artifacts with their SBOMs and attestations (by target path), write an
        ``artifact.published`` event for each artifact that was not there before, write ``events``, and set the
        projected serial. A serial that is not above the projected one leaves it as it is; projecting the same records
        again changes nothing.
        """

    def clear(self) -> None:
        """Forget all artifact rows and the projected serial, for a rebuild."""


@runtime_checkable
class CountedProjection(Projection, Protocol):
    """A projection that can be compared with the signed set by number."""

    def artifact_count(self) -> int:
        """How many artifact rows the index has."""


class Lease(Protocol):
    """One server's turn to write, with an end by a clock that all servers share, and a number that only grows."""

    @property
    def seconds(self) -> float:
        """How long a turn lasts unless it is renewed."""

    def take(self) -> int | None:
        """Take the turn if nobody has it or its end has passed; returns its number, above all earlier ones."""

    def renew(self, token: int) -> bool:
        """Move the end of one's turn; False when somebody else has taken it or it has ended."""

    def give_back(self, token: int) -> None:
        """End one's turn; one that was lost is left to its holder. Never raises: a turn ends by itself."""
