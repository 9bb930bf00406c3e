"""The store's errors: one tree, a code for each."""

from __future__ import annotations

import re

import store.errors
from store.errors import StoreError


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [leaf.code for leaf in StoreError.__subclasses__()]
    assert len(codes) == len(set(codes))
    assert StoreError.code not in codes


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", store.errors.__doc__ or "")
    assert drawn == [leaf.__name__ for leaf in StoreError.__subclasses__()]
