"""Changes that only holders of offline keys can make: drafted here, signed elsewhere, finished in one commit.

``root`` comes after the timestamp that both roots accept, and everything below the snapshot changes with one rename, so
no client ever meets a state that it refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from evidence.model import REPOSITORY, Actor, AuditEvent
from keys.errors import CustodyError, KeyUnsuitable
from keys.succession import Succession
from repo_signing import roles, withdrawal
from repo_signing.blobs import Blobs
from repo_signing.canonical import encode
from repo_signing.commit import Committer
from repo_signing.draft import Draft
from repo_signing.draft_box import as_written
from repo_signing.errors import CommitFailed, DraftMoved, InvalidDraft, RepositoryError, RotationNotDue
from repo_signing.handover import check_unmoved, move_decisions
from repo_signing.making import Change, claimed_entries
from repo_signing.model import ArtifactRecord, Overlap
from repo_signing.offline import OfflineDraft, Part
from repo_signing.payloads import MAX_VERSION, PublicKey, public_key, stored_key
from repo_signing.quarantine import Quarantine
from repo_signing.signing import signers_of
from repo_signing.storage import read_or_none
from repo_signing.team_drafts import TeamDrafts
from repo_signing.upkeep import named_blobs
from repo_signing.view import View

# A client asks for root first and for the timestamp right after; caches may answer the first from a little earlier.
OVERLAP: Final = timedelta(hours=1)
ONLINE: Final = (roles.TIMESTAMP, roles.SNAPSHOT, roles.RELEASES, roles.DECISIONS)
OVERLAP_FILE: Final = "overlap"


class Drafts(TeamDrafts):
    """The drafts of one repository that stands. Methods raise what :meth:`Committer.submit` raises, too."""

    def __init__(self, folder: Path, committer: Committer, blobs: Blobs, quarantine: Quarantine) -> None:
        super().__init__(folder, committer, blobs)
        self._quarantine: Final = quarantine
        self._overlap: Final = folder / OVERLAP_FILE

    def draft_root(
        self,
        *,
        add: Mapping[str, Sequence[PublicKey]],
        remove: Mapping[str, Sequence[str]],
        thresholds: Mapping[str, int],
        by: Actor,
        now: datetime,
        deadline: datetime | None = None,
    ) -> OfflineDraft:
        """Draft the next root; without any change it begins root's life anew.

        When it gives targets to keys that have not signed it, targets is part of the draft.

        Args:
            add: Public keys by role (``root``, ``targets``).
            remove: Keyids by role.
            thresholds: By role; the others stay.
            by: Who asks.
            now: Root expires a year from here.
            deadline: No signature is taken after it; by default 30 days ahead.

        Raises:
            InvalidDraft: No root can look like that.
        """
        change = {
            "kind": "root",
            "add": {role: [stored_key(public_key(key)) for key in keys] for role, keys in add.items()},
            "remove": {role: list(keyids) for role, keyids in remove.items()},
            "thresholds": dict(thresholds),
        }
        return self._draft(change, by, now, deadline)

    def draft_renewal(self, role: str, *, by: Actor, now: datetime, deadline: datetime | None = None) -> OfflineDraft:
        """Draft the same content with a new life, for targets, ``product-<name>`` or ``waves-<name>``.

        Raises:
            InvalidDraft: It is another role, or one that nobody delegates to.
        """
        if roles.is_product(role):
            change: Change = {"kind": "product", "product": role.removeprefix(roles.PRODUCT_PREFIX)}
        elif roles.is_waves(role):
            change = {"kind": "waves", "product": role.removeprefix(roles.WAVES_PREFIX)}
        elif role == roles.TARGETS:
            change = {"kind": "targets"}
        else:
            raise InvalidDraft(
                f"{role!r} is signed by the server itself; drafts are for root, targets, product-<name> and "
                "waves-<name>"
            )
        return self._draft(change, by, now, deadline)

    def claim(
        self,
        product: str,
        keys: Sequence[PublicKey],
        threshold: int,
        *,
        by: Actor,
        now: datetime,
        deadline: datetime | None = None,
    ) -> OfflineDraft:
        """Draft that a product's artifacts are signed by its team's own keys from now on, or by other ones.

        What is published of the product moves to its role. Both targets and the role are signed before it takes effect.

        Raises:
            InvalidDraft, InvalidTargetPath: Name, keys or threshold cannot be used.
        """
        told = {"product": product, "keys": [stored_key(public_key(key)) for key in keys], "threshold": threshold}
        return self._draft({"kind": "targets", "claim": told, "title": f"claim {product}"}, by, now, deadline)

    def release(self, product: str, *, by: Actor, now: datetime, deadline: datetime | None = None) -> OfflineDraft:
        """Draft that the server signs a product's artifacts again; raises InvalidDraft when it is not claimed."""
        return self._draft({"kind": "targets", "release": product, "title": f"release {product}"}, by, now, deadline)

    def sign(
        self, draft_id: str, signatures: Mapping[str, Mapping[str, str]], *, now: datetime
    ) -> tuple[OfflineDraft, int | None]:
        """Take signatures (hex by keyid, by role) and, when every threshold is met, finish the draft.

        Returns:
            The draft, and the serial of the commit that it took effect with; None while signatures are missing.

        Raises:
            UnknownDraft, DraftExpired, SignatureRefused: See :meth:`DraftBox.sign`; nothing was taken.
            DraftMoved: What it was made from has changed; it must be rebased.
        """
        with self._committer.lock:
            self._check_base(self._box.get(draft_id))
            draft = self._box.sign(draft_id, signatures, now)
            return draft, self._finish(draft, now) if draft.is_signed else None

    def rebase(self, draft_id: str, *, now: datetime) -> OfflineDraft:
        """Make a draft anew from the repository as it is, with a new deadline; its signatures are gone.

        Raises:
            UnknownDraft: There is none of that id.
            InvalidDraft, PathTaken: It makes no sense any more; drop it.
        """
        with self._committer.lock:
            before = self._box.get(draft_id)
            after = self._build(before.change, before.created_by, now, None, draft_id)
            self._box.replace(after)
            return after

    def drop(self, draft_id: str) -> None:
        """Forget a draft; raises UnknownDraft."""
        with self._committer.lock:
            self._box.drop(draft_id)

    def rotate(
        self,
        wanted: Sequence[str],
        *,
        compromised: bool,
        past: int,
        by: Actor,
        now: datetime,
        keys: Mapping[str, str] | None = None,
    ) -> list[OfflineDraft]:
        """Make new online keys and draft that they take the place of the old ones.

        They are made where the old ones are, in files or in the signer process; in other stores people make them.

        Args:
            wanted: Of ``timestamp``, ``snapshot``, ``releases`` and ``decisions``.
            compromised: No overlap: the old keys sign nothing after the commit.
            past: The commit's serial is above it: the highest version that anybody has seen of any role.
            by: Who asks.
            now: New lives begin here.
            keys: By role the address of a key that was made in a store; see :class:`keys.succession.Succession`.

        Returns:
            A draft of root for timestamp and snapshot, one of targets for the others.

        Raises:
            InvalidDraft: Another role, none, one whose next key must be named or cannot be used, or a version that
                leaves no room above it.
            CustodyError: A store or the signer process does not give or use a key.
        """
        if not wanted or not set(wanted) <= set(ONLINE):
            raise InvalidDraft(
                f"{', '.join(ONLINE)} are rotated; the keys of root and targets change by a draft of root"
            )
        if not 0 <= past <= MAX_VERSION:
            raise InvalidDraft(f"a serial past {past} would leave no room above it; new keys alone heal such versions")
        named = keys or {}
        if strangers := named.keys() - set(wanted):
            raise InvalidDraft(f"a key is named for {', '.join(sorted(strangers))}, which is not to be rotated")
        succession = Succession(self._committer.keyring)
        try:
            for role in wanted:  # all of them before the first key is made
                succession.check(role, named.get(role))
            with self._committer.lock, _disk("the new keys could not be written"):
                found = {role: stored_key(succession.add(role, named.get(role))) for role in dict.fromkeys(wanted)}
                return self._draft_rotation(found, compromised, past, by, now)
        except KeyUnsuitable as error:
            raise InvalidDraft(str(error)) from error

    def _draft_rotation(
        self, keys: Mapping[str, dict[str, Any]], compromised: bool, past: int, by: Actor, now: datetime
    ) -> list[OfflineDraft]:
        with self._committer.lock:
            more = {"compromised": compromised, "past": past}
            drafts = []
            top = {role: key for role, key in keys.items() if role in (roles.TIMESTAMP, roles.SNAPSHOT)}
            if top:
                add = {role: [key] for role, key in top.items()}
                change = {"kind": "root", "add": add, "remove": {}, "thresholds": {}, "rotate": sorted(top), **more}
                drafts.append(self._draft({**change, "title": f"rotate {', '.join(sorted(top))}"}, by, now, None))
            online = {role: key for role, key in keys.items() if role not in top}
            if online:
                change = {"kind": "targets", "online": online, **more}
                drafts.append(self._draft({**change, "title": f"rotate {', '.join(sorted(online))}"}, by, now, None))
            return drafts

    def overlap(self) -> Overlap | None:
        """Which old keys still sign after a rotation, and until when at least; None when there is no overlap."""
        view = self._committer.view()
        old = {}
        for role, raw in ((roles.SNAPSHOT, view.snapshot_bytes), (roles.TIMESTAMP, view.timestamp_bytes)):
            rule = view.rule(role)
            known = () if rule is None else rule.keyids
            if left := tuple(keyid for keyid in signers_of(raw) if keyid not in known):
                old[role] = left
        since = read_or_none(self._overlap)
        begun = view.committed_at if since is None else datetime.fromisoformat(since.decode())
        return Overlap(keyids=old, ends_from=begun + OVERLAP) if old else None

    def end_overlap(self, *, by: Actor, now: datetime) -> tuple[int, list[str]]:
        """End an overlap: sign with the keys that root names alone, and put unused online keys out of the ring.

        Returns:
            The serial, and for each key that is gone the name of its role.

        Raises:
            RotationNotDue: The new root is younger than an hour; clients that read the old one may be on their way.
        """
        with self._committer.lock:
            since = read_or_none(self._overlap)
            begun = None if since is None else datetime.fromisoformat(since.decode())
            if begun is not None and now < begun + OVERLAP:
                raise RotationNotDue(f"the overlap lasts until {begun + OVERLAP}; some clients still need the old keys")
            self._shed(now)
            gone = self._retire_unused()
            serial = self._committer.view().serial
            if gone:
                self._committer.tell(AuditEvent("repository.keys.retired", self._name, by, now, {"keys": gone}))
            return serial, gone

    def settle(self, *, now: datetime) -> list[str]:
        """Finish what a crash cut short: drafts whose signatures are all there. Returns their ids."""
        finished = []
        with self._committer.lock:
            for draft in self.all():
                if draft.is_signed:
                    try:
                        self._finish(draft, now)
                    except (RepositoryError, CustodyError):
                        continue  # stands in the list as signed; whoever signs it again is told what is wrong
                    finished.append(draft.id)
        return finished

    def draft(self, change: Change, *, by: Actor, now: datetime, deadline: datetime | None) -> OfflineDraft:
        """Draft any change that :func:`repo_signing.making.parts_of` knows; raises InvalidDraft."""
        return self._draft(change, by, now, deadline)

    def _check_base(self, draft: OfflineDraft) -> None:
        """Raise DraftMoved unless the draft stands on the repository as it is, apart from what it itself has done."""
        view = self._committer.view()
        done = {part.role for part in draft.parts if _is_done(view, part)}
        for role, version in draft.basis.items():
            known = view.root.version if role == roles.ROOT else view.versions.get(role, 0)
            if known != version and role not in done:
                raise DraftMoved(
                    f"the draft {draft.id} was made from {role} {version}, which is {known} now; rebase it, look at "
                    "what it changes, and sign it again"
                )
        for part in draft.parts:
            # Whose keys count is for the delegator to say as it is now, unless it is part of the draft itself.
            delegator, rule = roles.delegator(part.role), view.rule(part.role)
            if part.role == roles.ROOT or part.role in done or any(one.role == delegator for one in draft.parts):
                continue
            if rule is None or all((one.keyids, one.threshold) != rule for one in part.requirements):
                raise DraftMoved(f"{part.role} has other keys since the draft {draft.id} was made; rebase it")
        check_unmoved(view, draft)
        claim = draft.change.get("claim")
        if claim is not None and claim["product"] not in view.claims:
            part = next(one for one in draft.parts if roles.is_product(one.role))
            if claimed_entries(view, claim["product"]) != part.body["targets"]:
                raise DraftMoved(
                    f"{claim['product']} has got other artifacts since the draft {draft.id} was made; rebase it"
                )

    def _finish(self, draft: OfflineDraft, now: datetime) -> int:
        """Commit a draft that is signed, or what a crash left of it; the lock is held."""
        self._check_base(draft)
        view = self._committer.view()
        left = [part for part in draft.parts if not _is_done(view, part)]
        if left:
            past = int(draft.change.get("past", 0))
            try:
                if past:
                    self._committer.burn(past)
                if any(part.role == roles.ROOT for part in left):
                    moment = now.isoformat().encode()
                    self._committer.storage.replace(self._overlap, moment, base=read_or_none(self._overlap))
            except OSError as error:
                raise CommitFailed(f"the draft could not be finished: {error.strerror or error}; try again") from error
            self._committer.submit(lambda trial: self._apply(trial, draft, left), now, alone=True)
            if draft.change.get("edit", {}).get("verb") in withdrawal.VERBS:
                self._settle_quarantine()
        if draft.change.get("compromised"):
            self._shed(now)
        view = self._committer.view()
        told = {"draft": draft.id, "title": draft.title, "roles": [part.role for part in draft.parts]}
        signers = sorted({keyid for part in draft.parts for keyid in part.signatures})
        event = AuditEvent("repository.draft.finished", self._name, REPOSITORY, now, {**told, "signers": signers})
        self._committer.catch_up()
        self._committer.tell(event)
        self._box.drop(draft.id)
        return view.serial

    def _apply(self, trial: Draft, draft: OfflineDraft, parts: Sequence[Part]) -> None:
        release, claim = draft.change.get("release"), draft.change.get("claim")
        if release is not None:
            trial.open_claim(release)
            standing = trial.view.role(f"{roles.PRODUCT_PREFIX}{release}").body["targets"]
            for path, entry in standing.items():
                trial.put(path, entry)
        if claim is not None and claim["product"] not in trial.view.claims:
            trial.open_claim(claim["product"])
            for path in claimed_entries(trial.view, claim["product"]):
                trial.put(path, None)
        move_decisions(trial, draft.change)
        edit = draft.change.get("edit", {})
        if edit.get("verb") in withdrawal.VERBS:
            record = self._take_out(trial, edit)
            self._quarantine.prepare(record.sha256)
        for part in parts:
            trial.place(part.role, as_written(self._committer.metadata, part), part.body)
        trial.renew(roles.SNAPSHOT)

    def _take_out(self, trial: Draft, edit: Mapping[str, Any]) -> ArtifactRecord:
        """The server's part of a withdrawal: the record and the list for devices, beside what the team signed away."""
        trial.sign_elsewhere(f"{roles.PRODUCT_PREFIX}{edit['path'].partition('/')[0]}")
        return withdrawal.withdraw(
            trial,
            self._blobs,
            edit["path"],
            reason=edit["reason"],
            revoke=edit["verb"] == "revoke",
            by=Actor.from_dict(edit["by"]),
            now=datetime.fromisoformat(edit["at"]),
        )

    def _settle_quarantine(self) -> None:
        with suppress(OSError):  # it is signed that nobody is to have it; the next recovery takes it away
            self._quarantine.settle(lambda: named_blobs(self._committer.view()) | self.named_blobs())

    def _shed(self, now: datetime) -> None:
        """Have snapshot and timestamp signed by none but the keys that root names, if others sign, too."""
        view = self._committer.view()
        for role, raw in ((roles.SNAPSHOT, view.snapshot_bytes), (roles.TIMESTAMP, view.timestamp_bytes)):
            rule = view.rule(role)
            if rule is not None and not set(signers_of(raw)) <= set(rule.keyids):
                self._committer.submit(lambda trial: trial.shed_signers(), now, alone=True)
                return

    def _retire_unused(self) -> list[str]:
        view = self._committer.view()
        needed = {keyid for role in view.standing() if (rule := view.rule(role)) is not None for keyid in rule.keyids}
        needed |= {keyid for rule in view.root_body["roles"].values() for keyid in rule["keyids"]}
        needed |= {keyid for draft in self.all() for part in draft.parts for keyid in _named(part.body)}
        ring = self._committer.keyring
        gone = [
            (role, key.public.keyid)
            for role in ONLINE
            if role in ring.names()
            for key in ring.keys(role).keys
            if key.public.keyid not in needed
        ]
        with _disk("the old keys could not be removed"):
            for role, keyid in gone:
                ring.retire(role, keyid)
        return [role for role, _ in gone]


@contextmanager
def _disk(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommitFailed(f"{what}: {error.strerror or error}; try again") from error


def _is_done(view: View, part: Part) -> bool:
    if part.role == roles.ROOT:
        return encode(view.root_body) == part.payload
    return view.versions.get(part.role) == part.version


def _named(body: Mapping[str, Any]) -> set[str]:
    delegations = body.get("delegations") or {}
    return {*body.get("keys", {}), *delegations.get("keys", {})}
