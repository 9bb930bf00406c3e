"""One command over a real home in a process of its own, by the code that the server runs, to be killed at any moment.

``python -m tests.faults.one_shot HOME COMMAND`` runs one. ``… --serve FD`` imports everything once and forks a process
for each order that comes over the socket: starting Python for each of a thousand faults would take most of the time.

A command that was done ends the process with 0, one that was refused with a clear error with 3; anything else is a
defect and ends it with 70. The exit code is the acknowledgement: no system call that a fault can hit carries it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from api.backup import restore
from api.settings import Settings, read_settings
from api.wiring import SignedDecisions, keys_folder, repository_folder
from evidence.model import Actor, ActorKind
from keys.errors import CustodyError
from keys.keyring import Keyring
from repo_signing.errors import RepositoryError
from repo_signing.model import NewArtifact, SbomUpload
from repo_signing.offline import OfflineDraft
from repo_signing.repository import SignedRepository
from repo_signing.storage import LocalStorage
from rollout.errors import RolloutError
from rollout.service import RolloutService
from store.artifacts import ArtifactIndex, SqlReleases
from store.database import Database
from store.errors import StoreError
from store.fleet import SqlFleet
from store.rollouts import SqlRollouts

DONE: Final = 0
REFUSED: Final = 3
DEFECT: Final = 70

ORG: Final = "acme"
ANN: Final = Actor(ActorKind.USER, "usr_ann", "Ann")
CLEAR: Final = (RepositoryError, RolloutError, StoreError, CustodyError)

ROTATED: Final = ("timestamp", "decisions")  # one that root names, and one that targets names
AFTER_ALL_GRACE: Final = timedelta(days=40)  # of withdrawn blobs, the longest
MORE_BITS: Final = 7
BACKUP: Final = "backup"  # beside the home


def die_within_write(at: int) -> None:
    """Have this process killed in the middle of one of its writes, counted from 0."""
    whole, left = os.write, at

    def write(descriptor: int, content: Any) -> int:
        nonlocal left
        if left == 0:
            whole(descriptor, bytes(content)[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return whole(descriptor, content)

    os.write = write


def settings_of(home: Path) -> Settings:
    """Settings of a home as the server has them, but for cheaper passwords."""
    return read_settings({"WAVEGATE_HOME": str(home), "WAVEGATE_PASSWORD_MEMORY_KIB": "8192"})


class Opened:
    """A home as one process has it open: what the server opens, without its ports."""

    def __init__(self, home: Path, storage: LocalStorage | None = None) -> None:
        settings = settings_of(home)
        self.keys = Keyring(keys_folder(settings, ORG))
        self.key_folder = keys_folder(settings, ORG) / "online"
        self.db = Database(settings.database_url)
        self.index = ArtifactIndex(self.db, ORG)
        self.repository = SignedRepository(repository_folder(settings, ORG), self.keys, self.index, storage=storage)
        self.fleet = SqlFleet(self.db)
        self.rollouts = SqlRollouts(self.db)
        self.service = RolloutService(
            rollouts=self.rollouts,
            decisions=SignedDecisions(self.repository),
            releases=SqlReleases(self.db),
            groups=self.fleet,
        )

    def close(self) -> None:
        """Let go of the database."""
        self.db.close()


def publish(opened: Opened, version: str, now: datetime, *, with_sbom: bool = True) -> None:
    """Take in and publish ``fw <version>``."""
    repository = opened.repository
    sboms: tuple[SbomUpload, ...] = ()
    if with_sbom:
        staged = repository.stage(BytesIO(f"sbom of {version}".encode()))
        media = "application/vnd.cyclonedx+json"
        sboms = (
            SbomUpload(staged=staged, format="cyclonedx-json", spec_version="1.6", components=1, media_type=media),
        )
    wanted = NewArtifact(
        staged=repository.stage(BytesIO(f"firmware {version}".encode())),
        product="fw",
        version=version,
        platform="any",
        channel="stable",
        file_name="fw.bin",
        publisher=ANN,
        sboms=sboms,
    )
    repository.publish(wanted, now=now)


def publish_two(opened: Opened, now: datetime) -> None:
    """A new artifact with its SBOM."""
    publish(opened, "2", now)


def refresh(opened: Opened, now: datetime) -> None:
    """What the refresh job does when it is time."""
    opened.repository.refresh(now=now, force=True)


def decide(opened: Opened, now: datetime) -> None:
    """What the judging loop does when a wave may open: intent, signed documents, settlement."""
    opened.service.tick(ORG, now)


def yank(opened: Opened, now: datetime) -> None:
    """Take an artifact back from new installations."""
    opened.repository.yank("fw/1/any/fw.bin", reason="broken", by=ANN, now=now)


def rotate(opened: Opened, now: datetime) -> None:
    """New keys for roles that do not have them yet: made, drafted, and signed with the offline keys of a laptop."""
    drafts = opened.repository.drafts
    for draft in drafts.all():
        _sign_draft(opened, draft, now)
    wanted = [role for role in ROTATED if not is_rotated(opened, role)]
    if wanted:
        for draft in drafts.rotate(wanted, compromised=False, past=0, by=ANN, now=now):
            _sign_draft(opened, draft, now)


def is_rotated(opened: Opened, role: str) -> bool:
    """Whether clients go by another key of the role than the one it began with, which stands first."""
    rule = opened.repository._committer.view().rule(role)
    return rule is not None and opened.keys.public(role).keyid not in rule.keyids


def _sign_draft(opened: Opened, draft: OfflineDraft, now: datetime) -> None:
    signatures = {}
    for part in draft.parts:
        # The offline roles are their own keys' names in the ring.
        signed = opened.keys.signer(part.role).sign(part.payload)
        signatures[part.role] = {signed.keyid: signed.signature}
    opened.repository.drafts.sign(draft.id, signatures, now=now)


def end_overlap(opened: Opened, now: datetime) -> None:
    """Drop the signatures of the old keys, and the keys."""
    opened.repository.drafts.end_overlap(by=ANN, now=now)


def rebin(opened: Opened, now: datetime) -> None:
    """Twice as many bins."""
    opened.repository.rebin(bits=MORE_BITS, by=ANN, now=now)


def collect(opened: Opened, now: datetime) -> None:
    """Take away all that may go in forty days."""
    opened.repository.collect(now=now + AFTER_ALL_GRACE, by=ANN)


def restore_home(home: Path, now: datetime, storage: LocalStorage | None) -> None:
    """Make the home from the backup beside it."""
    restore(settings_of(home), home.parent / BACKUP, now=now, disk=storage)


# One more command is one more line.
COMMANDS: Final[Mapping[str, Callable[[Opened, datetime], object]]] = {
    "publish": publish_two,
    "refresh": refresh,
    "decide": decide,
    "yank": yank,
    "rotate": rotate,
    "end-overlap": end_overlap,
    "re-bin": rebin,
    "collect": collect,
}
# These make the home themselves.
MAKING: Final[Mapping[str, Callable[[Path, datetime, LocalStorage | None], object]]] = {"restore": restore_home}


@dataclass(frozen=True)
class Order:
    """What one process is to do; ``torn_at`` is the write in the middle of which it dies."""

    home: str
    command: str
    now: str
    torn_at: int | None = None


def run(order: Order) -> tuple[int, str]:
    """Open, do, close; returns exit code and what there is to say."""
    opened = None
    try:
        if order.torn_at is not None:
            die_within_write(order.torn_at)
        home, now = Path(order.home), datetime.fromisoformat(order.now)
        if order.command in MAKING:
            MAKING[order.command](home, now, None)
        else:
            opened = Opened(home)
            COMMANDS[order.command](opened, now)
    except CLEAR as error:
        return REFUSED, f"{error.code}: {error}"
    except ExceptionGroup as group:
        clear, rest = group.split(CLEAR)
        return (REFUSED, str(clear)) if rest is None else (DEFECT, traceback.format_exc())
    except BaseException:  # noqa: BLE001 - whatever it is, it is told
        return DEFECT, traceback.format_exc()
    else:
        return DONE, ""
    finally:
        if opened is not None:
            opened.close()


def serve(orders: socket.socket) -> None:
    """Fork a process for each order; it stops at once and is to be continued, whoever wants to watch it first."""
    with orders, orders.makefile("rb") as lines:
        for line in lines:
            order = Order(**json.loads(line))
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                os.kill(os.getpid(), signal.SIGSTOP)
                code, words = run(order)
                # send, not write: the faults are in the system calls that change files
                theirs.send(words.encode()[-60_000:])
                os._exit(code)
            theirs.close()
            orders.sendall(json.dumps({"pid": pid}).encode() + b"\n")
            _, status = os.waitpid(pid, 0)
            with ours:
                told = ours.recv(65_536).decode(errors="replace")
            orders.sendall(json.dumps({"ended": os.waitstatus_to_exitcode(status), "told": told}).encode() + b"\n")


def main(arguments: list[str]) -> int:
    """See the module."""
    if arguments[0] == "--serve":
        serve(socket.socket(fileno=int(arguments[1])))
        return 0
    home, command, now = arguments
    code, words = run(Order(home, command, now))
    sys.stderr.write(words)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
