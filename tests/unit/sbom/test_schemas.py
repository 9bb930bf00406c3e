from __future__ import annotations

from importlib.metadata import version

import pytest
from cyclonedx.schema import _res

from sbom.model import SPEC_VERSIONS
from sbom.schemas import SCHEMA_FOLDER


def test_the_library_still_ships_the_json_schemas_where_we_look() -> None:
    assert {path for path in _res.BOM_JSON.values() if path} >= {
        str(SCHEMA_FOLDER / f"bom-{spec_version}.SNAPSHOT.schema.json") for spec_version in SPEC_VERSIONS
    }


def test_the_library_still_ships_the_xml_schemas_where_we_look() -> None:
    assert {path for path in _res.BOM_XML.values() if path} >= {
        str(SCHEMA_FOLDER / f"bom-{spec_version}.SNAPSHOT.xsd") for spec_version in SPEC_VERSIONS
    }


def test_no_newer_specification_version_came_with_the_library_unnoticed() -> None:
    shipped = {path.name.split("-")[1][:3] for path in SCHEMA_FOLDER.glob("bom-*.xsd")}
    assert shipped == {"1.0", "1.1", *SPEC_VERSIONS}, version("cyclonedx-python-lib")


@pytest.mark.parametrize("name", ["spdx", "jsf-0.82", "cryptography-defs"])
def test_the_schemas_that_others_refer_to_are_there(name: str) -> None:
    assert (SCHEMA_FOLDER / f"{name}.SNAPSHOT.schema.json").is_file()
