"""Records are divided from their bin and joined with it again, and nothing else may pass for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_signing.errors import RepositoryDamaged
from repo_signing.sheets import divided, joined, named_sheet, sheet_name

BARE = {"hashes": {"sha256": "ab" * 32}, "length": 3}
BY = {"reason": "bad", "by": {}, "at": "2026-11-01T00:00:00Z"}


def role(targets: dict[str, Any]) -> dict[str, Any]:
    return {"_type": "targets", "version": 7, "targets": targets}


customs = st.none() | st.fixed_dictionaries(
    {"kind": st.sampled_from(["artifact", "sbom"]), "id": st.text("abc", max_size=3)},
    optional={"yanked": st.just(BY), "notes": st.lists(st.text("äb ", max_size=5), max_size=2)},
)


@given(st.dictionaries(st.text("ab/.", min_size=1, max_size=8), customs, max_size=6))
def test_what_was_divided_is_joined_to_the_same(records: dict[str, Any]) -> None:
    body = role({path: BARE if custom is None else BARE | {"custom": custom} for path, custom in records.items()})
    told, sheet = divided("r2-07f", body)
    assert sheet is not None
    assert joined(dict(told), sheet) == body


def test_of_a_record_only_the_yank_stays_in_the_bin() -> None:
    custom = {"kind": "artifact", "id": "art_1", "yanked": BY}
    told, sheet = divided("r2-07f", role({"a": BARE | {"custom": custom}, "b": BARE | {"custom": {"kind": "sbom"}}}))
    assert told["targets"] == {"a": BARE | {"custom": {"yanked": BY}}, "b": BARE}
    assert sheet == (
        b'{"a":{"id":"art_1","kind":"artifact","yanked":{"at":"2026-11-01T00:00:00Z","by":{},"reason":"bad"}},'
        b'"b":{"kind":"sbom"}}'
    )
    assert named_sheet(told) == (120, "fdc959ce6bb0b5af1bada1660023c25f1fab50b00ec749493333a3a0200440f8")


@pytest.mark.parametrize("name", ["releases-3f", "releases-app", "releases", "product-app", "revocations", "targets"])
def test_roles_that_are_no_spread_bins_keep_their_records(name: str) -> None:
    body = role({"a": BARE | {"custom": {"kind": "artifact"}}})
    assert divided(name, body) == (body, None)
    assert named_sheet(body) is None


def test_other_records_than_the_named_ones_are_refused() -> None:
    told, _ = divided("r2-07f", role({"a": BARE}))
    with pytest.raises(RepositoryDamaged, match=r"the records have 3 bytes and sha256 .*, signed are 2 and"):
        joined(dict(told), b"{ }")
    with pytest.raises(RepositoryDamaged, match="x-wavegate-records is garbled"):
        named_sheet({"x-wavegate-records": {"length": 2}})


def test_the_file_of_records_stands_beside_its_bin() -> None:
    assert sheet_name(7, "r2-07f") == "7.r2-07f.records.json"
