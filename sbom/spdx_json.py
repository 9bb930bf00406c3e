"""SPDX 2.2 and 2.3: the document as JSON has it, whatever syntax it came in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.faults import find_faults, shown
from sbom.model import READ, SPDX_2_VERSIONS, SbomFacts, SbomLimits
from sbom.semantics import Observed, fact, number_of, some_of, warnings_of
from sbom.spdx_schema import spdx_validator

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_LISTS: Final = ("packages", "files", "snippets", "relationships", "annotations", "hasExtractedLicensingInfos")
_MEDIA_TYPES: Final = {"spdx-json": "application/spdx+json", "spdx-tag-value": "text/spdx"}
# SPDX 2.3, 6.8 and 6.9.
_CREATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_CREATOR: Final = re.compile(r"(?:Tool|Person|Organization): ?\S")
_PURL_TYPES: Final = ("purl", "http://spdx.org/rdf/references/purl")
_NOT_HERE: Final = ("NONE", "NOASSERTION")
_ANOTHER_DOCUMENT: Final = "DocumentRef-"


def read_spdx(
    document: dict[str, Any], limits: SbomLimits, *, syntax: Literal["spdx-json", "spdx-tag-value"]
) -> SbomFacts:
    """Judge an SPDX 2 document of any parsed values. Raises as ``read_sbom``."""
    spec_version = _spec_version(document)
    packages = document.get("packages")
    if isinstance(packages, list) and len(packages) > limits.components:
        raise SbomTooLarge(f"the SBOM has {len(packages)} packages, at most {limits.components} are read; split it")
    validator = spdx_validator(spec_version)
    if not validator.is_valid(document):
        frame = {
            "spdxVersion": f"SPDX-{spec_version}",
            "SPDXID": _DOCUMENT,
            "name": "",
            "dataLicense": "CC0-1.0",
            "creationInfo": {"created": "", "creators": [""]},
        }
        raise InvalidSbom(f"not valid SPDX {spec_version}", find_faults(document, validator, lists=_LISTS, frame=frame))
    subjects = _subjects(document)
    seen = _observe(document, subjects)
    subject = subjects[0] if len(subjects) == 1 else {}
    return SbomFacts(
        format=syntax,
        spec_version=spec_version,
        media_type=f"{_MEDIA_TYPES[syntax]}; version={spec_version}",
        components=seen.components,
        serial_number=fact(document.get("documentNamespace")),
        subject_name=fact(subject.get("name")),
        subject_version=fact(subject.get("versionInfo")),
        warnings=(*_warnings(document), *warnings_of(seen)),
        packages=seen.packages(),
    )


def _spec_version(document: dict[str, Any]) -> str:
    said = document.get("spdxVersion")
    version = said.removeprefix("SPDX-") if isinstance(said, str) else ""
    if version not in SPDX_2_VERSIONS or said == version:
        raise UnsupportedSbom(f"spdxVersion is {shown(said)}; {READ}")
    return version


def _subjects(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The packages that the document says it describes, in its order."""
    own = document["SPDXID"]
    described = set(document.get("documentDescribes", ()))
    for relationship in document.get("relationships", ()):
        ends = (relationship["spdxElementId"], relationship["relatedSpdxElement"])
        if relationship["relationshipType"] == "DESCRIBES" and ends[0] == own:
            described.add(ends[1])
        elif relationship["relationshipType"] == "DESCRIBED_BY" and ends[1] == own:
            described.add(ends[0])
    return [package for package in document.get("packages", ()) if package["SPDXID"] in described]


def _observe(document: dict[str, Any], subjects: list[dict[str, Any]]) -> Observed:
    seen = Observed(id_word="SPDX id", reference_word="reference")
    seen.refs.append(document["SPDXID"])
    # One described package is what the document is about; of several, each is a part of the product.
    about = subjects[0] if len(subjects) == 1 else None
    for package in document.get("packages", ()):
        seen.refs.append(package["SPDXID"])
        seen.wanted_refs.extend(package.get("hasFiles", ()))
        if package is not about:
            seen.component(package["name"], package.get("versionInfo"))
        for reference in package.get("externalRefs", ()):
            if reference["referenceType"] in _PURL_TYPES:
                seen.purls.append(reference["referenceLocator"])
    for kind in ("files", "snippets"):
        seen.refs.extend(element["SPDXID"] for element in document.get(kind, ()))
    seen.wanted_refs.extend(document.get("documentDescribes", ()))
    for relationship in document.get("relationships", ()):
        for end in (relationship["spdxElementId"], relationship["relatedSpdxElement"]):
            if end not in _NOT_HERE and not end.startswith(_ANOTHER_DOCUMENT):
                seen.wanted_refs.append(end)
    return seen


def _warnings(document: dict[str, Any]) -> Iterator[str]:
    created = document["creationInfo"]["created"]
    if _CREATED.fullmatch(created) is None:
        yield f"created is {shown(created)}, which is not of the form 2026-11-21T20:00:56Z"
    creators = [text for text in document["creationInfo"]["creators"] if _CREATOR.match(text) is None]
    if creators:
        yield f"{number_of(creators, 'creator')} without Tool, Person or Organization before it: {some_of(creators)}"
    if not document.get("documentNamespace"):
        yield "the document has no namespace, so no other document can refer to it"
    if document["dataLicense"] != "CC0-1.0":
        yield f'dataLicense is {shown(document["dataLicense"])}, SPDX documents are under "CC0-1.0"'
