"""What an index that is behind lacks."""

from __future__ import annotations

from evidence.model import AuditEvent
from repo_signing import roles
from repo_signing.model import ArtifactRecord
from repo_signing.records import is_record, read_artifact, read_changes
from repo_signing.view import View


def since(view: View, projected: int) -> tuple[list[ArtifactRecord], list[AuditEvent]]:
    """Records and events signed after the serial ``projected``; with 0 all records, and no event."""
    records: list[ArtifactRecord] = []
    events: list[AuditEvent] = []
    before = view.versions_at(projected)
    for role in view.bins():
        # A role that was signed elsewhere got its number when it was drafted, before others that the index knows.
        known = before.get(role.name, 0) if roles.is_product(role.name) else projected
        if role.version <= known:
            continue
        for path, entry in sorted(role.body["targets"].items()):
            if is_record(entry) and entry["custom"]["serial"] > known:
                records.append(read_artifact(path, entry))
                # An empty index is being made anew: what happened was told when it happened.
                events.extend(read_changes(entry) if projected else [])
    return records, events
