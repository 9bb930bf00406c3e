"""The signed repository as the device sees it: a stock TUF client, and nothing believed that it has not verified."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, cast

from securesystemslib.exceptions import StorageError
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
    SlowRetrievalError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from agent.durable import flush_folder, move_durably
from agent.errors import RepositoryAway, RepositoryRefused
from agent.home import Home
from agent.partial import REDIRECTS, Downloads, Terms
from agent.updater import SparingUpdater
from agent.web import Limits, TooSlow, Web, WebError
from rollout.decision import MAX_DOCUMENT_LENGTH

METADATA_LIMITS: Final = Limits(seconds=60.0)
REFRESH_SECONDS: Final = 300.0  # for all requests of a refresh or a look-up together: each alone could be in time
SPOOLED: Final = 64 * 1024  # bytes in memory: what an idle poll fetches touches no disk
HTTP_ERROR: Final = 300  # redirects too, where they are not followed
CHAIN: Final = ("timestamp.json", "snapshot.json", "targets.json", "decisions.json", "brakes.json", "revocations.json")


class WebFetcher(FetcherInterface):
    """Fetches for the TUF client. Large files wait on the home's own disk, not in a small /tmp."""

    def __init__(self, web: Web, spool: Path, limits: Limits = METADATA_LIMITS) -> None:
        self._web = web
        self._spool = spool
        self.limits = limits
        self.follows = ""  # below this URL redirects are followed
        self._end: float | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End every request of the block when so many seconds have passed since it began."""
        self._end = time.monotonic() + seconds
        try:
            yield
        finally:
            self._end = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        pieces = self._pieces(url)
        next(pieces)  # runs up to the status, so that an HTTP error is raised here, as the interface asks
        return pieces

    def _pieces(self, url: str) -> Generator[bytes]:
        try:
            redirects = REDIRECTS if self.follows and url.startswith(self.follows) else 0
            with self._web.request("GET", url, limits=self._limits_now(), redirects=redirects) as answer:
                if answer.status >= HTTP_ERROR:
                    # Read, so that the connection stays usable for the next request.
                    for _ in _at_most(answer.pieces, 64 * 1024):
                        pass
                    raise DownloadHTTPError(f"HTTP status {answer.status} for {url}", answer.status)
                yield b""
                yield from answer.pieces
        except TooSlow as error:
            raise SlowRetrievalError(str(error)) from error
        except WebError as error:
            raise DownloadError(str(error)) from error

    def _limits_now(self) -> Limits:
        if self._end is None:
            return self.limits
        left = self._end - time.monotonic()
        if left <= 0:
            raise TooSlow("the mirror took too long over all it was asked together")
        return replace(self.limits, seconds=min(self.limits.seconds, left))

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """As the interface says."""
        received = 0
        with tempfile.SpooledTemporaryFile(SPOOLED, dir=str(self._spool)) as file:
            with closing(cast("Generator[bytes]", self.fetch(url))) as pieces:
                for piece in pieces:
                    received += len(piece)
                    if received > max_length:
                        raise DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
                    file.write(piece)
            file.seek(0)
            yield cast("IO[bytes]", file)


class View:
    """One verified state of the repository: everything read through it belongs together."""

    def __init__(self, updater: Updater, fetcher: WebFetcher, home: Home, downloads: Downloads, seconds: float) -> None:
        self._updater = updater
        self._fetcher = fetcher
        self._home = home
        self._downloads = downloads
        self._seconds = seconds

    def document(self, path: str) -> bytes | None:
        """The bytes of a decision or brake, None when there is none.

        Raises:
            RepositoryAway: They cannot be fetched now.
            RepositoryRefused: The role or the bytes do not verify, or the document is longer than any may be.
        """
        target = self.target(path)
        if target is None:
            return None
        if target.length > MAX_DOCUMENT_LENGTH:
            raise RepositoryRefused(f"{path} has {target.length} bytes, at most {MAX_DOCUMENT_LENGTH} are read")
        # Named by digest: the client's own choice, the quoted path, can be longer than a file name may be.
        kept = str(self._home.documents / hashlib.sha256(path.encode()).hexdigest())
        with _translated(path), self._fetcher.within(self._seconds):
            if self._updater.find_cached_target(target, kept) is None:
                self._updater.download_target(target, kept)
            return Path(kept).read_bytes()

    def target(self, path: str) -> TargetFile | None:
        """What the signed metadata says of a target, None when it names no such target; raises as document."""
        with _translated(path), self._fetcher.within(self._seconds):
            return self._updater.get_targetinfo(path)

    def yanked(self, target: TargetFile) -> bool:
        """Whether the artifact's signed record says that nobody is to install it any more."""
        custom = target.unrecognized_fields.get("custom")
        return isinstance(custom, Mapping) and bool(custom.get("yanked"))

    def download(self, target: TargetFile, still_wanted: Callable[[], None]) -> Path:
        """Fetch and verify an artifact into the home's store; the file is safe on disk when this returns.

        What an earlier try fetched is not fetched again.

        Args:
            target: What the metadata says of it, SHA-256 included.
            still_wanted: Called between pieces; may raise DownloadStopped. What was fetched is dropped then.

        Raises:
            DownloadStopped: ``still_wanted`` said so.
            NoRoom: The disk has not the room for it.
            RepositoryAway, RepositoryRefused: As ``document``, and for a target that is signed without a SHA-256.
            OSError: The disk is full or broken.
        """
        if "sha256" not in target.hashes:
            raise RepositoryRefused(f"{target.path} is signed without a SHA-256, artifacts are known by theirs")
        stored = self._home.artifact(target.hashes["sha256"])
        if self._updater.find_cached_target(target, str(stored)) is None:
            with _translated(target.path):
                arrived = self._downloads.fetch(target, stored.name, still_wanted)
            move_durably(arrived, stored)
        return stored


class Repository:
    """Refreshes the home's TUF cache; trusts the root that enrolment pinned and what that root signed since."""

    def __init__(
        self,
        home: Home,
        *,
        metadata_url: str,
        targets_url: str,
        agent: str,
        tls_ca: str = "",
        terms: Terms | None = None,
        metadata_limits: Limits = METADATA_LIMITS,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._home = home
        self._metadata_url = metadata_url
        self._targets_url = targets_url
        self._metadata_limits = metadata_limits
        self._refresh_seconds = refresh_seconds
        self._web = Web(agent=agent, tls_ca=tls_ca)
        self._aside = Web(agent=agent, tls_ca=tls_ca)
        self._downloads = Downloads(self._web, targets_url, home.downloads, terms or Terms())

    def refresh(self, *, aside: bool = False) -> View:
        """Fetch what is new (two requests when nothing is) and verify it; the cache holds verified files only.

        ``aside`` uses a connection of its own, for a look while a download is under way on the other.

        Raises:
            RepositoryAway: Server or mirror do not answer, or too slowly.
            RepositoryRefused: Something does not verify: signatures, expiry, an older version, a wrong length.
        """
        fetcher = WebFetcher(self._aside if aside else self._web, self._home.downloads, self._metadata_limits)
        fetcher.follows = self._targets_url
        before = self._stamps()
        with _translated("metadata"), fetcher.within(self._refresh_seconds):
            updater = SparingUpdater(
                str(self._home.metadata),
                self._metadata_url,
                str(self._home.documents),
                self._targets_url,
                fetcher,
                bootstrap=(self._home.identity / "root.json").read_bytes(),
            )
            updater.refresh()
        if self._stamps() != before:
            self._flush()
        return View(updater, fetcher, self._home, self._downloads, self._refresh_seconds)

    def close(self) -> None:
        """Drop the connections."""
        self._web.close()
        self._aside.close()

    def _stamps(self) -> list[int]:
        return [_changed_at(f"{self._home.metadata}/{name}") for name in CHAIN]

    def _flush(self) -> None:
        # The client writes without fsync; a power cut must not take from us which versions we have seen.
        for name in CHAIN:
            path = self._home.metadata / name
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        flush_folder(self._home.metadata)


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


@contextmanager
def _translated(what: str) -> Iterator[None]:
    # The stock client holds expiry against the system's clock, so that is the one to name.
    try:
        yield
    except ExpiredMetadataError as error:
        raise RepositoryRefused(
            # The day is enough: words that change with each poll would wear out the device's flash.
            f"{what} does not verify: {error}, and this device's clock shows {datetime.now(UTC):%Y-%m-%d} (UTC): "
            "the clock is wrong, or nobody refreshed the repository, or somebody on the way holds back what is new"
        ) from error
    except (DownloadLengthMismatchError, RepositoryError) as error:
        raise RepositoryRefused(f"{what} does not verify: {error or type(error).__name__}") from error
    except DownloadHTTPError as error:
        raise RepositoryAway(f"{what} is not there: HTTP status {error.status_code}") from error
    except DownloadError as error:
        raise RepositoryAway(f"{what} cannot be fetched: {error.__cause__ or error}") from error
    except WebError as error:
        raise RepositoryAway(f"{what} cannot be fetched: {error}") from error
    except (StorageError, json.JSONDecodeError) as error:
        raise RepositoryRefused(f"{what} cannot be read: {error}") from error


def _at_most(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        length -= len(piece)
        if length < 0:
            return
