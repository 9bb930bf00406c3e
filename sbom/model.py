"""What is known of an SBOM once it has been read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# Each name is a segment of a target path as well: only a-z, 0-9 and hyphens.
SbomFormat = Literal["cyclonedx-json", "cyclonedx-xml", "spdx-json", "spdx-tag-value", "spdx-3-json"]

SPEC_VERSIONS: Final = ("1.2", "1.3", "1.4", "1.5", "1.6", "1.7")
SPDX_2_VERSIONS: Final = ("2.2", "2.3")
# Ends the messages about everything else.
READ: Final = (
    "CycloneDX 1.2 to 1.7 (JSON, XML), SPDX 2.2 and 2.3 (JSON, tag-value) and SPDX 3.0.1 (JSON-LD) are read; convert it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomLimits:
    """How much an SBOM may cost. With the defaults the worst document found takes 5 s and 650 MiB.

    ``values`` bounds what the parsers make of the bytes: JSON values, or XML elements and attributes. It is compared
    with a count of separators, which is never below the truth and may be above it where texts are full of commas.
    """

    length: int = 32 * 1024 * 1024
    components: int = 100_000
    depth: int = 128
    values: int = 3_000_000  # 32 MiB of ordinary SBOM hold about 2.5 million


@dataclass(frozen=True, slots=True, kw_only=True)
class SbomFacts:
    """What validation said of an SBOM; the bytes themselves stay the evidence and are never written anew.

    ``media_type`` names the specification version, e.g. ``application/vnd.cyclonedx+json; version=1.6``.
    ``components`` counts what the product consists of, at every level: not the subject, nor tools and pedigrees; of
    SPDX it counts packages, not files. ``serial_number`` is what names the document: ``urn:uuid:…`` of CycloneDX, the
    namespace of SPDX 2, the IRI of SPDX 3. The subject is ``metadata.component``; of SPDX the package that the document
    describes or has for its root, and nothing if there are several. In all texts control characters and unpaired or
    invisible formatting characters stand as ``\\uXXXX``, so that they may be stored, logged and shown.
    ``packages`` are the names of the components and every purl, as they stand in the document.
    ``warnings`` are sentences about what the schema allows and a reader would trip over.
    """

    format: SbomFormat
    spec_version: str
    media_type: str
    components: int
    serial_number: str | None = None
    subject_name: str | None = None
    subject_version: str | None = None
    warnings: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()
