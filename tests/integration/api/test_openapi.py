"""The OpenAPI document is whole: examples that fit, codes that are known, parameters that are told; and it is true."""

from __future__ import annotations

import ast
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from api import codes
from api.examples import examples
from api.openapi_text import markdown
from tests.integration.api.fuzzing import Outcome, fuzz
from tests.integration.api.tour import Tour, toured

SEED = 20_261_122
SHORT, LONG = 200, 20_000  # requests
ROOT = Path(__file__).parents[3]
Document = dict[str, Any]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    """A home in which somebody has gone through every route once."""
    with toured(tmp_path_factory.mktemp("tour")) as tour:
        yield tour


@pytest.fixture(scope="module")
def document(tour: Tour) -> Document:
    found: Document = tour.home.client.get("/openapi.json").get_json()
    return found


def operations(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in document["paths"].values():
        for operation in item.values():
            yield operation["operationId"], operation


def faults(document: Document, schema: dict[str, Any], value: object) -> list[str]:
    validator = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    return [f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(value)]


def successes(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield status, answer.get("content", {})


def test_every_route_has_a_whole_example_and_it_fits_its_schemas(document: Document) -> None:
    for name, operation in operations(document):
        for status, contents in (("asked", operation.get("requestBody", {}).get("content", {})), *successes(operation)):
            told = [content for content in contents.values() if "example" in content]
            assert told or not contents, f"{name}: nothing for {status} in api/examples"
            for content in told:
                assert faults(document, content["schema"], content["example"]) == [], (name, status)
        for parameter in operation.get("parameters", []):
            if parameter.get("in") == "path":
                assert "example" in parameter, f"{name}: no parameter {parameter['name']} in api/examples"
            if "example" in parameter:
                assert faults(document, parameter["schema"], parameter["example"]) == [], (name, parameter["name"])


def test_no_example_is_left_of_a_route_that_is_gone(document: Document) -> None:
    assert set(examples()) - {name for name, _ in operations(document)} == set()


def test_every_example_of_an_error_has_the_one_shape(document: Document) -> None:
    for name, example in document["components"]["examples"].items():
        assert faults(document, {"$ref": "#/components/schemas/Error"}, example["value"]) == [], name
        assert example["value"]["error"]["code"] == name


def test_every_parameter_and_every_topic_is_described_and_every_operation_has_a_name_of_its_own(
    document: Document,
) -> None:
    names = [name for name, _ in operations(document)]
    assert len(names) == len(set(names))
    topics = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert [name for name, told in topics.items() if not told] == []
    for name, operation in operations(document):
        [topic] = operation["tags"]
        assert topic in topics, name
        assert operation["description"] != operation["summary"]
        for parameter in operation.get("parameters", []):
            assert "$ref" in parameter or parameter.get("description"), (name, parameter["name"])


def test_every_error_status_names_its_codes_and_the_codes_their_status(document: Document) -> None:
    for path, item in document["paths"].items():
        for name, operation in item.items() if path.startswith("/api/v1/") else ():
            for status, answer in operation["responses"].items():
                if int(status) < 400:
                    continue
                assert answer["x-error-codes"], (path, name, status)
                for code in answer["x-error-codes"]:
                    assert int(status) in document["x-error-codes"][code]["statuses"], (path, name, code)


def test_every_code_has_a_meaning_in_one_line() -> None:
    assert [name for name, code in codes.codes().items() if not code.meaning] == []


def test_every_code_that_the_api_answers_by_itself_is_in_the_table() -> None:
    """Read from the source: the codes of ``ApiError(status, code, …)``."""
    found = set()
    for path in sorted((ROOT / "api").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
                code = node.args[1]
                if isinstance(code, ast.Constant):
                    found.add(str(code.value))
    assert len(found) > 25
    assert found - set(codes.codes()) == set()


def test_security_is_declared_for_each_route(document: Document) -> None:
    for name, operation in operations(document):
        public = operation["x-permission"] == "public"
        assert operation["security"] == ([] if public else [{"bearer": []}, {"session": []}]), name


def test_bytes_go_in_and_come_out_in_their_own_media_types(document: Document) -> None:
    told = dict(operations(document))
    assert list(told["upload_content"]["requestBody"]["content"]) == ["application/octet-stream"]
    assert set(told["get_sbom"]["responses"]["200"]["content"]) == {
        "application/vnd.cyclonedx+json",
        "application/vnd.cyclonedx+xml",
        "application/spdx+json",
        "text/spdx",
    }
    assert "206" in told["get_sbom"]["responses"]
    assert list(told["list_rollout_devices"]["responses"]["200"]["content"]) == ["application/json", "text/csv"]
    assert "content" not in told["delete_group"]["responses"]["204"]


def test_real_answers_fit_the_document_and_are_made_like_the_examples(document: Document, tour: Tour) -> None:
    """``python -m tests.integration.api.tour`` writes the examples anew."""
    told = tour.to.told
    by_name, shown = dict(operations(document)), examples()
    assert len(told) > 120
    for name, exchange in told.items():
        for status, answer in exchange["answers"].items():
            content = by_name[name]["responses"][status].get("content", {})
            if "application/json" in content:
                assert faults(document, content["application/json"]["schema"], answer) == [], (name, status)
            if isinstance(answer, dict):
                assert _fields(answer) == _fields(shown[name].answers[status]), (name, status)


def test_the_text_tells_every_route_with_permission_parameters_codes_and_example(document: Document) -> None:
    text = markdown(document)
    sections = text.split("\n## ")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            [section] = [one for one in sections if one.startswith(f"{method.upper()} {path}\n")]
            permission = operation["x-permission"]
            assert f"Permission: `{permission}`" in section or permission in {"public", "signed-in"}
            for parameter in operation.get("parameters", []):
                assert "$ref" in parameter or f"- `{parameter['name']}` in " in section
            for status, answer in operation["responses"].items():
                assert f"- {status}: " in section
                assert all(f"`{code}`" in section for code in answer.get("x-error-codes", []))
            assert section.count("```") == 2
    for name in document["components"]["schemas"]:
        assert f"\n## {name}\n" in text
    for name in codes.codes():
        assert f"| `{name}` | " in text
    assert f"{sum(len(item) for item in document['paths'].values())} operations, about " in text


def _told(outcome: Outcome, number: int) -> str:
    faults = "\n\n".join(outcome.faults)
    return f"WAVEGATE_TEST_SEED={number}: {outcome.cases} requests, {dict(outcome.statuses)}\n\n{faults}"


def test_no_request_gets_an_answer_that_is_not_declared(tour: Tour) -> None:
    """The last that uses the tour's home: what comes here deletes, too."""
    number = int(os.environ.get("WAVEGATE_TEST_SEED", SEED))
    outcome = fuzz(tour.home, tour.left_behind(), cases=SHORT, seed_number=number)
    assert outcome.faults == [], _told(outcome, number)
    assert outcome.cases >= SHORT
    assert len(outcome.reached) > 30, _told(outcome, number)  # operations that did what they are for


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_no_request_of_twenty_thousand_gets_an_answer_that_is_not_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another seed every night; the one that found something is in the message."""
    number = int(os.environ.get("WAVEGATE_TEST_SEED", random.SystemRandom().randrange(2**32)))
    with toured(tmp_path) as fresh:
        outcome = fuzz(fresh.home, fresh.left_behind(), cases=LONG, seed_number=number)
    with capsys.disabled():
        print(_told(outcome, number))  # noqa: T201
    assert outcome.faults == [], _told(outcome, number)
    assert outcome.cases >= LONG
    assert len(outcome.reached) > 70, _told(outcome, number)


def _fields(answer: Any) -> list[str]:
    """The names of the fields of an answer, and of the first element of a list."""
    first = answer["items"][0] if answer.get("items") else {}
    return [*sorted(answer), *sorted(first)]
