"""What the signer process remembers, in SQLite: written and flushed to the disk before any signature leaves.

A table of its own for the listings of snapshots: with a thousand bins one takes 40 KB, and most signatures change none.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from keys.errors import KeyExists, SignerUnusable
from keys.files import write_private
from keys.signerd.policy import Approval, Chain, Listing, Past, Signed

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS signed (
  role TEXT NOT NULL, keyid TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (role, keyid)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listing (version INTEGER PRIMARY KEY, roles TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chain (
  one INTEGER PRIMARY KEY CHECK (one = 1), holders TEXT NOT NULL, versions TEXT NOT NULL
);
"""


class Memory:
    """The past of one signer process; one thread at a time.

    Args:
        file: Made (mode 0600) when it is missing: an empty past. Whoever removes it takes the policy's knowledge away.
        holders: Says whose chain of snapshots it is: the ids of the keys that sign snapshot, ``/``, and timestamp. When
            none of those that began it is left of one of them the chain begins anew, as it does for clients when root
            names new keys. Keys that are added change nothing.

    Raises:
        SignerUnusable: The file cannot be read.
    """

    def __init__(self, file: Path, *, holders: str) -> None:
        with suppress(KeyExists):
            write_private(file, b"")  # SQLite's own way to make it would heed the umask
        try:
            self._database: Final = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")  # a commit survives a power cut
            self._database.executescript(_TABLES)
            self._holders = holders
            self._signed: Final = self._read_signed()
            self._chain = self._read_chain()
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise SignerUnusable(
                f"{file} cannot be read ({error}); restore it from the backup: without it the signer does not know "
                "what it has signed"
            ) from error

    @property
    def past(self) -> Past:
        """Everything that was kept."""
        return Past(signed=self._signed, chain=self._chain)

    def highest(self, keyids: frozenset[str]) -> int:
        """The highest version signed with one of these keys; 0 for none."""
        return max(
            (signed.version for by in self._signed.values() for keyid, signed in by.items() if keyid in keyids),
            default=0,
        )

    def keep(self, keyid: str, approval: Approval) -> None:
        """Make an approval part of the past, durably.

        Raises:
            SignerUnusable: It could not be written; the past is as before.
        """
        now = approval.signed
        chain = approval.chain
        if self._signed.get(approval.role, {}).get(keyid) == now and (chain is None or chain == self._chain):
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "INSERT INTO signed VALUES (?, ?, ?, ?) ON CONFLICT (role, keyid) DO UPDATE "
                "SET version = excluded.version, sha256 = excluded.sha256",
                (approval.role, keyid, now.version, now.sha256),
            )
            if chain is not None:
                self._write_chain(chain)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # there may be nothing to take back
                self._database.execute("ROLLBACK")
            raise SignerUnusable(f"what was signed could not be written down ({error}); nothing was signed") from error
        self._signed.setdefault(approval.role, {})[keyid] = now
        if chain is not None:
            self._chain = chain

    def held_by(self, holders: str) -> None:
        """Take note that the keys are others now; raises SignerUnusable, and then nothing has changed."""
        if _goes_on(self._holders, holders):
            return
        before = self._holders
        self._holders = holders
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._write_chain(Chain())
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._holders = before
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise SignerUnusable(f"the change of keys could not be written down ({error})") from error
        self._chain = Chain()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _read_signed(self) -> dict[str, dict[str, Signed]]:
        found: dict[str, dict[str, Signed]] = {}
        for role, keyid, version, sha256 in self._database.execute("SELECT role, keyid, version, sha256 FROM signed"):
            found.setdefault(role, {})[keyid] = Signed(version=version, sha256=sha256)
        return found

    def _read_chain(self) -> Chain:
        row = self._database.execute("SELECT holders, versions FROM chain").fetchone()
        if row is None or not _goes_on(row[0], self._holders):
            return Chain()
        self._holders = row[0]
        versions: dict[str, Any] = json.loads(row[1])
        listings = {
            version: Listing(version, json.loads(roles))
            for version, roles in self._database.execute("SELECT version, roles FROM listing")
        }
        settled, offered = versions["settled"], versions["offered"]
        return Chain(
            settled=None if settled is None else listings[settled],
            named=tuple(listings[version] for version in versions["named"]),
            offered=None if offered is None else listings[offered],
        )

    def _write_chain(self, chain: Chain) -> None:
        kept, known = _listings(chain), _listings(self._chain)
        if not known:
            self._database.execute("DELETE FROM listing")
        for version in known.keys() - kept.keys():
            self._database.execute("DELETE FROM listing WHERE version = ?", (version,))
        for version, listing in kept.items():
            if known.get(version) is not listing:
                self._database.execute(
                    "INSERT OR REPLACE INTO listing VALUES (?, ?)", (version, json.dumps(listing.roles))
                )
        versions = {
            "settled": None if chain.settled is None else chain.settled.version,
            "named": [one.version for one in chain.named],
            "offered": None if chain.offered is None else chain.offered.version,
        }
        self._database.execute("INSERT OR REPLACE INTO chain VALUES (1, ?, ?)", (self._holders, json.dumps(versions)))


def _goes_on(before: str, now: str) -> bool:
    """Whether snapshot and timestamp each still have a key that they had."""
    parts = zip(before.split("/"), now.split("/"), strict=True)
    return all(old == new or not set(old.split(",")).isdisjoint(new.split(",")) for old, new in parts)


def _listings(chain: Chain) -> dict[int, Listing]:
    return {one.version: one for one in (chain.settled, *chain.named, chain.offered) if one is not None}
