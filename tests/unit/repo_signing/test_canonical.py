"""orjson against securesystemslib's own encoder, and what is refused because they would differ."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from repo_signing.canonical import MAX_INTEGER, as_json, canonical, canonical_bytes, check_signable
from repo_signing.errors import InvalidRecord

texts = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]))
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFFFF, exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=40,
)


@given(values)
def test_signed_bytes_are_those_of_the_reference_encoder(value: Any) -> None:
    reference = encode_canonical(value)
    assert reference is not None
    assert canonical(value) == reference.encode()


lines = st.lists(st.text(st.sampled_from('ab"\\\\n/é')) | texts, max_size=4).map("\n".join)


@given(st.dictionaries(keys, st.fixed_dictionaries({"keyval": st.fixed_dictionaries({"public": lines})}) | texts))
def test_a_public_key_of_several_lines_is_signed_as_the_reference_does_and_is_json_in_the_file(value: Any) -> None:
    reference = encode_canonical(value)
    assert reference is not None
    payload = canonical(value)
    assert payload == reference.encode()
    assert orjson.loads(as_json(payload)) == value
    assert canonical_bytes(as_json(payload)) == payload


@given(st.recursive(st.none() | st.text() | st.integers() | st.floats(), lambda i: st.dictionaries(st.text(), i)))
def test_what_is_not_refused_is_encoded_as_the_reference_does(value: Any) -> None:
    try:
        check_signable(value)
    except InvalidRecord:
        return
    reference = encode_canonical(value)
    assert reference is not None
    assert canonical(value) == reference.encode()


@pytest.mark.parametrize(
    "value",
    [
        "line\nbreak",
        "tab\t",
        "\x00",
        "\ud800",
        {"\x1f": 1},
        {"\U0001f600": 1},
        {1: 1},
        1.5,
        float("nan"),
        2**53,
        -(2**53),
        b"bytes",
        (1, 2),
        {"deep": [{"er": "\r"}]},
        {"keyval": {"public": "tab\t"}},
        {"keyval": {"public": ["line\nbreak"]}},
        {"labels": {"public": "line\nbreak"}},
    ],
)
def test_what_encoders_disagree_on_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord):
        canonical(value)


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(InvalidRecord, match=r"labels\.site\[1\] holds the character U\+0007"):
        check_signable({"site": ["a", "\x07"]}, "labels")


def test_keys_are_sorted_and_nothing_is_spaced() -> None:
    assert canonical({"b": [1, True, None], "a": 'q"\\'}) == b'{"a":"q\\"\\\\","b":[1,true,null]}'
