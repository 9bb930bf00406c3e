"""The commit protocol: decide, sign, ask as a client, write, make visible, tell the index; all under the lock.

Requests that come while a commit is under way wait, and one of the waiting threads commits for all of them: one
snapshot, one timestamp. There is no thread of the committer's own and no waiting for company: a lone request goes at
once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from securesystemslib.signer import SSlibKey

from evidence.model import AuditEvent
from keys.errors import CustodyError
from keys.keyring import Keyring
from repo_signing import roles
from repo_signing.canonical import check_signable, encode
from repo_signing.draft import Draft
from repo_signing.errors import (
    ClientWouldRefuse,
    ClockAhead,
    ClockBehind,
    CommitFailed,
    IndexAhead,
    IndexFailed,
    RepositoryError,
)
from repo_signing.lock import RepositoryLock
from repo_signing.model import ArtifactRecord
from repo_signing.paths import versioned_name
from repo_signing.ports import Projection
from repo_signing.proof import Offer, check_acceptable
from repo_signing.records import is_artifact, read_artifact, read_changes
from repo_signing.storage import LocalStorage, read_or_none
from repo_signing.view import Role, View

# Requests take their moment before they queue, and time services step clocks; more than this is a wrong clock.
CLOCK_TOLERANCE: Final = timedelta(seconds=60)
# By then all that the online keys signed has expired: nothing that is signed speaks for such a clock any more.
LONGEST_SLEEP: Final = timedelta(days=90)
BURNED_FILE: Final = "burned"

T = TypeVar("T")


class Committer:
    """Commits drafts to one repository folder. One instance per process and folder; threads may share it."""

    def __init__(self, folder: Path, keyring: Keyring, projection: Projection, storage: LocalStorage) -> None:
        self._folder: Final = folder
        self.metadata: Final = folder / "metadata"
        self._keyring: Final = keyring
        self.projection: Final = projection
        self.storage: Final = storage
        self.lock: Final = RepositoryLock(folder / "lock")
        self._guard: Final = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._committing: int | None = None  # the thread that is building a commit
        self._view: View | None = None
        self._highest: int | None = None  # highest version on disk when last listed; None: to be listed
        self._unsettled = False  # a timestamp of ours may be visible and yet not durable

    def view(self) -> View:
        """The state as it is now; another process may have made it."""
        view = self._view = View.load(self.metadata, self._view)
        return view

    def submit(self, change: Callable[[Draft], T], now: datetime, *, accept_clock: bool = False) -> T:
        """Have ``change`` applied in the next commit and return what it returned, once the index has it.

        ``change`` runs under the lock, possibly in another thread and, if the commit has to be built again, more than
        once. What it raises is raised here and harms no other request. When nothing changes, nothing is written.
        ``accept_clock`` is a person's word that ``now`` is right, whatever the last commit said.

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
        ticket = _Ticket(change, now, accept_clock=accept_clock)
        with self._guard:
            self._waiting.append(ticket)
        with self.lock:
            if not ticket.is_settled:
                self._commit_waiting()
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
            raise IndexAhead(
                f"the index knows serial {projected}, the repository folder only {view.serial}: it was restored from "
                "an older copy. Restore the newer folder, or make the index anew with `publish repo rebuild-db`"
            )
        if projected == view.serial:
            return 0
        records, events = _since(view, projected)
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
        """The next number that names no state and never did, burned ones included."""
        if self._highest is None:
            self._highest = self.highest_version()
        serial = max(view.serial, self._highest, self.burned()) + 1
        # A commit writes its snapshot first, so any number that a crashed writer burned meanwhile shows by it.
        while (self.metadata / f"{serial}.snapshot.json").exists():
            serial += 1
        return serial

    def highest_version(self) -> int:
        """The highest version of any role on disk, root aside (its versions are its own)."""
        names = (versioned_name(path.name) for path in self.metadata.iterdir())
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
        try:
            self._commit(batch)
        except (RepositoryError, CustodyError) as error:
            self._view = None
            _fail_all(batch, error)
        except OSError as error:
            self._view = None
            _fail_all(batch, CommitFailed(f"the disk failed: {error.strerror or error}; try again"))
        except BaseException as error:
            self._view = None
            _fail_all(batch, CommitFailed(f"the commit was interrupted by {type(error).__name__}; try again"))
            raise
        finally:
            self._committing = None

    def _commit(self, batch: Sequence[_Ticket], *, again: bool = False) -> None:
        self.catch_up()
        view = self.view()
        now, is_accepted = max(ticket.now for ticket in batch), any(ticket.accept_clock for ticket in batch)
        if not is_accepted:
            # Two requests may queue in another order than they looked at the clock.
            now = max(view.committed_at, now)
        draft = Draft(view, self.next_serial(view), now)
        accepted: list[tuple[_Ticket, Any]] = []
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
                    _check_clock(view, max(ticket.now for ticket in batch))
                committed = self._write(draft)
            except ClientWouldRefuse:
                if len(remaining) < 2:
                    raise
                # One of them is too much; alone, each of the others is not.
                for ticket in remaining:
                    self._commit_alone(ticket)
                return
            except FileExistsError as error:
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

    def _commit_alone(self, ticket: _Ticket) -> None:
        try:
            self._commit([ticket])
        except ClientWouldRefuse as error:
            ticket.fail(error)

    def _write(self, draft: Draft) -> View:
        view, serial, now = draft.view, draft.serial, draft.now
        bodies = draft.bodies()
        delegated = {name: self.signed_file(name, body) for name, body in bodies.items()}
        changed = {name: Role.of(name, body) for name, body in bodies.items()}
        snapshot, snapshot_bytes = view.snapshot, view.snapshot_bytes
        files: dict[str, bytes] = {}
        if changed or draft.is_renewed(roles.SNAPSHOT):
            # Names that once stood in the snapshot stay: clients refuse one that lost a name.
            versions = dict(view.versions) | dict.fromkeys(changed, serial)
            hashes = roles.pinned(view.snapshot.body["meta"], delegated)
            snapshot = Role.of(roles.SNAPSHOT, roles.snapshot_body(versions, serial, now, hashes))
            snapshot_bytes = self.signed_file(roles.SNAPSHOT, snapshot.body)
            files[f"{serial}.snapshot.json"] = snapshot_bytes
        files |= {f"{serial}.{name}.json": content for name, content in delegated.items()}
        body = roles.timestamp_body(snapshot.version, len(snapshot_bytes), serial, now)
        timestamp_bytes = self.signed_file(roles.TIMESTAMP, body)
        if changed and roles.RELEASES not in delegated and any(roles.delegator(n) == roles.RELEASES for n in changed):
            delegated = {roles.RELEASES: view.raw(roles.RELEASES)} | delegated
        offer = Offer(
            root=view.root_bytes,
            timestamp=timestamp_bytes,
            snapshot=snapshot_bytes,
            targets=view.raw(roles.TARGETS),
            delegated=delegated,
        )
        check_acceptable(offer, (view.timestamp_bytes, view.snapshot_bytes), now)
        if files:
            self.storage.create_once(self.metadata, files)
        self._unsettled = True
        self.storage.replace(self.metadata / "timestamp.json", timestamp_bytes, base=view.timestamp_bytes)
        self._unsettled = False
        return view.after((timestamp_bytes, Role.of(roles.TIMESTAMP, body)), (snapshot_bytes, snapshot), changed)

    def public_key(self, name: str) -> SSlibKey:
        """The public half of a key of the keyring."""
        return self._keyring.public(name)

    def signed_file(self, role: str, body: Mapping[str, Any]) -> bytes:
        """Sign a role and return its file. What its targets hold was checked to be signable when it was put there."""
        check_signable({name: value for name, value in body.items() if name != "targets"}, role)
        return sign(self._keyring, role, body)

    def _project(self, serial: int, records: Sequence[ArtifactRecord], events: Sequence[AuditEvent]) -> None:
        try:
            self.projection.project(serial, records, events)
        except Exception as error:
            # Whatever store is behind the port, its errors end here.
            raise IndexFailed(
                f"serial {serial} is signed, but the index could not be brought up to it: {error}; "
                "send the same request again when the index is back"
            ) from error


def sign(keyring: Keyring, role: str, body: Mapping[str, Any]) -> bytes:
    """Sign a role with its key. The file holds the very bytes that were signed, so no second encoding can differ."""
    payload = encode(body)
    signature = keyring.signer(roles.key_of(role)).sign(payload)
    return b'{"signatures":[' + encode(signature.to_dict()) + b'],"signed":' + payload + b"}"


class _Ticket:
    """One request in the queue, settled exactly once by whoever commits it."""

    def __init__(self, change: Callable[[Draft], Any], now: datetime, *, accept_clock: bool) -> None:
        self.change: Final = change
        self.now: Final = now
        self.accept_clock: Final = accept_clock
        self.is_settled = False
        self._value: Any = None
        self._error: BaseException | None = None

    def succeed(self, value: Any) -> None:
        self._value, self.is_settled = value, True

    def fail(self, error: BaseException) -> None:
        self._error, self.is_settled = error, True

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


def _fail_all(batch: Sequence[_Ticket], error: RepositoryError | CustodyError) -> None:
    for ticket in batch:
        if not ticket.is_settled:
            # One exception raised in several threads would mix their tracebacks.
            own = type(error)(str(error))
            own.__cause__ = error
            ticket.fail(own)


def _check_clock(view: View, now: datetime) -> None:
    if now < view.committed_at - CLOCK_TOLERANCE:
        raise ClockBehind(
            f"the clock says {roles.time_out(now)}, but the last commit was at {roles.time_out(view.committed_at)}; "
            "set the clock. If that commit was made by a clock that was ahead: `publish repo refresh --accept-clock`"
        )
    if now > view.committed_at + LONGEST_SLEEP:
        raise ClockAhead(
            f"the clock says {roles.time_out(now)}, {(now - view.committed_at).days} days after the last commit at "
            f"{roles.time_out(view.committed_at)}, and at most {LONGEST_SLEEP.days} are believed: clients could be "
            "held on what is signed now until then. Set the clock; if it is right and the server was off that long: "
            "`publish repo refresh --accept-clock`"
        )


def _since(view: View, projected: int) -> tuple[list[ArtifactRecord], list[AuditEvent]]:
    records: list[ArtifactRecord] = []
    events: list[AuditEvent] = []
    for role in view.bins():
        if role.version <= projected:
            continue
        for path, entry in sorted(role.body["targets"].items()):
            if is_artifact(entry) and entry["custom"]["serial"] > projected:
                records.append(read_artifact(path, entry))
                # An empty index is being made anew: what happened was told when it happened.
                events.extend(read_changes(entry) if projected else [])
    return records, events
