"""The agent as a TUF client: refresh, expiry, rollback.

The cases are those of the tuf-conformance suite, written anew; each class names the tests of it that it stands for.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from tests.conformance.bench import Bench, edited
from tests.conformance.simulator import ALL, KEYS

ROOT = Path(__file__).resolve().parents[3]


def test_the_command_itself_speaks_the_protocol(bench: Bench) -> None:
    """The same code as in the other tests, as the process that the suite starts."""
    bench.repository.add_target("targets", "file", b"content")
    bench.repository.publish("targets", "snapshot", "timestamp")
    where = ["--target-dir", str(bench.targets), "--target-base-url", bench.mirror.targets_url]
    codes = [
        subprocess.run([sys.executable, "-m", "tests.conformance.client", *bench.arguments(*rest)], cwd=ROOT).returncode
        for rest in (
            ["refresh"],
            ["--target-name", "file", *where, "download"],
            ["--target-name", "x", *where, "download"],
        )
    ]
    assert codes == [0, 0, 1]
    assert bench.downloaded() == [b"content"]


class TestBasic:
    """basic refresh requests and trusted data, implicit refresh, invalid and unsigned initial root, unsigned metadata,
    url and version mismatch, timestamp content changes, hash support and mismatch, metadata bytes match, custom fields,
    404 of each role, incorrect metadata type, faketime.
    """

    def test_a_refresh_asks_for_what_is_new_only(self, bench: Bench) -> None:
        assert bench.refresh() == 0
        assert bench.asked() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
        assert bench.trusted() == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}
        bench.mirror.requests.clear()
        assert bench.refresh() == 0
        assert bench.asked() == ["2.root.json", "timestamp.json"]

    def test_a_download_refreshes_first(self, bench: Bench) -> None:
        bench.repository.add_target("targets", "file", b"content")
        bench.repository.publish("targets", "snapshot", "timestamp")
        assert bench.download("file") == 0
        assert bench.trusted() == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}

    @pytest.mark.parametrize("how", ["no version", "wrong signature"])
    def test_an_initial_root_that_is_not_sound_is_not_started_from(self, how: str, bench: Bench) -> None:
        def spoil(document: dict[str, Any]) -> None:
            if how == "no version":
                del document["signed"]["version"]
            else:
                document["signatures"][0]["sig"] = "00" * 64

        bench.init(edited(bench.repository.trusted_root, spoil))
        assert bench.refresh() == 1
        assert bench.mirror.requests == []

    @pytest.mark.parametrize(
        ("role", "trusted"),
        [
            ("root", {"root": 1}),
            ("timestamp", {"root": 2}),
            ("snapshot", {"root": 2, "timestamp": 2}),
            ("targets", {"root": 2, "snapshot": 2, "timestamp": 2}),
        ],
    )
    @pytest.mark.parametrize("how", ["unsigned", "another type", "another version"])
    def test_a_role_that_is_not_right_is_refused_and_what_was_right_before_it_stays(
        self, how: str, role: str, trusted: dict[str, int], bench: Bench
    ) -> None:
        repository = bench.repository
        if how == "unsigned":
            repository.signers[role] = []
        repository.publish(*ALL)
        if how == "another type":
            other = "snapshot" if role != "snapshot" else "targets"
            signed = Metadata(repository.signed[other])
            signed.sign(repository.signers[role][0])
            repository.place(role, signed.to_bytes())
        if how == "another version":
            repository.signed[role].version += 1
            content = repository.sign(role)
            repository.signed[role].version -= 1
            repository.place(role, content)
            if role == "timestamp":
                assert bench.refresh() == 0  # its version is in no name: this is a newer one
                return
        assert bench.refresh() == 1
        assert bench.trusted() == trusted

    def test_a_timestamp_with_the_same_version_and_other_content_is_left_aside(self, bench: Bench) -> None:
        assert bench.refresh() == 0
        before = (bench.metadata / "timestamp.json").read_bytes()
        bench.repository.signed["timestamp"].expires += timedelta(days=1)
        bench.repository.place("timestamp", bench.repository.sign("timestamp"))
        assert bench.refresh() == 0
        assert (bench.metadata / "timestamp.json").read_bytes() == before

    def test_hashes_of_metadata_are_accepted_when_right(self, bench: Bench) -> None:
        bench.repository.hashes = True
        bench.repository.publish(*ALL)
        assert bench.refresh() == 0

    @pytest.mark.parametrize("role", ["targets", "snapshot"])
    def test_metadata_that_has_another_hash_is_refused(self, role: str, bench: Bench) -> None:
        bench.repository.hashes = True
        bench.repository.publish(*ALL)
        path = bench.repository.path(role)
        bench.repository.files[path] = bench.repository.files[path].replace(b'"signed"', b' "signed"', 1)
        assert bench.refresh() == 1
        assert role not in bench.trusted()

    def test_metadata_is_kept_byte_for_byte_with_fields_nobody_knows(self, bench: Bench) -> None:
        repository = bench.repository
        for role in ALL:
            repository.signed[role].unrecognized_fields["x-custom"] = {"b": [1, 2], "a": None}
        repository.publish(*ALL)
        assert bench.refresh() == 0
        for role in ALL:
            assert (bench.metadata / f"{role}.json").read_bytes() == repository.files[repository.path(role)]

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_a_role_that_is_not_there_ends_the_refresh(self, role: str, bench: Bench) -> None:
        bench.repository.publish(*ALL)
        del bench.repository.files[bench.repository.path(role)]
        assert bench.refresh() == 1
        assert role not in bench.trusted()


class TestExpiry:
    """root, timestamp, snapshot and targets expired; expired local root and timestamp."""

    @pytest.mark.parametrize("role", ALL)
    def test_an_expired_role_is_refused(self, role: str, bench: Bench) -> None:
        bench.repository.signed[role].expires -= timedelta(days=40)
        bench.repository.publish(*ALL)
        assert bench.refresh() == 1
        assert "targets" not in bench.trusted()

    def test_a_local_root_that_expired_leads_to_the_next(self, bench: Bench) -> None:
        assert bench.refresh() == 0
        for role in ALL:
            bench.repository.signed[role].expires += timedelta(days=40)
        bench.repository.publish(*ALL)
        assert bench.refresh(ahead=timedelta(days=35)) == 0
        assert bench.trusted()["root"] == 2

    def test_a_local_timestamp_that_expired_still_guards_against_an_older_one(self, bench: Bench) -> None:
        for role in ("root", "snapshot", "targets"):
            bench.repository.signed[role].expires += timedelta(days=40)
        bench.repository.publish(*ALL)
        assert bench.refresh() == 0
        bench.repository.signed["timestamp"].version = 0
        bench.repository.signed["timestamp"].expires += timedelta(days=40)
        bench.repository.publish("timestamp")
        assert bench.refresh(ahead=timedelta(days=35)) == 1
        assert bench.trusted()["timestamp"] == 2


class TestRollback:
    """timestamp, snapshot and targets rollback, role removal, fast-forward recovery of each."""

    def test_a_timestamp_does_not_go_back(self, bench: Bench) -> None:
        old = bench.repository.files["metadata/timestamp.json"]
        bench.repository.publish("timestamp")
        assert bench.refresh() == 0
        bench.repository.place("timestamp", old)
        assert bench.refresh() == 1
        assert bench.trusted()["timestamp"] == 2

    @pytest.mark.parametrize("role", ["snapshot", "targets"])
    def test_what_timestamp_and_snapshot_name_does_not_go_back(self, role: str, bench: Bench) -> None:
        bench.repository.publish("targets", "snapshot", "timestamp")
        assert bench.refresh() == 0
        bench.repository.signed[role].version = 0
        names = ("snapshot", "timestamp") if role == "snapshot" else ("targets", "snapshot", "timestamp")
        bench.repository.publish(*names)
        assert bench.refresh() == 1
        assert bench.trusted()[role] == 2

    def test_a_role_does_not_leave_the_snapshot(self, bench: Bench) -> None:
        bench.repository.delegate("targets", "extra").version = 0
        bench.repository.publish("extra", "targets", "snapshot", "timestamp")
        assert bench.refresh() == 0
        del bench.repository.signed["extra"]
        del bench.repository.signed["snapshot"].meta["extra.json"]
        bench.repository.publish("snapshot", "timestamp")
        assert bench.refresh() == 1

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_a_version_far_ahead_is_healed_by_new_keys(self, role: str, bench: Bench) -> None:
        repository = bench.repository
        repository.signed[role].version = 99_998
        repository.publish("targets", "snapshot", "timestamp")
        assert bench.refresh() == 0
        for number, name in enumerate(("timestamp", "snapshot")):
            repository.set_keys(name, [KEYS[number]], 1, [KEYS[number]])
        repository.publish("root")
        for name in ("targets", "snapshot", "timestamp"):
            repository.signed[name].version = 1
        repository.publish("targets", "snapshot", "timestamp")
        assert bench.refresh() == 0
        assert bench.trusted()[role] == 2
