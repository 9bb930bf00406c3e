"""Three clients behind one face: python-tuf, tuf-js and the agent. Each poll is a new start from what is on disk."""

from __future__ import annotations

import datetime as real_datetime
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol
from unittest import mock

from tuf.ngclient import Updater
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from agent.errors import AgentError
from agent.home import Home
from agent.partial import Terms
from agent.trust import Repository
from agent.web import Limits
from tests.acceptance.tuf_js.reader import fetch

CLOCK = "tuf.ngclient._internal.trusted_metadata_set.datetime"


class Refused(Exception):
    """The client did not take what it was served; the message is its own."""


class Mirror(Protocol):
    """Where a repository is read."""

    @property
    def metadata_url(self) -> str:
        """Ends with a slash, as the other."""

    @property
    def targets_url(self) -> str:
        """Of the files that the metadata names."""


class Client(ABC):
    """A device with a folder; ``poll`` fetches and verifies, ``ahead`` shifts its clock."""

    def __init__(self, folder: Path, root: bytes) -> None:
        self.folder = folder
        self.root = root

    @abstractmethod
    def poll(self, mirror: Mirror, paths: Sequence[str], *, ahead: timedelta = timedelta(0)) -> dict[str, bytes]:
        """Bytes of the targets that are there; raises Refused."""

    @abstractmethod
    def metadata(self) -> Path:
        """Where it keeps what it trusts."""

    @abstractmethod
    def stored(self) -> list[bytes]:
        """Content of every target file on its disk."""

    def begun(self) -> list[bytes]:
        """What came of downloads that go on another time; believed in nothing."""
        return []

    def trusted(self) -> dict[str, bytes]:
        """What it trusts, by role."""
        return {
            path.name.removesuffix(".json"): path.read_bytes()
            for path in sorted(self.metadata().glob("*.json"))
            if path.is_file()
        }

    def copy(self, folder: Path) -> Client:
        """The same device elsewhere."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return type(self)(folder, self.root)


@contextmanager
def clock_ahead(ahead: timedelta) -> Iterator[None]:
    """Shift the clock of the TUF client in this process."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(real_datetime.UTC) + ahead

    with mock.patch(CLOCK, SimpleNamespace(datetime=Shifted, timezone=real_datetime.timezone)):
        yield


class PythonTuf(Client):
    """python-tuf's own client over its own HTTP."""

    def metadata(self) -> Path:
        return self.folder / "metadata"

    def stored(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "targets").iterdir()]

    def poll(self, mirror: Mirror, paths: Sequence[str], *, ahead: timedelta = timedelta(0)) -> dict[str, bytes]:
        for name in ("metadata", "targets"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        fetcher = Urllib3Fetcher(socket_timeout=3)
        try:
            with clock_ahead(ahead):
                updater = Updater(
                    str(self.metadata()),
                    mirror.metadata_url,
                    str(self.folder / "targets"),
                    mirror.targets_url,
                    fetcher=fetcher,
                    bootstrap=self.root,
                )
                updater.refresh()
                got = {}
                for path in paths:
                    target = updater.get_targetinfo(path)
                    if target is not None:
                        got[path] = Path(updater.download_target(target)).read_bytes()
                return got
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        finally:
            fetcher._proxy_env._pool_managers.clear()


class TufJs(Client):
    """tuf-js in a Node.js process."""

    def metadata(self) -> Path:
        return self.folder / "metadata"

    def stored(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "targets").rglob("*") if path.is_file()]

    def poll(self, mirror: Mirror, paths: Sequence[str], *, ahead: timedelta = timedelta(0)) -> dict[str, bytes]:
        self.metadata().mkdir(parents=True, exist_ok=True)
        root = self.folder / "given-root.json"
        # The reader starts from a root in its cache; one that it trusted since stays.
        kept = self.metadata() / "root.json"
        root.write_bytes(kept.read_bytes() if kept.exists() else self.root)
        told = fetch(
            root,
            list(paths),
            metadata_url=mirror.metadata_url,
            targets_url=mirror.targets_url,
            folder=self.folder,
            ahead_seconds=int(ahead.total_seconds()),
        )
        if "refused" in told:
            raise Refused(f"{told['refused']}: {told['message']}")
        return {path: Path(got["file"]).read_bytes() for path, got in told["targets"].items() if got is not None}


class Agent(Client):
    """What the device agent trusts and fetches through, with deadlines that a test can wait for."""

    seconds = 20.0

    @property
    def home(self) -> Home:
        return Home(self.folder)

    def metadata(self) -> Path:
        return self.home.metadata

    def stored(self) -> list[bytes]:
        folders = (self.home.artifacts, self.home.documents)
        return [path.read_bytes() for folder in folders for path in folder.iterdir()]

    def begun(self) -> list[bytes]:
        return [path.read_bytes() for path in self.home.downloads.iterdir()]

    def poll(self, mirror: Mirror, paths: Sequence[str], *, ahead: timedelta = timedelta(0)) -> dict[str, bytes]:
        self.home.create()
        self.home.identity.mkdir(exist_ok=True)
        (self.home.identity / "root.json").write_bytes(self.root)
        limits = Limits(seconds=self.seconds, grace=self.seconds)
        repository = Repository(
            self.home,
            metadata_url=mirror.metadata_url,
            targets_url=mirror.targets_url,
            agent="attacked",
            terms=Terms(limits=limits),
            metadata_limits=limits,
            refresh_seconds=self.seconds,
        )
        try:
            with clock_ahead(ahead):
                view = repository.refresh()
                got = {}
                for path in paths:
                    if path.startswith(("decisions/", "brakes/")):
                        document = view.document(path)
                        if document is not None:
                            got[path] = document
                    elif (target := view.target(path)) is not None:
                        got[path] = view.download(target, lambda: None).read_bytes()
                return got
        except AgentError as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        finally:
            repository.close()


CLIENTS: dict[str, type[Client]] = {"python-tuf": PythonTuf, "tuf-js": TufJs, "agent": Agent}
