"""The CycloneDX schemas, compiled once per process when first needed; nothing is ever fetched.

The files are those that ``cyclonedx-python-lib`` ships. Its ``cyclonedx.schema._res`` is private, so the lock file pins
the version and a test notices if the files move. Its own validators are not used: their JSON one needs
minutes for a document of a few thousand components (quadratic ``uniqueItems``, an Earley parser for every URL).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import cyclonedx.schema
import jsonschema_rs
from lxml import etree

SCHEMA_FOLDER: Final = Path(cyclonedx.schema.__file__).parent / "_res"

# The schemas name these by relative references, which resolve against their own "$id".
_REFERENCED: Final = (
    "spdx.SNAPSHOT.schema.json",
    "jsf-0.82.SNAPSHOT.schema.json",
    "cryptography-defs.SNAPSHOT.schema.json",
)
_BASE: Final = "http://cyclonedx.org/schema/"
# Stands for the value at fault in messages: values may be megabytes long and are the uploader's own text.
MASKED_VALUE: Final = "this value"


@cache
def json_validator(spec_version: str) -> jsonschema_rs.Draft7Validator:
    """The validator of CycloneDX JSON of one specification version, one of ``SPEC_VERSIONS``.

    Safe on hostile input is ``is_valid`` alone. ``validate`` and ``iter_errors`` copy the value into every error and
    collect the errors of all alternatives: a megabyte can cost gigabytes. Give them small pieces only.
    """
    registry = jsonschema_rs.Registry([(_BASE + name, _load(name)) for name in _REFERENCED])
    return jsonschema_rs.Draft7Validator(
        _load(f"bom-{spec_version}.SNAPSHOT.schema.json"),
        registry=registry,
        offline=True,
        mask=MASKED_VALUE,
        # Matches in linear time; the default engine backtracks.
        pattern_options=jsonschema_rs.RegexOptions(),
    )


@cache
def xml_schema(spec_version: str) -> etree.XMLSchema:
    """The schema of CycloneDX XML of one specification version, one of ``SPEC_VERSIONS``.

    Not safe to use from two threads at once: it holds the errors of its last run.
    """
    parser = etree.XMLParser(no_network=True, resolve_entities=False)
    return etree.XMLSchema(etree.parse(SCHEMA_FOLDER / f"bom-{spec_version}.SNAPSHOT.xsd", parser))


def _load(name: str) -> Any:
    return json.loads((SCHEMA_FOLDER / name).read_bytes())
