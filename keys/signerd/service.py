"""The signer process: who may ask, what is answered, and the record of it."""

from __future__ import annotations

import fcntl
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson
from securesystemslib.signer import Key

from keys.errors import CustodyError, SignerUnusable, SigningRefused, UnknownKey
from keys.files import SCHEME, make_private_folder, set_aside, write_private
from keys.keyring import OFFLINE, SNAPSHOT, TIMESTAMP, Keyring
from keys.ring_file import RoleKey
from keys.signer_wire import BrokenFrame, peer_of, receive_frame, send_frame
from keys.signerd.certificates import CA_KEY, judge_certificate
from keys.signerd.memory import Memory
from keys.signerd.policy import RULES, Rule, judge
from keys.store_key import ec_public

STATE_FILE: Final = "signed.db"
LOG_FILE: Final = "signatures.jsonl"
RETIRED: Final = "retired"
MOST_KEYS: Final = 4  # of one role: whoever may ask must not fill the disk

_MODE: Final = 0o600
_GROUP_MODE: Final = 0o660
_BACKLOG: Final = 64
_AT_ONCE: Final = 64  # connections; one more is closed unanswered
_TIMEOUT: Final = 30.0  # seconds for each step of a client that has connected


def serve_signer(
    home: Path,
    path: Path,
    *,
    clock: Callable[[], datetime],
    uids: frozenset[int] | None = None,
    gid: int | None = None,
    rules: Mapping[str, tuple[Rule, ...]] = RULES,
    started: Callable[[SignerService], None] | None = None,
) -> None:
    """Hold the keys of ``home`` behind a Unix socket until :meth:`SignerService.stop` is called from another thread.

    Args:
        home: A keyring's folder with online keys only. The process adds ``signed.db``, what it remembers, and
            ``signatures.jsonl``, one line for every signature and every refusal.
        path: Of the socket (mode 0600); its folder is made with mode 0700 if it is missing. A socket that a killed
            process left there is replaced.
        clock: The time, as aware UTC.
        uids: Users that may ask, by the kernel's word; by default only the one who runs this.
        gid: A group that may connect besides the owner (mode 0660), for a server that runs as another user.
        rules: What each key may sign.
        started: Called with the service once clients can connect.

    Raises:
        SignerUnusable: Another signer process runs on this home or socket, the home holds an offline key, or what it
            remembers cannot be read.
        CustodyError: A key cannot be opened; it is better known now than at the first signature.
    """
    service = SignerService(home, path, clock=clock, uids=uids, gid=gid, rules=rules)
    try:
        if started is not None:
            started(service)
        service.serve_forever(poll_interval=0.1)
    finally:
        service.server_close()


class SignerService(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The listening socket and what stands behind it; see :func:`serve_signer`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _BACKLOG

    def __init__(
        self,
        home: Path,
        path: Path,
        *,
        clock: Callable[[], datetime],
        uids: frozenset[int] | None = None,
        gid: int | None = None,
        rules: Mapping[str, tuple[Rule, ...]] = RULES,
    ) -> None:
        self._gid: Final = gid
        self.uids: Final = frozenset({os.getuid()}) if uids is None else uids
        self._slots: Final = threading.BoundedSemaphore(_AT_ONCE)
        self._lock: Final = _locked(home)
        try:
            self.desk: Final = Desk(home, clock=clock, rules=rules)
            try:
                make_private_folder(path.parent)
                _clear(path)
                super().__init__(str(path), _Conversation)
            except OSError as error:
                self.desk.close()
                raise SignerUnusable(f"the socket {path} cannot be made: {error.strerror or error}") from error
            except BaseException:
                self.desk.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def server_bind(self) -> None:
        # Linux gives the file in the folder the mode of the socket, so it is right from its first moment on.
        os.fchmod(self.socket.fileno(), _MODE)
        super().server_bind()
        if self._gid is not None:
            os.chown(str(self.server_address), -1, self._gid)
        # The umask may have taken rights away; those of the group are given only after its id stands.
        os.chmod(str(self.server_address), _MODE if self._gid is None else _GROUP_MODE)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        del request, client_address
        return self._slots.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def stop(self) -> None:
        """End :meth:`serve_forever`; from another thread."""
        self.shutdown()

    def server_close(self) -> None:
        super().server_close()
        with suppress(OSError):
            Path(str(self.server_address)).unlink()
        self.desk.close()
        with suppress(OSError):
            os.close(self._lock)


class Desk:
    """Answers questions, one at a time, and writes down what it signed."""

    def __init__(self, home: Path, *, clock: Callable[[], datetime], rules: Mapping[str, tuple[Rule, ...]]) -> None:
        self._clock: Final = clock
        self._rules: Final = rules
        self._keyring: Final = Keyring(home)
        self._turn: Final = threading.Lock()
        self._keys = _keys_of(self._keyring)
        self._home: Final = home
        self._memory: Final = Memory(home / STATE_FILE, holders=self._holders())
        self._record: Final = _open_record(home / LOG_FILE)

    def answer(self, question: Mapping[str, Any], payload: bytes, *, pid: int, uid: int) -> dict[str, Any]:
        """Answer one question of a client that may ask."""
        with self._turn:
            try:
                if self._record.closed:
                    raise SignerUnusable("the signer is stopping; ask again when it is back")
                return self._answer(question, payload, pid, uid)
            except CustodyError as error:
                if question.get("ask") in ("sign", "make", "retire") and not self._record.closed:
                    self._write("refused", question, payload, pid, uid, code=error.code, reason=str(error))
                return {"error": {"code": error.code, "message": str(error)}}

    def refuse(self, question: Mapping[str, Any], *, pid: int, uid: int, allowed: frozenset[int]) -> dict[str, Any]:
        """Answer somebody who may not ask, and write it down."""
        with self._turn:
            self._write("stranger", question, b"", pid, uid)
        message = f"user id {uid} may not ask this signer; it answers {', '.join(map(str, sorted(allowed)))}"
        return {"error": {"code": SigningRefused.code, "message": message}}

    def close(self) -> None:
        """Let go of the files."""
        with self._turn:
            self._memory.close()
            self._record.close()

    def _answer(self, question: Mapping[str, Any], payload: bytes, pid: int, uid: int) -> dict[str, Any]:
        match question:
            case {"ask": "sign", "key": str(key), "keyid": str(keyid), "role": str(role)}:
                return self._sign(question, key, keyid, role, payload, pid, uid)
            case {"ask": "public", "key": str(key)}:
                first = next(iter(self._held(key).values()))
                return {"keyid": first.public.keyid, "public": first.public.to_dict()}
            case {"ask": "make", "key": str(key), "known": list(known)}:
                made = self._make(question, key, known, pid, uid)
                return {"keyid": made.keyid, "public": made.to_dict()}
            case {"ask": "retire", "key": str(key), "keyid": str(keyid)}:
                self._retire(question, key, keyid, pid, uid)
                return {"retired": keyid}
            case {"ask": "highest"}:
                keyids = frozenset(keyid for keys in self._keys.values() for keyid in keys)
                return {"version": self._memory.highest(keyids)}
            case _:
                raise SigningRefused(
                    "the question has another form than this version knows; update server and signer together"
                )

    def _sign(
        self, question: Mapping[str, Any], key: str, keyid: str, role: str, payload: bytes, pid: int, uid: int
    ) -> dict[str, Any]:
        if keyid not in self._held(key):
            raise UnknownKey(f"the signer holds no {key} key with the id {keyid}; its keyring and the server's differ")
        if CA_KEY.fullmatch(key):
            return self._certify(question, key, keyid, payload, pid, uid)
        approval = judge(
            key,
            keyid,
            role,
            payload,
            past=self._memory.past,
            holds_snapshot=SNAPSHOT in self._keys,
            now=self._clock(),
            rules=self._rules,
        )
        # First remembered, then signed: after a crash in between, the same payload can be asked for again.
        self._memory.keep(keyid, approval)
        signature = self._keyring.signer(key, {keyid}).sign(payload)
        self._write(
            "signed", question, payload, pid, uid, version=approval.signed.version, sha256=approval.signed.sha256
        )
        return {"signature": signature.to_dict()}

    def _certify(
        self, question: Mapping[str, Any], key: str, keyid: str, payload: bytes, pid: int, uid: int
    ) -> dict[str, Any]:
        certified = judge_certificate(payload, ec_public(self._held(key)[keyid].public), now=self._clock())
        signature = self._keyring.signer(key, {keyid}).sign(payload)
        self._write(
            "certified",
            question,
            payload,
            pid,
            uid,
            subject=certified.subject,
            serial=certified.serial,
            not_after=certified.not_after.isoformat(),
            sha256=certified.sha256,
        )
        return {"signature": signature.to_dict()}

    def _make(self, question: Mapping[str, Any], key: str, known: Sequence[Any], pid: int, uid: int) -> Key:
        """A key for the next rotation: made beside the others, and signing as they do. Nobody goes by it yet.

        One that whoever asks does not know is given instead: it was made for a question whose answer was lost, or put
        into the keyring by hand.
        """
        held = self._held(key)
        if CA_KEY.fullmatch(key):
            raise SigningRefused(f"the next {key} key is made by hand: publish signer device-ca-key --name NAME")
        if lost := [one for keyid, one in held.items() if keyid not in known]:
            return lost[0].public
        if any(not (one.uri or "").startswith(f"{SCHEME}:") for one in held.values()):
            raise SigningRefused(
                f"the signer's {key} key is in a store of its own, where none is made; add the next one to the "
                "signer's keyring by hand, restart it, and rotate again"
            )
        if len(held) >= MOST_KEYS:
            raise SigningRefused(
                f"the signer holds {len(held)} {key} keys; end the last rotation first, `publish repo rotate --finish`"
            )
        try:
            self._keyring.add_online(key)
        except OSError as error:
            raise SignerUnusable(
                f"the key could not be written: {error.strerror or error}; nothing was made"
            ) from error
        self._keys = _keys_of(self._keyring)
        made = [*self._keys[key].values()][-1].public
        self._write("made", {**question, "keyid": made.keyid}, b"", pid, uid)
        return made

    def _retire(self, question: Mapping[str, Any], key: str, keyid: str, pid: int, uid: int) -> None:
        """Put a key out of use. Its file is kept aside: who may ask this process must not be able to destroy it."""
        held = self._held(key)
        if keyid not in held:
            raise UnknownKey(f"the signer holds no {key} key with the id {keyid}")
        if len(held) == 1:
            raise SigningRefused(f"it is the only {key} key that the signer holds; make another one first")
        uri = held[keyid].uri or ""
        try:
            self._keyring.drop(key, keyid)
            self._keys = _keys_of(self._keyring)
            self._memory.held_by(self._holders())
            if uri.startswith(f"{SCHEME}:online/"):
                set_aside(self._home / "online" / uri.rpartition("/")[2], self._home / RETIRED)
        except OSError as error:
            raise SignerUnusable(f"the key could not be put aside: {error.strerror or error}; try again") from error
        self._write("retired", question, b"", pid, uid)

    def _holders(self) -> str:
        held = self._keys.get(SNAPSHOT, {}).keys(), self._keys.get(TIMESTAMP, {}).keys()
        return "/".join(",".join(sorted(ids)) for ids in held)

    def _held(self, key: str) -> Mapping[str, RoleKey]:
        if key in OFFLINE:
            raise SigningRefused(f"{key} is signed offline by people; this process signs it with no key")
        try:
            return self._keys[key]
        except KeyError:
            raise UnknownKey(
                f"the signer holds no key named {key!r}; there are {', '.join(sorted(self._keys))}"
            ) from None

    def _write(
        self, event: str, question: Mapping[str, Any], payload: bytes, pid: int, uid: int, **more: str | int
    ) -> None:
        asked = {name: str(question[name])[:200] for name in ("key", "keyid", "role") if name in question}
        at = self._clock().astimezone(UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "event": event, "uid": uid, "pid": pid, "length": len(payload)} | asked | more
        try:
            self._record.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            # What cannot be written down is not handed out.
            raise SignerUnusable(f"the record of signatures cannot be written: {error.strerror or error}") from error


class _Conversation(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        service = cast(SignerService, self.server)
        connection.settimeout(_TIMEOUT)
        pid, uid = peer_of(connection)
        # A client that goes away or talks nonsense is no event: what was signed for it stands in the record.
        with suppress(OSError, BrokenFrame):
            question, payload = receive_frame(connection)
            if uid in service.uids:
                answer = service.desk.answer(question, payload, pid=pid, uid=uid)
            else:
                answer = service.desk.refuse(question, pid=pid, uid=uid, allowed=service.uids)
            send_frame(connection, answer)


def _keys_of(keyring: Keyring) -> dict[str, dict[str, RoleKey]]:
    found: dict[str, dict[str, RoleKey]] = {}
    for name in keyring.names():
        keys = {key.public.keyid: key for key in keyring.keys(name).keys if key.uri is not None}
        if keys and name in OFFLINE:
            raise SignerUnusable(f"the keyring holds the {name} key, which belongs offline; take it out of this folder")
        for keyid in keys:
            keyring.signer(name, {keyid})
        if keys:
            found[name] = keys
    return found


def _locked(home: Path) -> int:
    try:
        folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SignerUnusable(f"the signer's folder {home} cannot be opened: {error.strerror}") from error
    lock = -1
    try:
        lock = os.open("signer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE, dir_fd=folder)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        raise SignerUnusable(f"another signer process has its keys in {home}; stop that one first") from error
    finally:
        os.close(folder)
    return lock


def _clear(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # nobody listens: left by a process that was killed
        else:
            raise SignerUnusable(f"another process answers at {path}; choose another socket")


def _open_record(path: Path) -> BinaryIO:
    if not path.exists():
        write_private(path, b"")
    return path.open("ab", buffering=0)
