"""Documents that are small and cost much elsewhere. Each runs in a process that dies rather than grow past 1 GiB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEMORY_BYTES = 1024**3
PROCESSOR_SECONDS = 10
PROJECT = Path(__file__).parents[3]

DOCUMENTS = {
    "a signature that nests two alternatives 2^12 times": """
value = {"algorithm": "ES256", "value": "x", "bad": 1}
for _ in range(12):
    value = {"signers": [value, value]}
document["signature"] = value
""",
    "a hundred thousand licences that are all wrong": """
licenses = [{"license": {"id": f"no such licence {n}"}} for n in range(100_000)]
document["components"] = [{"type": "library", "name": "a", "licenses": licenses}]
""",
    "a hundred thousand components that are all wrong": """
document["components"] = [{"type": "nonsense", "name": n} for n in range(100_000)]
""",
    "the same component a hundred thousand times": """
document["components"] = [{"type": "library", "name": "a"}] * 100_000
""",
    "one address of a million characters": """
url = "http://" + "a/%zz" * 200_000
document["components"] = [{"type": "library", "name": "a", "externalReferences": [{"type": "vcs", "url": url}]}]
""",
    "a string that is never closed and full of quotes": """
data = b'{"' + b'\\\\"' * 8_000_000
""",
    "brackets only": """
data = b"[" * 2_900_000
""",
    "XML elements that are all wrong": """
data = XML + b"<components>" + b"<x/>" * 1_900_000 + b"</components></bom>"
""",
    "XML properties without number": """
properties = b'<property name="a"/>' * 900_000
data = XML + b'<components><component type="library"><name>n</name><properties>' + properties
data += b"</properties></component></components></bom>"
""",
    "SPDX relationships that are all wrong": """
relationships = [{"spdxElementId": "a", "relationshipType": n, "relatedSpdxElement": "b"} for n in range(300_000)]
data = json.dumps(SPDX | {"relationships": relationships}).encode()
""",
    "SPDX packages that are all without a name": """
data = json.dumps(SPDX | {"packages": [{"SPDXID": "a", "downloadLocation": "b"}] * 100_000}).encode()
""",
    "SPDX references that all lead nowhere": """
relationships = [{"spdxElementId": f"a{n}", "relationshipType": "OTHER", "relatedSpdxElement": "b"}
                 for n in range(300_000)]
data = json.dumps(SPDX | {"relationships": relationships}).encode()
""",
    "SPDX tags without end": """
data = b"SPDXVersion: SPDX-2.3\\n" + b"Creator: a\\n" * 2_900_000
""",
    "SPDX packages of one tag each": """
data = b"SPDXVersion: SPDX-2.3\\n" + b"PackageName: a\\n" * 2_000_000
""",
    "an SPDX text that never ends": """
data = b"SPDXVersion: SPDX-2.3\\nDocumentComment: <text>" + b"<text>\\n" * 2_900_000
""",
    "SPDX 3 elements that are all wrong": """
data = json.dumps({"@context": CONTEXT, "@graph": [{"type": "Relationship", "spdxId": "urn:a"}] * 900_000}).encode()
""",
    "SPDX 3 elements one inside the other": """
value = {"type": "Tool", "spdxId": "urn:a"}
for _ in range(120):
    value = {"type": "Tool", "spdxId": "urn:a", "x": value}
data = json.dumps({"@context": CONTEXT, "@graph": [value] * 5_000}).encode()
""",
    "an SPDX 3 list of many references": """
graph = [{"type": "Bom", "spdxId": "urn:b", "creationInfo": "_:i", "element": ["urn:a"] * 2_000_000},
         {"type": "SpdxDocument", "spdxId": "urn:d", "creationInfo": "_:i"},
         {"type": "CreationInfo", "@id": "_:i", "specVersion": "3.0.1", "created": "2026-11-21T20:00:00Z",
          "createdBy": ["urn:a"]}]
data = json.dumps({"@context": CONTEXT, "@graph": graph}).encode()
""",
}

# By the child itself: between fork and exec a test process in which gRPC has been at work may die.
BOUNDS = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({PROCESSOR_SECONDS}, {PROCESSOR_SECONDS}))
"""

PROGRAM = """
import json, sys
from sbom.errors import SbomError
from sbom.read import read_sbom
XML = b'<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1">'
CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
SPDX = {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "a", "dataLicense": "CC0-1.0",
        "creationInfo": {"created": "2026-11-21T20:00:00Z", "creators": ["Tool: a"]}}
document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
data = None
%s
try:
    read_sbom(json.dumps(document).encode() if data is None else data)
except SbomError:
    pass
print("answered")
"""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_costly_document_is_answered_within_bounds(name: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", BOUNDS + PROGRAM % DOCUMENTS[name]],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.stdout, child.returncode) == ("answered\n", 0), child.stderr[-500:]
