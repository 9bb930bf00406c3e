"""SPDX 2.2 and 2.3, in JSON and as tags and values, on small documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sbom.errors import InvalidSbom, SbomTooLarge
from sbom.model import SbomFacts, SbomLimits
from sbom.read import read_sbom

ASSETS = Path(__file__).parents[2] / "assets" / "sbom"
FRAME: dict[str, Any] = {
    "spdxVersion": "SPDX-2.3",
    "dataLicense": "CC0-1.0",
    "SPDXID": "SPDXRef-DOCUMENT",
    "name": "doc",
    "documentNamespace": "https://example.invalid/doc",
    "creationInfo": {"created": "2026-11-21T20:00:00Z", "creators": ["Tool: maker"]},
}
TAGS = """SPDXVersion: SPDX-2.3
DataLicense: CC0-1.0
SPDXID: SPDXRef-DOCUMENT
DocumentName: doc
DocumentNamespace: https://example.invalid/doc
Creator: Tool: maker
Created: 2026-11-21T20:00:00Z
"""


def read(**members: Any) -> SbomFacts:
    return read_sbom(json.dumps(FRAME | members).encode())


def read_tags(more: str = "", **limits: int) -> SbomFacts:
    return read_sbom((TAGS + more).encode(), limits=SbomLimits(**limits))


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"SPDXID": f"SPDXRef-{name}", "name": name, "versionInfo": "1", "downloadLocation": "NONE"} | more


def relationship(left: str, kind: str, right: str) -> dict[str, str]:
    return {"spdxElementId": left, "relationshipType": kind, "relatedSpdxElement": right}


def test_a_json_document_tells_its_facts() -> None:
    assert read_sbom(ASSETS / "gateway.spdx.json") == SbomFacts(
        format="spdx-json",
        spec_version="2.3",
        media_type="application/spdx+json; version=2.3",
        components=2,
        serial_number="https://example.invalid/spdx/gateway-2.0",
        subject_name="gateway",
        subject_version="2.0",
        warnings=(),
        packages=frozenset({"pump", "pump.so", "pkg:pypi/pump@1.4.0"}),
    )


def test_tags_and_values_tell_the_same_facts() -> None:
    assert read_sbom(ASSETS / "gateway.spdx") == SbomFacts(
        format="spdx-tag-value",
        spec_version="2.3",
        media_type="text/spdx; version=2.3",
        components=2,
        serial_number="https://example.invalid/spdx/gateway-2.0",
        subject_name="gateway",
        subject_version="2.0",
        warnings=(),
        packages=frozenset({"pump", "pump.so", "pkg:pypi/pump@1.4.0"}),
    )


def test_packages_of_2_2_must_say_more_than_those_of_2_3() -> None:
    assert read(packages=[package("a")]).components == 1
    with pytest.raises(InvalidSbom) as refusal:
        read(spdxVersion="SPDX-2.2", packages=[package("a")])
    assert refusal.value.details == (
        ("packages[0]", '"copyrightText" is a required property'),
        ("packages[0]", '"licenseConcluded" is a required property'),
        ("packages[0]", '"licenseDeclared" is a required property'),
    )


def test_a_document_of_2_2_is_read() -> None:
    said = {"copyrightText": "NONE", "licenseConcluded": "MIT", "licenseDeclared": "MIT"}
    assert read(spdxVersion="SPDX-2.2", packages=[package("a", **said)]).spec_version == "2.2"


def test_what_one_document_describes_is_its_subject_and_no_component() -> None:
    facts = read(packages=[package("a"), package("b")], documentDescribes=["SPDXRef-b"])
    assert (facts.subject_name, facts.components) == ("b", 1)


def test_a_subject_may_be_described_from_its_own_side() -> None:
    facts = read(
        packages=[package("a"), package("b")],
        relationships=[relationship("SPDXRef-a", "DESCRIBED_BY", "SPDXRef-DOCUMENT")],
    )
    assert (facts.subject_name, facts.components) == ("a", 1)


def test_of_several_described_packages_none_is_the_subject() -> None:
    facts = read(packages=[package("a"), package("b")], documentDescribes=["SPDXRef-a", "SPDXRef-b"])
    assert (facts.subject_name, facts.components) == (None, 2)


def test_files_are_no_components() -> None:
    file = {"SPDXID": "SPDXRef-f", "fileName": "./f", "checksums": [{"algorithm": "SHA1", "checksumValue": "0"}]}
    assert read(packages=[package("a")], files=[file]).components == 1


def test_every_fault_says_where_it_is() -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read(
            packages=[package("a"), {"SPDXID": "SPDXRef-b", "downloadLocation": "NONE"}],
            relationships=[relationship("SPDXRef-a", "LIKES", "SPDXRef-b")],
        )
    assert [where for where, _ in refusal.value.details] == ["packages[1]", "relationships[0].relationshipType"]
    assert str(refusal.value).startswith('not valid SPDX 2.3: packages[1]: "name" is a required property; ')


@pytest.mark.parametrize(
    "members",
    [
        {"creationInfo": None},
        {"creationInfo": {"created": "2026-11-21T20:00:00Z", "creators": []}},
        {"name": 1},
        {"packages": {}},
        {"packages": [None]},
        {"unheardOf": 1},
        {"packages": [package("a", checksums=[{"algorithm": "CRC", "checksumValue": "0"}])]},
        {"packages": [package("a", primaryPackagePurpose="TOY")]},
        {"files": [{"SPDXID": "SPDXRef-f", "fileName": "./f", "checksums": []}]},
    ],
)
def test_what_breaks_the_structure_is_invalid(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidSbom, match=r"not valid SPDX 2\.3"):
        read(**members)


# Warnings.


@pytest.mark.parametrize(
    ("members", "warning"),
    [
        (
            {"packages": [package("a"), package("b", SPDXID="SPDXRef-a")]},
            '1 SPDX id used more than once: "SPDXRef-a"',
        ),
        (
            {"relationships": [relationship("SPDXRef-DOCUMENT", "CONTAINS", "SPDXRef-ghost")]},
            '1 reference to nothing in this document: "SPDXRef-ghost"',
        ),
        ({"documentDescribes": ["SPDXRef-x"]}, '1 reference to nothing in this document: "SPDXRef-x"'),
        (
            {
                "packages": [
                    package(
                        "a",
                        externalRefs=[
                            {
                                "referenceCategory": "PACKAGE_MANAGER",
                                "referenceType": "purl",
                                "referenceLocator": "no purl",
                            }
                        ],
                    )
                ]
            },
            '1 purl that cannot be parsed: "no purl"',
        ),
        ({"packages": [package("a", versionInfo="")]}, '1 component without a version: "a"'),
        (
            {"creationInfo": {"created": "yesterday", "creators": ["Tool: a"]}},
            'created is "yesterday", which is not of the form 2026-11-21T20:00:56Z',
        ),
        (
            {"creationInfo": {"created": "2026-11-21T20:00:00Z", "creators": ["me", "Person: you"]}},
            '1 creator without Tool, Person or Organization before it: "me"',
        ),
        ({"documentNamespace": ""}, "the document has no namespace, so no other document can refer to it"),
        ({"dataLicense": "MIT"}, 'dataLicense is "MIT", SPDX documents are under "CC0-1.0"'),
    ],
)
def test_what_the_structure_allows_and_is_still_wrong_is_a_warning(members: dict[str, Any], warning: str) -> None:
    assert read(**members).warnings == (warning,)


def test_what_is_elsewhere_or_nowhere_on_purpose_is_no_warning() -> None:
    ends = ("NONE", "NOASSERTION", "DocumentRef-other:SPDXRef-a")
    assert read(relationships=[relationship("SPDXRef-DOCUMENT", "CONTAINS", end) for end in ends]).warnings == ()


def test_more_packages_than_the_limit_are_refused() -> None:
    document = json.dumps(FRAME | {"packages": [package("a"), package("b")]}).encode()
    with pytest.raises(SbomTooLarge, match="2 packages, at most 1"):
        read_sbom(document, limits=SbomLimits(components=1))


# Tags and values.


def test_comments_and_a_byte_order_mark_may_stand_before_the_first_tag() -> None:
    facts = read_sbom(b"\xef\xbb\xbf# made by hand\r\n\r\n" + TAGS.replace("\n", "\r\n").encode())
    assert (facts.format, facts.warnings) == (
        "spdx-tag-value",
        ("the file begins with a byte order mark, which many readers refuse",),
    )


def test_a_text_over_lines_is_one_value_and_holds_no_tags() -> None:
    facts = read_tags(
        "PackageName: a\nSPDXID: SPDXRef-a\nPackageDownloadLocation: NONE\n"
        "PackageComment: <text>one\nPackageVersion: 2\n# three</text>\n"
    )
    assert facts.warnings == ('1 component without a version: "a"',)


def test_every_kind_of_element_is_read() -> None:
    facts = read_tags("""
ExternalDocumentRef: DocumentRef-o https://example.invalid/o SHA1: d6a770ba38583ed4bb4525bd96e50461655d2759
PackageName: a
SPDXID: SPDXRef-a
PackageVersion: 1
PackageDownloadLocation: NONE
FilesAnalyzed: true
PackageVerificationCode: d6a770ba38583ed4bb4525bd96e50461655d2758 (excludes: ./package.spdx)
PackageChecksum: SHA1: d6a770ba38583ed4bb4525bd96e50461655d2759
ExternalRef: SECURITY cpe23Type cpe:2.3:a:b:c:*:*:*:*:*:*:*:*
ExternalRefComment: <text>found</text>
FileName: ./a.c
SPDXID: SPDXRef-f
FileType: SOURCE
FileChecksum: SHA1: d6a770ba38583ed4bb4525bd96e50461655d2759
LicenseConcluded: MIT
LicenseInfoInFile: MIT
SnippetSPDXID: SPDXRef-s
SnippetName: part
SnippetFromFileSPDXID: SPDXRef-f
SnippetByteRange: 310:420
SnippetLineRange: 5:23
LicenseID: LicenseRef-1
ExtractedText: <text>Do as you like.</text>
LicenseName: Freedom
Relationship: SPDXRef-a CONTAINS SPDXRef-f
RelationshipComment: inside
Annotator: Person: me
AnnotationDate: 2026-11-21T20:00:00Z
AnnotationType: OTHER
SPDXREF: SPDXRef-a
AnnotationComment: seen
Reviewer: Person: me
ReviewDate: 2026-11-21T20:00:00Z
""")
    assert (facts.components, facts.warnings) == (1, ())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("no tag here\n", 'line 8 is not of the form "Tag: value": no tag here'),
        ("Packagename: a\n", "line 8: the tag Packagename is not of SPDX 2.2 or 2.3"),
        ("PackageVersion: 1\n", "line 8: PackageVersion stands before any package begins"),
        ("DocumentName: again\n", "line 8: DocumentName stands a second time in one element"),
        ("DocumentComment: <text>for ever\nand ever\n", "the <text> that begins on line 8 never ends"),
        ("DocumentComment: <text>a</text> b\n", "something follows the </text> of the DocumentComment"),
        ("PackageName: a\nFilesAnalyzed: perhaps\n", "line 9: FilesAnalyzed is perhaps, true or false is expected"),
        ("SnippetSPDXID: SPDXRef-s\nSnippetByteRange: 1-2\n", "line 9: SnippetByteRange is 1-2, two numbers"),
        ("PackageName: a\n", "packages[0]"),
        ("Relationship: SPDXRef-a\n", "relationships[0]"),
        ("PackageName: a\nExternalRef: purl\n", "packages[0]"),
        ("ExternalDocumentRef: DocumentRef-o\n", "externalDocumentRefs[0]"),
    ],
)
def test_what_is_no_statement_in_its_place_is_refused_with_its_line(more: str, said: str) -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read_tags(more)
    assert said in str(refusal.value)


def test_tags_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(InvalidSbom, match="UTF-8"):
        read_sbom(TAGS.encode() + b"DocumentComment: \xff\n")


def test_more_lines_than_the_limit_are_refused() -> None:
    with pytest.raises(SbomTooLarge, match="more than 5 lines"):
        read_tags(values=5)
