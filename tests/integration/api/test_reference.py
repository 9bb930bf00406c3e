"""The reference equals the routes, and every error has a place in the tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from openapi_spec_validator import validate

import api.errors
from api.app import BLUEPRINTS
from api.codes import leaves
from api.reference import page
from cli.errors import EXIT_BY_CODE
from tests.integration.api.conftest import Home


def test_openapi_is_valid_and_equals_the_deployed_routes(home: Home) -> None:
    document = home.client.get("/openapi.json").get_json()
    validate(document)
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    deployed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in home.app.url_map.iter_rules()
        if rule.rule not in {"/docs/redoc.js", "/docs/start.js"}  # of the page at /docs
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == deployed


def test_every_operation_names_its_permission_and_summary(home: Home) -> None:
    document = home.client.get("/openapi.json").get_json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["x-permission"], (path, method)
            assert operation["summary"], (path, method)


def test_no_two_models_share_a_name(home: Home) -> None:
    names: dict[str, str] = {}
    for blueprint in BLUEPRINTS:
        for name, schema in blueprint.components_schemas.items():
            told = json.dumps(schema.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True)
            assert names.setdefault(name, told) == told, name


def test_the_document_is_the_same_in_every_process(home: Home) -> None:
    code = (
        "import hashlib; from api.settings import read_settings; "
        "from api.wiring import open_wavegate; from api.app import create_app; "
        "app = create_app(open_wavegate(read_settings())); "
        "print(hashlib.sha256(app.test_client().get('/openapi.json').data).hexdigest())"
    )
    digests = set()
    place = {"WAVEGATE_HOME": str(home.made.home), **home.databases.environ(home.made.home)}
    for seed in ("1", "2"):
        environ = {**os.environ, **place, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_every_domain_error_has_a_status_and_an_exit_code_and_no_code_is_used_twice() -> None:
    every = leaves()
    missing = [one.__name__ for one in every if one not in api.errors.STATUS and one not in api.errors.OURS]
    assert missing == []
    codes = [one.code for one in every]  # type: ignore[attr-defined]
    assert len(codes) == len(set(codes))
    unknown = [
        code for one, code in zip(every, codes, strict=True) if one not in api.errors.OURS and code not in EXIT_BY_CODE
    ]
    assert unknown == []


def test_the_docs_pages_are_served_from_here_alone(home: Home) -> None:
    shown = home.client.get("/docs")
    assert b"/docs/start.js" in shown.data
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]
    script = home.client.get("/docs/redoc.js")
    assert len(script.data) > 500_000
    assert b"cdn.redoc.ly" not in script.data
    assert b"otel.cloud" not in script.data
    assert b"disableTelemetry: true" in home.client.get("/docs/start.js").data
    text = home.client.get("/docs.md").get_data(as_text=True)
    assert "## POST /api/v1/artifacts" in text
    assert "Permission: `artifacts:publish`" in text


def test_the_written_reference_is_what_the_code_says() -> None:
    """`make reference` writes docs/reference.md anew."""
    written = Path(__file__).parents[3] / "docs" / "reference.md"
    assert written.read_text("utf-8") == page()
