"""Keys in the signer process, on a token and in a key service rotate, too, and no stock client fails on the way."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from keys.errors import KeyNotHere, SigningRefused
from keys.keyring import Keyring
from keys.signer_client import SIGNER_SCHEME, address_of, ask_made, ask_retired
from keys.signerd.hand_over import hand_over
from repo_signing.errors import InvalidDraft
from tests.integration.test_repository_rotation import ONLINE, World
from tests.simulators.key_holders import Holder, sign_all
from tests.simulators.key_stores import TOKEN_PIN
from tests.simulators.repository import ANN, publish
from tests.simulators.signer_process import signer_process


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def short() -> Iterator[Path]:
    # Not below pytest's folders: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="wg-signer-") as folder:
        yield Path(folder)


def rotate(
    world: World, wanted: Sequence[str], *, minutes: int, keys: Mapping[str, str] | None = None, hurt: bool = False
) -> None:
    """Rotate from beginning to end while clients poll after every change of the disk."""
    repository, before = world.watched(), {role: world.listed(role) for role in wanted}
    now = world.home.later(minutes=minutes)
    for draft in repository.drafts.rotate(wanted, compromised=hurt, past=0, by=ANN, now=now, keys=keys):
        assert sign_all(repository.drafts, draft, world.signers(draft), now) is not None
    for role in wanted:
        assert world.listed(role).isdisjoint(before[role])
    for role in {"timestamp", "snapshot"}.intersection(wanted):
        assert world.signed_by(role) == (world.listed(role) if hurt else before[role] | world.listed(role))
    publish(repository, f"2.{minutes}", now)
    _, gone = repository.drafts.end_overlap(by=ANN, now=world.home.later(minutes=minutes + 61))
    assert sorted(gone) == sorted(wanted)
    publish(repository, f"3.{minutes}", world.home.later(minutes=minutes + 62))
    for role in wanted:
        assert world.signed_by(role) == world.listed(role)
    assert repository.check(now=world.home.later(minutes=minutes + 63)) == []
    assert world.client("sleeper").fetch(f"app/3.{minutes}/linux/app.bin") == f"app 3.{minutes}".encode()


def events(home: Path, *kinds: str) -> list[tuple[str, str]]:
    lines = map(json.loads, (home / "signatures.jsonl").read_text().splitlines())
    return [(line["event"], line["key"]) for line in lines if line["event"] in kinds]


@pytest.mark.parametrize("hurt", [False, True], ids=["planned", "compromised"])
def test_all_keys_of_a_signer_process_rotate_and_none_of_them_leaves_it(world: World, short: Path, hurt: bool) -> None:
    home, socket = short / "home", short / "s"
    hand_over(world.home.folder / "keys", home, socket)
    with signer_process(home, socket):
        rotate(world, ONLINE, minutes=0, hurt=hurt)
        assert list((world.home.folder / "keys").rglob("*.pem")) == []
    with signer_process(home, socket):  # and again, by one that has only what it wrote down
        publish(world.home.open(), "4.0", world.home.later(minutes=70))
        rotate(world, ["timestamp", "snapshot"], minutes=71)
    uris = {key.uri for role in ONLINE for key in Keyring(world.home.folder / "keys").keys(role).keys}
    assert {(uri or "").partition(":")[0] for uri in uris} == {SIGNER_SCHEME}
    assert {role: len(Keyring(home).keys(role).keys) for role in ONLINE} == dict.fromkeys(ONLINE, 1)
    assert len(list((home / "online").iterdir())) == 4
    assert len(list((home / "retired").iterdir())) == 6
    made = [key for event, key in events(home, "made")]
    assert made == [*ONLINE, "timestamp", "snapshot"]
    assert sorted(key for event, key in events(home, "retired")) == sorted(made)
    assert events(home, "refused") == []


def test_a_signer_makes_a_few_keys_at_most_and_never_gives_up_the_last(world: World, short: Path) -> None:
    home, socket = short / "home", short / "s"
    hand_over(world.home.folder / "keys", home, socket)
    ring = Keyring(world.home.folder / "keys")
    first = ring.keys("timestamp").keys[0]
    address = address_of(first.uri or "")
    with signer_process(home, socket):
        with pytest.raises(SigningRefused, match="it is the only timestamp key that the signer holds"):
            ring.retire("timestamp", first.public.keyid)
        assert ring.keys("timestamp").keys == (first,)
        made = ask_made(address, [first.public.keyid])
        assert ask_made(address, [first.public.keyid]) == made, "the answer was lost, and it is asked again"
        known = [first.public.keyid, made.keyid]
        known += [ask_made(address, known).keyid]
        known += [ask_made(address, known).keyid]
        with pytest.raises(SigningRefused, match="the signer holds 4 timestamp keys; end the last rotation first"):
            ask_made(address, known)
        ask_retired(address, made.keyid)
        ask_retired(address, made.keyid)
    with pytest.raises(KeyNotHere, match="does not answer"):
        ask_made(address, known)
    assert len(Keyring(home).keys("timestamp").keys) == 3


def test_a_role_moves_to_a_token_and_its_key_there_rotates(world: World, token: None) -> None:
    pin = world.home.folder / "keys" / "timestamp.pin"
    pin.write_text(f"{TOKEN_PIN}\n")
    rotate(world, ["timestamp"], minutes=0, keys={"timestamp": "hsm:2?label=wavegate+test"})
    with pytest.raises(InvalidDraft, match=r"where none can be made from here \(hsm:2\?label=wavegate\+test\)"):
        world.home.open().drafts.rotate(["timestamp"], compromised=False, past=0, by=ANN, now=world.home.now)
    rotate(world, ["timestamp"], minutes=70, keys={"timestamp": "hsm:3?label=wavegate+test"})
    [key] = Keyring(world.home.folder / "keys").keys("timestamp").keys
    assert key.uri == "hsm:3?label=wavegate+test"
    assert not list((world.home.folder / "keys" / "online").glob("timestamp*"))


def test_keys_in_a_key_service_rotate(world: World, aws: Any) -> None:
    made = [aws.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"] for _ in range(4)]
    rotate(world, ["snapshot", "decisions"], minutes=0, keys={"snapshot": f"awskms:{made[0]}"})
    named = {"snapshot": f"awskms:{made[1]}", "releases": f"awskms:{made[2]}"}
    rotate(world, ["snapshot", "releases"], minutes=70, keys=named)
    ring = Keyring(world.home.folder / "keys")
    assert [key.uri for key in ring.keys("snapshot").keys] == [f"awskms:{made[1]}"]
    assert [key.uri for key in ring.keys("releases").keys] == [f"awskms:{made[2]}"]
    with pytest.raises(InvalidDraft, match="is the releases key already; every role has keys of its own"):
        world.home.open().drafts.rotate(
            ["snapshot"], compromised=False, past=0, by=ANN, now=world.home.now, keys={"snapshot": named["releases"]}
        )


@pytest.mark.parametrize(
    "address", ["sealed:/etc/key.pem", "public:/etc/passwd", "gnupg:/root?key=00", "file2:/x", "x"]
)
def test_a_server_is_sent_to_no_file_for_a_key(world: World, address: str) -> None:
    with pytest.raises(InvalidDraft, match="is no key that a server takes by its address; expected one of hsm:"):
        world.home.open().drafts.rotate(
            ["timestamp"], compromised=False, past=0, by=ANN, now=world.home.now, keys={"timestamp": address}
        )
    with pytest.raises(InvalidDraft, match="a key is named for snapshot, which is not to be rotated"):
        world.home.open().drafts.rotate(
            ["timestamp"], compromised=False, past=0, by=ANN, now=world.home.now, keys={"snapshot": address}
        )
    assert len(Keyring(world.home.folder / "keys").keys("timestamp").keys) == 1


@pytest.mark.parametrize("role", ["root", "targets"])
def test_offline_keys_of_other_kinds_take_over(world: World, role: str) -> None:
    repository, now = world.watched(), world.home.now
    new = [Holder(CryptoSigner.generate_ecdsa()), Holder(CryptoSigner.generate_rsa())]
    draft = repository.drafts.draft_root(
        add={role: [one.public for one in new]},
        remove={role: sorted(world.listed(role))},
        thresholds={role: 2},
        by=ANN,
        now=now,
    )
    assert sign_all(repository.drafts, draft, [world.root, *([world.targets] * (role == "targets")), *new], now)
    assert world.listed(role) == {one.keyid for one in new}
    again = repository.drafts.draft_renewal("targets", by=ANN, now=now)
    assert sign_all(repository.drafts, again, new if role == "targets" else [world.targets], now) is not None
    assert repository.check(now=now) == []
