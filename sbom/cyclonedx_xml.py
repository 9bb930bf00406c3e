"""CycloneDX in XML."""

from __future__ import annotations

import re
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.model import READ, SPEC_VERSIONS, SbomFacts, SbomLimits
from sbom.schemas import xml_schema
from sbom.semantics import NOT_OF_THE_PRODUCT, Observed, fact, printable, warnings_of

if TYPE_CHECKING:
    Element = Any  # lxml ships no types
_NAMESPACE: Final = re.compile(r"\{http://cyclonedx\.org/schema/bom/([^}]{1,20})\}bom")
_ENCODING: Final = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MAX_FAULTS: Final = 20
_VALIDATING: Final = Lock()  # a compiled schema serves one thread at a time


def read_xml(data: bytes, limits: SbomLimits) -> SbomFacts:
    """Judge a CycloneDX XML document. Raises as ``read_sbom``."""
    root = _parse(data, limits)
    spec_version = _spec_version(root)
    seen = _observe(root, root.tag.removesuffix("bom"))
    if seen.components > limits.components:
        raise SbomTooLarge(f"the SBOM has {seen.components} components, at most {limits.components} are read; split it")
    _validate(root, spec_version)
    space = root.tag.removesuffix("bom")
    subject = f"{space}metadata/{space}component/{space}"
    return SbomFacts(
        format="cyclonedx-xml",
        spec_version=spec_version,
        media_type=f"application/vnd.cyclonedx+xml; version={spec_version}",
        components=seen.components,
        serial_number=fact(root.get("serialNumber")),
        subject_name=fact(root.findtext(subject + "name")),
        subject_version=fact(root.findtext(subject + "version")),
        warnings=tuple(warnings_of(seen)),
        packages=seen.packages(),
    )


def _parse(data: bytes, limits: SbomLimits) -> Element:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSbom(f"byte {error.start} is not UTF-8; save the SBOM as UTF-8") from error
    declared = _ENCODING.match(data.removeprefix(_BYTE_ORDER_MARK))
    if declared is not None and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii", b"ascii"):
        raise InvalidSbom(f"the XML declares the encoding {declared[1].decode()}; UTF-8 is expected")
    values = data.count(b"<") + data.count(b"=")  # no element, attribute, comment or instruction without one of them
    if values > limits.values:
        raise SbomTooLarge(f"the SBOM holds about {values} values, at most {limits.values} are read; split it")
    if _has_doctype(data):
        # Entities and external files come from here alone, so there is nothing left to expand or to fetch.
        raise InvalidSbom("the XML has a document type declaration, which an SBOM may not have; remove <!DOCTYPE …>")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,  # keeps libxml2's own bounds: 256 levels, 10 MB per text
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise InvalidSbom(f"not well-formed XML: {printable((error.msg or 'no element found')[:300])}") from error


def _has_doctype(data: bytes) -> bool:
    """Say whether a document type declaration stands before the root element, its only place."""
    at = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    while True:
        while data[at : at + 1].isspace():
            at += 1
        if data.startswith(b"<!--", at):
            end = data.find(b"-->", at + 4)
        elif data.startswith(b"<?", at):
            end = data.find(b"?>", at + 2)
        else:
            return data.startswith(b"<!", at)
        if end < 0:
            return False  # never closed: the parser says so
        at = data.index(b">", end) + 1


def _spec_version(root: Element) -> str:
    match = _NAMESPACE.fullmatch(root.tag)
    if match is None:
        shown = printable(root.tag[:120])
        if "spdx" in root.tag.lower() or "rdf" in root.tag.lower():
            raise UnsupportedSbom(f"the root element {shown} is SPDX in RDF or XML; {READ}")
        raise InvalidSbom(f"the root element is {shown}, {{http://cyclonedx.org/schema/bom/1.2 to 1.7}}bom is expected")
    if match[1] not in SPEC_VERSIONS:
        raise UnsupportedSbom(f"the namespace says CycloneDX {printable(match[1])}; {READ}")
    return match[1]


def _observe(root: Element, space: str) -> Observed:
    seen = Observed()
    elsewhere = [f"{space}{kind}" for kind in NOT_OF_THE_PRODUCT]
    for element in root.iter(f"{space}*"):
        if (ref := element.get("bom-ref")) is not None:
            seen.refs.append(ref)
        kind = element.tag.removeprefix(space)
        if kind == "component" and element.getparent().tag == f"{space}components":
            if next(element.iterancestors(elsewhere), None) is None:
                seen.component(element.findtext(f"{space}name") or "", element.findtext(f"{space}version"))
        elif kind == "purl" and element.text:
            seen.purls.append(element.text.strip())
        elif kind in ("dependency", "provides") and (ref := element.get("ref")) is not None:
            seen.wanted_refs.append(ref)
    return seen


def _validate(root: Element, spec_version: str) -> None:
    with _VALIDATING:
        schema = xml_schema(spec_version)
        if schema.validate(root):
            return
        faults = [
            (f"line {entry.line}", printable(entry.message.replace(root.tag.removesuffix("bom"), "")[:300]))
            for _, entry in zip(range(_MAX_FAULTS), schema.error_log, strict=False)
        ]
    raise InvalidSbom(f"not valid CycloneDX {spec_version}", faults)
