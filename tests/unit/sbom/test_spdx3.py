"""SPDX 3.0.1 in JSON-LD, on small documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sbom.errors import InvalidSbom, SbomTooLarge
from sbom.model import SbomFacts, SbomLimits
from sbom.read import read_sbom

ASSETS = Path(__file__).parents[2] / "assets" / "sbom"
CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
INFO: dict[str, Any] = {
    "type": "CreationInfo",
    "@id": "_:info",
    "specVersion": "3.0.1",
    "created": "2026-11-21T20:00:00Z",
    "createdBy": ["urn:x:me"],
}
DOCUMENT: dict[str, Any] = {"type": "SpdxDocument", "spdxId": "urn:x:doc", "creationInfo": "_:info"}


def read(*graph: Any, **limits: int) -> SbomFacts:
    return read_sbom(json.dumps({"@context": CONTEXT, "@graph": list(graph)}).encode(), limits=SbomLimits(**limits))


def element(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "spdxId": f"urn:x:{name}", "name": name, "creationInfo": "_:info"} | more


def package(name: str, **more: Any) -> dict[str, Any]:
    return element("software_Package", name, software_packageVersion="1", **more)


def relationship(**more: Any) -> dict[str, Any]:
    return element("Relationship", "r") | {"relationshipType": "contains", "from": "urn:x:a", "to": ["urn:x:b"]} | more


def test_a_document_tells_its_facts() -> None:
    assert read_sbom(ASSETS / "gateway.spdx3.json") == SbomFacts(
        format="spdx-3-json",
        spec_version="3.0.1",
        media_type="application/spdx+json; version=3.0.1",
        components=2,
        serial_number="https://example.invalid/spdx3/document",
        subject_name="gateway",
        subject_version="2.0",
        warnings=(),
        packages=frozenset({"pump", "pump.so", "pkg:pypi/pump@1.4.0"}),
    )


def test_elements_may_stand_inside_others() -> None:
    info = {key: value for key, value in INFO.items() if key != "@id"}
    inner = package("b", creationInfo=info)
    facts = read(INFO, DOCUMENT, package("a"), relationship(to=[inner]))
    assert (facts.components, facts.warnings) == (2, ())


def test_a_document_of_one_element_needs_no_graph() -> None:
    document = {"@context": CONTEXT} | DOCUMENT | {"creationInfo": INFO}
    assert read_sbom(json.dumps(document).encode()).components == 0


def test_what_extensions_hold_is_not_looked_at() -> None:
    facts = read(INFO, DOCUMENT | {"extension": [{"type": "https://example.invalid/own", "deep": {"type": 1}}]})
    assert facts.components == 0


def test_roots_that_lead_round_in_a_circle_are_left_alone() -> None:
    facts = read(
        INFO,
        DOCUMENT | {"rootElement": ["urn:x:s"]},
        element("software_Sbom", "s", rootElement=["urn:x:t"]),
        element("software_Sbom", "t", rootElement=["urn:x:s", "urn:x:doc"]),
        package("a"),
    )
    assert (facts.subject_name, facts.components) == (None, 1)


def test_two_roots_are_no_subject() -> None:
    facts = read(INFO, DOCUMENT | {"rootElement": ["urn:x:a", "urn:x:b"]}, package("a"), package("b"))
    assert (facts.subject_name, facts.components) == (None, 2)


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        ([INFO], ("", "it has 0 elements of type SpdxDocument, 1 is expected")),
        ([INFO, DOCUMENT, DOCUMENT], ("", "it has 2 elements of type SpdxDocument, 1 is expected")),
        ([INFO, DOCUMENT, 7], ("@graph[2]", "is 7, an object is expected")),
        ([INFO, DOCUMENT, {}], ("@graph[2]", 'an object has no text as its "type"')),
        (
            [INFO, DOCUMENT, {"type": "Toy"}],
            ("@graph[2]", 'type "Toy" is not of SPDX 3.0.1; types of extensions are absolute IRIs'),
        ),
        (
            [INFO, DOCUMENT, element("Tool", "a", spdxId="a")],
            ("@graph[2]", 'spdxId is "a", an absolute IRI is expected'),
        ),
        (
            [INFO, DOCUMENT, element("Tool", "a", creationInfo="_:other")],
            ("@graph[2]", "creationInfo leads to no CreationInfo of this document"),
        ),
        ([INFO, DOCUMENT, package("a") | {"name": ""}], ("@graph[2]", "a software_Package has no name")),
        ([INFO, DOCUMENT, element("Tool", "a") | {"name": ["a"]}], ("@graph[2]", "name is a list, a text is expected")),
        ([INFO, DOCUMENT, relationship(to="urn:x:b")], ("@graph[2]", "to is no list of elements")),
        ([INFO, DOCUMENT, relationship(to=[])], ("@graph[2]", "to is no list of elements")),
        ([INFO, DOCUMENT, relationship(to=[1])], ("@graph[2]", "to is no list of elements")),
        (
            [INFO, DOCUMENT, relationship(**{"from": None})],
            ("@graph[2]", "from is null, one element is expected"),
        ),
        (
            [INFO, DOCUMENT, relationship(relationshipType=None)],
            ("@graph[2]", "relationshipType is null, a word is expected"),
        ),
        ([INFO, DOCUMENT | {"rootElement": "urn:x:a"}], ("@graph[1]", "rootElement is no list of elements")),
        ([INFO | {"specVersion": "3.0"}, DOCUMENT], ("@graph[0]", 'specVersion is "3.0", "3.0.1" is expected')),
        (
            [INFO | {"created": "2026-11-21"}, DOCUMENT],
            ("@graph[0]", 'created is "2026-11-21", a time like 2026-11-21T20:00:56Z is expected'),
        ),
        ([INFO | {"createdBy": []}, DOCUMENT], ("@graph[0]", "createdBy is no list of agents")),
    ],
)
def test_every_fault_says_where_it_is(graph: list[Any], fault: tuple[str, str]) -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read(*graph)
    assert refusal.value.details == (fault,)


def test_nothing_may_stand_beside_the_graph() -> None:
    with pytest.raises(InvalidSbom, match='"more" stands beside @graph'):
        read_sbom(json.dumps({"@context": CONTEXT, "@graph": [INFO, DOCUMENT], "more": 1}).encode())


@pytest.mark.parametrize(
    ("graph", "warning"),
    [
        (
            [package("a"), package("b") | {"spdxId": "urn:x:a"}],
            '1 spdxId used more than once: "urn:x:a"',
        ),
        ([package("a"), relationship()], '1 reference to nothing in this document: "urn:x:b"'),
        ([package("a", software_packageUrl="no purl")], '1 purl that cannot be parsed: "no purl"'),
        (
            [
                package(
                    "a",
                    externalIdentifier=[
                        {
                            "type": "ExternalIdentifier",
                            "externalIdentifierType": "packageUrl",
                            "identifier": "no purl",
                        }
                    ],
                )
            ],
            '1 purl that cannot be parsed: "no purl"',
        ),
        ([element("software_Package", "a")], '1 component without a version: "a"'),
    ],
)
def test_what_the_structure_allows_and_is_still_wrong_is_a_warning(graph: list[Any], warning: str) -> None:
    assert read(INFO, DOCUMENT, *graph).warnings == (warning,)


def test_what_is_imported_or_of_the_model_is_no_warning() -> None:
    imports = [{"type": "ExternalMap", "externalSpdxId": "urn:y:far"}]
    graph = [package("a"), relationship(to=["urn:y:far", "NoAssertionElement", "NoneElement"])]
    assert read(INFO, DOCUMENT | {"import": imports}, *graph).warnings == ()


def test_more_packages_than_the_limit_are_refused() -> None:
    with pytest.raises(SbomTooLarge, match="2 packages, at most 1"):
        read(INFO, DOCUMENT, package("a"), package("b"), components=1)
