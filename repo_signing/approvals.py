"""Decisions that approvers sign themselves: who they are, what they are asked to sign, what they have signed so far.

What one rollout asks for is a *proposal*: for each wave the next version of ``waves-<product>``, each following from
the one before. A wave opens by putting its version in place, which takes no key of the server's but those of snapshot
and timestamp. Nothing of a proposal is served before that.

Source: docs/adr/0080-approvers-sign-a-role-of-their-own.md, docs/adr/0081-a-schedule-is-a-chain-of-versions.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from evidence.model import Actor
from repo_signing import roles
from repo_signing.canonical import canonical
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.draft_box import as_written
from repo_signing.errors import ApproversSign, CommitFailed, DraftMoved, InvalidDraft, SignatureRefused
from repo_signing.making import required_of
from repo_signing.offline import OfflineDraft, Part, check_signature
from repo_signing.offline_drafts import Drafts
from repo_signing.payloads import PublicKey, public_key, stored_key
from repo_signing.proposal import Proposal, read, stored
from repo_signing.records import Entry, blob_entry
from repo_signing.storage import read_or_none
from repo_signing.view import View

MAX_WAVES: Final = 100  # of one proposal: each holds all decisions of the product
# What is signed as late as this would expire before it has served; it is made anew instead.
LEAST_LIFE: Final = timedelta(days=7)

Changes = Mapping[str, bytes]


class Served(NamedTuple):
    """A version of a role, and its file."""

    version: int
    file: bytes


class Approvals:
    """The approvers of one repository's products. Methods raise what :meth:`Committer.submit` raises, too."""

    def __init__(self, folder: Path, committer: Committer, drafts: Drafts) -> None:
        self._committer: Final = committer
        self._drafts: Final = drafts
        self._folder: Final = folder / "approvals"

    # Who

    def rule(self, product: str) -> roles.Rule | None:
        """Whose keys sign the product's decisions, and how many of them must; None while the server signs them."""
        return self._committer.view().rule(_role(product))

    def served(self, product: str) -> Served:
        """The product's role as clients get it now; raises InvalidDraft while the server signs its decisions."""
        view, role = self._committer.view(), _role(product)
        if product not in view.approved:
            raise InvalidDraft(f"the server signs the decisions of {product!r}")
        return Served(view.versions[role], view.raw(role))

    def appoint(
        self,
        product: str,
        keys: Sequence[PublicKey],
        threshold: int,
        *,
        by: Actor,
        now: datetime,
        deadline: datetime | None = None,
    ) -> OfflineDraft:
        """Draft that these keys sign a product's decisions from now on, whoever signed them before.

        Both targets and the first version of their role, which carries what is decided, are signed before it takes
        effect. Raises InvalidDraft, InvalidTargetPath: name, keys or threshold cannot be used.
        """
        told = {"product": product, "keys": [stored_key(public_key(key)) for key in keys], "threshold": threshold}
        change = {"kind": "targets", "approvers": told, "title": f"approvers of {product}"}
        return self._drafts.draft(change, by=by, now=now, deadline=deadline)

    def dismiss(self, product: str, *, by: Actor, now: datetime, deadline: datetime | None = None) -> OfflineDraft:
        """Draft that the server signs a product's decisions again; raises InvalidDraft when it does."""
        change = {"kind": "targets", "manage": product, "title": f"managed decisions of {product}"}
        return self._drafts.draft(change, by=by, now=now, deadline=deadline)

    # What

    def propose(self, key: str, product: str, waves: Sequence[tuple[int, Changes]], *, now: datetime) -> Proposal:
        """What approvers have to sign so that these waves may be decided, one after the other.

        The same again is answered with what was made before and its signatures, as long as it stands on what is
        served. Further waves are added behind those that are there.

        Args:
            key: The rollout's id.
            product: Whose decisions these are.
            waves: Number and documents by path of each, in order.
            now: The life of 90 days begins here.

        Raises:
            InvalidDraft: The server signs this product's decisions, or there are too many waves.
        """
        if not 1 <= len(waves) <= MAX_WAVES:
            raise InvalidDraft(f"1 to {MAX_WAVES} waves are signed at once, found {len(waves)}")
        with self._committer.lock:
            view = self._committer.view()
            role = _role(product)
            if product not in view.approved:
                raise InvalidDraft(f"the server signs the decisions of {product!r}; there is nothing to sign")
            known = self._standing(view, self.find(key), now)
            bodies = _targets(view, role, waves)
            kept: list[Part] = []
            if known is not None:
                asked = [(number, body) for (number, _), body in zip(waves, bodies, strict=True)]
                have = [(number, part.body["targets"]) for number, part in zip(known.waves, known.parts, strict=True)]
                same = next((i for i, (a, b) in enumerate(zip(asked, have, strict=False)) if a != b), None)
                kept = list(known.parts[: min(len(asked), len(have)) if same is None else same])
                if len(kept) == len(waves):
                    return known.first(len(kept))
            parts = (*kept, *self._made(view, role, bodies[len(kept) :], kept, now))
            names = view.role(roles.TARGETS).body["delegations"]["keys"]
            proposal = Proposal(
                id=key,
                product=product,
                waves=tuple(number for number, _ in waves),
                parts=parts,
                documents=tuple({path: one.decode() for path, one in changes.items()} for _, changes in waves),
                keys={keyid: names[keyid] for keyid in parts[0].requirements[0].keyids},
                made_at=now,
            )
            self._keep(proposal)
            self._forget_spent(view)
            return proposal

    def find(self, key: str) -> Proposal | None:
        """What was proposed for a rollout last, whether it still stands or not."""
        self._committer.storage.gather(self._folder)
        return self._read(key)

    def sign(self, key: str, keyid: str, signatures: Mapping[int, str], *, now: datetime) -> Proposal:
        """Take one key's signatures (hex) by wave; all of them or none. The same again changes nothing.

        Raises:
            DraftMoved: What was proposed does not follow from what is served any more; look and sign again.
            SignatureRefused: One is not valid, the key is not an approver's, or a wave is not proposed.
        """
        with self._committer.lock:
            proposal = self._standing(self._committer.view(), self.find(key), now)
            if proposal is None:
                raise DraftMoved(
                    f"what was to be signed for {key} does not follow from what is served now: another decision of the "
                    "product was signed meanwhile, or the approvers changed. Look at it and sign again"
                )
            if unknown := sorted(signatures.keys() - set(proposal.waves)):
                raise SignatureRefused(f"wave {unknown[0]} of {key} does not wait for a signature; ask what does")
            if not signatures:
                raise SignatureRefused("there is no signature in the request; sign at least one wave")
            parts = []
            for number, part in zip(proposal.waves, proposal.parts, strict=True):
                if (sig := signatures.get(number)) is not None:
                    check_signature(part, keyid, sig, proposal.keys)
                parts.append(part if sig is None else replace(part, signatures={keyid: sig, **part.signatures}))
            after = replace(proposal, parts=tuple(parts))
            if after.parts != proposal.parts:
                self._keep(after)
            return after

    def lacking(self, changes: Mapping[str, bytes | None]) -> str:
        """Whose signatures these documents wait for, in one line; empty when they could be put in place now."""
        view = self._committer.view()
        entries = {path: None if content is None else entry_of(content) for path, content in changes.items()}
        for role, wanted in _by_role(view, entries).items():
            if all(view.target(path) == entry for path, entry in wanted.items()):
                continue
            found = list(self._candidates(view, role, wanted, view.committed_at))
            if not any(part.is_signed for part in found):
                rule = view.rule(role)
                signed = max((len(part.signatures) for part in found), default=0)
                needed = 1 if rule is None else rule.threshold
                return f"{signed} of {needed} signatures by approvers of {role.removeprefix(roles.WAVES_PREFIX)} given"
        return ""

    def place(self, draft: Draft, entries: Mapping[str, Entry | None]) -> None:
        """Have a commit put the signed version in place that sets just these entries of approvers' roles.

        Raises ApproversSign when there is none, or the same commit changes the role already.
        """
        for role, wanted in _by_role(draft.view, entries).items():
            if all(draft.target(path) == entry for path, entry in wanted.items()):
                continue
            signed = [part for part in self._candidates(draft.view, role, wanted, draft.now) if part.is_signed]
            if not signed or draft.is_placed(role):
                product = role.removeprefix(roles.WAVES_PREFIX)
                raise ApproversSign(
                    f"too few approvers of {product} signed just this change of its decisions; "
                    "`publish rollout approve … --key URI` shows it and signs"
                )
            part = signed[0]
            draft.place(role, as_written(self._committer.metadata, part), part.body)

    def _standing(self, view: View, proposal: Proposal | None, now: datetime) -> Proposal | None:
        """What of a proposal can still be put in place, one after the other, from the state as it is."""
        if proposal is None or proposal.product not in view.approved:
            return None
        role = _role(proposal.product)
        version = view.versions[role]
        left = proposal.after(version)
        follows = left is not None and left.parts[0].base_version == version
        if left is None or not follows or not all(_asks_for(part, view.rule(role)) for part in left.parts):
            return None
        return left if roles.time_in(left.parts[0].body["expires"]) > now + LEAST_LIFE else None

    def _made(
        self, view: View, role: str, bodies: Sequence[Mapping[str, Entry]], behind: Sequence[Part], now: datetime
    ) -> Iterator[Part]:
        first = self._committer.next_serial(view)
        try:
            self._committer.burn(first + len(bodies) - 1)  # the numbers stand in what is signed and name nothing else
        except OSError as error:
            raise CommitFailed(f"the proposal could not be written: {error.strerror or error}; try again") from error
        base = behind[-1].version if behind else view.versions[role]
        for version, targets in enumerate(bodies, start=first):
            yield Part(
                role=role,
                version=version,
                base_version=base,
                payload=canonical(roles.holder_body(role, targets, version, now)),
                requirements=required_of(view, role),
            )
            base = version

    def _candidates(self, view: View, role: str, wanted: Mapping[str, Entry | None], now: datetime) -> Iterator[Part]:
        """Parts, signed or not, that change these entries of the role as it is and nothing else, and are valid then."""
        after = {path: entry for path, entry in view.role(role).body["targets"].items() if path not in wanted}
        after |= {path: entry for path, entry in wanted.items() if entry is not None}
        for proposal in self._all():
            for part in proposal.parts if _role(proposal.product) == role else ():
                fits = part.version > view.versions[role] and _asks_for(part, view.rule(role))
                if fits and part.body["targets"] == after and roles.time_in(part.body["expires"]) > now:
                    yield part

    def _all(self) -> Iterator[Proposal]:
        self._committer.storage.gather(self._folder)
        for path in sorted(self._folder.glob("*.json")):
            if (found := self._read(path.stem)) is not None:
                yield found

    def _read(self, key: str) -> Proposal | None:
        content = read_or_none(self._folder / f"{key}.json")
        return None if content is None else read(content, key)

    def _keep(self, proposal: Proposal) -> None:
        path = self._folder / f"{proposal.id}.json"
        try:
            self._committer.storage.ensure_folder(self._folder)
            if not path.exists():
                self._committer.storage.create_once(self._folder, {path.name: stored(proposal)})
            else:
                self._committer.storage.replace(path, stored(proposal), base=read_or_none(path))
        except OSError as error:
            raise CommitFailed(f"the proposal could not be written: {error.strerror or error}; try again") from error

    def _forget_spent(self, view: View) -> None:
        for proposal in list(self._all()):
            if proposal.parts[-1].version <= view.versions.get(_role(proposal.product), 0):
                try:
                    self._committer.storage.remove(self._folder / f"{proposal.id}.json")
                except OSError:
                    return  # it is of no more use and does no harm; the next proposal tries again


def entry_of(document: bytes) -> Entry:
    """A document as the metadata names it."""
    return blob_entry(hashlib.sha256(document).hexdigest(), len(document))


def _role(product: str) -> str:
    return f"{roles.WAVES_PREFIX}{product}"


def _targets(view: View, role: str, waves: Sequence[tuple[int, Changes]]) -> list[dict[str, Any]]:
    """All entries of the role after each wave."""
    found, standing = [], dict(view.role(role).body["targets"])
    for _, changes in waves:
        foreign = [path for path in changes if view.holder(path) != role]
        if foreign:
            raise InvalidDraft(f"{foreign[0]} is none of the decisions that {role} holds")
        standing = standing | {path: entry_of(content) for path, content in changes.items()}
        found.append(standing)
    return found


def _by_role(view: View, entries: Mapping[str, Entry | None]) -> dict[str, dict[str, Entry | None]]:
    found: dict[str, dict[str, Entry | None]] = {}
    for path, entry in entries.items():
        if roles.is_waves(role := view.holder(path)):
            found.setdefault(role, {})[path] = entry
    return found


def _asks_for(part: Part, rule: roles.Rule | None) -> bool:
    return all((one.keyids, one.threshold) == rule for one in part.requirements)
