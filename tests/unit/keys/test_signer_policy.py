from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from keys.errors import SignerUnusable, SigningRefused
from keys.signerd.memory import Memory
from keys.signerd.policy import judge

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


class Signer:
    """The policy with its memory, as the process joins them."""

    def __init__(self, file: Path, *, holders: str = "s/t", holds_snapshot: bool = True) -> None:
        self.file = file
        self.holds_snapshot = holds_snapshot
        self.memory = Memory(file, holders=holders)

    def sign(self, key: str, payload: bytes, role: str | None = None, *, keyid: str = "k") -> None:
        approval = judge(
            key,
            keyid,
            key if role is None else role,
            payload,
            past=self.memory.past,
            holds_snapshot=self.holds_snapshot,
            now=NOW,
        )
        self.memory.keep(keyid, approval)

    def snapshot(self, version: int, **versions: int) -> None:
        meta = {f"{name}.json": {"version": number} for name, number in versions.items()}
        self.sign("snapshot", body("snapshot", version, meta=meta))

    def timestamp(self, version: int, snapshot: int) -> None:
        self.sign("timestamp", body("timestamp", version, meta={"snapshot.json": {"version": snapshot}}))

    def commit(self, version: int, **versions: int) -> None:
        self.snapshot(version, **versions)
        self.timestamp(version, version)

    def again(self, *, holders: str = "s/t") -> Signer:
        self.memory.close()
        return Signer(self.file, holders=holders, holds_snapshot=self.holds_snapshot)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "signed.db")


def body(kind: str, version: Any, **more: Any) -> bytes:
    parts = {"_type": kind, "expires": "2026-11-03T08:00:00Z", "spec_version": "1.0.31", "version": version}
    return orjson.dumps(parts | more, option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize(
    ("key", "role", "kind"),
    [
        ("timestamp", "snapshot", "snapshot"),
        ("snapshot", "timestamp", "timestamp"),
        ("decisions", "releases", "targets"),
        ("decisions", "releases-00", "targets"),
        ("releases", "decisions", "targets"),
        ("releases", "releases-Xx", "targets"),
        ("releases", "releases-00\n", "targets"),
        ("releases", "root", "targets"),
        ("releases", "targets", "targets"),
        ("root", "root", "root"),
        ("targets", "targets", "targets"),
        ("nobody", "timestamp", "timestamp"),
    ],
)
def test_a_key_signs_its_own_roles_only(key: str, role: str, kind: str, signer: Signer) -> None:
    with pytest.raises(SigningRefused, match=r"does not sign the role|is signed offline by people"):
        signer.sign(key, body(kind, 1, targets={}, meta={}), role)
    assert signer.memory.past.signed == {}


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "is no JSON"),
        (b"[]", "no JSON object in canonical form"),
        (b'{"_type": "timestamp"}', "canonical form"),
        (b'{"version":1,"_type":"timestamp"}', "canonical form"),
        (b'{"_type":"timestamp","version":1,"version":2}', "canonical form"),
        (body("root", 1), "a payload of type 'root' is no timestamp"),
        (body("timestamp", 0), "has the version 0"),
        (body("timestamp", True), "has the version True"),
        (body("timestamp", 1.5), "has the version 1.5"),
        (body("timestamp", 1, expires="tomorrow"), "expires at 'tomorrow'"),
        (body("timestamp", 1, expires=None), "expires at None"),
        (body("timestamp", 1, expires="2026-11-08T08:00:01Z"), "would be valid until .*; at most 7 days are"),
        (body("timestamp", 1), "no meta object"),
        (body("timestamp", 1, meta={}), "does not list snapshot.json and nothing else"),
        (body("timestamp", 1, meta={"snapshot.json": {}}), "listed with the version None"),
    ],
)
def test_a_payload_that_is_not_what_it_should_be_is_refused(payload: bytes, told: str, signer: Signer) -> None:
    with pytest.raises(SigningRefused, match=told):
        signer.sign("timestamp", payload)


def test_documents_of_one_role_cannot_be_passed_off_as_anothers(signer: Signer) -> None:
    signer.sign("decisions", body("targets", 1, targets={"decisions/rol_1/1.json": {}}))
    with pytest.raises(SigningRefused, match=r"'decisions/rol_1/1\.json' does not belong into the role brakes"):
        signer.sign("decisions", body("targets", 1, targets={"decisions/rol_1/1.json": {}}), "brakes")
    with pytest.raises(SigningRefused, match=r"'brakes/rol_1/1\.json' does not belong into the role releases-00"):
        signer.sign("releases", body("targets", 1, targets={"brakes/rol_1/1.json": {}}), "releases-00")
    with pytest.raises(SigningRefused, match=r"'revocations/demo/1\.json' does not belong into the role revocations"):
        signer.sign("decisions", body("targets", 1, targets={"revocations/demo/1.json": {}}), "revocations")
    signer.sign("decisions", body("targets", 1, targets={"revocations/demo/all.json": {}}), "revocations")
    signer.sign("releases", body("targets", 1, targets={"demo/1.0/any/demo.bin": {}}), "releases-00")


def test_one_version_is_one_payload_and_versions_only_grow(signer: Signer) -> None:
    bin_of = "releases-00"
    signer.sign("releases", body("targets", 5, targets={}), bin_of)
    signer.sign("releases", body("targets", 5, targets={}), bin_of)
    signer.sign("releases", body("targets", 5, targets={"a/b/c/d": {}}), "releases-01")
    with pytest.raises(SigningRefused, match="releases-00 version 5 is signed already with other content"):
        signer.sign("releases", body("targets", 5, targets={"a/b/c/d": {}}), bin_of)
    with pytest.raises(SigningRefused, match="releases-00 version 4 goes back; version 5 is signed already"):
        signer.sign("releases", body("targets", 4, targets={}), bin_of)
    signer.sign("releases", body("targets", 9, targets={}), bin_of)
    assert signer.memory.highest(frozenset({"k"})) == 9


def test_a_second_key_of_a_role_makes_no_second_truth_but_a_new_key_may_begin_low(signer: Signer) -> None:
    signer.timestamp(900, 1)
    with pytest.raises(SigningRefused, match="version 900 is signed already with other content"):
        signer.sign("timestamp", body("timestamp", 900, meta={"snapshot.json": {"version": 1}}, note="x"), keyid="new")
    signer.sign("timestamp", body("timestamp", 2, meta={"snapshot.json": {"version": 1}}), keyid="new")
    assert signer.memory.highest(frozenset({"new"})) == 2
    assert signer.memory.highest(frozenset({"k", "new"})) == 900


def test_all_of_it_is_known_after_a_restart(signer: Signer) -> None:
    assert stat.S_IMODE(signer.file.stat().st_mode) == 0o600
    for version in range(1, 12):
        signer.commit(version, a=version, b=1)
    before = signer.memory.past
    assert before.chain.settled is not None
    assert signer.again().memory.past == before


def test_a_snapshot_that_clients_have_seen_stays_behind_them(signer: Signer) -> None:
    signer.commit(1, a=1, b=1)
    signer.commit(2, a=2, b=1)
    for version in range(3, 11):
        signer.commit(version, a=2, b=version)
    with pytest.raises(SigningRefused, match=r"snapshot 11 goes back: a\.json is listed with version 1 after 2"):
        signer.snapshot(11, a=1, b=11)
    with pytest.raises(SigningRefused, match=r"snapshot 11 goes back: a\.json is no longer listed"):
        signer.snapshot(11, b=11)
    with pytest.raises(SigningRefused, match="names snapshot 1, which is too old"):
        signer.timestamp(11, 1)
    with pytest.raises(SigningRefused, match="names snapshot 12, which is too old or was not signed here"):
        signer.timestamp(12, 12)
    signer.commit(12, a=2, b=12)


def test_commits_that_were_lost_in_crashes_do_not_stand_in_the_way(signer: Signer) -> None:
    for version in range(1, 11):
        signer.commit(version, a=version, b=1)
    for lost in (11, 12, 13):
        signer.commit(lost, a=10, b=lost)  # signed, and never seen by anybody
    signer.timestamp(14, 10)  # the server refreshes what stands
    for version in range(15, 40):
        signer.commit(version, a=version, b=1)
    signer.snapshot(40, a=40, b=1)  # cut off before its timestamp
    signer.timestamp(41, 39)


def test_keys_from_another_custody_go_on_where_they_were(signer: Signer) -> None:
    signer.timestamp(58, 57)
    signer.timestamp(59, 57)
    with pytest.raises(SigningRefused, match="names snapshot 58"):
        signer.timestamp(60, 58)
    signer.commit(60, a=60)
    again = signer.again()
    with pytest.raises(SigningRefused, match="names snapshot 56"):
        again.timestamp(61, 56)


def test_a_signer_without_the_snapshot_key_lets_the_timestamp_go_forward_only(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "signed.db", holds_snapshot=False)
    for version in range(10, 30):
        signer.timestamp(version, version)
    with pytest.raises(SigningRefused, match="the timestamp goes back to snapshot 12 from 21"):
        signer.timestamp(30, 12)
    signer.timestamp(30, 40)


def test_new_keys_of_snapshot_or_timestamp_begin_a_new_chain(signer: Signer) -> None:
    for version in range(100, 120):
        signer.commit(version, a=version)
    recovered = signer.again(holders="s2/t2")
    recovered.sign("snapshot", body("snapshot", 3, meta={"a.json": {"version": 2}}), keyid="s2")
    recovered.sign("timestamp", body("timestamp", 3, meta={"snapshot.json": {"version": 3}}), keyid="t2")
    chain = recovered.again(holders="s2/t2").memory.past.chain
    assert [listing.version for listing in chain.named] == [3]


def test_a_damaged_memory_stops_the_signer(tmp_path: Path) -> None:
    (tmp_path / "signed.db").write_bytes(b"no database, but long enough to be looked at as one" * 40)
    with pytest.raises(SignerUnusable, match="restore it from the backup"):
        Memory(tmp_path / "signed.db", holders="s/t")


def test_what_cannot_be_written_down_is_not_approved(signer: Signer) -> None:
    signer.timestamp(1, 1)
    signer.memory.close()
    with pytest.raises(SignerUnusable, match="nothing was signed"):
        signer.timestamp(2, 1)
    assert signer.memory.highest(frozenset({"k"})) == 1
