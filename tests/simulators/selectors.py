"""Selectors and facts for property tests: few values, so that devices and terms meet often."""

from __future__ import annotations

from hypothesis import strategies as st

from fleet.selector import Fact, Relation, Selector, Term

LABEL_KEYS = ("site", "ring", "net/zone")
LABEL_VALUES = ("berlin", "Berlin", "", "a b", 'say "hi" \\', "ü", "%", "and")
PLATFORMS = ("linux-amd64", "linux-arm64")
PRODUCTS = ("app", "shell")
GROUPS = ("canary", "lab")

_COMPARED = (Relation.BELOW, Relation.UP_TO, Relation.ABOVE, Relation.FROM)
_EQUAL = (Relation.IN, Relation.NOT_IN)


def versions() -> st.SearchStrategy[str]:
    """Versions as they are and as they should not be."""
    piece = st.sampled_from(["0", "1", "2", "9", "10", "01", "a", "rc", "z", ""])
    core = st.lists(piece, min_size=1, max_size=4).map(".".join)
    return st.builds(
        lambda core, pre, build: core + pre + build,
        core,
        st.sampled_from(["", "", "-rc.1", "-rc.10", "-rc", "-", "-0", "-a-b"]),
        st.sampled_from(["", "+b1"]),
    )


def _values(of: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(of, min_size=1, max_size=3, unique=True).map(tuple)


def terms(groups: tuple[str, ...] = GROUPS) -> st.SearchStrategy[Term]:
    """Any term the grammar has; ``group`` terms name these groups."""
    key, product, equal = st.sampled_from(LABEL_KEYS), st.sampled_from(PRODUCTS), st.sampled_from(_EQUAL)
    named = {Fact.PLATFORM: PLATFORMS, Fact.PRODUCT: PRODUCTS, Fact.GROUP: groups}
    return st.one_of(
        st.builds(
            lambda name, relation, values: Term(fact=Fact.LABEL, relation=relation, name=name, values=values),
            key,
            equal,
            _values(st.sampled_from(LABEL_VALUES)),
        ),
        st.builds(
            lambda name, relation: Term(fact=Fact.LABEL, relation=relation, name=name),
            key,
            st.sampled_from([Relation.EXISTS, Relation.NOT_EXISTS]),
        ),
        *(
            st.builds(
                lambda relation, values, fact=fact: Term(fact=fact, relation=relation, values=values),
                equal,
                _values(st.sampled_from(some)),
            )
            for fact, some in named.items()
        ),
        st.builds(
            lambda name, relation, values: Term(fact=Fact.VERSION, relation=relation, name=name, values=values),
            product,
            equal,
            _values(versions().filter(bool)),
        ),
        st.builds(
            lambda name, relation, value: Term(fact=Fact.VERSION, relation=relation, name=name, values=(value,)),
            product,
            st.sampled_from(_COMPARED),
            versions().filter(bool),
        ),
        st.builds(
            lambda relation, span: Term(fact=Fact.LAST_SEEN, relation=relation, values=(span,)),
            st.sampled_from([Relation.BELOW, Relation.ABOVE]),
            st.sampled_from(["30m", "12h", "7d"]),
        ),
    )


def selectors(groups: tuple[str, ...] = GROUPS) -> st.SearchStrategy[Selector]:
    """One to four terms."""
    return st.lists(terms(groups), min_size=1, max_size=4).map(lambda some: Selector(tuple(some)))
