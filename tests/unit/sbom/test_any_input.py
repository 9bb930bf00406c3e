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


_SPDX = {
    "spdxVersion": "SPDX-2.3",
    "SPDXID": "SPDXRef-DOCUMENT",
    "name": "a",
    "dataLicense": "CC0-1.0",
    "creationInfo": {"created": "2026-11-21T20:00:00Z", "creators": ["Tool: a"]},
}
_SPDX_KEYS = ["packages", "files", "relationships", "documentDescribes", "creationInfo", "SPDXID", "documentNamespace"]
_SPDX_ITEMS = st.lists(
    st.dictionaries(
        st.sampled_from(["SPDXID", "name", "downloadLocation", "versionInfo", "externalRefs", "relationshipType"]),
        _VALUES,
        max_size=5,
    )
    | _VALUES,
    max_size=3,
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(_SPDX_KEYS), _VALUES | _SPDX_ITEMS))
def test_any_spdx_json_is_answered(values: dict[str, Any]) -> None:
    assert isinstance(answer(json.dumps(_SPDX | values).encode()), SbomFacts | SbomError)


_TAGS = [
    "PackageName:", "SPDXID:", "Relationship:", "ExternalRef:", "ExternalDocumentRef:", "FileName:", "FilesAnalyzed:",
    "PackageChecksum:", "PackageVerificationCode:", "SnippetByteRange:", "SnippetSPDXID:", "Created:", "LicenseID:",
    "ExternalRefComment:", "RelationshipComment:", " a b c", "<text>", "</text>", "\n", "\r", "#", "\x85", "1:2", "(",
]  # fmt: skip


@settings(max_examples=200)
@given(st.lists(st.sampled_from(_TAGS) | st.text(max_size=5), max_size=12))
def test_any_tags_are_answered(pieces: list[str]) -> None:
    data = "SPDXVersion: SPDX-2.3\n" + "".join(pieces)
    assert isinstance(answer(data.encode("utf-8", "surrogatepass")), SbomFacts | SbomError)


_SPDX_3_TYPES = ["SpdxDocument", "software_Sbom", "software_Package", "Relationship", "CreationInfo", "ExternalMap"]
_SPDX_3_OBJECTS = st.fixed_dictionaries(
    {"type": st.sampled_from(_SPDX_3_TYPES)},
    optional={
        "spdxId": st.sampled_from(["urn:x:a", "urn:x:b"]) | _VALUES,
        "@id": st.just("_:i") | _VALUES,
        "creationInfo": st.just("_:i") | _VALUES,
        "name": st.just("a") | _VALUES,
        "from": st.just("urn:x:a") | _VALUES,
        "to": st.just(["urn:x:a"]) | _VALUES,
        "rootElement": st.just(["urn:x:b", "urn:x:a"]) | _VALUES,
        "externalIdentifier": _VALUES,
        "externalSpdxId": _VALUES,
        "specVersion": st.just("3.0.1"),
        "created": st.just("2026-11-21T20:00:00Z"),
        "createdBy": st.just(["urn:x:a"]) | _VALUES,
        "relationshipType": st.just("contains") | _VALUES,
    },
)


@settings(max_examples=200)
@given(st.lists(_SPDX_3_OBJECTS | _VALUES, max_size=6))
def test_any_spdx_3_graph_is_answered(graph: list[Any]) -> None:
    document = {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": graph}
    assert isinstance(answer(json.dumps(document).encode()), SbomFacts | SbomError)
