"""The agent under tuf-conformance's client protocol, against a repository that a test bends as it likes.

The cases are those of that suite, written anew: names of its tests stand in the docstrings of each section.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from tests.conformance.client import main
from tests.conformance.simulator import ALL, Bent
from tests.simulators.lying_mirror import LyingMirror, lying_mirror
from tests.simulators.tuf_clients import clock_ahead

ROOT = Path(__file__).resolve().parents[2]
KEYS = [CryptoSigner.generate_ed25519() for _ in range(10)]


class Bench:
    """A repository, the mirror that serves it, and the client's two folders."""

    def __init__(self, folder: Path, repository: Bent, mirror: LyingMirror) -> None:
        self.repository, self.mirror, self.folder = repository, mirror, folder
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()

    def arguments(self, *rest: str) -> list[str]:
        return ["--metadata-dir", str(self.metadata), "--metadata-url", self.mirror.metadata_url, *rest]

    def init(self, root: bytes | None = None) -> int:
        trusted = self.folder / "initial_root.json"
        trusted.write_bytes(self.repository.trusted_root if root is None else root)
        return main(["--metadata-dir", str(self.metadata), "init", str(trusted)])

    def refresh(self, ahead: timedelta = timedelta(0)) -> int:
        with clock_ahead(ahead):
            return main(self.arguments("refresh"))

    def download(self, *names: str) -> int:
        flags = [flag for name in names for flag in ("--target-name", name)]
        where = ["--target-dir", str(self.targets), "--target-base-url", self.mirror.targets_url]
        return main(self.arguments(*flags, *where, "download"))

    def trusted(self) -> dict[str, int]:
        files = sorted(self.metadata.glob("*.json"))
        return {path.name.removesuffix(".json"): Metadata.from_file(str(path)).signed.version for path in files}

    def downloaded(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.targets.iterdir())

    def asked(self) -> list[str]:
        return [path.removeprefix("metadata/") for path in self.mirror.requests if path.startswith("metadata/")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    repository = Bent()
    with lying_mirror(repository.files) as mirror:
        bench = Bench(tmp_path, repository, mirror)
        assert bench.init() == 0
        yield bench


def edited(content: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(content)
    edit(document)
    return json.dumps(document).encode()


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
        bench.repository.files[path] = bench.repository.files[path].replace(b": ", b":  ", 1)
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


class TestKeys:
    """threshold not met, too few keys, duplicate signatures, key types and schemes, an invalid signature beside valid
    ones, key rotations of root and of the other roles.
    """

    def test_two_of_two_are_two(self, bench: Bench) -> None:
        repository = bench.repository
        repository.set_keys("snapshot", KEYS[:2], 2, KEYS[:1])
        repository.publish(*ALL)
        assert bench.refresh() == 1
        assert "snapshot" not in bench.trusted()

    def test_more_signatures_asked_for_than_there_are_keys(self, bench: Bench) -> None:
        repository = bench.repository
        repository.set_keys("snapshot", KEYS[:2], 3, KEYS[:2])
        repository.publish(*ALL)
        assert bench.refresh() == 1

    def test_one_signature_given_twice_is_one(self, bench: Bench) -> None:
        repository = bench.repository
        repository.set_keys("timestamp", KEYS[:2], 2, KEYS[:1])
        repository.publish(*ALL)
        content = repository.files[repository.path("timestamp")]
        repository.place("timestamp", edited(content, lambda told: told["signatures"].append(told["signatures"][0])))
        assert bench.refresh() == 1
        assert bench.trusted() == {"root": 2}

    @pytest.mark.parametrize(
        "key", [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa]
    )
    def test_kinds_of_keys(self, key: Callable[[], CryptoSigner], bench: Bench) -> None:
        mine = [key()]
        bench.repository.set_keys("timestamp", mine, 1, mine)
        bench.repository.publish(*ALL)
        assert bench.refresh() == 0

    def test_a_wrong_signature_beside_enough_right_ones_does_no_harm(self, bench: Bench) -> None:
        repository = bench.repository
        repository.set_keys("timestamp", KEYS[:2], 1, KEYS[:2])
        repository.publish(*ALL)
        content = repository.files[repository.path("timestamp")]
        repository.place("timestamp", edited(content, lambda told: told["signatures"][0].update(sig="ab" * 64)))
        assert bench.refresh() == 0

    @pytest.mark.parametrize("number", range(13))
    def test_rotations_of_the_root(self, number: int, bench: Bench) -> None:
        steps, accepted = ROOT_ROTATIONS[number]
        repository = bench.repository
        repository.signed["root"].version = 0
        for keys, threshold, by in steps:
            repository.set_keys("root", [KEYS[n] for n in keys], threshold, [KEYS[n] for n in by])
            repository.publish("root")
        bench.init(repository.files["metadata/1.root.json"])
        assert bench.refresh() == (0 if accepted else 1)
        assert bench.trusted()["root"] == (len(steps) if accepted else len(steps) - 1)

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    @pytest.mark.parametrize(
        ("keys", "threshold", "by", "accepted"),
        [
            ([2], 1, [2], True),
            ([1], 1, [3, 1, 4], True),
            ([2], 1, [1, 3, 4], False),
            ([0, 1, 3, 4, 5], 3, [0, 2, 4], False),
            ([0, 1, 3, 4, 5], 3, [0, 4], False),
            ([0, 1, 2, 3, 4], 3, [0, 2, 4], True),
            ([0, 1, 2, 3, 4], 3, [2, 3, 4], True),
        ],
    )
    def test_rotations_of_the_other_roles(
        self, keys: list[int], threshold: int, by: list[int], accepted: bool, role: str, bench: Bench
    ) -> None:
        bench.repository.set_keys(role, [KEYS[n] for n in keys], threshold, [KEYS[n] for n in by])
        bench.repository.publish(*ALL)
        assert bench.refresh() == (0 if accepted else 1)
        assert (role in bench.trusted()) == accepted


Step = tuple[Sequence[int], int, Sequence[int]]  # keys, threshold, signed by

FIVE, OTHER_FIVE, FIVE_ONE_NEW = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (0, 1, 3, 4, 5)
ROOT_ROTATIONS: list[tuple[Sequence[Step], bool]] = [
    ((((1,), 1, (1,)), ((2,), 1, (2, 1)), ((2,), 1, (2,))), True),
    ((((1,), 1, (1,)), ((2,), 1, (3, 2, 1, 4))), True),
    (((FIVE, 3, (0, 2, 4)), (FIVE, 3, (0, 4, 1))), True),
    # Four of the keys stay, and three of those sign: enough for the old threshold and the new one.
    (((FIVE, 3, (0, 2, 4)), (FIVE_ONE_NEW, 3, (0, 4, 1))), True),
    (((FIVE, 3, (0, 2, 4)), (OTHER_FIVE, 3, (0, 2, 4, 5, 6, 7)), (OTHER_FIVE, 3, (5, 6, 7))), True),
    ((((1, 2, 3), 1, (1,)), ((1, 2, 3), 2, (1, 2))), True),
    ((((1, 2, 3), 2, (1, 2)), ((1, 2, 3), 1, (1, 2)), ((1, 2, 3), 1, (1,))), True),
    ((((1,), 1, (1,)), ((2,), 1, (2, 3, 4))), False),
    ((((1,), 1, (1,)), ((2,), 1, (1, 3, 4))), False),
    (((FIVE, 3, (0, 2, 4)), (FIVE_ONE_NEW, 3, (0, 2, 4))), False),
    (((FIVE, 3, (0, 2, 4)), (FIVE_ONE_NEW, 3, (0, 4, 5))), False),
    ((((1, 2, 3), 1, (1,)), ((1, 2, 3), 2, (2,))), False),
    ((((1, 2, 3), 2, (1, 2)), ((1, 2, 3), 1, (1,))), False),
]


class TestTargets:
    """expected file also in a sub directory, substituted file, multiple changes, hash algorithms, artifact cache,
    unusual role names, graph traversal, target file search, a delegation that the snapshot does not name.
    """

    @pytest.mark.parametrize("path", ["file", "folder/file", "a/b/c.tar.gz"])
    @pytest.mark.parametrize("hashes", [["sha256"], ["sha512"], ["sha256", "sha512"]])
    def test_a_target_is_fetched_once(self, path: str, hashes: list[str], bench: Bench) -> None:
        bench.repository.add_target("targets", path, b"content", hashes)
        bench.repository.publish("targets", "snapshot", "timestamp")
        assert [bench.download(path), bench.download(path)] == [0, 0]
        assert bench.downloaded() == [b"content"]
        assert sum(asked.startswith("targets/") for asked in bench.mirror.requests) == 1

    def test_a_target_known_only_by_a_hash_nobody_knows_is_refused(self, bench: Bench) -> None:
        served = bench.repository.add_target("targets", "file", b"content")
        target = bench.repository.signed["targets"].targets["file"]
        target.hashes = {"sha3-unheard-of": target.hashes["sha256"]}
        bench.repository.publish("targets", "snapshot", "timestamp")
        assert served in bench.repository.files
        assert bench.download("file") == 1
        assert bench.downloaded() == []

    def test_bytes_that_were_exchanged_are_refused(self, bench: Bench) -> None:
        one = bench.repository.add_target("targets", "one", b"content one")
        two = bench.repository.add_target("targets", "two", b"content two")
        bench.repository.publish("targets", "snapshot", "timestamp")
        assert bench.download("one") == 0
        bench.repository.files |= {one: b"malicious 1", two: b"malicious 2"}
        bench.download("one")
        assert bench.download("two") == 1
        assert bench.downloaded() == [b"content one"]

    def test_a_target_that_changes_keeps_its_place(self, bench: Bench) -> None:
        for number in range(4):
            bench.repository.add_target("targets", "file", b"content %d" % number)
            bench.repository.publish("targets", "snapshot", "timestamp")
            assert bench.download("file") == 0
            assert bench.downloaded() == [b"content %d" % number]

    def test_targets_are_taken_in_order_until_one_fails(self, bench: Bench) -> None:
        for name in ("one", "three"):
            bench.repository.add_target("targets", name, name.encode())
        bench.repository.publish("targets", "snapshot", "timestamp")
        assert bench.download("one", "two", "three") == 1
        assert bench.downloaded() == [b"one"]

    @pytest.mark.parametrize("name", ["?", "#", "/delegatedrole", "../delegatedrole", "a b", "ü"])
    def test_a_role_name_is_never_a_path(self, name: str, bench: Bench) -> None:
        bench.repository.delegate("targets", name)
        bench.repository.publish(name, "targets", "snapshot", "timestamp")
        assert bench.download("missing") == 1
        assert bench.asked()[-1] == bench.repository.path(name).removeprefix("metadata/")
        assert not [path for path in bench.folder.rglob("*delegatedrole*") if path.parent != bench.metadata]

    @pytest.mark.parametrize("case", ["depth first", "terminating", "paths", "cycle", "diamond"])
    def test_delegations_are_walked_in_order_and_depth_first(self, case: str, bench: Bench) -> None:
        edges, order = GRAPHS[case]
        for delegator, name, paths, terminating in edges:
            bench.repository.delegate(delegator, name, paths, terminating=terminating)
        roles = dict.fromkeys(name for _, name, _, _ in edges)
        bench.repository.publish(*roles, "targets", "snapshot", "timestamp")
        assert bench.download("missing") == 1
        assert bench.asked()[4:] == [f"1.{name}.json" for name in order]

    @pytest.mark.parametrize(
        ("path", "found", "walked"),
        [
            ("targetfile", True, []),
            ("README.md", True, ["A"]),
            ("releases/x/x_v1", True, ["B", "C"]),
            ("releases/y/y_v1.zip", True, ["B", "D"]),
            ("releases/z/z_v1.zip", False, ["B"]),
            ("releases/README.md", False, []),
            ("foo-1.tgz", True, ["A"]),
            ("foo-alpha.tgz", False, []),
            ("README.MD", False, []),
        ],
    )
    def test_a_target_is_found_where_it_is_delegated(
        self, path: str, found: bool, walked: list[str], bench: Bench
    ) -> None:
        repository = bench.repository
        repository.delegate("targets", "A", ["*.doc", "*.md", "foo-?.tgz"])
        repository.delegate("targets", "B", ["releases/*/*"])
        repository.delegate("B", "C", ["releases/x/*"])
        repository.delegate("B", "D", ["releases/y/*.zip"])
        placed = {
            "targets": ["targetfile"],
            "A": ["README.md", "releases/README.md", "foo-1.tgz", "foo-alpha.tgz"],
            "C": ["releases/x/x_v1"],
            "D": ["releases/y/y_v1.zip", "releases/z/z_v1.zip"],
        }
        for role, paths in placed.items():
            for one in paths:
                repository.add_target(role, one, f"{one} by {role}".encode())
        repository.publish("A", "B", "C", "D", "targets", "snapshot", "timestamp")
        assert bench.download(path) == (0 if found else 1)
        assert bool(bench.downloaded()) == found
        assert bench.asked()[4:] == [f"1.{name}.json" for name in walked]

    def test_a_delegation_that_the_snapshot_does_not_name_is_refused(self, bench: Bench) -> None:
        bench.repository.delegate("targets", "extra")
        bench.repository.publish("targets", "snapshot", "timestamp")
        bench.repository.publish("extra")
        del bench.repository.signed["snapshot"].meta["extra.json"]
        bench.repository.signed["snapshot"].version += 1
        bench.repository.place("snapshot", bench.repository.sign("snapshot"))
        bench.repository.publish("timestamp")
        assert bench.download("missing") == 1
        assert "1.extra.json" not in bench.asked()


Edge = tuple[str, str, Sequence[str], bool]  # delegator, role, paths, terminating
ANY = ("*",)
GRAPHS: dict[str, tuple[list[Edge], list[str]]] = {
    "depth first": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("A", "C", ANY, False), ("C", "D", ANY, False)],
        ["A", "C", "D", "B"],
    ),
    "terminating": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("A", "C", ANY, True), ("A", "D", ANY, False)],
        ["A", "C"],
    ),
    "paths": (
        [("targets", "A", ("*.py",), False), ("targets", "B", ANY, False), ("A", "C", ANY, False)],
        ["B"],
    ),
    "cycle": (
        [
            ("targets", "A", ANY, False),
            ("targets", "B", ANY, False),
            ("B", "C", ANY, False),
            ("C", "D", ANY, False),
            ("D", "B", ANY, False),
        ],
        ["A", "B", "C", "D"],
    ),
    "diamond": (
        [("targets", "A", ANY, False), ("targets", "B", ANY, False), ("B", "C", ANY, False), ("A", "C", ANY, False)],
        ["A", "C", "B"],
    ),
}
