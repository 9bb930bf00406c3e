"""A real repository in a folder of its own, and stock clients that are given only its root."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from evidence.model import Actor, ActorKind
from keys.keyring import Keyring, create_keyring
from repo_signing import roles
from repo_signing.ceremony import create_repository
from repo_signing.draft import Placed
from repo_signing.model import ArtifactRecord, AttestationUpload, NewArtifact, SbomUpload, StagedBlob
from repo_signing.ports import Projection
from repo_signing.repository import SignedRepository
from repo_signing.signing import sign
from repo_signing.storage import LocalStorage
from tests.simulators.projection import ProjectionSimulator

ANN = Actor(ActorKind.USER, "usr_ann", "Ann", "key_1")
CYCLONEDX = "application/vnd.cyclonedx+json"
DSSE = "application/vnd.dsse.envelope.v1+json"


class RepositoryHome:
    """Folder, keys and index of one organisation's repository. ``now`` is a real moment: stock clients have a clock."""

    def __init__(self, folder: Path, projection: ProjectionSimulator, root: bytes, now: datetime) -> None:
        self.folder = folder
        self.repository_folder = folder / "repository"
        self.projection = projection
        self.root = root
        self.now = now

    @classmethod
    def create(cls, folder: Path, now: datetime | None = None, *, layout: str = "bins") -> RepositoryHome:
        moment = datetime.now(UTC) if now is None else now
        keyring = create_keyring(folder / "keys", folder / "offline-keys")
        root = create_repository(folder / "repository", keyring, now=moment, layout=layout)
        return cls(folder, ProjectionSimulator(), root, moment)

    @classmethod
    def of_old(cls, folder: Path, *, layout: str = "bins") -> RepositoryHome:
        """As it was made before there was a role for revocations."""
        now = datetime.now(UTC)
        keyring = create_keyring(folder / "keys", folder / "offline-keys")
        body = roles.targets_body(keyring.public("decisions"), keyring.public("releases"), 1, now)
        delegated = body["delegations"]["roles"]
        body["delegations"]["roles"] = [one for one in delegated if one["name"] != "revocations"]
        raw = sign(keyring, "targets", body, [roles.Rule((keyring.public("targets").keyid,), 1)])
        placed = {"targets": Placed(raw, body)}
        root = create_repository(folder / "repository", keyring, now=now, layout=layout, placed=placed)
        return cls(folder, ProjectionSimulator(), root, now)

    @property
    def metadata(self) -> Path:
        return self.repository_folder / "metadata"

    def open(self, storage: LocalStorage | None = None, projection: Projection | None = None) -> SignedRepository:
        """A fresh instance, as another process would make it."""
        index = self.projection if projection is None else projection
        return SignedRepository(self.repository_folder, Keyring(self.folder / "keys"), index, storage=storage)

    def later(self, **span: float) -> datetime:
        return self.now + timedelta(**span)


def staged(repository: SignedRepository, content: bytes) -> StagedBlob:
    return repository.stage(io.BytesIO(content))


def sbom_upload(repository: SignedRepository, content: bytes) -> SbomUpload:
    return SbomUpload(
        staged=staged(repository, content),
        format="cyclonedx-json",
        spec_version="1.6",
        components=3,
        media_type=CYCLONEDX,
    )


def attestation_upload(repository: SignedRepository, content: bytes, state: str = "unverified") -> AttestationUpload:
    return AttestationUpload(
        staged=staged(repository, content), kind="dsse", media_type=DSSE, state=state, subject_matches=True
    )


def publish(
    repository: SignedRepository,
    version: str,
    now: datetime,
    *,
    content: bytes | None = None,
    sboms: tuple[bytes, ...] = (),
    attestations: tuple[bytes, ...] = (),
    notes: str = "",
) -> tuple[ArtifactRecord, bool]:
    """Publish ``app/<version>/linux/app.bin``; its content is ``app <version>`` unless given."""
    new = NewArtifact(
        staged=staged(repository, f"app {version}".encode() if content is None else content),
        product="app",
        version=version,
        platform="linux",
        channel="stable",
        file_name="app.bin",
        publisher=ANN,
        notes=notes,
        sboms=tuple(sbom_upload(repository, one) for one in sboms),
        attestations=tuple(attestation_upload(repository, one) for one in attestations),
    )
    return repository.publish(new, now=now)


class RepositoryFetcher(FetcherInterface):
    """Serves a repository to a stock client without a network, by the names that the server would serve."""

    def __init__(self, repository: SignedRepository) -> None:
        self.repository = repository
        self.answers: list[tuple[str, int, int]] = []  # what was asked for, HTTP status, bytes

    def _fetch(self, url: str) -> Iterator[bytes]:
        kind, _, name = url.removeprefix("http://repository/").partition("/")
        name = unquote(name)  # as every web server does
        path = self.repository.metadata_file(name) if kind == "metadata" else self.repository.target_file(name)
        if path is None:
            self.answers.append((name, 404, 0))
            raise DownloadHTTPError("not found", 404)
        content = path.read_bytes()
        self.answers.append((name, 200, len(content)))
        return iter([content])


class StockClient:
    """python-tuf's client with a folder of its own. Every call is a new poll, as after a restart of the device."""

    def __init__(self, repository: SignedRepository, folder: Path, root: bytes) -> None:
        self.fetcher = RepositoryFetcher(repository)
        self.folder = folder
        self.root = root
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "targets").mkdir(exist_ok=True)

    def updater(self) -> Updater:
        return Updater(
            str(self.folder),
            "http://repository/metadata/",
            str(self.folder / "targets"),
            "http://repository/targets/",
            fetcher=self.fetcher,
            bootstrap=self.root,
        )

    def refresh(self) -> None:
        self.updater().refresh()

    def fetch(self, path: str) -> bytes | None:
        """Verified bytes of a target, or None when the repository does not have it."""
        updater = self.updater()
        target = updater.get_targetinfo(path)
        return None if target is None else Path(updater.download_target(target)).read_bytes()


def publish_in_a_process(folder: Path, now: datetime, versions: list[str]) -> None:
    """What another server process does: its own keyring, index and instance."""
    repository = SignedRepository(folder / "repository", Keyring(folder / "keys"), ProjectionSimulator())
    for version in versions:
        publish(repository, version, now, sboms=(f"sbom of {version}".encode(),))
