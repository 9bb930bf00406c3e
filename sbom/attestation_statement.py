"""What an in-toto statement says: of which subjects, and of SLSA provenance by whom and from what it was built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from sbom.attestation_model import MAX_SUBJECTS_TOLD, AttestationSubject, Provenance
from sbom.errors import AttestationTooLarge, InvalidAttestation, InvalidSbom, SbomTooLarge, UnsupportedAttestation
from sbom.faults import kind_of, shown
from sbom.model import SbomLimits
from sbom.semantics import fact
from sbom.strict_json import parse_strict

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENTS: Final = ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1")
_PROVENANCE_0_2: Final = "https://slsa.dev/provenance/v0.2"
_PROVENANCE_1: Final = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The fields of :class:`sbom.attestation_model.AttestationFacts` that a statement tells."""

    predicate_type: str
    subjects: tuple[AttestationSubject, ...]
    subject_count: int
    subject_matches: bool
    provenance: Provenance | None


def parse_object(data: bytes, limits: SbomLimits, *, what: str) -> dict[str, Any]:
    """Parse one JSON object as ``sbom.strict_json`` does.

    Raises:
        InvalidAttestation: It is none.
        AttestationTooLarge: Beyond ``limits``.
    """
    try:
        document = parse_strict(data, limits, what=what)
    except InvalidSbom as error:
        raise InvalidAttestation(f"the {what}: {error}") from error
    except SbomTooLarge as error:
        raise AttestationTooLarge(str(error)) from error
    if not isinstance(document, dict):
        raise InvalidAttestation(f"the {what} is a {kind_of(document)}, an object is expected")
    return document


def read_statement(payload: bytes, limits: SbomLimits, *, artifact_sha256: str) -> Statement:
    """Read an in-toto statement 0.1 or 1, of any predicate.

    Raises:
        InvalidAttestation: It is none.
        UnsupportedAttestation: Another ``_type``.
        AttestationTooLarge: Beyond ``limits``.
    """
    document = parse_object(payload, limits, what="signed statement")
    if document.get("_type") not in _STATEMENTS:
        raise UnsupportedAttestation(
            f"_type of the statement is {shown(document.get('_type'))}; in-toto statements v0.1 and v1 are read"
        )
    predicate_type = document.get("predicateType")
    if not isinstance(predicate_type, str) or not predicate_type:
        raise InvalidAttestation(f"predicateType is {shown(predicate_type)}, a URI is expected")
    subjects = document.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise InvalidAttestation("subject is no list of at least one subject")
    digests = [_sha256(index, subject) for index, subject in enumerate(subjects)]
    predicate = document.get("predicate")
    if predicate is not None and not isinstance(predicate, dict):
        raise InvalidAttestation(f"the predicate is a {kind_of(predicate)}, an object is expected")
    told = zip(subjects[:MAX_SUBJECTS_TOLD], digests, strict=False)
    return Statement(
        predicate_type=fact(predicate_type) or "",
        subjects=tuple(AttestationSubject(name=_text(one, "name"), sha256=fact(digest)) for one, digest in told),
        subject_count=len(subjects),
        subject_matches=artifact_sha256 in digests,
        provenance=_provenance(predicate_type, predicate or {}),
    )


def _sha256(index: int, subject: object) -> str | None:
    digest = subject.get("digest") if isinstance(subject, dict) else None
    if not isinstance(digest, dict) or not digest or not all(isinstance(value, str) for value in digest.values()):
        raise InvalidAttestation(f"subject[{index}] has no digest, an object like {{sha256: hex digits}} is expected")
    return digest.get("sha256")


def _provenance(predicate_type: str, predicate: dict[str, Any]) -> Provenance | None:
    # A predicate of other types than expected is no error: what it holds is between the builder and its reader.
    if predicate_type == _PROVENANCE_0_2:
        invocation = _object(predicate, "invocation")
        return _told(
            "0.2",
            builder=_object(predicate, "builder"),
            build_type=_text(predicate, "buildType"),
            sources=(_object(invocation, "configSource"), *_objects(predicate, "materials")),
        )
    if predicate_type == _PROVENANCE_1:
        definition = _object(predicate, "buildDefinition")
        return _told(
            "1",
            builder=_object(_object(predicate, "runDetails"), "builder"),
            build_type=_text(definition, "buildType"),
            # The first dependency is the source in every published build type; parameters are the build type's own.
            sources=tuple(_objects(definition, "resolvedDependencies")),
        )
    return None


def _told(
    slsa: Literal["0.2", "1"], *, builder: dict[str, Any], build_type: str | None, sources: tuple[dict[str, Any], ...]
) -> Provenance:
    source = next((one for one in sources if _text(one, "uri")), {})
    digest = next(((name, value) for name, value in _object(source, "digest").items() if isinstance(value, str)), None)
    return Provenance(
        slsa=slsa,
        builder_id=_text(builder, "id"),
        build_type=build_type,
        source=_text(source, "uri"),
        source_digest=None if digest is None else fact(f"{digest[0]}:{digest[1]}"),
    )


def _text(within: dict[str, Any], name: str) -> str | None:
    value = within.get(name)
    return fact(value) if isinstance(value, str) else None


def _object(within: dict[str, Any], name: str) -> dict[str, Any]:
    value = within.get(name)
    return value if isinstance(value, dict) else {}


def _objects(within: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    value = within.get(name)
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
