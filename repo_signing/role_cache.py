"""What a process remembers of the roles it has verified: of all of them the facts, of those used last the content.

A version of a role never changes, so what was verified once stays true; what is bounded is the memory. A million
artifacts parsed would take gigabytes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from repo_signing import roles
from repo_signing.records import is_artifact

# Bytes of metadata whose parsed form is kept; parsed it takes about four times as much, and is walked by every full
# garbage collection, which the parsing of one large bin brings about.
KEPT_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Role:
    """One version of a role; ``body`` is its signed part and must not be changed."""

    name: str
    version: int
    expires: datetime
    body: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, body: Mapping[str, Any]) -> Role:
        """Wrap a signed part."""
        return cls(name, int(body["version"]), roles.time_in(body["expires"]), body)


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """What status and renewal need of a role: numbers of all its targets and of the artifacts among them."""

    version: int
    expires: datetime
    targets: int
    artifacts: int

    @classmethod
    def of(cls, role: Role) -> RoleFacts:
        """Count a role's targets."""
        targets = role.body.get("targets", {})
        artifacts = sum(map(is_artifact, targets.values()))
        return cls(role.version, role.expires, len(targets), artifacts)


class RoleCache:
    """Shared by the views of one process; threads may use it at once."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._limit: Final = kept_bytes
        self._guard: Final = threading.Lock()
        self._roles: Final[dict[str, tuple[Role, int]]] = {}  # by name, the one put last at the end
        self._facts: Final[dict[str, RoleFacts]] = {}
        self._held = 0  # bytes

    def role(self, name: str, version: int) -> Role | None:
        """A role's content, if it is still remembered in this version."""
        found = self._roles.get(name)
        return found[0] if found is not None and found[0].version == version else None

    def facts(self, name: str, version: int) -> RoleFacts | None:
        """A role's facts, if it was ever verified in this version."""
        found = self._facts.get(name)
        return found if found is not None and found.version == version else None

    def put(self, role: Role, length: int) -> None:
        """Remember a verified role; ``length`` is that of its file. Others are forgotten as the limit demands."""
        facts = RoleFacts.of(role)
        with self._guard:
            known = self._facts.get(role.name)
            if known is None or known.version <= role.version:
                self._facts[role.name] = facts
            self._drop(role.name)
            self._roles[role.name] = (role, length)
            self._held += length
            while self._held > self._limit and len(self._roles) > 1:
                self._drop(next(iter(self._roles)))

    def put_facts(self, name: str, facts: RoleFacts) -> None:
        """Remember a role that was verified by its facts alone."""
        with self._guard:
            self._facts[name] = facts

    def _drop(self, name: str) -> None:
        dropped = self._roles.pop(name, None)
        if dropped is not None:
            self._held -= dropped[1]
