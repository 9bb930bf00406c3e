"""Use cases of exclusions: keep one, lift one, and hold the signed lists to what is kept.

What narrows is signed before it is recorded, what widens is recorded before it is signed: stopped in between, devices
are told more noes than the records know, never fewer. :meth:`Exclusions.sync` heals that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from rollout.decision import MAX_DOCUMENT_LENGTH
from rollout.errors import InvalidExclusion, TooManyExclusions, UnknownGroup
from rollout.exclusion import Exclusion, Kind, contains, encode_exclusions, entry_of, exclusions_path
from rollout.model import ArtifactRef, Plan
from rollout.plan import SLUG, is_plain_text
from rollout.ports import Decisions, Groups

MAX_STANDING: Final = 1_000  # per organisation: a list stays below its 256 KiB; more devices are excluded as a group
MAX_REASON_LENGTH: Final = 100  # characters; it travels in a signed document to every device
MAX_PACKAGE_LENGTH: Final = 200  # characters
_PURL: Final = re.compile(r"pkg:[A-Za-z][A-Za-z0-9.+-]*/\S*[^\s/]")
_NAME_AND_VERSION: Final = re.compile(r"@?[^@\s]+@v?[0-9][\w.+~-]*")


class ExclusionRows(Protocol):
    """Exclusions at rest. Every method is one transaction, events in it."""

    def all(self, org: str) -> Sequence[Exclusion]:
        """All that were not removed, in order of id; those that ran out, too."""

    def get(self, org: str, exclusion_id: str) -> Exclusion:
        """Raises UnknownExclusion."""

    def add(self, exclusion: Exclusion, events: Sequence[AuditEvent], *, instead_of: Sequence[str] = ()) -> None:
        """Store a new one, and forget those that it takes the place of."""

    def match(self, org: str, exclusion_id: str, matched: Mapping[str, str]) -> None:
        """Store what an exclusion of a package has been found in."""

    def remove(self, org: str, exclusion_id: str, event: AuditEvent) -> None:
        """Forget one; raises UnknownExclusion."""

    def products(self, org: str) -> Sequence[str]:
        """Products that have artifacts, ascending."""

    def planned(self, org: str) -> Sequence[tuple[str, ArtifactRef]]:
        """Product and artifact of every plan that is or may yet be offered (neither aborted nor superseded)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """``packages_of`` answers names and purls in the SBOMs of an artifact (by id), empty without any.

    Every method that changes something has signed it when it returns.
    """

    rows: ExclusionRows
    decisions: Decisions
    groups: Groups
    packages_of: Callable[[str], frozenset[str]]

    def exclude(
        self,
        org: str,
        *,
        reason: str,
        by: Actor,
        now: datetime,
        device: str | None = None,
        group: str | None = None,
        product: str | None = None,
        version: str | None = None,
        package: str | None = None,
        until: datetime | None = None,
        kind: Kind = Kind.EXCLUDE,
    ) -> Exclusion:
        """Keep a no. A pin takes the place of the device's pin of that product. Writes ``exclusion.added``.

        Raises:
            InvalidExclusion: It names nothing, or what does not go together.
            UnknownGroup: No such group.
            TooManyExclusions: The organisation has 1,000, or a list would not fit into its 256 KiB.
        """
        made = Exclusion(
            id=new_id("exc"),
            org=org,
            reason=reason,
            by=by,
            at=now,
            kind=kind,
            device=device,
            group=group,
            product=product,
            version=version,
            package=package,
            until=until,
        )
        _check(made, now)
        if group is not None and self.groups.missing(org, [group]):
            raise UnknownGroup(f"no group is named {group}; create it or name another")

        def sign_then_record() -> None:
            nonlocal made
            standing = [one for one in self.rows.all(org) if one.stands(now)]
            replaced = [one for one in standing if kind is Kind.PIN and _same_pin(one, made)]
            if len(standing) - len(replaced) >= MAX_STANDING:
                raise TooManyExclusions(f"there are {MAX_STANDING} exclusions; put devices into a group and exclude it")
            made = self._matched(made, self.rows.planned(org))
            kept = [*(one for one in standing if one not in replaced), made]
            self._sign(org, kept, self._products(org, [made, *replaced]), now)
            events = [AuditEvent("exclusion.removed", one.id, by, now, told(one)) for one in replaced]
            added = AuditEvent("exclusion.added", made.id, by, now, told(made))
            self.rows.add(made, [*events, added], instead_of=[one.id for one in replaced])

        self.decisions.exclusively(sign_then_record)
        return made

    def lift(self, org: str, exclusion_id: str, *, by: Actor, now: datetime) -> None:
        """Take a no back; writes ``exclusion.removed``. Raises UnknownExclusion."""
        found = self.rows.get(org, exclusion_id)

        def record_then_sign() -> None:
            self.rows.remove(org, found.id, AuditEvent("exclusion.removed", found.id, by, now, told(found)))
            self._sign(org, self.rows.all(org), self._products(org, [found]), now)

        self.decisions.exclusively(record_then_sign)

    def forget(self, org: str, device: str, *, by: Actor, now: datetime) -> None:
        """Take every no and pin back that names this device; it is about to be deleted.

        Writes ``exclusion.removed`` for each; nothing is signed when there is none.
        """

        def record_then_sign() -> None:
            kept = self.rows.all(org)
            of_device = [one for one in kept if one.device == device]
            for one in of_device:
                self.rows.remove(org, one.id, AuditEvent("exclusion.removed", one.id, by, now, told(one)))
            rest = [one for one in kept if one.device != device]
            self._sign(org, rest, self._products(org, of_device), now)

        if any(one.device == device for one in self.rows.all(org)):
            self.decisions.exclusively(record_then_sign)

    def pin_of(self, org: str, device: str, product: str) -> Exclusion | None:
        """The device's pin of a product, None when it has none."""
        return next(
            (
                one
                for one in self.rows.all(org)
                if one.kind is Kind.PIN and (one.device, one.product) == (device, product)
            ),
            None,
        )

    def sync(self, org: str, now: datetime) -> None:
        """Sign the lists of all products as the records have them; nothing is signed when they stand so."""

        def sign() -> None:
            kept = self.rows.all(org)
            self._sign(org, kept, self._products(org, kept), now)

        self.decisions.exclusively(sign)

    # What a rollout asks

    def prepare(self, org: str, plan: Plan, now: datetime) -> None:
        """Before a plan is offered: match packages with its artifacts and see that its product's list is signed."""
        if not any(one.stands(now) and one.concerns(plan.product) for one in self.rows.all(org)):
            return

        def match_and_sign() -> None:
            planned = [(plan.product, artifact) for artifact in plan.artifacts.values()]
            kept = []
            for one in self.rows.all(org):
                matched = self._matched(one, planned)
                if matched.matched != one.matched:
                    self.rows.match(org, one.id, matched.matched)
                kept.append(matched)
            self._sign(org, kept, [plan.product], now)

        self.decisions.exclusively(match_and_sign)

    def blocking(self, org: str, plan: Plan, now: datetime) -> str:
        """Why the plan's release may be offered to nobody, in one line; empty when it may be offered."""
        for one in self._standing(org, plan, now):
            if one.device is None and one.group is None:
                if one.package is None:
                    return f"{plan.product} {plan.version} is excluded: {one.reason}"
                return f"{plan.product} {plan.version} contains {one.package}, which is excluded: {one.reason}"
        return ""

    def left_out(self, org: str, plan: Plan, now: datetime) -> tuple[frozenset[str], frozenset[str]]:
        """Devices (ids) and groups (names) that are not to take the plan's release, and so are not waited for."""
        standing = self._standing(org, plan, now)
        return (
            frozenset(one.device for one in standing if one.device is not None),
            frozenset(one.group for one in standing if one.group is not None),
        )

    def _standing(self, org: str, plan: Plan, now: datetime) -> list[Exclusion]:
        """Those that forbid the plan's release, for somebody."""
        planned = [(plan.product, artifact) for artifact in plan.artifacts.values()]
        found = []
        for one in self.rows.all(org):
            if not one.stands(now) or not one.concerns(plan.product):
                continue
            if one.kind is Kind.PIN:
                forbids = one.version != plan.version
            elif one.package is not None:
                # A part of the platforms is enough: nobody shall have to reason about half a release.
                matched = self._matched(one, planned).matched
                forbids = any(artifact.sha256 in matched for artifact in plan.artifacts.values())
            else:
                forbids = one.version in (None, plan.version)
            if forbids:
                found.append(one)
        return found

    def _matched(self, exclusion: Exclusion, planned: Iterable[tuple[str, ArtifactRef]]) -> Exclusion:
        if exclusion.package is None:
            return exclusion
        found = {
            artifact.sha256: product
            for product, artifact in planned
            if exclusion.concerns(product)
            and artifact.sha256 not in exclusion.matched
            and contains(self.packages_of(artifact.id), exclusion.package)
        }
        return replace(exclusion, matched={**exclusion.matched, **found})

    def _products(self, org: str, of: Iterable[Exclusion]) -> list[str]:
        return sorted({*self.rows.products(org), *(one.product for one in of if one.product is not None)})

    def _sign(self, org: str, kept: Sequence[Exclusion], products: Iterable[str], now: datetime) -> None:
        standing = [one for one in kept if one.stands(now)]
        changes: dict[str, bytes | None] = {}
        for product in products:
            entries = [entry for one in standing if (entry := entry_of(one, product)) is not None]
            document = encode_exclusions(org, product, entries) if entries else None
            if document is not None and len(document) > MAX_DOCUMENT_LENGTH:
                raise TooManyExclusions(
                    f"the list of {product} would have {len(document)} bytes, at most {MAX_DOCUMENT_LENGTH} are read; "
                    "put devices into a group and exclude it"
                )
            path = exclusions_path(product)
            if self.decisions.served(path) != document:
                changes[path] = document
        if changes:
            self.decisions.commit(changes, only_if=lambda: True, now=now)


def told(exclusion: Exclusion) -> dict[str, object]:
    """An exclusion as its events tell it."""
    return {
        "kind": exclusion.kind.value,
        "device": exclusion.device,
        "group": exclusion.group,
        "product": exclusion.product,
        "version": exclusion.version,
        "package": exclusion.package,
        "until": None if exclusion.until is None else exclusion.until.isoformat(),
        "reason": exclusion.reason,
    }


def _same_pin(one: Exclusion, other: Exclusion) -> bool:
    return one.kind is Kind.PIN and (one.device, one.product) == (other.device, other.product)


def _check(one: Exclusion, now: datetime) -> None:
    if not one.reason.strip() or len(one.reason) > MAX_REASON_LENGTH or not is_plain_text(one.reason):
        raise InvalidExclusion(f"an exclusion needs a reason of 1 to {MAX_REASON_LENGTH} characters of plain text")
    if one.device is not None and one.group is not None:
        raise InvalidExclusion("an exclusion is for a device or for a group; make two")
    if one.device is None and one.group is None and one.version is None and one.package is None:
        raise InvalidExclusion("an exclusion names a device, a group, a version or a package")
    if one.version is not None and (one.product is None or one.package is not None):
        raise InvalidExclusion("a version is excluded of a product, and without a package")
    if one.package is not None and (not 1 <= len(one.package) <= MAX_PACKAGE_LENGTH or not is_plain_text(one.package)):
        raise InvalidExclusion(f"a package is a name or purl of 1 to {MAX_PACKAGE_LENGTH} characters")
    if one.package is not None:
        _check_package(one.package)
    for what, text in (("product", one.product), ("version", one.version), ("group", one.group)):
        if text is not None and SLUG.fullmatch(text) is None:
            raise InvalidExclusion(f"{what} {text[:120]!r} is not 1 to 100 of a-z 0-9 . _ + -, or begins with a sign")
    if one.kind is Kind.PIN and (one.device is None or one.product is None or one.version is None):
        raise InvalidExclusion("a pin names a device, a product and a version")
    if one.until is not None and one.until <= now:
        raise InvalidExclusion(f"until is {one.until.isoformat()}, which is past")


def _check_package(text: str) -> None:
    """Refuse what no SBOM has as a name or purl: the exclusion would stand in the list and keep nothing away."""
    if text.startswith("pkg:"):
        if _PURL.fullmatch(text) is None:
            raise InvalidExclusion(f"{text!r} is no purl, expected pkg:TYPE/NAME such as pkg:pypi/requests@2.31.0")
    elif "://" in text or text != text.strip() or not any(character.isalnum() for character in text):
        raise InvalidExclusion(f"{text!r} is neither a package's name nor a purl; expected openssl or pkg:TYPE/NAME")
    elif _NAME_AND_VERSION.fullmatch(text):
        raise InvalidExclusion(
            f"{text!r} is a name with a version, which no SBOM has; write the name alone, or a purl with the version, "
            f"pkg:TYPE/{text}"
        )
