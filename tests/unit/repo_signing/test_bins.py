"""How many bins, what they are called, and what is remembered of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, SuccinctRoles, TargetFile, Targets

from repo_signing import roles
from repo_signing.canonical import canonical
from repo_signing.proof import Reader, check_entries
from repo_signing.role_cache import Role, RoleCache, RoleFacts

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("targets", "bits"),
    [
        (0, 6),
        (1_000, 6),
        (1_638, 6),
        (6_553, 7),
        (6_554, 8),
        (100_000, 9),
        (1_000_000, 11),
        (10**8, 14),
        (10**9, 14),
    ],
)
def test_the_number_of_bins_follows_the_root_of_five_times_the_targets(targets: int, bits: int) -> None:
    assert roles.wanted_bits(targets) == bits


def test_no_prefix_comes_twice() -> None:
    assert [roles.next_prefix(one) for one in ("releases", "r2", "releases9")] == [
        "r2",
        "r3",
        "r10",
    ]


def test_bins_are_told_from_other_roles_by_their_names() -> None:
    names = ("releases-3f", "r2-0a3", "releases12-0a3", "releases", "releases-app", "product-3f", "revocations")
    assert [roles.bin_prefix(name) for name in names] == ["releases", "r2", "releases12", None, None, None, None]


@given(st.text(max_size=60), st.integers(6, 14))
def test_a_path_is_in_the_bin_where_python_tuf_looks_for_it(path: str, bits: int) -> None:
    names = list(roles.bin_names("r2", bits))
    theirs = SuccinctRoles([], 1, bits, "r2").get_role_for_target(path)
    assert names[roles.bin_number(path, bits)] == theirs


fields = st.dictionaries(
    st.sampled_from(["length", "hashes", "custom"]),
    st.integers(-2, 9) | st.none() | st.text(max_size=2) | st.dictionaries(st.text(max_size=2), st.text(max_size=2)),
)


@given(fields | st.fixed_dictionaries({"length": st.integers(-1, 9), "hashes": st.dictionaries(st.text(), st.text())}))
def test_entries_that_python_tuf_refuses_are_refused(entry: dict[str, Any]) -> None:
    try:
        TargetFile.from_dict({**entry, "hashes": dict(entry["hashes"])}, "a/b")
    except (ValueError, KeyError, TypeError, AttributeError):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            check_entries({"a/b": entry})


def test_a_file_that_was_encoded_here_is_read_as_python_tuf_reads_it() -> None:
    targets = {"a/1/x/y": {"custom": {"kind": "artifact"}, "hashes": {"sha256": "ab" * 32}, "length": 1}}
    meta = {"targets.json": {"version": 3}, "releases.json": {"length": 5, "version": 2}, "x.json": {"version": 3}}
    for body in (roles.holder_body("decisions", targets, 3, NOW), roles.snapshot_of_rows(meta, 3, NOW)):
        content = b'{"signatures":[],"signed":' + canonical(body) + b"}"
        theirs: Metadata[Any] = Metadata.from_bytes(content)
        signed, payload, signatures = Reader({id(content): body})(type(theirs.signed), content)
        assert payload == theirs.signed_bytes
        assert signatures == {}
        if isinstance(signed, Targets):  # the entries were checked as they are, and are not made into objects
            assert signed.targets == {}
            signed.targets = theirs.signed.targets
        assert signed == theirs.signed


def role(name: str, version: int, targets: int = 1) -> Role:
    entry = {"custom": {"kind": "artifact"}, "hashes": {"sha256": "ab" * 32}, "length": 1}
    return Role.of(name, roles.holder_body(name, {f"a/{n}": entry for n in range(targets)}, version, NOW))


def test_of_many_roles_the_facts_are_kept_and_the_content_of_the_last() -> None:
    cache = RoleCache(kept_bytes=250)
    for number in range(5):
        cache.put(role(f"releases-0{number}", 7, number), 100)
    assert [cache.role(f"releases-0{number}", 7) is not None for number in range(5)] == [False] * 3 + [True] * 2
    facts = [cache.facts(f"releases-0{number}", 7) for number in range(5)]
    assert [one.artifacts for one in facts if one is not None] == [0, 1, 2, 3, 4]


def test_another_version_is_not_taken_for_the_one_asked_for() -> None:
    cache = RoleCache()
    cache.put(role("releases-00", 7), 100)
    assert cache.role("releases-00", 8) is None
    assert cache.facts("releases-00", 8) is None
    cache.put_facts("releases-00", RoleFacts(8, NOW, 5, 4))
    cache.put(role("releases-00", 7), 100)  # by who still looks at the state before
    assert cache.facts("releases-00", 8) == RoleFacts(8, NOW, 5, 4)


def test_one_role_larger_than_all_that_is_kept_is_kept_alone() -> None:
    cache = RoleCache(kept_bytes=10)
    cache.put(role("releases-00", 7), 100)
    assert cache.role("releases-00", 7) is not None
