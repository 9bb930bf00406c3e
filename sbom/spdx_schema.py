"""The structure of SPDX 2.2 and 2.3 in JSON, written from the specifications; closed like CycloneDX's own schemas.

The two versions differ in what a package, a file and a snippet must say, and in four lists of words. Both spellings
of the reference categories (``PACKAGE-MANAGER``, ``PACKAGE_MANAGER``) are taken in both: the specification uses the
one in its text and the other in its examples, and tools follow either.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import jsonschema_rs

from sbom.schemas import MASKED_VALUE

Schema = dict[str, Any]
_TEXT: Final[Schema] = {"type": "string"}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_INTEGER: Final[Schema] = {"type": "integer"}
_BOOLEAN: Final[Schema] = {"type": "boolean"}

_CHECKSUMS_2_2: Final = ("SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "MD2", "MD4", "MD5", "MD6")
_CHECKSUMS_SINCE_2_3: Final = (
    *("SHA3-256", "SHA3-384", "SHA3-512", "BLAKE2b-256", "BLAKE2b-384", "BLAKE2b-512", "BLAKE3", "ADLER32"),
)
_CATEGORIES: Final = (*("SECURITY", "PACKAGE-MANAGER", "PACKAGE_MANAGER", "PERSISTENT-ID", "PERSISTENT_ID", "OTHER"),)
_FILE_TYPES: Final = (
    *(
        "SOURCE",
        "BINARY",
        "ARCHIVE",
        "APPLICATION",
        "AUDIO",
        "IMAGE",
        "TEXT",
        "VIDEO",
        "DOCUMENTATION",
        "SPDX",
        "OTHER",
    ),
)
_PURPOSES: Final = (
    *("APPLICATION", "FRAMEWORK", "LIBRARY", "CONTAINER", "OPERATING_SYSTEM", "DEVICE", "FIRMWARE", "SOURCE"),
    *("ARCHIVE", "FILE", "INSTALL", "OTHER"),
)
_RELATIONSHIPS_2_2: Final = (
    *("DESCRIBES", "DESCRIBED_BY", "CONTAINS", "CONTAINED_BY", "DEPENDS_ON", "DEPENDENCY_OF"),
    *("DEPENDENCY_MANIFEST_OF", "BUILD_DEPENDENCY_OF", "DEV_DEPENDENCY_OF", "OPTIONAL_DEPENDENCY_OF"),
    *("PROVIDED_DEPENDENCY_OF", "TEST_DEPENDENCY_OF", "RUNTIME_DEPENDENCY_OF", "EXAMPLE_OF", "GENERATES"),
    *("GENERATED_FROM", "ANCESTOR_OF", "DESCENDANT_OF", "VARIANT_OF", "DISTRIBUTION_ARTIFACT", "PATCH_FOR"),
    *("PATCH_APPLIED", "COPY_OF", "FILE_ADDED", "FILE_DELETED", "FILE_MODIFIED", "EXPANDED_FROM_ARCHIVE"),
    *("DYNAMIC_LINK", "STATIC_LINK", "DATA_FILE_OF", "TEST_CASE_OF", "BUILD_TOOL_OF", "DEV_TOOL_OF", "TEST_OF"),
    *("TEST_TOOL_OF", "DOCUMENTATION_OF", "OPTIONAL_COMPONENT_OF", "METAFILE_OF", "PACKAGE_OF", "AMENDS"),
    *("PREREQUISITE_FOR", "HAS_PREREQUISITE", "OTHER"),
)
_RELATIONSHIPS_SINCE_2_3: Final = ("REQUIREMENT_DESCRIPTION_FOR", "SPECIFICATION_FOR")


@cache
def spdx_validator(spec_version: str) -> jsonschema_rs.Draft7Validator:
    """The validator of SPDX JSON ``2.2`` or ``2.3``; of its methods ``is_valid`` alone is safe on hostile input."""
    return jsonschema_rs.Draft7Validator(_document(since_2_3=spec_version != "2.2"), offline=True, mask=MASKED_VALUE)


def _document(*, since_2_3: bool) -> Schema:
    return _object(
        {
            "$schema": _TEXT,
            "SPDXID": _TEXT,
            "annotations": _list(_annotation()),
            "comment": _TEXT,
            "creationInfo": _object(
                {
                    "comment": _TEXT,
                    "created": _TEXT,
                    "creators": {"type": "array", "items": _TEXT, "minItems": 1},
                    "licenseListVersion": _TEXT,
                },
                required=("created", "creators"),
            ),
            "dataLicense": _TEXT,
            "documentDescribes": _TEXTS,
            "documentNamespace": _TEXT,
            "externalDocumentRefs": _list(
                _object(
                    {"checksum": _checksum(since_2_3), "externalDocumentId": _TEXT, "spdxDocument": _TEXT},
                    required=("checksum", "externalDocumentId", "spdxDocument"),
                )
            ),
            "files": _list(_file(since_2_3)),
            "hasExtractedLicensingInfos": _list(_licence()),
            "name": _TEXT,
            "packages": _list(_package(since_2_3)),
            "relationships": _list(_relationship(since_2_3)),
            "revieweds": _list(_object({"comment": _TEXT, "reviewDate": _TEXT, "reviewer": _TEXT}, ("reviewDate",))),
            "snippets": _list(_snippet(since_2_3)),
            "spdxVersion": _TEXT,
        },
        required=("SPDXID", "creationInfo", "dataLicense", "name", "spdxVersion"),
    )


def _package(since_2_3: bool) -> Schema:
    texts = (
        *("SPDXID", "comment", "copyrightText", "description", "downloadLocation", "homepage", "licenseComments"),
        *("licenseConcluded", "licenseDeclared", "name", "originator", "packageFileName", "sourceInfo", "summary"),
        *("supplier", "versionInfo"),
    )
    members: Schema = dict.fromkeys(texts, _TEXT) | {
        "annotations": _list(_annotation()),
        "attributionTexts": _TEXTS,
        "checksums": _list(_checksum(since_2_3)),
        "externalRefs": _list(
            _object(
                {
                    "comment": _TEXT,
                    "referenceCategory": _one_of(_CATEGORIES),
                    "referenceLocator": _TEXT,
                    "referenceType": _TEXT,
                },
                required=("referenceCategory", "referenceLocator", "referenceType"),
            )
        ),
        "filesAnalyzed": _BOOLEAN,
        "hasFiles": _TEXTS,
        "licenseInfoFromFiles": _TEXTS,
        "packageVerificationCode": _object(
            {"packageVerificationCodeExcludedFiles": _TEXTS, "packageVerificationCodeValue": _TEXT},
            required=("packageVerificationCodeValue",),
        ),
    }
    if not since_2_3:
        return _object(
            members,
            ("SPDXID", "copyrightText", "downloadLocation", "licenseConcluded", "licenseDeclared", "name"),
        )
    members |= dict.fromkeys(("builtDate", "releaseDate", "validUntilDate"), _TEXT)
    members["primaryPackagePurpose"] = _one_of(_PURPOSES)
    return _object(members, ("SPDXID", "downloadLocation", "name"))


def _file(since_2_3: bool) -> Schema:
    texts = (*("SPDXID", "comment", "copyrightText", "fileName", "licenseComments", "licenseConcluded", "noticeText"),)
    information: Schema = _TEXTS if since_2_3 else _TEXTS | {"minItems": 1}
    members: Schema = dict.fromkeys(texts, _TEXT) | {
        "annotations": _list(_annotation()),
        "artifactOfs": _list({"type": "object"}),
        "attributionTexts": _TEXTS,
        "checksums": _list(_checksum(since_2_3)) | {"minItems": 1},
        "fileContributors": _TEXTS,
        "fileDependencies": _TEXTS,
        "fileTypes": _list(_one_of(_FILE_TYPES)),
        "licenseInfoInFiles": information,
    }
    before = () if since_2_3 else ("copyrightText", "licenseConcluded", "licenseInfoInFiles")
    return _object(members, ("SPDXID", "checksums", "fileName", *before))


def _snippet(since_2_3: bool) -> Schema:
    texts = (*("SPDXID", "comment", "copyrightText", "licenseComments", "licenseConcluded", "name", "snippetFromFile"),)
    pointer = _object({"reference": _TEXT, "offset": _INTEGER, "lineNumber": _INTEGER}, ("reference",))
    span = _object({"startPointer": pointer, "endPointer": pointer}, ("startPointer", "endPointer"))
    members: Schema = dict.fromkeys(texts, _TEXT) | {
        "annotations": _list(_annotation()),
        "attributionTexts": _TEXTS,
        "licenseInfoInSnippets": _TEXTS,
        "ranges": _list(span) | {"minItems": 1},
    }
    before = () if since_2_3 else ("copyrightText", "licenseConcluded")
    return _object(members, ("SPDXID", "name", "ranges", "snippetFromFile", *before))


def _licence() -> Schema:
    cross_reference = _object(
        {
            "isLive": _BOOLEAN,
            "isValid": _BOOLEAN,
            "isWayBackLink": _BOOLEAN,
            "match": _TEXT,
            "order": _INTEGER,
            "timestamp": _TEXT,
            "url": _TEXT,
        },
        required=("url",),
    )
    return _object(
        {
            "comment": _TEXT,
            "crossRefs": _list(cross_reference),
            "extractedText": _TEXT,
            "licenseId": _TEXT,
            "name": _TEXT,
            "seeAlsos": _TEXTS,
        },
        required=("extractedText", "licenseId"),
    )


def _relationship(since_2_3: bool) -> Schema:
    types = _RELATIONSHIPS_2_2 + (_RELATIONSHIPS_SINCE_2_3 if since_2_3 else ())
    return _object(
        {
            "comment": _TEXT,
            "relatedSpdxElement": _TEXT,
            "relationshipType": _one_of(types),
            "spdxElementId": _TEXT,
        },
        required=("relatedSpdxElement", "relationshipType", "spdxElementId"),
    )


def _annotation() -> Schema:
    return _object(
        {
            "annotationDate": _TEXT,
            "annotationType": _one_of(("OTHER", "REVIEW")),
            "annotator": _TEXT,
            "comment": _TEXT,
        },
        required=("annotationDate", "annotationType", "annotator", "comment"),
    )


def _checksum(since_2_3: bool) -> Schema:
    algorithms = _CHECKSUMS_2_2 + (_CHECKSUMS_SINCE_2_3 if since_2_3 else ())
    return _object({"algorithm": _one_of(algorithms), "checksumValue": _TEXT}, required=("algorithm", "checksumValue"))


def _object(members: Schema, required: tuple[str, ...]) -> Schema:
    return {"type": "object", "properties": members, "required": list(required), "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(words: tuple[str, ...]) -> Schema:
    return {"type": "string", "enum": list(words)}
