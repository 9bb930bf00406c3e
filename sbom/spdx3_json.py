"""SPDX 3.0.1 in JSON-LD: the one serialisation whose ``@context`` every reader knows, so that none is ever fetched.

What is checked is structure, by this file; see docs/adr/0012-attestations-and-spdx.md for what is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.faults import MAX_FAULTS, shown
from sbom.model import READ, SbomFacts, SbomLimits
from sbom.semantics import Observed, fact, warnings_of

_VERSION: Final = "3.0.1"
_CONTEXT: Final = f"https://spdx.org/rdf/{_VERSION}/spdx-context.jsonld"
_TERMS: Final = f"https://spdx.org/rdf/{_VERSION}/terms/"
# Individuals of the model that no document defines.
_INDIVIDUALS: Final = (
    *("NoneElement", "NoAssertionElement", "SpdxOrganization"),
    *("expandedlicensing_NoneLicense", "expandedlicensing_NoAssertionLicense"),
)
_CREATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]", re.ASCII)
_COLLECTIONS: Final = ("Bundle", "Bom", "software_Sbom", "SpdxDocument")
_RELATIONSHIPS: Final = (
    *("Relationship", "LifecycleScopedRelationship"),
    *("security_CvssV2VulnAssessmentRelationship", "security_CvssV3VulnAssessmentRelationship"),
    *("security_CvssV4VulnAssessmentRelationship", "security_EpssVulnAssessmentRelationship"),
    *("security_ExploitCatalogVulnAssessmentRelationship", "security_SsvcVulnAssessmentRelationship"),
    *("security_VexAffectedVulnAssessmentRelationship", "security_VexFixedVulnAssessmentRelationship"),
    *("security_VexNotAffectedVulnAssessmentRelationship",),
    *("security_VexUnderInvestigationVulnAssessmentRelationship",),
)
_PACKAGES: Final = ("software_Package", "ai_AIPackage", "dataset_DatasetPackage")
_ELEMENTS: Final = frozenset(
    {
        *_COLLECTIONS,
        *_RELATIONSHIPS,
        *_PACKAGES,
        *("Agent", "Annotation", "IndividualElement", "Organization", "Person", "SoftwareAgent", "Tool"),
        *("build_Build", "security_Vulnerability", "software_File", "software_Snippet"),
        *("expandedlicensing_ConjunctiveLicenseSet", "expandedlicensing_CustomLicense"),
        *("expandedlicensing_CustomLicenseAddition", "expandedlicensing_DisjunctiveLicenseSet"),
        *("expandedlicensing_IndividualLicensingInfo", "expandedlicensing_ListedLicense"),
        *("expandedlicensing_ListedLicenseException", "expandedlicensing_OrLaterOperator"),
        *("expandedlicensing_WithAdditionOperator", "simplelicensing_LicenseExpression"),
        *("simplelicensing_SimpleLicensingText",),
    }
)
_NO_ELEMENTS: Final = frozenset(
    {
        *("CreationInfo", "DictionaryEntry", "ExternalIdentifier", "ExternalMap", "ExternalRef", "Hash"),
        *("NamespaceMap", "PackageVerificationCode", "PositiveIntegerRange", "ai_EnergyConsumption"),
        *("ai_EnergyConsumptionDescription", "extension_CdxPropertiesExtension", "extension_CdxPropertyEntry"),
        *("software_ContentIdentifier",),
    }
)
_KNOWN: Final = _ELEMENTS | _NO_ELEMENTS
_Fault = tuple[str, str]
_Place = tuple[str, dict[str, Any]]


@dataclass(slots=True)
class _Graph:
    """Every typed object of the document, at any depth, in its order; values may have any type."""

    elements: list[_Place] = field(default_factory=list)
    creations: list[_Place] = field(default_factory=list)
    imported: set[str] = field(default_factory=set)
    by_id: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_spdx3(document: dict[str, Any], limits: SbomLimits) -> SbomFacts:
    """Judge a parsed SPDX 3 document. Raises as ``read_sbom``."""
    if document.get("@context") != _CONTEXT:
        # Any other context, or a second one beside it, may give every name in the document another meaning.
        raise UnsupportedSbom(f'@context is {shown(document.get("@context"))}, "{_CONTEXT}" is expected; {READ}')
    graph = _Graph()
    faults = list(islice(_faults(document, graph), MAX_FAULTS))
    if faults:
        raise InvalidSbom(f"not valid SPDX {_VERSION}", faults)
    subject = _subject(graph)
    seen = _observe(graph, subject)
    if seen.components > limits.components:
        raise SbomTooLarge(f"the SBOM has {seen.components} packages, at most {limits.components} are read; split it")
    named = next(element for _, element in graph.elements if element["type"] == "SpdxDocument")
    return SbomFacts(
        format="spdx-3-json",
        spec_version=_VERSION,
        media_type=f"application/spdx+json; version={_VERSION}",
        components=seen.components,
        serial_number=fact(named["spdxId"]),
        subject_name=fact(subject.get("name")),
        subject_version=fact(subject.get("software_packageVersion")),
        warnings=tuple(warnings_of(seen)),
        packages=seen.packages(),
    )


def _faults(document: dict[str, Any], graph: _Graph) -> Iterator[_Fault]:
    if "@graph" in document:
        if not isinstance(document["@graph"], list):
            yield "@graph", f"is {shown(document['@graph'])}, a list is expected"
            return
        if unknown := sorted(set(document) - {"@context", "@graph"}):
            yield "", f"{shown(unknown[0])} stands beside @graph, where nothing else may"
    yield from _walk(document, graph)
    documents = [where for where, element in graph.elements if element["type"] == "SpdxDocument"]
    if len(documents) != 1:
        yield "", f"it has {len(documents)} elements of type SpdxDocument, 1 is expected"
    for where, creation in graph.creations:
        yield from _creation_faults(where, creation)
    for where, element in graph.elements:
        yield from _element_faults(where, element, graph)


def _walk(document: dict[str, Any], graph: _Graph) -> Iterator[_Fault]:
    at_top = document.get("@graph", [document])
    waiting: list[tuple[str, Any]] = []
    for index, item in enumerate(at_top):
        where = f"@graph[{index}]" if "@graph" in document else ""
        if isinstance(item, dict):
            waiting.append((where, item))
        else:
            yield where, f"is {shown(item)}, an object is expected"
    waiting.reverse()
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, dict):
            yield from _note(where, value, graph)
            if value.get("type") not in _KNOWN:
                continue  # what extensions hold is theirs alone
        inner = value if isinstance(value, list) else value.values()
        # The place is the outermost object's: long paths for millions of values would cost more than they help.
        waiting.extend((where, item) for item in reversed(list(inner)) if isinstance(item, dict | list))


def _note(where: str, value: dict[str, Any], graph: _Graph) -> Iterator[_Fault]:
    kind = value.get("type")
    if not isinstance(kind, str):
        yield where, 'an object has no text as its "type"'
        return
    if kind in _ELEMENTS:
        graph.elements.append((where, value))
        if not _is_iri(value.get("spdxId")):
            yield where, f"spdxId is {shown(value.get('spdxId'))}, an absolute IRI is expected"
            return
        graph.by_id.setdefault(value["spdxId"], value)
    elif kind == "CreationInfo":
        graph.creations.append((where, value))
        if isinstance(name := value.get("@id"), str):
            graph.by_id.setdefault(name, value)
    elif kind == "ExternalMap":
        if isinstance(name := value.get("externalSpdxId"), str):
            graph.imported.add(name)
    elif kind not in _NO_ELEMENTS and not _is_iri(kind):
        yield where, f"type {shown(kind)} is not of SPDX {_VERSION}; types of extensions are absolute IRIs"


def _creation_faults(where: str, creation: dict[str, Any]) -> Iterator[_Fault]:
    if creation.get("specVersion") != _VERSION:
        yield where, f'specVersion is {shown(creation.get("specVersion"))}, "{_VERSION}" is expected'
    created = creation.get("created")
    if not isinstance(created, str) or _CREATED.fullmatch(created) is None:
        yield where, f"created is {shown(created)}, a time like 2026-11-21T20:00:56Z is expected"
    if not _is_references(creation.get("createdBy")):
        yield where, "createdBy is no list of agents"


def _element_faults(where: str, element: dict[str, Any], graph: _Graph) -> Iterator[_Fault]:
    info = element.get("creationInfo")
    if isinstance(info, str):
        info = graph.by_id.get(info)
    if not isinstance(info, dict) or info.get("type") != "CreationInfo":
        yield where, "creationInfo leads to no CreationInfo of this document"
    kind = element["type"]
    for name in ("name", "summary", "description", "comment", "software_packageVersion", "software_packageUrl"):
        if name in element and not isinstance(element[name], str):
            yield where, f"{name} is {shown(element[name])}, a text is expected"
    if (kind in _PACKAGES or kind == "software_File") and not element.get("name"):
        yield where, f"a {kind} has no name"
    if kind in _RELATIONSHIPS:
        if not _is_reference(element.get("from")):
            yield where, f"from is {shown(element.get('from'))}, one element is expected"
        if not _is_references(element.get("to")):
            yield where, "to is no list of elements"
        if not isinstance(element.get("relationshipType"), str):
            yield where, f"relationshipType is {shown(element.get('relationshipType'))}, a word is expected"
    if kind in _COLLECTIONS:
        for name in ("element", "rootElement"):
            if element.get(name, []) != [] and not _is_references(element[name]):
                yield where, f"{name} is no list of elements"


def _subject(graph: _Graph) -> dict[str, Any]:
    """The one package at the root of the document, found through the SBOM that is its root; empty if there is none."""
    waiting = [element for _, element in graph.elements if element["type"] == "SpdxDocument"]
    found: dict[str, dict[str, Any]] = {}
    passed: set[str] = set()
    while waiting:
        element = waiting.pop()
        if element["spdxId"] in passed:
            continue
        passed.add(element["spdxId"])
        if element["type"] in _PACKAGES:
            found[element["spdxId"]] = element
        elif element["type"] in _COLLECTIONS:
            roots = (graph.by_id.get(_id_of(root)) for root in element.get("rootElement", ()))
            waiting.extend(root for root in roots if root is not None and root["type"] in _ELEMENTS)
    return next(iter(found.values())) if len(found) == 1 else {}


def _observe(graph: _Graph, subject: dict[str, Any]) -> Observed:
    seen = Observed(id_word="spdxId", reference_word="reference")
    for _, element in graph.elements:
        kind = element["type"]
        seen.refs.append(element["spdxId"])
        if kind in _PACKAGES:
            if element["spdxId"] != subject.get("spdxId"):
                seen.component(element["name"], element.get("software_packageVersion"))
            seen.purls.extend(_purls(element))
        wanted = [element["from"], *element["to"]] if kind in _RELATIONSHIPS else []
        if kind in _COLLECTIONS:
            wanted += [*element.get("element", ()), *element.get("rootElement", ())]
        seen.wanted_refs.extend(name for end in wanted if not _is_elsewhere(name := _id_of(end), graph))
    return seen


def _purls(package: dict[str, Any]) -> Iterator[str]:
    if url := package.get("software_packageUrl"):
        yield url
    others = package.get("externalIdentifier")
    for other in others if isinstance(others, list) else ():
        if isinstance(other, dict) and other.get("externalIdentifierType") == "packageUrl":
            yield str(other.get("identifier"))


def _is_elsewhere(name: str, graph: _Graph) -> bool:
    return name in graph.imported or name in _INDIVIDUALS or name.startswith(_TERMS)


def _is_references(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_reference(item) for item in value)


def _is_reference(value: object) -> bool:
    # An element may stand where its name could.
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("spdxId"), str))


def _id_of(reference: str | dict[str, Any]) -> str:
    return reference if isinstance(reference, str) else str(reference["spdxId"])


def _is_iri(value: object) -> bool:
    return isinstance(value, str) and _ABSOLUTE.match(value) is not None
