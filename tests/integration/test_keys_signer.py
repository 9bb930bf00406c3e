"""The signer process, in a process of its own behind a real socket."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from securesystemslib.signer import Signature

from keys.errors import KeyExists, KeyNotHere, SigningFailed, SigningRefused, UnknownKey
from keys.keyring import Keyring, create_keyring
from keys.signer_wire import receive_frame, send_frame
from keys.signerd.hand_over import hand_over
from keys.signerd.service import SignerService
from keys.stores import import_key
from tests.simulators.signer_process import signer_process


class Place:
    """A server's keyring whose online keys were handed over to a signer's home."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.home = folder / "signer"
        self.socket = folder / "run" / "signer.sock"
        create_keyring(self.keys, folder / "offline-keys")

    def hand_over(self) -> tuple[str, ...]:
        return hand_over(self.keys, self.home, self.socket)

    def record(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "signatures.jsonl").read_text().splitlines()]


@pytest.fixture
def place() -> Iterator[Place]:
    # Not below pytest's folders: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="wg-signer-") as folder:
        yield Place(Path(folder))


def timestamp(version: int, snapshot: int, **more: Any) -> bytes:
    return body("timestamp", version, meta={"snapshot.json": {"version": snapshot}}, **more)


def snapshot(version: int, **versions: int) -> bytes:
    return body("snapshot", version, meta={f"{name}.json": {"version": number} for name, number in versions.items()})


def body(kind: str, version: int, **more: Any) -> bytes:
    expires = (datetime.now(UTC) + timedelta(hours=48)).strftime("%Y-%m-%dT%H:00:00Z")
    return orjson.dumps(
        {"_type": kind, "expires": expires, "spec_version": "1.0.31", "version": version} | more,
        option=orjson.OPT_SORT_KEYS,
    )


def sign(keyring: Keyring, key: str, payload: bytes, role: str | None = None) -> Signature:
    (signature,) = keyring.sign(key, payload, role=key if role is None else role)
    keyring.keys(key).keys[0].public.verify_signature(signature, payload)
    return signature


def test_the_server_signs_through_it_with_the_keys_it_had_and_holds_none_of_them(place: Place) -> None:
    before = Keyring(place.keys)
    publics = {name: before.public(name).to_dict() for name in before.names()}
    assert place.hand_over() == ("decisions", "releases", "snapshot", "timestamp")
    assert not list(place.keys.rglob("*.pem"))
    assert not (place.keys / "passphrase").exists()
    assert {stat.S_IMODE(file.stat().st_mode) for file in place.home.rglob("*") if file.is_file()} == {0o600}
    with signer_process(place.home, place.socket):
        assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.socket.parent.stat().st_mode) == 0o700
        keyring = Keyring(place.keys)
        assert {name: keyring.public(name).to_dict() for name in keyring.names()} == publics
        sign(keyring, "releases", body("targets", 2, targets={"demo/1.0/any/a.bin": {}}), "releases-3f")
        sign(keyring, "releases", body("targets", 2, targets={}), "releases-00")
        sign(keyring, "decisions", body("targets", 2, targets={"brakes/x/1.json": {}}), "brakes")
        sign(keyring, "snapshot", snapshot(2, releases=1))
        sign(keyring, "timestamp", timestamp(2, 2))
        assert keyring.highest_signed() == 2
        keyring.signer("root").sign(b"the offline keys are where they were")
        imported = import_key(f"wavegate-signer:{place.socket}?key=snapshot")
        assert imported.public == keyring.public("snapshot")
    assert [(line["event"], line["key"], line["role"], line["version"]) for line in place.record()] == [
        ("signed", "releases", "releases-3f", 2),
        ("signed", "releases", "releases-00", 2),
        ("signed", "decisions", "brakes", 2),
        ("signed", "snapshot", "snapshot", 2),
        ("signed", "timestamp", "timestamp", 2),
    ]
    assert {(line["uid"], line["pid"]) for line in place.record()} == {(os.getuid(), os.getpid())}


def test_what_it_signed_is_known_after_it_was_killed(place: Place) -> None:
    place.hand_over()
    keyring = Keyring(place.keys)
    with signer_process(place.home, place.socket) as process:
        sign(keyring, "snapshot", snapshot(5, releases=5))
        first = sign(keyring, "timestamp", timestamp(5, 5))
        process.kill()
        process.wait()
    with pytest.raises(KeyNotHere, match="does not answer"):
        sign(keyring, "timestamp", timestamp(6, 5))
    with signer_process(place.home, place.socket):
        assert sign(keyring, "timestamp", timestamp(5, 5)).signature == first.signature
        with pytest.raises(SigningRefused, match="timestamp version 5 is signed already with other content"):
            sign(keyring, "timestamp", timestamp(5, 5, note="another"))
        with pytest.raises(SigningRefused, match="timestamp version 4 goes back; version 5 is signed already"):
            sign(keyring, "timestamp", timestamp(4, 5))
        with pytest.raises(SigningRefused, match=r"names snapshot 4, which is too old or was not signed here"):
            sign(keyring, "timestamp", timestamp(6, 4))
        assert keyring.highest_signed() == 5
        sign(keyring, "timestamp", timestamp(6, 5))
    told = [(line["event"], line.get("reason", "")[:38]) for line in place.record()]
    assert told == [
        ("signed", ""),
        ("signed", ""),
        ("signed", ""),
        ("refused", "timestamp version 5 is signed already "),
        ("refused", "timestamp version 4 goes back; version"),
        ("refused", "the timestamp names snapshot 4, which "),
        ("signed", ""),
    ]


def test_of_many_who_ask_for_one_version_with_other_content_one_gets_it(place: Place) -> None:
    place.hand_over()
    with signer_process(place.home, place.socket):

        def ask(number: int) -> bool:
            try:
                sign(Keyring(place.keys), "timestamp", timestamp(9, 9, note=str(number)))
            except SigningRefused:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(ask, range(24))) == [False] * 23 + [True]
    assert [line["event"] for line in place.record()].count("signed") == 1


def test_many_clients_are_served_at_once(place: Place) -> None:
    place.hand_over()
    with signer_process(place.home, place.socket), ThreadPoolExecutor(8) as threads:
        keyring = Keyring(place.keys)

        def bin_of(number: int) -> str:
            return sign(keyring, "releases", body("targets", 3, targets={}), f"releases-{number:02x}").keyid

        assert set(threads.map(bin_of, range(64))) == {keyring.public("releases").keyid}
    assert sorted(line["role"] for line in place.record()) == [f"releases-{number:02x}" for number in range(64)]


def test_a_user_who_is_not_on_its_list_is_refused_and_noted(place: Place) -> None:
    place.hand_over()
    somebody = os.getuid() + 1
    with (
        signer_process(place.home, place.socket, uid=somebody),
        pytest.raises(SigningRefused, match=f"user id {os.getuid()} may not ask this signer; it answers {somebody}"),
    ):
        sign(Keyring(place.keys), "timestamp", timestamp(2, 2))
    (line,) = place.record()
    assert (line["event"], line["uid"], line["role"]) == ("stranger", os.getuid(), "timestamp")


def test_offline_roles_are_refused_whatever_key_is_named(place: Place) -> None:
    root = Keyring(place.keys).public("root").keyid
    place.hand_over()
    with signer_process(place.home, place.socket):
        keyring = Keyring(place.keys)
        for role in ("root", "targets"):
            with pytest.raises(SigningRefused, match=f"{role} is signed offline by people"):
                sign(keyring, "releases", body("targets", 2, targets={}), role)
        with pytest.raises(SigningRefused, match="a payload of type 'root' is no timestamp"):
            sign(keyring, "timestamp", body("root", 2))
        question = {"ask": "sign", "key": "root", "keyid": root, "role": "root"}
        assert asked(place.socket, question)["error"]["code"] == "signing_refused"
        question = {"ask": "sign", "key": "timestamp", "keyid": root, "role": "timestamp"}
        assert asked(place.socket, question)["error"]["code"] == "key_unknown"
        assert asked(place.socket, {"ask": "everything"})["error"]["code"] == "signing_refused"


def test_a_signer_that_holds_an_offline_key_does_not_start(place: Place) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.simulators.signer_process", str(place.keys), str(place.socket)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("signer_unusable: the keyring holds the root key, which belongs offline")


def test_two_processes_never_hold_one_home(place: Place) -> None:
    place.hand_over()
    with (
        signer_process(place.home, place.socket),
        pytest.raises(AssertionError, match="signer_unusable: another signer process has its keys in"),
        signer_process(place.home, place.socket.with_name("other.sock")),
    ):
        pytest.fail("two processes hold the home")


def test_a_program_that_sits_on_the_socket_cannot_pass_for_it(place: Place) -> None:
    place.hand_over()
    place.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(str(place.socket))
        listener.listen()

        def lie() -> None:
            connection, _ = listener.accept()
            with connection:
                question, _ = receive_frame(connection)
                send_frame(connection, {"signature": {"keyid": question["keyid"], "sig": "00" * 64}})

        lying = thread.submit(lie)
        with pytest.raises(SigningFailed, match="did not sign with the timestamp key"):
            sign(Keyring(place.keys), "timestamp", timestamp(2, 2))
        lying.result()


def test_nonsense_on_the_socket_harms_nobody_else(place: Place) -> None:
    place.hand_over()
    with signer_process(place.home, place.socket):
        for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 8, b"\x00\x00\x00\x02\x00\x00\x00\x00[]"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(place.socket))
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
                assert answer_of(connection) == b""
        sign(Keyring(place.keys), "timestamp", timestamp(2, 2))


def test_handing_over_goes_on_after_a_stop_halfway_and_overwrites_nothing(place: Place) -> None:
    key = (place.keys / "online" / "timestamp.pem").read_bytes()
    (place.home / "online").mkdir(parents=True)
    (place.home / "online" / "timestamp.pem").write_bytes(b"somebody else's")
    with pytest.raises(KeyExists, match=r"there is another file at .*timestamp\.pem already"):
        place.hand_over()
    assert (place.keys / "online" / "timestamp.pem").read_bytes() == key
    Keyring(place.keys).signer("timestamp").sign(b"still the server's")
    (place.home / "online" / "timestamp.pem").write_bytes(key)  # as a stop after the copy leaves it
    assert place.hand_over() == ("decisions", "releases", "snapshot", "timestamp")
    (place.keys / "online" / "timestamp.pem").write_bytes(key)  # as a stop before the removal leaves it
    assert place.hand_over() == ()
    assert not list(place.keys.rglob("*.pem"))


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
def test_a_group_may_connect_only_when_it_is_named_whatever_the_umask(umask: int, place: Place) -> None:
    place.hand_over()
    place.socket.parent.mkdir()
    modes = []
    before = os.umask(umask)
    try:
        for gid in (None, os.getgid()):
            service = SignerService(place.home, place.socket, clock=lambda: datetime.now(UTC), gid=gid)
            modes.append(stat.S_IMODE(place.socket.stat().st_mode))
            assert place.socket.stat().st_gid == os.getgid()
            service.server_close()
            assert not place.socket.exists()
    finally:
        os.umask(before)
    assert modes == [0o600, 0o660]


def test_a_key_that_the_signer_does_not_have_is_named(place: Place) -> None:
    place.hand_over()
    with signer_process(place.home, place.socket):
        address = f"wavegate-signer:{place.socket}?key=brakes"
        with pytest.raises(UnknownKey, match="holds no key named 'brakes'; there are decisions, releases, snapshot"):
            import_key(address)


def answer_of(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:  # closed before it had read all of it
        return b""


def asked(path: Path, question: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        send_frame(connection, question, b"{}")
        return receive_frame(connection)[0]
