"""A copy of the SQLite database as it is at one moment, while others write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from store.errors import DatabaseUnreachable

_PREFIX: Final = "sqlite:///"


def sqlite_file(url: str) -> Path | None:
    """The database's file; None when it is no SQLite database."""
    return Path(str(make_url(url).database)) if url.startswith(_PREFIX) else None


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy by SQLite's backup API, which sees one moment whatever is being written; ``target`` must be new.

    Raises:
        DatabaseUnreachable: It cannot be read, or the copy cannot be written or is not whole.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as read,
            closing(sqlite3.connect(target)) as written,
        ):
            read.backup(written)
            # The copy must stand alone, without the files that write-ahead logging keeps beside it.
            written.execute("PRAGMA journal_mode=DELETE")
            (whole,) = written.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise DatabaseUnreachable(f"the database {source} could not be copied: {error}") from error
    if whole != "ok":
        raise DatabaseUnreachable(f"the copy of {source} is not whole: {whole}")
