"""The steps of a publish, traced: each signature, and the moment at which the index takes it in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from securesystemslib.signer import Signature

from api.tracing import span
from evidence.model import AuditEvent
from keys.keyring import Keyring
from repo_signing.model import ArtifactRecord
from store.artifacts import ArtifactIndex


class TracedKeyring(Keyring):
    """A keyring whose signatures are traced."""

    def sign(
        self,
        name: str,
        payload: bytes,
        *,
        role: str,
        among: Collection[str] | None = None,
        threshold: int | None = None,
    ) -> tuple[Signature, ...]:
        """Sign, as a span named by the keyring's role; bins are many and share theirs."""
        with span(f"sign {name}", tuf__length=len(payload)):
            return super().sign(name, payload, role=role, among=among, threshold=threshold)


class TracedIndex(ArtifactIndex):
    """An index whose projections are traced."""

    def project(self, serial: int, artifacts: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        """Project, as a span."""
        with span("record", repository__serial=serial, repository__artifacts=len(artifacts)):
            super().project(serial, artifacts, events)
