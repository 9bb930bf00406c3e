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
