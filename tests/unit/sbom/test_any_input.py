"""Whatever arrives, the answer is facts or one of the room's errors."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sbom.errors import SbomError
from sbom.model import SbomFacts
from sbom.read import read_sbom

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("1.6"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_KEYS = [
    "components",
    "metadata",
    "dependencies",
    "services",
    "vulnerabilities",
    "serialNumber",
    "version",
    "signature",
]
_COMPONENT_KEYS = ["type", "name", "version", "purl", "bom-ref", "licenses", "hashes", "components", "pedigree"]
_COMPONENTS = st.lists(st.dictionaries(st.sampled_from(_COMPONENT_KEYS), _VALUES, max_size=5) | _VALUES, max_size=3)
_XML_PIECES = [
    "<",
    ">",
    "</bom>",
    "<components>",
    "<!DOCTYPE a>",
    "<!--",
    "-->",
    "<?",
    "?>",
    "&a;",
    "&#0;",
    " x='",
    "]]>",
    "\x00",
]


def answer(data: bytes) -> SbomFacts | SbomError:
    try:
        return read_sbom(data)
    except SbomError as error:
        return error


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    assert isinstance(answer(data), SbomFacts | SbomError)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES | _COMPONENTS), st.sampled_from(["1.2", "1.4", "1.6", "1.7"]))
def test_any_json_under_the_right_names_is_answered(values: dict[str, Any], spec_version: str) -> None:
    document = {"bomFormat": "CycloneDX", "specVersion": spec_version} | values
    assert isinstance(answer(json.dumps(document).encode()), SbomFacts | SbomError)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(_XML_PIECES) | st.text(max_size=5), max_size=10))
def test_any_xml_after_the_right_beginning_is_answered(pieces: list[str]) -> None:
    data = '<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1">' + "".join(pieces)
    assert isinstance(answer(data.encode("utf-8", "surrogatepass")), SbomFacts | SbomError)
