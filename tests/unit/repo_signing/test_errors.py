from __future__ import annotations

from repo_signing import errors


def test_every_leaf_is_in_the_drawn_tree_and_has_a_code_of_its_own() -> None:
    leaves = errors.RepositoryError.__subclasses__()
    assert errors.__doc__ is not None
    for leaf in leaves:
        assert f"─ {leaf.__name__} " in errors.__doc__
    codes = [leaf.code for leaf in leaves]
    assert len(set(codes)) == len(codes) == 36
