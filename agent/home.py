"""Where the agent keeps what.

``agent.toml``         settings, written at enrolment, edited by people
``identity/``          who the device is; appears in one rename, so a device is enrolled or not
    ``identity.json``  ids and addresses        ``credentials.pem``  private key and certificate chain, 0600
    ``device-ca.pem``  trusts the device port   ``root.json``        trusts everything else
``enrolment.json``     an enrolment anew that waits for its answer, 0600
``state.json``         where the agent is, and the reports not yet taken
``metadata/``          the TUF client's cache   ``documents/``  decisions and brakes as last fetched
``artifacts/``         by SHA-256: what runs and what ran before   ``downloads/``  what is being fetched
``hook.log``           what the last command printed   ``lock``  one running agent per home
``reboot.log``         what the last reboot command printed
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import HomeInUse


@dataclass(frozen=True, slots=True)
class Home:
    """The paths below one folder; nothing outside it is written."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    @property
    def identity(self) -> Path:
        return self.folder / "identity"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def documents(self) -> Path:
        return self.folder / "documents"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"

    @property
    def hook_log(self) -> Path:
        return self.folder / "hook.log"

    @property
    def reboot_log(self) -> Path:
        return self.folder / "reboot.log"

    def artifact(self, sha256: str) -> Path:
        """Where an artifact lies, named by its digest (lower-case hex)."""
        return self.artifacts / sha256

    def create(self) -> None:
        """Make what is missing of the folders, 0700."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.metadata, self.documents, self.artifacts, self.downloads):
            folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home for one running agent; the kernel lets go when the process dies.

        Raises:
            HomeInUse: Another process holds it.
        """
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HomeInUse(f"another agent runs in {self.folder}; stop it or give --home") from error
            yield
        finally:
            os.close(descriptor)
