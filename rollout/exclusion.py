"""What may not be offered to whom, whatever a rollout says: as values, and as the signed list that devices read.

The list is a target of the ``brakes`` role (``brakes/<product>/exclusions``): it can only stop. Only this module knows
its form; the server writes through it, the agent reads through it. Pure.

Source: docs/adr/0084-exclusions-are-one-signed-list.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from evidence.model import Actor
from rollout.decision import MAX_DOCUMENT_LENGTH, MalformedDocument

FORMAT: Final = 1
_TYPE: Final = "wavegate-exclusions"
_KNOWN: Final = frozenset({"id", "kind", "device", "group", "version", "sha256", "until", "reason"})


class Kind(StrEnum):
    """``exclude`` keeps the version named away; ``pin`` keeps every other version away."""

    EXCLUDE = "exclude"
    PIN = "pin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A standing no.

    Whom: one ``device`` (id), one ``group`` (name), or with neither everybody. What: one ``version`` of a
    ``product``, what contains a ``package`` (a name or purl of an SBOM), or with neither whatever the product offers.

    ``product`` None means every product. ``matched`` maps SHA-256 of an artifact that contains the package to its
    product: what was found so far. ``until`` None means until it is removed.
    """

    id: str
    org: str
    reason: str
    by: Actor
    at: datetime
    kind: Kind = Kind.EXCLUDE
    device: str | None = None
    group: str | None = None
    product: str | None = None
    version: str | None = None
    package: str | None = None
    until: datetime | None = None
    matched: Mapping[str, str] = field(default_factory=dict)

    def stands(self, now: datetime) -> bool:
        """Whether it has not run out."""
        return self.until is None or now < self.until

    def concerns(self, product: str) -> bool:
        """Whether it can say anything about a product."""
        return self.product in (None, product)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the signed list. ``sha256`` None means whatever the bytes."""

    id: str
    kind: Kind
    device: str | None
    group: str | None
    version: str | None
    sha256: frozenset[str] | None
    until: datetime | None
    reason: str

    def is_for(self, device: str, groups: Iterable[str]) -> bool:
        """Whether the device is meant."""
        return self.device in (None, device) and (self.group is None or self.group in groups)

    def forbids(self, version: str, sha256: str, now: datetime) -> bool:
        """Whether what is meant is this version with these bytes, now."""
        if self.until is not None and now >= self.until:
            return False
        if self.kind is Kind.PIN:
            return version != self.version
        return self.version in (None, version) and (self.sha256 is None or sha256 in self.sha256)

    def words(self) -> str:
        """Why, as a device says it."""
        return f"pinned to {self.version}: {self.reason}" if self.kind is Kind.PIN else f"excluded: {self.reason}"


def exclusions_path(product: str) -> str:
    """Target path of a product's list; no group's brake can have it, for theirs end in ``.json``."""
    return f"brakes/{product}/exclusions"


def entry_of(exclusion: Exclusion, product: str) -> Entry | None:
    """The line an exclusion has in a product's list; None when it says nothing about the product."""
    if not exclusion.concerns(product):
        return None
    sha256: frozenset[str] | None = None
    if exclusion.package is not None:
        sha256 = frozenset(digest for digest, of in exclusion.matched.items() if of == product)
        if not sha256:
            return None
    return Entry(
        id=exclusion.id,
        kind=exclusion.kind,
        device=exclusion.device,
        group=exclusion.group,
        version=exclusion.version,
        sha256=sha256,
        until=exclusion.until,
        reason=exclusion.reason,
    )


def contains(packages: Iterable[str], wanted: str) -> bool:
    """Whether a package is among names and purls: a name as it stands; a purl with or without its version."""
    if wanted.startswith("pkg:"):
        return any(one == wanted or one.startswith((f"{wanted}@", f"{wanted}?", f"{wanted}#")) for one in packages)
    return wanted in packages


def encode_exclusions(org: str, product: str, entries: Iterable[Entry]) -> bytes:
    """Canonical JSON, entries in order of id; what an entry does not say is absent, so that a thousand fit."""
    document = {
        "_type": _TYPE,
        "format": FORMAT,
        "org": org,
        "product": product,
        "entries": [_entry_out(one) for one in sorted(entries, key=lambda one: one.id)],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode_exclusions(document: bytes, *, org: str, product: str) -> tuple[Entry, ...]:
    """Read a list; raises MalformedDocument, also for one of another organisation, product or format.

    Nothing is left out here: who cannot understand a no must not go on.
    """
    try:
        if len(document) > MAX_DOCUMENT_LENGTH:
            raise ValueError(f"it has {len(document)} bytes, at most {MAX_DOCUMENT_LENGTH} are read")
        fields = json.loads(document)
        found = (fields["_type"], fields["format"], fields["org"], fields["product"])
        if found != (_TYPE, FORMAT, org, product):
            raise ValueError(f"its type, format, organisation or product is another: {found!r}")
        return tuple(_entry(one) for one in fields["entries"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise MalformedDocument(f"the list of exclusions cannot be read: {error!r}") from error


def _entry_out(one: Entry) -> dict[str, object]:
    told: dict[str, object] = {
        "id": one.id,
        "kind": one.kind.value,
        "device": one.device,
        "group": one.group,
        "version": one.version,
        "sha256": None if one.sha256 is None else sorted(one.sha256),
        "until": None if one.until is None else one.until.isoformat().replace("+00:00", "Z"),
        "reason": one.reason,
    }
    return {name: value for name, value in told.items() if value is not None}


def _entry(one: Mapping[str, Any]) -> Entry:
    if one.keys() - _KNOWN:
        raise ValueError(f"an entry says what is not known here: {', '.join(sorted(one.keys() - _KNOWN))}")
    until, sha256 = one.get("until"), one.get("sha256")
    moment = None if until is None else datetime.fromisoformat(until)
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"the time {until!r} has no zone")
    return Entry(
        id=str(one["id"]),
        kind=Kind(one["kind"]),
        device=_text_or_none(one.get("device")),
        group=_text_or_none(one.get("group")),
        version=_text_or_none(one.get("version")),
        sha256=None if sha256 is None else frozenset(str(digest) for digest in sha256),
        until=moment,
        reason=str(one["reason"]),
    )


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"expected text or null, found {value!r}")
    return value
