"""What reading an SBOM answers, on small documents written out here."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.model import SbomFacts, SbomLimits
from sbom.read import read_sbom

ASSETS = Path(__file__).parents[2] / "assets" / "sbom"
FRAME: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
XML = '<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1">{}</bom>'
ONE_XML_COMPONENT = '<components><component type="library"><name>n</name><version>1</version></component></components>'


def read(text: str | bytes, **limits: int) -> SbomFacts:
    return read_sbom(text.encode() if isinstance(text, str) else text, limits=SbomLimits(**limits))


def read_components(*components: dict[str, Any], **more: Any) -> SbomFacts:
    return read(json.dumps(FRAME | {"components": list(components)} | more))


def library(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "library", "name": name, "version": "1"} | more


def test_a_json_document_tells_its_facts() -> None:
    assert read_sbom(ASSETS / "gateway.cdx.json") == SbomFacts(
        format="cyclonedx-json",
        spec_version="1.6",
        media_type="application/vnd.cyclonedx+json; version=1.6",
        components=2,
        serial_number="urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        subject_name="gateway",
        subject_version="2.0",
        warnings=(),
        packages=frozenset({"pump", "pump.so", "pkg:pypi/pump@1.4.0"}),
    )


def test_an_xml_document_tells_the_same_facts() -> None:
    assert read_sbom(ASSETS / "gateway.cdx.xml") == SbomFacts(
        format="cyclonedx-xml",
        spec_version="1.6",
        media_type="application/vnd.cyclonedx+xml; version=1.6",
        components=2,
        serial_number="urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        subject_name="gateway",
        subject_version="2.0",
        warnings=(),
        packages=frozenset({"pump", "pump.so", "pkg:pypi/pump@1.4.0"}),
    )


def test_a_stream_is_read_like_a_file() -> None:
    with (ASSETS / "gateway.cdx.json").open("rb") as stream:
        assert read_sbom(stream).components == 2


def test_a_stream_that_gives_one_byte_at_a_time_is_read_to_its_end() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1)

    assert read_sbom(Slow(json.dumps(FRAME).encode())).components == 0


@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"])
def test_each_json_version_has_its_schema(version: str) -> None:
    assert read(json.dumps(FRAME | {"specVersion": version, "components": []})).spec_version == version


@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"])
def test_each_xml_version_has_its_schema(version: str) -> None:
    empty = XML.replace("1.6", version).format("<components/>")
    assert read(empty).spec_version == version


# Warnings: the schema allows it, a reader trips over it.


def test_a_bom_ref_used_twice_is_a_warning() -> None:
    facts = read_components(library("a", **{"bom-ref": "x"}), library("b", **{"bom-ref": "x"}))
    assert facts.warnings == ('1 bom-ref used more than once: "x"',)


def test_a_dependency_on_nothing_is_a_warning() -> None:
    facts = read_components(
        library("a", **{"bom-ref": "a"}), dependencies=[{"ref": "a", "dependsOn": ["a", "ghost", "urn:cdx:1/1#x"]}]
    )
    assert facts.warnings == ('1 dependency reference to nothing in this document: "ghost"',)


def test_purls_that_cannot_be_parsed_are_a_warning_with_examples() -> None:
    facts = read_components(*(library("a", purl=f"no purl {number}") for number in range(5)))
    assert facts.warnings == ('5 purls that cannot be parsed: "no purl 0", "no purl 1", "no purl 2", …',)


def test_a_component_without_version_is_a_warning() -> None:
    assert read_components({"type": "library", "name": "a"}).warnings == ('1 component without a version: "a"',)


def test_an_invisible_character_in_a_name_is_shown_escaped() -> None:
    facts = read_components(library("a\x00b\u202egnp.exe"))
    assert facts.warnings == ('1 component named with invisible characters: "a\\u0000b\\u202egnp.exe"',)


def test_no_control_character_reaches_the_subject() -> None:
    facts = read_components(metadata={"component": library("a\x00b", version="1\u202e2")})
    assert (facts.subject_name, facts.subject_version) == ("a\\u0000b", "1\\u202e2")


def test_a_byte_order_mark_before_json_is_a_warning() -> None:
    facts = read(b"\xef\xbb\xbf" + json.dumps(FRAME).encode())
    assert facts.warnings == ("the file begins with a byte order mark, which many readers refuse",)


def test_components_of_tools_and_of_the_build_are_not_counted() -> None:
    facts = read_components(
        library("a"),
        metadata={"tools": {"components": [library("scanner")]}},
        formulation=[{"components": [library("compiler")]}],
    )
    assert facts.components == 1


# Refusals.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("hello", "not JSON"),
        ("[]", "the JSON is a list, an object"),
        ("{}", "bomFormat is missing"),
        ('{"bomFormat": "SPDX"}', 'bomFormat is "SPDX"'),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        (f'{{"a": {"1" * 100_000}}}', "does not fit into 64 bits"),
        ('{"a": -9223372036854775809}', "the number -9223372036854775809 does not fit into 64 bits"),
        ('{"a": 18446744073709551616}', "the number 18446744073709551616 does not fit into 64 bits"),
        ('{"a": "\\ud800"}', "not JSON: no low surrogate in string"),
        ('{"a": "\\udc00x"}', "not JSON"),
        ('{"a": "\x00"}', "not JSON: Invalid control character"),
        ('{"a": 1', "not JSON"),
        ("<bom/>", "the root element is bom"),
        ("<bom>", "not well-formed XML"),
        ("<", "not well-formed XML"),
        ("<!-- never closed", "not well-formed XML"),
        ('<?xml version="1.0" encoding="UTF-16"?><bom/>', "declares the encoding UTF-16"),
        ('<?xml version="1.0" encoding="UTF-7"?><bom/>', "declares the encoding UTF-7"),
        (XML.format("<name>&#0;</name>"), "not well-formed XML"),
        (XML.format("<components><component/></components>"), "not valid CycloneDX 1.6: line 1"),
    ],
)
def test_what_is_no_valid_document_is_refused_with_its_reason(text: str, said: str) -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read(text)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "data",
    [b'{"a": "\xff"}', b"<a>\xff</a>", "<bom/>".encode("utf-16"), json.dumps(FRAME).encode("utf-16"), b"\xed\xa0\x80"],
    ids=["json", "xml", "utf-16 xml", "utf-16 json", "encoded surrogate"],
)
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidSbom, match="UTF-8"):
        read(data)


def test_every_fault_says_where_it_is() -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read_components(library("a"), {"type": "library"}, library("b", hashes=[{"alg": "MD0", "content": "00" * 16}]))
    assert refusal.value.details == (
        ("components[1]", '"name" is a required property'),
        ("components[2].hashes[0].alg", '"MD0" is not one of "MD5", "SHA-1" or 10 other candidates'),
    )


def test_a_fault_of_the_whole_document_has_no_details() -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read("{}")
    assert refusal.value.details == ()


def test_a_repeated_component_is_invalid() -> None:
    with pytest.raises(InvalidSbom, match="some are repeated"):
        read_components(library("a"), library("a"))


def test_no_more_than_twenty_faults_are_listed() -> None:
    with pytest.raises(InvalidSbom) as refusal:
        read_components(*({"type": "nonsense", "name": f"a{number}"} for number in range(100)))
    assert len(refusal.value.details) == 20


@pytest.mark.parametrize(
    "text",
    [
        '{"bomFormat": "CycloneDX", "specVersion": "9.9"}',
        '{"bomFormat": "CycloneDX", "specVersion": "1.1"}',
        '{"bomFormat": "CycloneDX", "specVersion": 1.6}',
        '{"bomFormat": "CycloneDX", "specVersion": ["1.6"]}',
        '{"bomFormat": "CycloneDX"}',
        '{"spdxVersion": "SPDX-2.1"}',
        '{"spdxVersion": "2.3"}',
        '{"spdxVersion": 2.3}',
        '{"@context": "https://spdx.org/rdf/3.0.0/spdx-context.jsonld"}',
        '{"@context": ["https://spdx.org/rdf/3.0.1/spdx-context.jsonld"]}',
        "SPDXVersion: SPDX-2.1\n",
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>',
        XML.replace("1.6", "1.1").format("<components/>"),
        XML.replace("1.6", "9.9").format("<components/>"),
    ],
)
def test_other_formats_and_versions_are_told_what_is_read(text: str) -> None:
    with pytest.raises(UnsupportedSbom, match=r"CycloneDX 1\.2 to 1\.7 .* SPDX 3\.0\.1 \(JSON-LD\) are read"):
        read(text)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (json.dumps(FRAME), {"length": 10}),
        (json.dumps(FRAME | {"components": [library("a"), library("b")]}), {"components": 1}),
        (json.dumps(FRAME | {"components": [library("a")]}), {"values": 10}),
        (json.dumps(FRAME | {"components": [library("a")]}), {"depth": 2}),
        ("[" * 100_000, {}),
        (XML.format(ONE_XML_COMPONENT), {"components": 0}),
        (XML.format(ONE_XML_COMPONENT), {"values": 5}),
    ],
)
def test_what_is_beyond_a_limit_is_refused(text: str, limits: dict[str, int]) -> None:
    with pytest.raises(SbomTooLarge):
        read(text, **limits)


def test_brackets_inside_strings_are_no_nesting() -> None:
    assert read_components(library("[" * 1000 + '"\\[')).components == 1


def test_xml_nested_deeper_than_its_parser_allows_is_refused() -> None:
    with pytest.raises(InvalidSbom, match="not well-formed XML"):
        read(XML.format("<a>" * 20_000 + "</a>" * 20_000))


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE bom>",
        '<!DOCTYPE bom SYSTEM "http://localhost/x.dtd">',
        "<?xml version='1.0'?>\n<!-- > --><?a b?>\n<!DOCTYPE bom [<!ENTITY a 'b'>]>",
    ],
)
def test_a_document_type_declaration_is_refused(prolog: str) -> None:
    with pytest.raises(InvalidSbom, match="document type declaration"):
        read(prolog + XML.format(ONE_XML_COMPONENT))


def test_the_word_doctype_in_a_text_is_no_declaration() -> None:
    text = "<properties><property name='a'><![CDATA[<!DOCTYPE html>]]></property></properties>"
    assert read(XML.format(ONE_XML_COMPONENT + text)).components == 1


def test_a_schema_named_by_the_document_is_not_opened(tmp_path: Path) -> None:
    schema = tmp_path / "own.xsd"
    schema.write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:own">'
        '<xs:element name="e" type="xs:int"/></xs:schema>'
    )
    # Were the schema read, the extension element would be judged by it and found not to be an integer.
    instance = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'
    own = f'<e xmlns="urn:own" {instance} i:schemaLocation="urn:own {schema}">x</e>'
    assert read(XML.format(ONE_XML_COMPONENT + own)).components == 1
