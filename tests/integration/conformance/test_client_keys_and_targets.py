"""The agent as a TUF client: keys, rotations, delegations, targets.

The cases are those of the tuf-conformance suite, written anew; each class names the tests of it that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from securesystemslib.signer import CryptoSigner

from tests.conformance.bench import Bench, edited
from tests.conformance.simulator import ALL, KEYS

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
        repository = bench.repository
        repository.delegate("targets", "extra")
        extra = repository.signed.pop("extra")
        repository.publish("targets", "snapshot", "timestamp")
        repository.signed["extra"] = extra
        repository.publish("extra")
        assert bench.download("missing") == 1
        assert "1.extra.json" not in bench.asked()
