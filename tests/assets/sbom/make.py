"""Make the small SBOMs beside this file anew: `python tests/assets/sbom/make.py`."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
COMPONENT = {
    "type": "library",
    "bom-ref": "pkg:pypi/pump@1.4.0",
    "name": "pump",
    "version": "1.4.0",
    "purl": "pkg:pypi/pump@1.4.0",
}


def main() -> None:
    """Write one document of two components per format."""
    _make_cyclonedx()
    _make_spdx_2()
    _make_spdx_3()


def _make_cyclonedx() -> None:
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "bom-maker", "version": "1"}]},
            "component": {"type": "firmware", "bom-ref": "gateway", "name": "gateway", "version": "2.0"},
        },
        "components": [COMPONENT | {"components": [{"type": "file", "name": "pump.so", "version": "1"}]}],
        "dependencies": [{"ref": "gateway", "dependsOn": ["pkg:pypi/pump@1.4.0"]}],
    }
    (HERE / "gateway.cdx.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "gateway.cdx.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!-- the same document as gateway.cdx.json -->\n"
        '<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1"'
        ' serialNumber="urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79">\n'
        "<metadata><tools><components>"
        '<component type="application"><name>bom-maker</name><version>1</version></component>'
        "</components></tools>"
        '<component type="firmware" bom-ref="gateway"><name>gateway</name><version>2.0</version></component>'
        "</metadata>\n"
        '<components><component type="library" bom-ref="pkg:pypi/pump@1.4.0"><name>pump</name><version>1.4.0</version>'
        "<purl>pkg:pypi/pump@1.4.0</purl>"
        '<components><component type="file"><name>pump.so</name><version>1</version></component></components>'
        "</component></components>\n"
        '<dependencies><dependency ref="gateway"><dependency ref="pkg:pypi/pump@1.4.0"/></dependency></dependencies>\n'
        "</bom>\n"
    )


def _make_spdx_2() -> None:
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "gateway-2.0",
        "documentNamespace": "https://example.invalid/spdx/gateway-2.0",
        "creationInfo": {"created": "2026-11-21T20:00:00Z", "creators": ["Tool: bom-maker-1"]},
        "packages": [
            {"SPDXID": "SPDXRef-gateway", "name": "gateway", "versionInfo": "2.0", "downloadLocation": "NOASSERTION"},
            {
                "SPDXID": "SPDXRef-pump",
                "name": "pump",
                "versionInfo": "1.4.0",
                "downloadLocation": "NOASSERTION",
                "externalRefs": [
                    {
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": "pkg:pypi/pump@1.4.0",
                    }
                ],
            },
            {"SPDXID": "SPDXRef-pump-so", "name": "pump.so", "versionInfo": "1", "downloadLocation": "NONE"},
        ],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-gateway",
            },
            {
                "spdxElementId": "SPDXRef-gateway",
                "relationshipType": "DEPENDS_ON",
                "relatedSpdxElement": "SPDXRef-pump",
            },
        ],
    }
    (HERE / "gateway.spdx.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "gateway.spdx").write_text(
        "# The same document as gateway.spdx.json\n"
        "SPDXVersion: SPDX-2.3\n"
        "DataLicense: CC0-1.0\n"
        "SPDXID: SPDXRef-DOCUMENT\n"
        "DocumentName: gateway-2.0\n"
        "DocumentNamespace: https://example.invalid/spdx/gateway-2.0\n"
        "Creator: Tool: bom-maker-1\n"
        "Created: 2026-11-21T20:00:00Z\n"
        "Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-gateway\n"
        "\n"
        "PackageName: gateway\n"
        "SPDXID: SPDXRef-gateway\n"
        "PackageVersion: 2.0\n"
        "PackageDownloadLocation: NOASSERTION\n"
        "Relationship: SPDXRef-gateway DEPENDS_ON SPDXRef-pump\n"
        "\n"
        "PackageName: pump\n"
        "SPDXID: SPDXRef-pump\n"
        "PackageVersion: 1.4.0\n"
        "PackageDownloadLocation: NOASSERTION\n"
        "PackageDescription: <text>Pumps,\nand # pumps: again</text>\n"
        "ExternalRef: PACKAGE-MANAGER purl pkg:pypi/pump@1.4.0\n"
        "\n"
        "PackageName: pump.so\n"
        "SPDXID: SPDXRef-pump-so\n"
        "PackageVersion: 1\n"
        "PackageDownloadLocation: NONE\n"
    )


def _make_spdx_3() -> None:
    base = "https://example.invalid/spdx3/"
    info = {"creationInfo": "_:info"}
    document = {
        "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
        "@graph": [
            {
                "type": "CreationInfo",
                "@id": "_:info",
                "specVersion": "3.0.1",
                "created": "2026-11-21T20:00:00Z",
                "createdBy": [base + "maker"],
            },
            {"type": "SoftwareAgent", "spdxId": base + "maker", "name": "bom-maker", **info},
            {"type": "SpdxDocument", "spdxId": base + "document", "rootElement": [base + "sbom"], **info},
            {"type": "software_Sbom", "spdxId": base + "sbom", "rootElement": [base + "gateway"], **info},
            {
                "type": "software_Package",
                "spdxId": base + "gateway",
                "name": "gateway",
                "software_packageVersion": "2.0",
                **info,
            },
            {
                "type": "software_Package",
                "spdxId": base + "pump",
                "name": "pump",
                "software_packageVersion": "1.4.0",
                "software_packageUrl": "pkg:pypi/pump@1.4.0",
                **info,
            },
            {
                "type": "software_Package",
                "spdxId": base + "pump-so",
                "name": "pump.so",
                "software_packageVersion": "1",
                **info,
            },
            {
                "type": "Relationship",
                "spdxId": base + "depends",
                "relationshipType": "dependsOn",
                "from": base + "gateway",
                "to": [base + "pump", base + "pump-so"],
                **info,
            },
        ],
    }
    (HERE / "gateway.spdx3.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
