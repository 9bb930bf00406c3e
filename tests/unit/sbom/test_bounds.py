"""Documents that are small and cost much elsewhere. Each runs in a process that dies rather than grow past 1 GiB."""

from __future__ import annotations

import resource
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
}

PROGRAM = """
import json, sys
from sbom.errors import SbomError
from sbom.read import read_sbom
XML = b'<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1">'
document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
data = None
%s
try:
    read_sbom(json.dumps(document).encode() if data is None else data)
except SbomError:
    pass
print("answered")
"""


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_costly_document_is_answered_within_bounds(name: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM % DOCUMENTS[name]],
        cwd=PROJECT,
        preexec_fn=_bounded,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.stdout, child.returncode) == ("answered\n", 0), child.stderr[-500:]
