"""Selectors: who is in a group, said by what devices are. One grammar, one meaning, no guesses.

::

    selector = term { "and" term }
    term     = fact ( "=" | "!=" ) value
             | fact [ "not" ] "in" "(" value { "," value } ")"
             | "labels." key [ "not" ] "exists"
             | "version(" product ")" ( "<" | "<=" | ">" | ">=" ) value
             | "last_seen" ( "<" | ">" ) number ( "m" | "h" | "d" )
    fact     = "labels." key | "platform" | "product" | "group" | "version(" product ")"
    value    = word | '"' characters, with \\" and \\\\ '"'

A device without the fact does not equal any value: ``=``, ``in`` and the comparisons do not hold for it, ``!=`` and
``not in`` do. ``product`` is what it runs of (one of several), ``group`` a static group it is in. ``last_seen < 7d``:
it called within seven days; a device that never called was last seen longer ago than any span.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

from fleet.errors import InvalidSelector
from fleet.model import Device
from fleet.version_order import order_key

MAX_SELECTOR: Final = 2_000  # characters
MAX_TERMS: Final = 16
MAX_VALUES: Final = 50  # in one list
MAX_VALUE: Final = 255  # characters, as a label's value has at most
MAX_SPAN: Final = timedelta(days=3_650)

_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_TOKEN: Final = re.compile(
    r"""(?P<blank>\ +)|(?P<op><=|>=|!=|=|<|>|\(|\)|,)|"(?P<quoted>(?:[^"\\]|\\["\\])*)"|(?P<word>[\w.+:/@~-]+)""",
    re.VERBOSE | re.ASCII,
)
_WORD: Final = re.compile(r"[\w.+:/@~-]+", re.ASCII)
_RESERVED: Final = frozenset({"and", "or", "not", "in", "exists"})
_LABEL_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,6})([mhd])")


class Fact(StrEnum):
    """What a term looks at."""

    LABEL = "labels"
    PLATFORM = "platform"
    PRODUCT = "product"
    GROUP = "group"
    VERSION = "version"
    LAST_SEEN = "last_seen"


class Relation(StrEnum):
    """How a term compares; ``IN`` and ``NOT_IN`` with one value are ``=`` and ``!=``."""

    IN = "in"
    NOT_IN = "not in"
    EXISTS = "exists"
    NOT_EXISTS = "not exists"
    BELOW = "<"
    UP_TO = "<="
    ABOVE = ">"
    FROM = ">="


_COMPARISONS: Final = {one.value: one for one in (Relation.BELOW, Relation.UP_TO, Relation.ABOVE, Relation.FROM)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition. ``name`` is the label's key or the product's slug; ``values`` are texts, a span as written."""

    fact: Fact
    relation: Relation
    name: str = ""
    values: tuple[str, ...] = ()

    @property
    def span(self) -> timedelta:
        """The span of a ``last_seen`` term."""
        number, unit = self.values[0][:-1], self.values[0][-1]
        return int(number) * _UNITS[unit]

    def holds(self, device: Device, now: datetime) -> bool:
        """Whether the device meets it; ``device.groups`` are names."""
        if self.fact is Fact.LAST_SEEN:
            seen = device.last_seen_at
            within = seen is not None and seen > now - self.span
            return within if self.relation is Relation.BELOW else seen is None or seen < now - self.span
        if self.fact is Fact.VERSION:
            return self._holds_version(device)
        if self.fact is Fact.LABEL:
            value = device.labels.get(self.name)
            if self.relation in {Relation.EXISTS, Relation.NOT_EXISTS}:
                return (value is not None) == (self.relation is Relation.EXISTS)
            has = value is not None and value in self.values
        elif self.fact is Fact.PLATFORM:
            has = device.platform in self.values
        else:
            there = device.running if self.fact is Fact.PRODUCT else device.groups
            has = any(value in there for value in self.values)
        return has == (self.relation is Relation.IN)

    def _holds_version(self, device: Device) -> bool:
        runs = device.running.get(self.name)
        if runs is None:
            return self.relation is Relation.NOT_IN
        mine, wanted = order_key(runs.version), [order_key(value) for value in self.values]
        match self.relation:
            case Relation.BELOW:
                return mine < wanted[0]
            case Relation.UP_TO:
                return mine <= wanted[0]
            case Relation.ABOVE:
                return mine > wanted[0]
            case Relation.FROM:
                return mine >= wanted[0]
            case _:
                return (mine in wanted) == (self.relation is Relation.IN)

    def __str__(self) -> str:
        named = {Fact.LABEL: f"labels.{self.name}", Fact.VERSION: f"version({self.name})"}
        fact = named.get(self.fact, self.fact.value)
        if self.relation in {Relation.EXISTS, Relation.NOT_EXISTS}:
            return f"{fact} {self.relation}"
        if self.relation in {Relation.IN, Relation.NOT_IN} and len(self.values) > 1:
            return f"{fact} {self.relation} ({', '.join(map(_written, self.values))})"
        sign = {Relation.IN: "=", Relation.NOT_IN: "!="}.get(self.relation, self.relation.value)
        return f"{fact} {sign} {_written(self.values[0])}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Terms that must all hold. ``str`` gives it in its one written form, which parses to an equal selector."""

    terms: tuple[Term, ...]

    def holds(self, device: Device, now: datetime) -> bool:
        """Whether a device with these labels, platform, running products, static groups and last call is in."""
        return all(term.holds(device, now) for term in self.terms)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the static groups it looks at, each once, in the order written."""
        named = (value for term in self.terms if term.fact is Fact.GROUP for value in term.values)
        return tuple(dict.fromkeys(named))

    def __str__(self) -> str:
        return " and ".join(map(str, self.terms))


@lru_cache(maxsize=4_096)
def parse(text: str) -> Selector:
    """Read a selector; the same text is read once, so that check-ins pay for it once.

    Raises:
        InvalidSelector: Anything outside the grammar, with the place, what was found and what was expected there.
    """
    if len(text) > MAX_SELECTOR:
        raise InvalidSelector(f"the selector has {len(text)} characters, at most {MAX_SELECTOR} are read")
    reader = _Reader(text)
    terms = [_term(reader)]
    while not reader.at_end:
        reader.expect("and")
        terms.append(_term(reader))
    if len(terms) > MAX_TERMS:
        raise InvalidSelector(f"the selector has {len(terms)} terms, at most {MAX_TERMS} are read")
    return Selector(tuple(terms))


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    place: int  # characters before it
    is_quoted: bool = False


class _Reader:
    """The tokens of a selector, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [*_tokens(text)]
        self._next = 0

    @property
    def at_end(self) -> bool:
        return self._next == len(self._tokens)

    def is_next(self, text: str) -> bool:
        return not self.at_end and not self._tokens[self._next].is_quoted and self._tokens[self._next].text == text

    def take(self, wanted: str) -> _Token:
        if self.at_end:
            raise InvalidSelector(f"the selector ends where {wanted} is expected")
        self._next += 1
        return self._tokens[self._next - 1]

    def expect(self, text: str) -> None:
        if not self.is_next(text):
            raise self.fault(self.take(repr(text)), repr(text))
        self._next += 1

    def fault(self, found: _Token, wanted: str) -> InvalidSelector:
        return InvalidSelector(f"at character {found.place + 1} of the selector: {found.text!r}, expected {wanted}")

    def word(self, pattern: re.Pattern[str], wanted: str) -> str:
        token = self.take(wanted)
        if token.is_quoted or pattern.fullmatch(token.text) is None:
            raise self.fault(token, wanted)
        return token.text

    def value(self) -> str:
        token = self.take("a value")
        if not token.is_quoted and (_WORD.fullmatch(token.text) is None or token.text in _RESERVED):
            raise self.fault(token, "a value, in double quotes if it holds more than letters, digits, . _ + : / @ ~ -")
        if len(token.text) > MAX_VALUE or not token.text.isprintable():
            raise self.fault(token, f"a value of at most {MAX_VALUE} printable characters")
        return token.text


def _tokens(text: str) -> list[_Token]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise InvalidSelector(
                f"at character {place + 1} of the selector: {text[place : place + 20]!r}, expected a fact such as "
                "labels.site, platform, product, group, version(app) or last_seen"
            )
        if match["quoted"] is not None:
            found.append(_Token(re.sub(r"\\(.)", r"\1", match["quoted"]), place, is_quoted=True))
        elif match["blank"] is None:
            found.append(_Token(match[0], place))
        place = match.end()
    return found


def _term(reader: _Reader) -> Term:
    fact, name = _fact(reader)
    if fact is Fact.LAST_SEEN:
        relation = Relation.BELOW if reader.is_next("<") else Relation.ABOVE
        reader.expect(relation.value if relation is Relation.BELOW else ">")
        token = reader.take("a span such as 7d")
        match = _SPAN.fullmatch(token.text)
        if match is None or token.is_quoted or int(match[1]) * _UNITS[match[2]] > MAX_SPAN:
            raise reader.fault(token, "a span of at most ten years such as 30m, 12h or 7d")
        return Term(fact=fact, relation=relation, values=(token.text,))
    if fact is Fact.LABEL and reader.is_next("exists"):
        reader.expect("exists")
        return Term(fact=fact, relation=Relation.EXISTS, name=name)
    for sign in _COMPARISONS if fact is Fact.VERSION else ():
        if reader.is_next(sign):
            reader.expect(sign)
            return Term(fact=fact, relation=_COMPARISONS[sign], name=name, values=(reader.value(),))
    if reader.is_next("=") or reader.is_next("!="):
        relation = Relation.IN if reader.is_next("=") else Relation.NOT_IN
        reader.take("'='")
        return Term(fact=fact, relation=relation, name=name, values=(reader.value(),))
    relation = Relation.IN
    if reader.is_next("not"):
        reader.expect("not")
        relation = Relation.NOT_IN
        if fact is Fact.LABEL and reader.is_next("exists"):
            reader.expect("exists")
            return Term(fact=fact, relation=Relation.NOT_EXISTS, name=name)
    if not reader.is_next("in"):
        signs = "=, !=, in" + (", <, <=, >, >=" if fact is Fact.VERSION else ", exists" if fact is Fact.LABEL else "")
        raise reader.fault(reader.take(f"one of {signs}"), f"one of {signs}")
    reader.expect("in")
    return Term(fact=fact, relation=relation, name=name, values=_values(reader))


def _fact(reader: _Reader) -> tuple[Fact, str]:
    token = reader.take("a fact such as labels.site or platform")
    if not token.is_quoted:
        if token.text == "version":
            reader.expect("(")
            product = reader.word(_SLUG, "a product: 1 to 100 of a-z 0-9 . _ + -")
            reader.expect(")")
            return Fact.VERSION, product
        if token.text in {Fact.PLATFORM, Fact.PRODUCT, Fact.GROUP, Fact.LAST_SEEN}:
            return Fact(token.text), ""
        key = token.text.removeprefix("labels.")
        if key != token.text and _LABEL_KEY.fullmatch(key) is not None:
            return Fact.LABEL, key
    raise reader.fault(token, "labels.<key>, platform, product, group, version(<product>) or last_seen")


def _values(reader: _Reader) -> tuple[str, ...]:
    reader.expect("(")
    values = [reader.value()]
    while reader.is_next(","):
        reader.expect(",")
        values.append(reader.value())
    reader.expect(")")
    if len(values) > MAX_VALUES:
        raise InvalidSelector(f"a list of {len(values)} values in the selector, at most {MAX_VALUES} are read")
    return tuple(dict.fromkeys(values))


def _written(value: str) -> str:
    if _WORD.fullmatch(value) is not None and value not in _RESERVED:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
