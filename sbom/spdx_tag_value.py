"""SPDX 2.2 and 2.3 as tags and values: read into the shape of the JSON, so that one schema judges both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from sbom.errors import InvalidSbom, SbomTooLarge
from sbom.model import SbomFacts, SbomLimits
from sbom.semantics import printable
from sbom.spdx_json import read_spdx

_TAG: Final = re.compile(r"([A-Za-z]{1,60}):[ \t]*(.*)")
_OPEN: Final = "<text>"
_CLOSE: Final = "</text>"
_RANGE: Final = re.compile(r"([0-9]{1,18}):([0-9]{1,18})", re.ASCII)

Object = dict[str, Any]


def read_tag_value(data: bytes, limits: SbomLimits) -> SbomFacts:
    """Judge an SPDX tag-value document, UTF-8 without byte order mark. Raises as ``read_sbom``.

    Of faults against the specification ``where`` is a place in the JSON form, e.g. ``packages[3]``: the fourth package.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSbom(f"byte {error.start} is not UTF-8; save the SBOM as UTF-8") from error
    if data.count(b"\n") > limits.values:
        raise SbomTooLarge(f"the SBOM has more than {limits.values} lines; split it")
    reader = _Reader()
    for number, tag, value in _tags(text):
        reader.take(number, tag, value)
    return read_spdx(reader.document, limits, syntax="spdx-tag-value")


def _tags(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, tag and value of each statement; a value in ``<text>`` may run over lines."""
    # Not splitlines(): it also splits at characters that are part of a value.
    lines = enumerate(text.split("\n"), start=1)
    for number, line in lines:
        line = line.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _TAG.fullmatch(line.strip())
        if match is None:
            raise InvalidSbom(f'line {number} is not of the form "Tag: value": {printable(line[:60])}')
        tag, value = match[1], match[2].rstrip()
        if value.startswith(_OPEN):
            pieces = [value.removeprefix(_OPEN)]
            while _CLOSE not in pieces[-1]:
                following = next(lines, None)
                if following is None:
                    raise InvalidSbom(f"the {_OPEN} that begins on line {number} never ends; {_CLOSE} is expected")
                pieces.append(following[1].removesuffix("\r"))
            last, rest = pieces[-1].split(_CLOSE, 1)
            if rest.strip():
                raise InvalidSbom(f"something follows the {_CLOSE} of the {tag} that begins on line {number}")
            value = "\n".join([*pieces[:-1], last])
        yield number, tag, value


class _Reader:
    """Puts each tag where the JSON form has it; what a tag belongs to is decided by the tags before it."""

    def __init__(self) -> None:
        self.document: Object = {}
        self._current: Object = self.document  # what an SPDXID and the relationships' comments would be about
        self._open: dict[str, Object] = {"document": self.document}

    def take(self, number: int, tag: str, value: str) -> None:
        """Raises InvalidSbom for an unknown tag, one out of place, and one a second time where only one may be."""
        rule = _RULES.get(tag)
        if rule is None:
            raise InvalidSbom(f"line {number}: the tag {tag} is not of SPDX 2.2 or 2.3")
        within, put = rule
        if within == "element":
            put(self._current, value, f"line {number}: {tag}")
        elif within == "begin":
            self._begin(tag, value)
        elif within not in self._open:
            raise InvalidSbom(f"line {number}: {tag} stands before any {within} begins")
        else:
            put(self._open[within], value, f"line {number}: {tag}")

    def _begin(self, tag: str, value: str) -> None:
        kind, members, first = _BEGINNINGS[tag]
        made: Object = {first: value} if first else {}
        if kind == "relationship":
            parts = value.split()
            keys = ("spdxElementId", "relationshipType", "relatedSpdxElement")
            made = dict(zip(keys, parts, strict=True)) if len(parts) == len(keys) else {"spdxElementId": value}
        if kind == "reference":
            parts = value.split(None, 2)
            keys = ("referenceCategory", "referenceType", "referenceLocator")
            made = dict(zip(keys, parts, strict=True)) if len(parts) == len(keys) else {"referenceCategory": value}
        under = self._open.get("package", self.document) if kind == "reference" else self.document
        under.setdefault(members, []).append(made)
        self._open[kind] = made
        if kind in ("package", "file", "snippet"):
            self._current = made
            for other in {"package": ("file", "snippet", "reference"), "file": ("snippet",)}.get(kind, ()):
                self._open.pop(other, None)


Put = Callable[[Object, str, str], None]


def _text(name: str) -> Put:
    def put(target: Object, value: str, where: str) -> None:
        if name in target:
            raise InvalidSbom(f"{where} stands a second time in one element")
        target[name] = value

    return put


def _each(name: str) -> Put:
    def put(target: Object, value: str, _where: str) -> None:
        target.setdefault(name, []).append(value)

    return put


def _creation(put: Put) -> Put:
    def put_there(target: Object, value: str, where: str) -> None:
        put(target.setdefault("creationInfo", {}), value, where)

    return put_there


def _checksum(target: Object, value: str, _where: str) -> None:
    algorithm, _, digest = value.partition(":")
    target.setdefault("checksums", []).append({"algorithm": algorithm.strip(), "checksumValue": digest.strip()})


def _boolean(target: Object, value: str, where: str) -> None:
    if value.lower() not in ("true", "false"):
        raise InvalidSbom(f"{where} is {printable(value[:60])}, true or false is expected")
    target["filesAnalyzed"] = value.lower() == "true"


def _verification_code(target: Object, value: str, _where: str) -> None:
    code, _, excluded = value.partition("(")
    made: Object = {"packageVerificationCodeValue": code.strip()}
    if excluded:
        names = excluded.rstrip(") ").removeprefix("excludes:")
        made["packageVerificationCodeExcludedFiles"] = [name.strip() for name in names.split(",")]
    target["packageVerificationCode"] = made


def _external_document(target: Object, value: str, _where: str) -> None:
    parts = value.split(None, 2)
    made: Object = dict(zip(("externalDocumentId", "spdxDocument"), parts, strict=False))
    algorithm, _, digest = (parts[2] if len(parts) > 2 else "").partition(":")
    made["checksum"] = {"algorithm": algorithm.strip(), "checksumValue": digest.strip()}
    target.setdefault("externalDocumentRefs", []).append(made)


def _span(unit: str) -> Put:
    def put(target: Object, value: str, where: str) -> None:
        match = _RANGE.fullmatch(value)
        if match is None:
            raise InvalidSbom(f"{where} is {printable(value[:60])}, two numbers like 310:420 are expected")
        reference = str(target.get("snippetFromFile", ""))
        first, last = ({"reference": reference, unit: int(end)} for end in match.groups())
        target.setdefault("ranges", []).append({"startPointer": first, "endPointer": last})

    return put


def _nothing(_target: Object, _value: str, _where: str) -> None:
    """A tag of old documents that says nothing of the product."""


# Tag: what begins, the list of the document it stands in, and the member that holds the tag's own value.
_BEGINNINGS: Final[dict[str, tuple[str, str, str]]] = {
    "PackageName": ("package", "packages", "name"),
    "FileName": ("file", "files", "fileName"),
    "SnippetSPDXID": ("snippet", "snippets", "SPDXID"),
    "SnippetSPDXIdentifier": ("snippet", "snippets", "SPDXID"),
    "LicenseID": ("licence", "hasExtractedLicensingInfos", "licenseId"),
    "Annotator": ("annotation", "annotations", "annotator"),
    "Reviewer": ("review", "revieweds", "reviewer"),
    "Relationship": ("relationship", "relationships", ""),
    "ExternalRef": ("reference", "externalRefs", ""),
}
# Tag: what it belongs to, and how it is put there.
_RULES: Final[dict[str, tuple[str, Put]]] = {
    **dict.fromkeys(_BEGINNINGS, ("begin", _nothing)),
    "SPDXID": ("element", _text("SPDXID")),
    "SPDXVersion": ("document", _text("spdxVersion")),
    "DataLicense": ("document", _text("dataLicense")),
    "DocumentName": ("document", _text("name")),
    "DocumentNamespace": ("document", _text("documentNamespace")),
    "DocumentComment": ("document", _text("comment")),
    "ExternalDocumentRef": ("document", _external_document),
    "LicenseListVersion": ("document", _creation(_text("licenseListVersion"))),
    "Creator": ("document", _creation(_each("creators"))),
    "Created": ("document", _creation(_text("created"))),
    "CreatorComment": ("document", _creation(_text("comment"))),
    "PackageVersion": ("package", _text("versionInfo")),
    "PackageFileName": ("package", _text("packageFileName")),
    "PackageSupplier": ("package", _text("supplier")),
    "PackageOriginator": ("package", _text("originator")),
    "PackageDownloadLocation": ("package", _text("downloadLocation")),
    "FilesAnalyzed": ("package", _boolean),
    "PackageVerificationCode": ("package", _verification_code),
    "PackageChecksum": ("package", _checksum),
    "PackageHomePage": ("package", _text("homepage")),
    "PackageSourceInfo": ("package", _text("sourceInfo")),
    "PackageLicenseConcluded": ("package", _text("licenseConcluded")),
    "PackageLicenseInfoFromFiles": ("package", _each("licenseInfoFromFiles")),
    "PackageLicenseDeclared": ("package", _text("licenseDeclared")),
    "PackageLicenseComments": ("package", _text("licenseComments")),
    "PackageCopyrightText": ("package", _text("copyrightText")),
    "PackageSummary": ("package", _text("summary")),
    "PackageDescription": ("package", _text("description")),
    "PackageComment": ("package", _text("comment")),
    "PackageAttributionText": ("package", _each("attributionTexts")),
    "PrimaryPackagePurpose": ("package", _text("primaryPackagePurpose")),
    "ReleaseDate": ("package", _text("releaseDate")),
    "BuiltDate": ("package", _text("builtDate")),
    "ValidUntilDate": ("package", _text("validUntilDate")),
    "ExternalRefComment": ("reference", _text("comment")),
    "FileType": ("file", _each("fileTypes")),
    "FileChecksum": ("file", _checksum),
    "LicenseConcluded": ("file", _text("licenseConcluded")),
    "LicenseInfoInFile": ("file", _each("licenseInfoInFiles")),
    "LicenseComments": ("file", _text("licenseComments")),
    "FileCopyrightText": ("file", _text("copyrightText")),
    "FileComment": ("file", _text("comment")),
    "FileNotice": ("file", _text("noticeText")),
    "FileContributor": ("file", _each("fileContributors")),
    "FileAttributionText": ("file", _each("attributionTexts")),
    "FileDependency": ("file", _each("fileDependencies")),
    "ArtifactOfProjectName": ("file", _nothing),
    "ArtifactOfProjectHomePage": ("file", _nothing),
    "ArtifactOfProjectURI": ("file", _nothing),
    "SnippetFromFileSPDXID": ("snippet", _text("snippetFromFile")),
    "SnippetByteRange": ("snippet", _span("offset")),
    "SnippetLineRange": ("snippet", _span("lineNumber")),
    "SnippetLicenseConcluded": ("snippet", _text("licenseConcluded")),
    "LicenseInfoInSnippet": ("snippet", _each("licenseInfoInSnippets")),
    "SnippetLicenseComments": ("snippet", _text("licenseComments")),
    "SnippetCopyrightText": ("snippet", _text("copyrightText")),
    "SnippetComment": ("snippet", _text("comment")),
    "SnippetName": ("snippet", _text("name")),
    "SnippetAttributionText": ("snippet", _each("attributionTexts")),
    "ExtractedText": ("licence", _text("extractedText")),
    "LicenseName": ("licence", _text("name")),
    "LicenseCrossReference": ("licence", _each("seeAlsos")),
    "LicenseComment": ("licence", _text("comment")),
    "RelationshipComment": ("relationship", _text("comment")),
    "AnnotationDate": ("annotation", _text("annotationDate")),
    "AnnotationType": ("annotation", _text("annotationType")),
    "AnnotationComment": ("annotation", _text("comment")),
    "SPDXREF": ("annotation", _nothing),
    "ReviewDate": ("review", _text("reviewDate")),
    "ReviewComment": ("review", _text("comment")),
}
