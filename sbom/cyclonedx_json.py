"""CycloneDX in JSON."""

from __future__ import annotations

from typing import Any, Final

from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.faults import find_faults, shown
from sbom.model import READ, SPEC_VERSIONS, SbomFacts, SbomLimits
from sbom.schemas import json_validator
from sbom.semantics import NOT_OF_THE_PRODUCT, Observed, fact, warnings_of

# Lists whose items can be judged each by itself: a fault is searched item by item.
_LISTS: Final = ("components", "services", "dependencies", "vulnerabilities", "compositions", "annotations")


def read_json(document: dict[str, Any], limits: SbomLimits) -> SbomFacts:
    """Judge a parsed CycloneDX JSON document. Raises as ``read_sbom``."""
    spec_version = _spec_version(document)
    seen = _observe(document)
    if seen.components > limits.components:
        raise SbomTooLarge(f"the SBOM has {seen.components} components, at most {limits.components} are read; split it")
    validator = json_validator(spec_version)
    if not validator.is_valid(document):
        frame = {"bomFormat": "CycloneDX", "specVersion": spec_version, "version": 1}
        if spec_version == "1.2":
            frame["components"] = []
        raise InvalidSbom(
            f"not valid CycloneDX {spec_version}", find_faults(document, validator, lists=_LISTS, frame=frame)
        )
    subject = document.get("metadata", {}).get("component", {})
    return SbomFacts(
        format="cyclonedx-json",
        spec_version=spec_version,
        media_type=f"application/vnd.cyclonedx+json; version={spec_version}",
        components=seen.components,
        serial_number=fact(document.get("serialNumber")),
        subject_name=fact(subject.get("name")),
        subject_version=fact(subject.get("version")),
        warnings=tuple(warnings_of(seen)),
        packages=seen.packages(),
    )


def _spec_version(document: dict[str, Any]) -> str:
    # The version is read before anything is validated: every schema takes any text for it.
    if document.get("bomFormat") != "CycloneDX":
        found = shown(document["bomFormat"]) if "bomFormat" in document else "missing"
        raise InvalidSbom(f'bomFormat is {found}, "CycloneDX" is expected, or spdxVersion or @context of SPDX')
    version = document.get("specVersion")
    if version not in SPEC_VERSIONS:
        found = shown(version) if "specVersion" in document else "missing"
        raise UnsupportedSbom(f"specVersion is {found}; {READ}")
    return str(version)


def _observe(document: dict[str, Any]) -> Observed:
    """Walk the whole document, before it is known to be valid: any value may have any type."""
    seen = Observed()
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        under, value = waiting.pop()
        if isinstance(value, list):
            waiting.extend((under, item) for item in reversed(value) if isinstance(item, dict | list))
        else:
            _observe_object(seen, under, value)
            for key, item in reversed(value.items()):
                if isinstance(item, dict | list):
                    waiting.append((under if under in NOT_OF_THE_PRODUCT else key, item))
    return seen


def _observe_object(seen: Observed, under: str, value: dict[str, Any]) -> None:
    if isinstance(ref := value.get("bom-ref"), str):
        seen.refs.append(ref)
    if isinstance(purl := value.get("purl"), str):
        seen.purls.append(purl)
    if under == "components":
        name, version = value.get("name"), value.get("version")
        seen.component(name if isinstance(name, str) else "", version if isinstance(version, str) else None)
    elif under == "dependencies":
        for wanted in (value.get("ref"), *_items(value.get("dependsOn")), *_items(value.get("provides"))):
            if isinstance(wanted, str):
                seen.wanted_refs.append(wanted)


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
