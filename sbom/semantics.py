"""What no schema sees: references that lead nowhere, names used twice, purls that name nothing."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from packageurl import PackageURL

# Components below these made, assessed or preceded the product; it does not consist of them.
NOT_OF_THE_PRODUCT: Final = ("tools", "formulation", "declarations", "pedigree")

_MAX_PURLS: Final = 20_000  # parsed at about 0.1 ms each; the index will parse the others, this is only a warning
_EXAMPLES: Final = 3  # named in one warning
_SHOWN_CHARACTERS: Final = 60  # of each
_FACT_CHARACTERS: Final = 500
_BOM_LINK: Final = "urn:cdx:"  # a reference into another document
# Control, format (bidirectional overrides are among them), surrogate, private, unassigned, line and paragraph ends.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(slots=True)
class Observed:
    """What one pass over a document collects, whatever its syntax. The two words are the format's own, for messages."""

    id_word: str = "bom-ref"
    reference_word: str = "dependency reference"
    components: int = 0
    refs: list[str] = field(default_factory=list)
    wanted_refs: list[str] = field(default_factory=list)
    purls: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    without_version: list[str] = field(default_factory=list)
    unprintable_names: list[str] = field(default_factory=list)

    def component(self, name: str, version: str | None) -> None:
        """Note one component of a ``components`` list; both texts as they stand."""
        self.components += 1
        self.names.append(name)
        if not version:
            self.without_version.append(name)
        if _has_unprintable(name) or _has_unprintable(version or ""):
            self.unprintable_names.append(name)

    def packages(self) -> frozenset[str]:
        """Names and purls, as they stand."""
        return frozenset((*self.names, *self.purls))


def warnings_of(seen: Observed) -> Iterator[str]:
    """Say in sentences what is schema-valid and still wrong; one sentence per kind, with examples."""
    counted = Counter(seen.refs)
    twice = [ref for ref, times in counted.items() if times > 1]
    if twice:
        yield f"{number_of(twice, seen.id_word)} used more than once: {some_of(twice)}"
    nowhere = list(
        dict.fromkeys(ref for ref in seen.wanted_refs if ref not in counted and not ref.startswith(_BOM_LINK))
    )
    if nowhere:
        yield f"{number_of(nowhere, seen.reference_word)} to nothing in this document: {some_of(nowhere)}"
    unparseable = [purl for purl in islice(dict.fromkeys(seen.purls), _MAX_PURLS) if not _is_purl(purl)]
    if unparseable:
        yield f"{number_of(unparseable, 'purl')} that cannot be parsed: {some_of(unparseable)}"
    if seen.without_version:
        yield f"{number_of(seen.without_version, 'component')} without a version: {some_of(seen.without_version)}"
    if seen.unprintable_names:
        hidden = seen.unprintable_names
        yield f"{number_of(hidden, 'component')} named with invisible characters: {some_of(hidden)}"


def printable(text: str) -> str:
    """Make text safe to store, log and show: what cannot be seen becomes ``\\uXXXX``, the rest is kept."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def fact(text: str | None) -> str | None:
    """A text of the document as :class:`sbom.model.SbomFacts` carries it: printable and at most 500 characters."""
    return None if not text else printable(text[:_FACT_CHARACTERS])


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _UNPRINTABLE:
        return f"\\u{ord(character):04x}"
    return character


def _has_unprintable(text: str) -> bool:
    return not text.isprintable() and any(unicodedata.category(character) in _UNPRINTABLE for character in text)


def _is_purl(text: str) -> bool:
    try:
        PackageURL.from_string(text)
    except ValueError:
        return False
    return True


def number_of(found: Sequence[str], what: str) -> str:
    """``1 purl``, ``2 purls``."""
    return f"1 {what}" if len(found) == 1 else f"{len(found)} {what}s"


def some_of(found: Iterable[str]) -> str:
    """The first three of what was found, quoted, printable and cut."""
    examples = [f'"{printable(text[:_SHOWN_CHARACTERS])}"' for text in list(found)[: _EXAMPLES + 1]]
    return ", ".join(examples[:_EXAMPLES]) + (", …" if len(examples) > _EXAMPLES else "")
