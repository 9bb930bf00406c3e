"""The commit protocol: decide, sign, ask as a client, write, make visible, tell the index; all under the lock.

Requests that come while a commit is under way wait, and one of the waiting threads commits for all of them: one
snapshot, one timestamp. There is no thread of the committer's own and no waiting for company: a lone request goes at
once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from evidence.model import AuditEvent
from keys.errors import CustodyError
from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.canonical import check_signable
from repo_signing.clock import check_clock
from repo_signing.draft import Draft, Placed
from repo_signing.errors import (
    ClientWouldRefuse,
    CommitFailed,
    IndexAhead,
    IndexFailed,
    RepositoryError,
)
from repo_signing.model import ArtifactRecord
from repo_signing.news import since
from repo_signing.paths import versioned_name
from repo_signing.ports import Projection
from repo_signing.proof import Offer, check_acceptable, check_succeeds, with_delegators
from repo_signing.role_cache import Role, RoleFacts
from repo_signing.sheets import divided, sheet_name
from repo_signing.signing import sign, signers_of
from repo_signing.storage import LocalStorage, read_or_none
from repo_signing.tickets import Ticket, fail_all
from repo_signing.view import View

BURNED_FILE: Final = "burned"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A commit that was built by itself: ``bodies`` and ``written`` as :meth:`Committer.install` takes them."""

    bodies: Mapping[str, Mapping[str, Any]]
    written: Mapping[str, RoleFacts]
    events: Sequence[AuditEvent]


class Committer:
    """Commits drafts to one repository folder. One instance per process and folder; threads may share it."""

    def __init__(self, folder: Path, keyring: Keyring, projection: Projection, storage: LocalStorage) -> None:
        self._folder: Final = folder
        self.metadata: Final = folder / "metadata"
        self._keyring: Final = keyring
        self.projection: Final = projection
        self.storage: Final = storage
        self.lock: Final = storage.repository_lock(folder)
        self._guard: Final = threading.Lock()
        self._waiting: list[Ticket] = []
        self._committing: int | None = None  # the thread that is building a commit
        self._view: View | None = None
        self._highest: int | None = None  # highest version on disk when last listed; None: to be listed
        self._unsettled = False  # a timestamp of ours may be visible and yet not durable

    @property
    def keyring(self) -> Keyring:
        """The online keys."""
        return self._keyring

    def view(self) -> View:
        """The state as it is now; another process or server may have made it."""
        self.storage.follow_soon(self._folder)
        view = self._view = View.load(self.metadata, self._view)
        return view

    def submit(
        self,
        change: Callable[[Draft], T],
        now: datetime,
        *,
        alone: bool = False,
        accept_clock: bool = False,
        needs: Sequence[Path] = (),
    ) -> T:
        """Have ``change`` applied in the next commit and return what it returned, once the index has it.

        ``change`` runs under the lock, possibly in another thread and, if the commit has to be built again, more than
        once. What it raises is raised here and harms no other request. When nothing changes, nothing is written.
        ``accept_clock`` is a person's word that ``now`` is right, whatever the last commit said.

        ``alone`` gives it a commit of its own, before what waits: for changes of who signs what, which others that look
        at the state before them must not share. ``needs`` are blobs that ``change`` asks the storage for.

        Raises:
            ClockBehind: ``now`` is more than a minute before the last commit.
            ClockAhead: ``now`` is more than 90 days after it.
            ClientWouldRefuse: Stock clients would not accept the result; nothing was written.
            CommitFailed, RepositoryMoved: Writing failed; the same request may be sent again.
            IndexFailed: It is signed and visible, but the index is behind; the next commit or recovery mends that.
            IndexAhead: The folder is older than the index; nothing was written.
        """
        if self._committing == threading.get_ident():
            raise RuntimeError("a change must not commit by itself: it runs inside a commit")
        ticket = Ticket(change, now, is_alone=alone, accept_clock=accept_clock, needs=needs)
        with self._guard:
            self._waiting.append(ticket)
        try:
            with self.lock.among_threads():
                # Most find that another thread has committed for them, and need not ask other servers for the lock.
                if not ticket.is_settled:
                    with self.lock:
                        self._commit_waiting()
        except BaseException:
            # Who was told that it failed must not find it committed by the next one.
            with self._guard, suppress(ValueError):
                self._waiting.remove(ticket)
            raise
        value: T = ticket.outcome()
        return value

    def catch_up(self) -> int:
        """Bring the index up to the signed state; returns how many artifacts it lacked. To be called under the lock.

        Raises:
            IndexAhead: It knows a later state than the folder.
            IndexFailed: It could not be written.
        """
        view = self.view()
        projected = self.projected_serial()
        if projected > view.serial:
            self.storage.follow(self._folder)  # another server may have committed since the look at the folder
            view = self.view()
        if projected > view.serial:
            raise IndexAhead(
                f"the index knows serial {projected}, the repository folder only {view.serial}: it was restored from "
                "an older copy. Restore the newer folder, or make the index anew with `publish repo rebuild-db`"
            )
        if projected == view.serial:
            return 0
        records, events = since(view, projected)
        self._project(view.serial, records, events)
        return len(records)

    def projected_serial(self) -> int:
        """Serial up to which the index is complete; raises IndexFailed."""
        try:
            return self.projection.projected_serial()
        except Exception as error:
            # Whatever store is behind the port, its errors end here.
            raise IndexFailed(f"the index cannot be read: {error}; try again when it is back") from error

    def next_serial(self, view: View) -> int:
        """The next number that names no state and never did, burned ones included.

        Raises KeyNotHere when the signer process, which is asked for what it signed, does not answer.
        """
        if self._highest is None:
            self._highest = self.highest_version()
        serial = max(view.serial, self._highest, self.burned(), self._keyring.highest_signed()) + 1
        # A commit writes its snapshot first, so any number that a crashed writer burned meanwhile shows by it.
        while (self.metadata / f"{serial}.snapshot.json").exists():
            serial += 1
        return serial

    def highest_version(self) -> int:
        """The highest version of any role on disk, root aside (its versions are its own); raises CommitFailed."""
        try:
            names = [versioned_name(path.name) for path in self.metadata.iterdir()]
        except OSError as error:
            raise CommitFailed(f"the metadata cannot be listed: {error.strerror or error}; try again") from error
        return max((version for version, role in filter(None, names) if role != roles.ROOT), default=0)

    def burned(self) -> int:
        """The highest number known to be used up, though its files may be gone."""
        content = read_or_none(self._folder / BURNED_FILE)
        return 0 if content is None else int(content)

    def burn(self, serial: int) -> None:
        """Never use numbers up to ``serial`` again; to be called before the files that show it are removed."""
        if serial > self.burned():
            path = self._folder / BURNED_FILE
            self.storage.replace(path, str(serial).encode(), base=read_or_none(path))

    def _commit_waiting(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting, []
        self._committing = threading.get_ident()
        groups = [[ticket] for ticket in batch if ticket.is_alone]
        groups.append([ticket for ticket in batch if not ticket.is_alone])
        try:
            for group in filter(None, groups):
                try:
                    self._commit(group)
                except (RepositoryError, CustodyError) as error:
                    self._view = None
                    fail_all(group, error)
                except OSError as error:
                    self._view = None
                    fail_all(group, CommitFailed(f"the disk failed: {error.strerror or error}; try again"))
        except BaseException as error:
            self._view = None
            fail_all(batch, CommitFailed(f"the commit was interrupted by {type(error).__name__}; try again"))
            raise
        finally:
            self._committing = None

    def _commit(self, batch: Sequence[Ticket], *, again: bool = False) -> None:
        self.catch_up()
        view = self.view()
        now, is_accepted = max(ticket.now for ticket in batch), any(ticket.accept_clock for ticket in batch)
        if not is_accepted:
            # Two requests may queue in another order than they looked at the clock.
            now = max(view.committed_at, now)
        self.storage.confirm([path for ticket in batch for path in ticket.needs])
        draft = Draft(view, self.next_serial(view), now)
        accepted: list[tuple[Ticket, Any]] = []
        for ticket in batch:
            trial = draft.trial()
            try:
                value = ticket.change(trial)
            except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked, and is raised there
                ticket.fail(error)
            else:
                draft.absorb(trial)
                accepted.append((ticket, value))
        if self._unsettled:
            draft.renew(roles.TIMESTAMP)
        if not draft.is_empty():
            remaining = [ticket for ticket, _ in accepted]
            try:
                if not is_accepted:
                    check_clock(view, max(ticket.now for ticket in batch))
                committed = self._write(draft)
            except ClientWouldRefuse:
                if len(remaining) < 2:
                    raise
                # One of them is too much; alone, each of the others is not.
                for ticket in remaining:
                    self._commit_alone(ticket)
                return
            except FileExistsError as error:
                if roles.ROOT in draft.placed():
                    raise CommitFailed(f"{error.filename2 or error.filename} is there already; run a check") from error
                # Somebody burned our number without a snapshot to show it (a restored copy, a foreign tool).
                if again:
                    raise CommitFailed(f"{error.filename2 or error.filename} is there already; run a check") from error
                self._highest = None
                self._commit(remaining, again=True)
                return
            except OSError as error:
                raise CommitFailed(
                    f"the repository could not be written: {error.strerror or error}; try again"
                ) from error
            self._view = committed
            artifacts = draft.artifacts()
            self._project(
                committed.serial, [record for record, _ in artifacts], [e for _, told in artifacts for e in told]
            )
        for ticket, value in accepted:
            ticket.succeed(value)

    def _commit_alone(self, ticket: Ticket) -> None:
        try:
            self._commit([ticket])
        except ClientWouldRefuse as error:
            ticket.fail(error)

    def _write(self, draft: Draft) -> View:
        return self.install(
            draft.view,
            draft.serial,
            draft.now,
            draft.bodies(),
            placed=draft.placed(),
            new_snapshot=draft.is_renewed(roles.SNAPSHOT),
            sheds_signers=draft.sheds_signers,
        )

    def install(
        self,
        view: View,
        serial: int,
        now: datetime,
        bodies: Mapping[str, Mapping[str, Any]],
        *,
        placed: Mapping[str, Placed] | None = None,
        written: Mapping[str, RoleFacts] | None = None,
        new_snapshot: bool = False,
        sheds_signers: bool = False,
    ) -> View:
        """Sign, ask as a client, write, make visible: the last steps of every commit. To be called under the lock.

        Args:
            view: What the commit starts from.
            serial: Its number.
            now: Its moment.
            bodies: Delegated roles to be signed, each delegator before what it delegates to.
            placed: Roles that were signed elsewhere, each with a version of its own.
            written: Roles that the caller has signed, checked and written durably under this serial.
            new_snapshot: Sign snapshot also when no role has changed.
            sheds_signers: Sign snapshot and timestamp with the keys that root names and no other.

        Raises:
            ClientWouldRefuse: Nothing of ``bodies`` was written.
            OSError, RepositoryMoved: As the storage says; nothing is promised.
        """
        written, placed = written or {}, placed or {}
        root, targets = placed.get(roles.ROOT), placed.get(roles.TARGETS)
        roots = [view.root_body] if root is None else [view.root_body, root.body]
        below = {name: one for name, one in placed.items() if name != roles.ROOT}
        delegated = {name: one.raw for name, one in below.items() if name != roles.TARGETS}
        sheets: dict[str, bytes] = {}
        for name, body in bodies.items():
            delegator = roles.delegator(name)
            above = bodies.get(delegator) or (placed[delegator].body if delegator in placed else None)
            rule = roles.rule_of(view.role(delegator).body if above is None else above, name)
            told, sheet = divided(name, body)
            delegated[name] = self.signed_file(name, told, [rule])
            if sheet is not None:
                sheets[sheet_name(serial, name)] = sheet
        lengths = {name: len(delegated[name]) + len(sheets.get(sheet_name(serial, name), b"")) for name in bodies}
        changed = {name: (Role.of(name, body), lengths[name]) for name, body in bodies.items()}
        changed |= {name: (Role.of(name, one.body), len(one.raw)) for name, one in below.items()}
        known: dict[int, Mapping[str, Any]] = {id(delegated[name]): bodies[name] for name in bodies}
        snapshot, snapshot_bytes, versions = view.snapshot, view.snapshot_bytes, view.versions
        files: dict[str, bytes] = {}
        if changed or written or new_snapshot:
            # Names that once stood in the snapshot stay: clients refuse one that lost a name.
            numbers = {name: role.version for name, (role, _) in changed.items()} | dict.fromkeys(written, serial)
            versions = {**view.versions, **numbers}
            meta = {**view.snapshot.body["meta"], **roles.meta_rows([*bodies, *written], serial)}
            for name, one in below.items():
                meta |= roles.meta_rows([name], one.version)
            for name, digest in roles.pinned(meta, delegated).items():
                meta[f"{name}.json"] = {**meta[f"{name}.json"], "hashes": digest}
            snapshot = Role.of(roles.SNAPSHOT, roles.snapshot_of_rows(meta, serial, now))
            also = () if sheds_signers else signers_of(view.snapshot_bytes)
            snapshot_bytes = self.signed_file(
                roles.SNAPSHOT, snapshot.body, [roles.rule_of(one, roles.SNAPSHOT) for one in roots], also
            )
            # First: by its snapshot a number shows that it is used up.
            files[f"{serial}.snapshot.json"] = snapshot_bytes
        files |= sheets | {f"{serial}.{name}.json": delegated[name] for name in bodies}
        for name, one in below.items():
            # What a cut-short commit wrote of a role that was signed elsewhere is the same file, and stays.
            if read_or_none(self.metadata / f"{one.version}.{name}.json") != one.raw:
                files[f"{one.version}.{name}.json"] = one.raw
        body = roles.timestamp_body(snapshot.version, len(snapshot_bytes), serial, now)
        also = () if sheds_signers else signers_of(view.timestamp_bytes)
        timestamp_bytes = self.signed_file(
            roles.TIMESTAMP, body, [roles.rule_of(one, roles.TIMESTAMP) for one in roots], also
        )
        known |= {id(snapshot_bytes): snapshot.body, id(view.snapshot_bytes): view.snapshot.body}
        offer = Offer(
            root=view.root_bytes,
            timestamp=timestamp_bytes,
            snapshot=snapshot_bytes,
            targets=view.raw(roles.TARGETS) if targets is None else targets.raw,
            delegated=with_delegators(view, delegated, None if targets is None else targets.body, now),
            known=known,
        )
        check_acceptable(offer, (view.timestamp_bytes, view.snapshot_bytes), now)
        if root is not None:
            check_succeeds(view.root_bytes, root.raw)
            check_acceptable(replace(offer, root=root.raw), (view.timestamp_bytes, view.snapshot_bytes), now)
        if files:
            self.storage.create_once(self.metadata, files)
        self._unsettled = True
        self.storage.replace(self.metadata / "timestamp.json", timestamp_bytes, base=view.timestamp_bytes)
        self._unsettled = False
        if root is not None and read_or_none(self.metadata / f"{root.version}.root.json") is None:
            # After the timestamp, which clients of both roots accept: there is no moment at which one is refused.
            self.storage.create_once(self.metadata, {f"{root.version}.root.json": root.raw})
        stamped = (timestamp_bytes, Role.of(roles.TIMESTAMP, body))
        root_raw = None if root is None else root.raw
        return view.after(stamped, (snapshot_bytes, snapshot), versions, changed, written, root_raw)

    def install_alone(self, now: datetime, prepare: Callable[[View, int, datetime], Prepared]) -> View:
        """Commit by itself what is no change of targets; requests that come meanwhile wait and go next.

        Args:
            now: The commit's moment, if the last commit was not later.
            prepare: Called once under the lock with the view, the serial and the moment.

        Raises:
            RepositoryError: As from :meth:`submit`. The serial is burned.
        """
        with self.lock:
            self.catch_up()
            view = self.view()
            check_clock(view, now)
            serial, moment = self.next_serial(view), max(view.committed_at, now)
            self._view = None
            try:
                ready = prepare(view, serial, moment)
                committed = self.install(view, serial, moment, ready.bodies, written=ready.written)
            except OSError as error:
                raise CommitFailed(
                    f"the repository could not be written: {error.strerror or error}; try again"
                ) from error
            finally:
                self._highest = None  # part of it may be on disk under its number
            self._view = committed
            self._project(serial, [], ready.events)
            return committed

    def can_sign(self, view: View, role: str) -> bool:
        """Say whether the keyring has enough of the keys that are asked for."""
        rule = view.rule(role)
        return rule is not None and len(self._keyring.held(roles.key_of(role), set(rule.keyids))) >= rule.threshold

    def signed_file(
        self, role: str, body: Mapping[str, Any], rules: Sequence[roles.Rule | None], also: Sequence[str] = ()
    ) -> bytes:
        """Sign a role and return its file. What its targets hold was checked to be signable when it was put there."""
        check_signable({name: value for name, value in body.items() if name != "targets"}, role)
        return sign(self._keyring, role, body, [rule for rule in rules if rule is not None], also)

    def tell(self, event: AuditEvent) -> None:
        """Write an event about the state as it is; raises IndexFailed."""
        self._project(self.view().serial, [], [event])

    def _project(self, serial: int, records: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        try:
            self.projection.project(serial, records, events)
        except Exception as error:
            # Whatever store is behind the port, its errors end here.
            raise IndexFailed(
                f"serial {serial} is signed, but the index could not be brought up to it: {error}; "
                "send the same request again when the index is back"
            ) from error
