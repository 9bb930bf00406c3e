"""CycloneDX in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import orjson

from sbom.errors import InvalidSbom, SbomTooLarge, UnsupportedSbom
from sbom.model import SPEC_VERSIONS, SbomFacts, SbomLimits
from sbom.schemas import MASKED_VALUE, json_validator
from sbom.semantics import NOT_OF_THE_PRODUCT, Observed, fact, printable, warnings_of
from sbom.strict_json import parse_strict

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MAX_FAULTS: Final = 20  # listed; more help nobody
_MAX_EXPLAINED: Final = 16 * 1024  # bytes of JSON; see sbom.schemas.json_validator for why pieces must be small
_SHOWN_VALUE: Final = 60
# Lists whose items can be judged each by itself: a fault is searched item by item.
_LISTS: Final = ("components", "services", "dependencies", "vulnerabilities", "compositions", "annotations")


def read_json(data: bytes, limits: SbomLimits) -> SbomFacts:
    """Judge a CycloneDX JSON document; a byte order mark is passed over with a warning. Raises as ``read_sbom``."""
    marked = data.startswith(_BYTE_ORDER_MARK)
    document = parse_strict(data.removeprefix(_BYTE_ORDER_MARK), limits)
    spec_version = _spec_version(document)
    seen = _observe(document)
    if seen.components > limits.components:
        raise SbomTooLarge(f"the SBOM has {seen.components} components, at most {limits.components} are read; split it")
    if not json_validator(spec_version).is_valid(document):
        raise InvalidSbom(f"not valid CycloneDX {spec_version}", _faults(document, spec_version))
    warnings = ["the file begins with a byte order mark, which many JSON readers refuse"] if marked else []
    subject = document.get("metadata", {}).get("component", {})
    return SbomFacts(
        format="cyclonedx-json",
        spec_version=spec_version,
        media_type=f"application/vnd.cyclonedx+json; version={spec_version}",
        components=seen.components,
        serial_number=fact(document.get("serialNumber")),
        subject_name=fact(subject.get("name")),
        subject_version=fact(subject.get("version")),
        warnings=(*warnings, *warnings_of(seen)),
    )


def _spec_version(document: Any) -> str:
    # The version is read before anything is validated: every schema takes any text for it.
    if not isinstance(document, dict):
        raise InvalidSbom(f"the JSON is a {_kind(document)}, an object with bomFormat and specVersion is expected")
    if "spdxVersion" in document or "spdx" in str(document.get("@context", ""))[:200].lower():
        raise UnsupportedSbom("this is an SPDX document; CycloneDX 1.2 to 1.7 is read, convert it first")
    if document.get("bomFormat") != "CycloneDX":
        found = _shown(document["bomFormat"]) if "bomFormat" in document else "missing"
        raise InvalidSbom(f'bomFormat is {found}, "CycloneDX" is expected')
    version = document.get("specVersion")
    if version not in SPEC_VERSIONS:
        found = _shown(version) if "specVersion" in document else "missing"
        raise UnsupportedSbom(f"specVersion is {found}; CycloneDX 1.2 to 1.7 is read")
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


def _faults(document: dict[str, Any], spec_version: str) -> list[tuple[str, str]]:
    return list(islice(_search_faults(document, spec_version), _MAX_FAULTS))


def _search_faults(document: dict[str, Any], spec_version: str) -> Iterator[tuple[str, str]]:
    """Find faults with ``is_valid`` alone until a piece is small enough to be explained."""
    validator = json_validator(spec_version)
    lists = [key for key in _LISTS if isinstance(document.get(key), list)]
    rest = {key: value for key, value in document.items() if key not in lists}
    found = False
    for where, piece, base in _pieces(document, rest, lists):
        if validator.is_valid(piece):
            continue
        found = True
        if len(orjson.dumps(piece)) > _MAX_EXPLAINED:
            yield where, "is not valid, and too large to say where"
            continue
        for error in islice(validator.iter_errors(piece), _MAX_FAULTS):
            yield _path(error.instance_path, base), _explained(error.message, error.instance)
    if not found:
        yield ", ".join(lists), "every item is valid by itself, but some are repeated"


def _pieces(
    document: dict[str, Any], rest: dict[str, Any], lists: list[str]
) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Small documents that are valid exactly if their piece is: (where, document, index of the piece in its list)."""
    yield "", rest, 0
    frame = {"bomFormat": "CycloneDX", "specVersion": document["specVersion"], "version": 1}
    if document["specVersion"] == "1.2":
        frame["components"] = []
    for key in lists:
        for index, item in enumerate(document[key]):
            yield f"{key}[{index}]", frame | {key: [item]}, index


def _path(path: list[str | int], base: int) -> str:
    moved = [base if place == 1 else part for place, part in enumerate(path)] if base else list(path)
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part[:_SHOWN_VALUE])}" for part in moved)
    return text.removeprefix(".")


def _explained(message: str, instance: object) -> str:
    said = printable(message[:300])
    if isinstance(instance, dict | list):
        return said.replace(MASKED_VALUE, f"the {_kind(instance)}", 1)
    return said.replace(MASKED_VALUE, _shown(instance), 1)


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"a {_kind(value)}"
    if isinstance(value, str):
        cut = printable(value[:_SHOWN_VALUE])
        return f'"{cut}"' if len(value) <= _SHOWN_VALUE else f'"{cut}…"'
    return orjson.dumps(value).decode()


def _kind(value: object) -> str:
    return {dict: "object", list: "list", str: "text", bool: "boolean", type(None): "null"}.get(type(value), "number")
