"""Two linters find nothing to say about the OpenAPI document: spectral with the rules of this house, and redocly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.node import NODE, environment, install
from tests.integration.api.conftest import made_home

ROOT = Path(__file__).parents[3]
LINTERS = Path(__file__).parent / "lint"
WITHIN_SECONDS = 240


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("document")
    with made_home(folder) as home:
        file = folder / "openapi.json"
        file.write_bytes(home.client.get("/openapi.json").data)
        return file


def lint(script: str, *arguments: str | Path) -> str:
    environ = {**environment(), "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "CI": "true"}
    command = [str(NODE), str(install(LINTERS) / "node_modules" / script), "lint", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_SECONDS, env=environ)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    return ran.stdout + ran.stderr


SPECTRAL = "@stoplight/spectral-cli/dist/index.js"
REDOCLY = "@redocly/cli/bin/cli.js"


def test_spectral_finds_nothing(document: Path) -> None:
    said = lint(SPECTRAL, document, "--ruleset", ROOT / ".spectral.yaml", "--fail-severity", "hint")
    assert "No results with a severity of 'hint' or higher found!" in said


def test_redocly_finds_nothing(document: Path) -> None:
    said = lint(REDOCLY, document, "--config", ROOT / "redocly.yaml")
    assert "Your API description is valid" in said


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        (b'"x-permission":"groups:write"', b'"x-permission":""', "operation-permission"),
        (b'"operationId":"list_groups"', b'"operationId":"listGroups"', "operation-id-snake-case"),
        (b'"/api/v1/groups"', b'"/api/v1/Groups"', "path-form"),
    ],
)
@pytest.mark.nightly
def test_spectral_knows_a_fault_of_this_house_when_it_sees_one(
    document: Path, tmp_path: Path, before: bytes, after: bytes, rule: str
) -> None:
    content = document.read_bytes()
    assert before in content
    faulty = tmp_path / "openapi.json"
    faulty.write_bytes(content.replace(before, after, 1))
    with pytest.raises(AssertionError, match=rule):
        lint(SPECTRAL, faulty, "--ruleset", ROOT / ".spectral.yaml")
