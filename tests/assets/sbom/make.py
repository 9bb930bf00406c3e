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


if __name__ == "__main__":
    main()
